"""BitTorrent's own words: bencoding, torrents, the peer wire."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath

from bct.errors import RemoteProtocolError
from bct.torrent import bencode, connection, extension, geometry, metadata, metainfo, wire
from bct.torrent.connection import Event, PeerConnection, Requests
from bct.torrent.extension import ExtendedHandshake
from bct.torrent.geometry import BLOCK_SIZE, Block, Geometry, PieceMap
from bct.torrent.metadata import MetadataData, MetadataFetch
from bct.torrent.metainfo import MAX_PIECE_LENGTH, Metainfo
from bct.torrent.wire import Handshake, Piece, Request
from bct.units import Infohash
from tests.fuzz.target import Target, joined, parts_of, vector

_LIMIT = 1 << 20
_INFOHASH = bytes(range(20))
_PEER_ID = b"-BC0001-fuzzfuzzfuzz"
_GEOMETRY = Geometry(100 * 1024, 32 * 1024)
_EXTENSIONS = {1: "bct_pay", 2: "ut_metadata"}
_INFO = bytes(range(256)) * 130
"""An info dictionary as long as three parts of BEP 9; what stands in it is not looked at here."""


def _bencoded(raw: bytes) -> None:
    assert bencode.encode(bencode.decode(raw, _LIMIT)) == raw


def _bencoded_prefix(raw: bytes) -> None:
    value, end = bencode.decode_prefix(raw, _LIMIT)
    assert bencode.encode(value) == raw[:end]


def _info(raw: bytes) -> None:
    torrent = Metainfo.from_info(raw)
    check_torrent(torrent)
    assert torrent.infohash == hashlib.sha1(raw).digest()


def check_torrent(torrent: Metainfo) -> None:
    """It says the same when it is written and read again, it adds up, and it names no place outside its own."""
    assert Metainfo.from_file(torrent.to_file()) == torrent
    assert sum(file.length for file in torrent.files) == torrent.length
    assert len(torrent.hashes) == 20 * torrent.geometry.count
    assert torrent.geometry.piece_length <= MAX_PIECE_LENGTH
    for name in (torrent.name, *(name for file in torrent.files for name in file.path)):
        assert PurePosixPath(name).parts == (name,)
        assert PureWindowsPath(name).parts == (name,)
        assert name != ".."


def _handshake(raw: bytes) -> None:
    assert Handshake.decode(raw).encode() == raw


def _frame(raw: bytes) -> None:
    size = wire.frame_size(raw, 0)
    if 4 < size <= len(raw):
        message = wire.decode(raw[4], memoryview(raw)[5:size])
        assert message is None or message.encode() == raw[:size]


def _extended(raw: bytes) -> None:
    said = ExtendedHandshake.decode(raw)
    again = ExtendedHandshake.decode(said.encode())
    assert replace(again, v="") == replace(said, v="")  # what is no UTF-8 grows when it is replaced


def _metadata(raw: bytes) -> None:
    message = metadata.decode(raw)
    assert message is None or metadata.decode(message.encode()) == message


def _fetched(raw: bytes) -> None:
    """A peer answers as it likes; what comes out in the end is the dictionary that was asked for."""
    fetch = MetadataFetch(Infohash(hashlib.sha1(_INFO).digest()), len(_INFO))
    for part in parts_of(raw):
        fetch.requests()
        message = metadata.decode(part)
        if isinstance(message, MetadataData):
            assert fetch.receive(message) in (None, _INFO)


def _stream(raw: bytes) -> None:
    """First byte: which side we are, whether the torrent is known, and how the bytes are cut. However they are, the
    same is understood, or refused for the same reason."""
    if raw:
        whole, why = _heard(raw[0], raw[1:], len(raw))
        cut, why_cut = _heard(raw[0], raw[1:], 1 + raw[0] // 4)
        assert why == why_cut
        assert why or whole == cut


def _heard(kind: int, data: bytes, at_a_time: int) -> tuple[list[object], str]:
    """What was understood, and why the connection ended; empty while it goes on."""
    told: list[object] = []
    try:
        for event in _events(kind, data, at_a_time):
            told += _told(event)
    except RemoteProtocolError as error:
        return told, error.reason
    return told, ""


def _events(kind: int, data: bytes, at_a_time: int) -> Iterator[Event]:
    calling, known = bool(kind & 1), bool(kind & 2)
    ours, geometry = _INFOHASH if calling else None, _GEOMETRY if calling and known else None
    peer = PeerConnection(_PEER_ID, ours, geometry, extensions=_EXTENSIONS, queue_limit=8)
    if calling:
        peer.receive_data(Handshake(_INFOHASH, _PEER_ID).encode())
        peer.unchoke()
        peer.request(_GEOMETRY.blocks(0))
    for at in range(0, len(data), at_a_time):
        yield from peer.receive_data(memoryview(data)[at : at + at_a_time])
        if not calling and peer.peer and not peer.is_open:
            yield from peer.accept(_INFOHASH, _GEOMETRY if known else None)
    if peer.is_open and peer.geometry is None:
        yield from peer.set_geometry(_GEOMETRY)
    assert all(len(part) for part in peer.data_to_send())


def _told(event: Event) -> list[object]:
    """What an event says, its data copied before the next bytes take its place; requests one by one."""
    match event:
        case Requests(blocks):
            assert all(_GEOMETRY.holds(block) for block in blocks)
            return list(blocks)
        case Piece(index, begin, data):
            assert index < _GEOMETRY.count
            return [Piece(index, begin, bytes(data))]
    return [event]


def _bitfield(raw: bytes) -> None:
    """First byte: how many pieces there are."""
    if raw:
        pieces = PieceMap.from_bytes(raw[1:], raw[0] + 1)
        assert pieces.to_bytes() == raw[1:]
        assert len(pieces) == len(list(pieces)) <= raw[0] + 1


def _payloads(kind: str) -> list[bytes]:
    return [bytes.fromhex(one["payload"]) for one in vector("wire")[kind]]


def _frames() -> list[bytes]:
    return [bytes.fromhex(one["frame"]) for one in vector("wire")["messages"] if len(one["frame"]) < 10_000]


def _streams() -> list[bytes]:
    frames = b"".join(_frames())
    request, handshake = Request(Block(1, 0, 100)).encode(), Handshake(_INFOHASH, _PEER_ID).encode()
    said = wire.Extended(0, ExtendedHandshake(m={"bct_pay": 9}, reqq=5).encode()).encode()
    return [
        bytes((kind,)) + handshake * (not kind & 1) + what
        for kind in (0, 1, 2, 3, 31)
        for what in (frames, said + request * 3, wire.Bitfield(b"\xf0").encode() + wire.Have(1).encode())
    ]


def infos() -> list[bytes]:
    one, deep = {b"length": 5, b"path": [b"a"]}, {b"length": 20_000, b"path": [b"b", b"c"]}
    several = {b"files": [one, deep], b"name": b"n", b"piece length": BLOCK_SIZE, b"pieces": bytes(40)}
    private = {b"length": 3, b"name": b"n.mp4", b"piece length": BLOCK_SIZE, b"pieces": bytes(20), b"private": 1}
    return [bencode.encode(several), bencode.encode(private)]  # type: ignore[arg-type]


def _answers() -> list[bytes]:
    parts = [_INFO[at : at + BLOCK_SIZE] for at in range(0, len(_INFO), BLOCK_SIZE)]
    messages = [MetadataData(number, len(_INFO), part).encode() for number, part in enumerate(parts)]
    return [joined(*messages), joined(*reversed(messages)), joined(metadata.MetadataReject(0).encode())]


_BENCODED = [b"d1:ad1:bi-5ee1:cl0:3:abci0eee", b"i9223372036854775807e", b"le", b"10:0123456789"]
_BAD_BENCODING = frozenset(("bad-bencoding",))

TARGETS: dict[str, Target] = {
    "bencode": Target(_bencoded, lambda: _BENCODED, (bencode,), reasons=_BAD_BENCODING),
    "bencode-prefix": Target(_bencoded_prefix, lambda: [b"d1:ai1eeRAW"], (bencode,), reasons=_BAD_BENCODING),
    "info-dictionary": Target(_info, infos, (metainfo,), reasons=_BAD_BENCODING | {"bad-metainfo"}),
    "handshake": Target(
        _handshake,
        lambda: [bytes.fromhex(one["bytes"]) for one in vector("wire")["handshakes"]],
        (wire,),
        reasons=frozenset(("bad-handshake",)),
    ),
    "wire-message": Target(_frame, _frames, (wire,), reasons=frozenset(("bad-message", "too-long"))),
    "wire-stream": Target(_stream, _streams, (connection, wire, geometry)),
    "bitfield": Target(
        _bitfield, lambda: [b"\x03\xf0", b"\x07\x01"], (geometry,), reasons=frozenset(("bad-bitfield",))
    ),
    "extended-handshake": Target(
        _extended, lambda: _payloads("extended_handshakes"), (extension,), reasons=_BAD_BENCODING | {"bad-extension"}
    ),
    "metadata-message": Target(
        _metadata, lambda: _payloads("metadata"), (metadata,), reasons=_BAD_BENCODING | {"bad-metadata"}
    ),
    "metadata-fetch": Target(_fetched, _answers, (metadata,), reasons=_BAD_BENCODING | {"bad-metadata"}),
}
