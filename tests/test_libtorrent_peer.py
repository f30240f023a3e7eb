"""The wire against a client the whole field uses: libtorrent seeds to us, leeches from us, asks us for metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import libtorrent as lt
import pytest

from bct.backends.tcp import Tcp
from bct.errors import BctError, RemoteProtocolError
from bct.torrent import metadata
from bct.torrent.connection import Event, ExtensionMessage, PeerConnection, Requests
from bct.torrent.extension import UT_METADATA, ExtendedHandshake
from bct.torrent.geometry import PieceMap
from bct.torrent.metadata import MetadataData, MetadataFetch, MetadataRequest, MetadataServer
from bct.torrent.metainfo import Metainfo
from bct.torrent.transport import Connection, Listener
from bct.torrent.wire import Handshake
from tests.wire_parts import LEECHER_ID, Owner, film

pytestmark = pytest.mark.anyio

LENGTH = 3_000_000
PATIENCE = 30.0
EXTENSIONS = {1: UT_METADATA}


def session(**more: int) -> lt.session:
    settings: lt.settings_pack = {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        "out_enc_policy": more.get("out_enc_policy", int(lt.enc_policy.disabled)),
        "alert_mask": int(lt.alert.category_t.all_categories),
    }
    return lt.session(settings)


async def alerts[A: lt.alert](session: lt.session, kind: type[A]) -> AsyncGenerator[A]:
    """Alerts of one kind as they come; waiting for them happens in a thread."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for alert in session.pop_alerts():
                if isinstance(alert, kind):
                    yield alert
            await asyncio.to_thread(session.wait_for_alert, 500)


async def until(session: lt.session, kind: type[lt.alert]) -> None:
    """The next alert of that kind; others are dropped."""
    async with aclosing(alerts(session, kind)) as coming:
        await anext(coming)


def add(session: lt.session, meta: Metainfo, directory: Path) -> lt.torrent_handle:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(meta.to_file())
    params.save_path = str(directory)
    return session.add_torrent(params)


class MetadataOwner(Owner):
    """An owner that also gives the info dictionary to who asks."""

    def on(self, events: Sequence[Event]) -> None:
        super().on(events)
        for event in events:
            if isinstance(event, ExtensionMessage):
                request = metadata.decode(event.payload)
                assert isinstance(request, MetadataRequest)
                answer = MetadataServer(self.meta.info_bytes).answer(request)
                self.peer.send_extension(UT_METADATA, answer.encode())


class Seeding:
    """An open port behind which a film is seeded."""

    def __init__(self) -> None:
        self.content, self.meta = film(LENGTH, piece_length=256 * 1024)
        self.owners: list[MetadataOwner] = []
        self.refused: asyncio.Queue[str] = asyncio.Queue()
        self.listener: Listener
        self.shown: set[int] = set(range(self.meta.geometry.count))

    def on_connection(self, connection: Connection) -> None:
        owner = MetadataOwner.called(connection, self.meta, self.content)
        owner.have = PieceMap(self.meta.geometry.count)
        for index in self.shown:
            owner.have.add(index)
        self.owners.append(owner)
        connection.start(Closing(owner, self.refused))


class Closing:
    """What every shell does: a peer that breaks the protocol is gone."""

    def __init__(self, owner: Owner, refused: asyncio.Queue[str]) -> None:
        self.owner, self.refused = owner, refused

    def received(self, data: memoryview) -> None:
        try:
            self.owner.received(data)
        except RemoteProtocolError as error:
            self.refused.put_nowait(error.reason)
            self.owner.connection.close()

    def drained(self) -> None:
        self.owner.drained()

    def lost(self, error: BctError | None) -> None:
        self.owner.lost(error)


@pytest.fixture
async def seeding() -> AsyncIterator[Seeding]:
    seeding = Seeding()
    seeding.listener = await Tcp().listen("127.0.0.1", 0, seeding.on_connection)
    yield seeding
    seeding.listener.close()
    for owner in seeding.owners:
        owner.connection.close()


async def test_libtorrent_leeches_from_us(seeding: Seeding, tmp_path: Path) -> None:
    client = session()
    handle = add(client, seeding.meta, tmp_path)
    handle.connect_peer(("127.0.0.1", seeding.listener.port))
    await until(client, lt.torrent_finished_alert)
    handle.flush_cache()
    await until(client, lt.cache_flushed_alert)
    assert (tmp_path / "film.mp4").read_bytes() == seeding.content
    assert seeding.refused.empty()


async def test_libtorrent_gets_the_metadata_from_us(seeding: Seeding, tmp_path: Path) -> None:
    client = session()
    params = lt.parse_magnet_uri(f"magnet:?xt=urn:btih:{seeding.meta.infohash.hex()}")
    params.save_path = str(tmp_path)
    handle = client.add_torrent(params)
    handle.connect_peer(("127.0.0.1", seeding.listener.port))
    await until(client, lt.torrent_finished_alert)
    assert seeding.refused.empty()


async def test_libtorrent_asks_only_for_what_we_show(seeding: Seeding, tmp_path: Path) -> None:
    """The free pieces of a paid title: a partial bitfield and no rejects."""
    client = session()
    seeding.shown = {0, 3, 11}
    add(client, seeding.meta, tmp_path).connect_peer(("127.0.0.1", seeding.listener.port))
    got = set()
    async with aclosing(alerts(client, lt.piece_finished_alert)) as finished:
        async for alert in finished:
            got.add(alert.piece_index)
            if len(got) == 3:
                break
    assert got == {0, 3, 11}
    asked = [block for event in seeding.owners[0].events if isinstance(event, Requests) for block in event.blocks]
    assert {block.piece for block in asked} == {0, 3, 11}
    assert len(asked) == len(set(asked))


async def test_libtorrent_that_insists_on_encryption_is_refused_at_the_first_byte(
    seeding: Seeding, tmp_path: Path
) -> None:
    client = session(out_enc_policy=int(lt.enc_policy.forced))
    handle = add(client, seeding.meta, tmp_path)
    await until(client, lt.torrent_checked_alert)
    handle.connect_peer(("127.0.0.1", seeding.listener.port))
    async with asyncio.timeout(PATIENCE):
        assert await seeding.refused.get() == "message-encryption"


@pytest.fixture
async def seeder(tmp_path: Path) -> tuple[lt.session, bytes, Metainfo]:
    """libtorrent, seeding a film."""
    content, meta = film(LENGTH, piece_length=256 * 1024)
    (tmp_path / "film.mp4").write_bytes(content)
    client = session()
    add(client, meta, tmp_path)
    await until(client, lt.torrent_finished_alert)
    return client, content, meta


async def test_we_leech_from_libtorrent(seeder: tuple[lt.session, bytes, Metainfo]) -> None:
    client, content, meta = seeder
    connection = await Tcp().connect("127.0.0.1", client.listen_port())
    owner = Owner.calling(connection, meta)
    finished = asyncio.Event()
    owner.on_finish = finished.set
    connection.start(owner)
    async with asyncio.timeout(PATIENCE):
        await finished.wait()
    connection.close()
    assert owner.content == content


class MetadataSeeker:
    """Knows an infohash and nothing else."""

    def __init__(self, connection: Connection, meta: Metainfo) -> None:
        self.connection, self.meta = connection, meta
        self.peer = PeerConnection(LEECHER_ID, meta.infohash, extensions=EXTENSIONS)
        self.found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.fetch: MetadataFetch
        connection.start(self)
        connection.send(self.peer.data_to_send())

    def received(self, data: memoryview) -> None:
        for event in self.peer.receive_data(data):
            match event:
                case Handshake():
                    self.peer.send_extended_handshake(ExtendedHandshake())
                case ExtendedHandshake(metadata_size=int(size)):
                    self.fetch = MetadataFetch(self.meta.infohash, size)
                    self.ask()
                case ExtensionMessage(_, payload):
                    self.take(payload)
        self.connection.send(self.peer.data_to_send())

    def ask(self) -> None:
        for request in self.fetch.requests():
            self.peer.send_extension(UT_METADATA, request.encode())

    def take(self, payload: bytes) -> None:
        message = metadata.decode(payload)
        assert isinstance(message, MetadataData)
        if info := self.fetch.receive(message):
            self.found.set_result(info)

    def drained(self) -> None: ...

    def lost(self, error: BctError | None) -> None: ...


async def test_we_get_the_metadata_from_libtorrent(seeder: tuple[lt.session, bytes, Metainfo]) -> None:
    client, _, meta = seeder
    seeker = MetadataSeeker(await Tcp().connect("127.0.0.1", client.listen_port()), meta)
    async with asyncio.timeout(PATIENCE):
        found = await seeker.found
    early = seeker.peer.pieces
    seeker.peer.set_geometry(Metainfo.from_info(found).geometry)
    seeker.connection.close()
    assert found == meta.info_bytes
    assert early is None
    assert seeker.peer.pieces is not None
    assert seeker.peer.pieces.full
