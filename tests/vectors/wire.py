"""vectors/wire.json: the peer wire as bytes: handshakes, every message, extended handshakes, metadata messages.

`frame` is the whole frame in hex. `refused` are frames that must end the connection, by the reason they give.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from bct.torrent import metadata, wire
from bct.torrent.extension import ExtendedHandshake
from bct.torrent.geometry import Block
from bct.torrent.metadata import MetadataData, MetadataReject, MetadataRequest

Json = dict[str, Any]

BLOCK = Block(3, 16384, 16384)
MESSAGES: tuple[wire.Message, ...] = (
    wire.Choke(),
    wire.Unchoke(),
    wire.Interested(),
    wire.NotInterested(),
    wire.Have(0xFFFFFFFF),
    wire.Bitfield(bytes.fromhex("ff80")),
    wire.Request(BLOCK),
    wire.Piece(3, 16384, b"sixteen bytes..."),
    wire.Cancel(BLOCK),
    wire.Port(6881),
    wire.Suggest(7),
    wire.HaveAll(),
    wire.HaveNone(),
    wire.Reject(BLOCK),
    wire.AllowedFast(0),
    wire.Extended(2, b"payload"),
)
REFUSED = {
    "choke with a body": ("000000020000", "too-long"),
    "have without its last byte": ("0000000404000000", "bad-message"),
    "request without a length": ("0000000906 0000000300004000", "bad-message"),
    "piece without data": ("0000000907 0000000300004000", "bad-message"),
    "extended without its id": ("0000000114", "bad-message"),
    "unknown id, longer than a block": ("0000400163", "too-long"),
    "extended of 1 MiB + 64 KiB and a byte": ("0011000114", "too-long"),
}
HANDSHAKES = (
    wire.Handshake(bytes(range(20)), b"-BC0001-abcdefghijkl"),
    wire.Handshake(bytes(range(20)), b"-XX0001-abcdefghijkl", bytes(8)),
)
EXTENDED_HANDSHAKES = (
    ExtendedHandshake(),
    ExtendedHandshake(
        m={"ut_metadata": 2, "bct_pay": 1},
        v="bct 0.1.0",
        p=6881,
        reqq=500,
        yourip=bytes((127, 0, 0, 1)),
        metadata_size=31235,
        upload_only=True,
        bct={b"v": 1, b"net": 0, b"random": bytes(16)},
    ),
)
METADATA = (MetadataRequest(0), MetadataData(1, 16387, b"end"), MetadataReject(5))


def build() -> Json:
    return {
        "keep_alive": wire.KEEP_ALIVE.hex(),
        "handshakes": [handshake(one) for one in HANDSHAKES],
        "messages": [named(one) | {"frame": one.encode().hex()} for one in MESSAGES],
        "refused": {name: {"frame": frame.replace(" ", ""), "reason": why} for name, (frame, why) in REFUSED.items()},
        "extended_handshakes": [plain(named(one)) | {"payload": one.encode().hex()} for one in EXTENDED_HANDSHAKES],
        "metadata": [named(one) | {"payload": one.encode().hex()} for one in METADATA],
        "limits": {
            "handshake": wire.HANDSHAKE_SIZE,
            "large_block": wire.LARGE_BLOCK_SIZE,
            "frames": {str(kind): most for kind, most in sorted(wire.MAX_FRAMES.items())},
        },
    }


def handshake(one: wire.Handshake) -> Json:
    return named(one) | {"extended": one.extended, "fast": one.fast, "bytes": one.encode().hex()}


def named(one: wire.Message | wire.Handshake | ExtendedHandshake | metadata.MetadataMessage) -> Json:
    """The message's name and fields; a block is spread out, bytes are hex."""
    said: Json = {"name": type(one).__name__}
    for field in fields(one):
        value = getattr(one, field.name)
        said |= value._asdict() if isinstance(value, Block) else {field.name: plain(value)}
    return said


def plain(value: Any) -> Any:
    """As JSON can say it: bytes in hex, keys of dictionaries as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key.decode() if isinstance(key, bytes) else key: plain(item) for key, item in value.items()}
    return value
