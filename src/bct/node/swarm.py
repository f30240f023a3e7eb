"""One torrent on this node: its peers, its metadata, its pieces, and what is shown of them.

Who could cheat: a plain client that takes the paid pieces of a title without paying. It is shown an honest partial
bitfield, the free pieces only, and unchoked: a client that sees a piece and is refused asks again for ever. Whatever
is shown, each block still passes `gate`. A node that only watches a title has nobody who collects: it gives nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from bct.bitcoin.keys import PrivateKey
from bct.errors import RemoteProtocolError
from bct.node.peer import Peer
from bct.pay.account import Verdict
from bct.pay.messages import HaveDelta, HaveMap, Message
from bct.torrent import metadata
from bct.torrent.extension import BCT_PAY, UT_METADATA, ExtendedHandshake
from bct.torrent.geometry import Block, Geometry, PieceMap
from bct.torrent.metadata import MetadataData, MetadataFetch, MetadataReject, MetadataRequest, MetadataServer
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStore
from bct.torrent.wire import Buffer
from bct.units import Infohash, PieceIndex


class Seller(Protocol):
    """Who takes payments for this torrent."""

    identity: PrivateKey

    def met(self, peer: Peer) -> None: ...
    def message(self, peer: Peer, message: Message) -> None: ...
    def gate(self, peer: Peer, block: Block, size: int) -> Verdict: ...
    def is_free(self, piece: int) -> bool: ...
    def gone(self, peer: Peer) -> None: ...


class Buyer(Protocol):
    """Who wants pieces of this torrent."""

    def met(self, peer: Peer) -> None: ...
    def message(self, peer: Peer, message: Message) -> None: ...
    def changed(self, peer: Peer) -> None: ...
    def metadata_known(self, metainfo: Metainfo) -> None: ...
    def arriving(self, peer: Peer, since: float) -> None: ...
    def arrived(self, peer: Peer, piece: PieceIndex, data: bytearray, since: float) -> None: ...
    def failed(self, peer: Peer, piece: PieceIndex, why: str) -> None: ...
    def gone(self, peer: Peer) -> None: ...


class Swarm:
    """A `Torrent` of a `Hub`; `seller` and `buyer` are there when this node sells, or wants, the torrent."""

    def __init__(self, infohash: Infohash, metainfo: Metainfo | None, store: PieceStore | None) -> None:
        self.infohash = infohash
        self.metainfo = metainfo
        self.store = store
        self.priced = False
        """Its creator asks a price: without a seller to collect it, nothing of the torrent leaves this node."""
        self.seller: Seller | None = None
        self.buyer: Buyer | None = None
        self.peers: set[Peer] = set()
        self._fetches: dict[Peer, MetadataFetch] = {}
        self._servers: dict[Peer, MetadataServer] = {}

    # -- what is so ---------------------------------------------------------------------------------------------------

    @property
    def geometry(self) -> Geometry | None:
        return self.metainfo.geometry if self.metainfo else None

    @property
    def metadata_size(self) -> int | None:
        """Bytes of the info dictionary, once it is known."""
        return len(self.metainfo.info_bytes) if self.metainfo else None

    @property
    def identity(self) -> PrivateKey | None:
        """The key we show to peers: the node's where it sells, else a fresh one each time."""
        return self.seller.identity if self.seller else None

    @property
    def speaks_bct(self) -> bool:
        return self.seller is not None or self.buyer is not None

    @property
    def sells(self) -> bool:
        return self.seller is not None

    @property
    def complete(self) -> bool:
        return self.store is not None and self.store.pieces.full

    def hash_of(self, piece: PieceIndex) -> bytes:
        if self.metainfo is None:
            raise RemoteProtocolError("too-early", "a piece came before the metadata")
        return self.metainfo.piece_hash(piece)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self.peers))

    # -- peers come and go --------------------------------------------------------------------------------------------

    def joined(self, peer: Peer) -> None:
        self.peers.add(peer)

    def introduce(self, peer: Peer) -> None:
        """What we show: everything of an ordinary torrent, the free pieces of a paid one."""
        if self.store is None:
            peer.wire.send_have_none()
        else:
            peer.wire.send_pieces(self._shown(self.store))
        peer.wire.unchoke()
        if self.buyer:
            peer.wire.set_interested(True)
            if not peer.wire.supports(BCT_PAY):
                self.buyer.met(peer)

    def _shown(self, store: PieceStore) -> PieceMap:
        if self.seller is None and not self.priced:
            return store.pieces
        shown = PieceMap(store.pieces.count)
        for piece in filter(self._is_free, store.pieces):
            shown.add(piece)
        return shown

    def _is_free(self, piece: int) -> bool:
        return self.seller.is_free(piece) if self.seller else not self.priced

    def extended(self, peer: Peer, handshake: ExtendedHandshake) -> None:
        if self.metainfo is None and handshake.metadata_size:
            self._fetch_metadata(peer, handshake.metadata_size)
        if peer.context and self.seller and self.store:
            self.seller.met(peer)
            peer.say(HaveMap(self.store.pieces.to_bytes()))
        if self.buyer:
            self.buyer.met(peer)

    def changed(self, peer: Peer) -> None:
        if self.buyer:
            self.buyer.changed(peer)

    def message(self, peer: Peer, message: Message) -> None:
        side = self.seller or self.buyer
        if side is None:
            raise RemoteProtocolError("not-for-sale", "payments were offered for a torrent that is free here")
        side.message(peer, message)

    def gone(self, peer: Peer) -> None:
        self.peers.discard(peer)
        self._fetches.pop(peer, None)
        self._servers.pop(peer, None)
        for side in (self.seller, self.buyer):
            if side:
                side.gone(peer)

    # -- serving ------------------------------------------------------------------------------------------------------

    def gate(self, peer: Peer, block: Block) -> Verdict:
        """Whether this block may leave now. Everything that leaves has passed here."""
        store = self.store
        if store is None or block.piece not in store.pieces or self.metainfo is None:
            return Verdict.REFUSE
        if self.seller is None:
            return Verdict.REFUSE if self.priced else Verdict.SERVE
        return self.seller.gate(peer, block, self.metainfo.geometry.size(block.piece))

    def read(self, block: Block) -> Buffer:
        if self.store is None:
            raise RemoteProtocolError("no-pieces", "nothing of this torrent is here")
        return self.store.read(PieceIndex(block.piece))[block.begin : block.begin + block.length]

    # -- fetching -----------------------------------------------------------------------------------------------------

    def arriving(self, peer: Peer, since: float) -> None:
        if self.buyer:
            self.buyer.arriving(peer, since)

    def arrived(self, peer: Peer, piece: PieceIndex, data: bytearray, since: float) -> None:
        if self.buyer:
            self.buyer.arrived(peer, piece, data, since)

    def failed(self, peer: Peer, piece: PieceIndex, why: str) -> None:
        if self.buyer:
            self.buyer.failed(peer, piece, why)

    def announce(self, piece: PieceIndex) -> None:
        """A new piece is here: an ordinary torrent's peers hear of it, a paid one's bct peers do."""
        for peer in self:
            if self._is_free(piece):
                peer.wire.have(piece)
            if self.seller and peer.context:
                peer.say(HaveDelta((piece,)))
            peer.flush()

    # -- metadata (BEP 9) ---------------------------------------------------------------------------------------------

    def metadata(self, peer: Peer, payload: bytes) -> None:
        match metadata.decode(payload):
            case MetadataRequest() as request:
                self._say(peer, self._answer(peer, request))
            case MetadataData() as data if peer in self._fetches:
                info_bytes = self._fetches[peer].receive(data)
                if info_bytes is not None:
                    self._learn(info_bytes)
                else:
                    self._say(peer, *self._fetches[peer].requests())
            case MetadataReject():
                self._fetches.pop(peer, None)

    def _fetch_metadata(self, peer: Peer, size: int) -> None:
        self._fetches[peer] = fetch = MetadataFetch(self.infohash, size)
        self._say(peer, *fetch.requests())

    def _answer(self, peer: Peer, request: MetadataRequest) -> MetadataData | MetadataReject | MetadataRequest:
        if self.metainfo is None:
            return MetadataReject(request.part)
        server = self._servers.setdefault(peer, MetadataServer(self.metainfo.info_bytes))
        return server.answer(request)

    @staticmethod
    def _say(peer: Peer, *messages: MetadataData | MetadataReject | MetadataRequest) -> None:
        if peer.wire.supports(UT_METADATA):
            for message in messages:
                peer.wire.send_extension(UT_METADATA, message.encode())

    def _learn(self, info_bytes: bytes) -> None:
        """The dictionary hashes to the infohash: every peer's words about pieces can be judged now."""
        self._fetches.clear()
        self.metainfo = Metainfo.from_info(info_bytes)
        if self.buyer:
            self.buyer.metadata_known(self.metainfo)
        for peer in self:
            peer.geometry_known(self.metainfo.geometry)
