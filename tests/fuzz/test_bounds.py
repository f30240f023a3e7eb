"""What a stranger's bytes cost: work and memory grow with their number, whatever shape they are given.

Each bomb is the worst shape that is known of its kind, in two sizes. Work is counted (`work.steps`), not timed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import pytest

from bct.api import byte_range
from bct.bitcoin import address, hd
from bct.bitcoin.chain import Network
from bct.bitcoin.merkle import Leaf, MerklePath
from bct.bitcoin.proof import Beef
from bct.bitcoin.tx import Tx, TxInput, TxOutput, compact_size
from bct.errors import BctError
from bct.media import boxes, probe, sidx, sync
from bct.pay import messages as m
from bct.title import link, manifest, torrent_file
from bct.torrent import bencode, metadata, wire
from bct.torrent.connection import PeerConnection
from bct.torrent.extension import MAX_METADATA, ExtendedHandshake
from bct.torrent.geometry import Block, Geometry
from bct.torrent.metainfo import MAX_FILE, Metainfo
from bct.units import Outpoint, Satoshi, Txid
from tests import mp4
from tests.fuzz.work import memory, steps

GROWTH = 2
"""How much faster than its size a bomb's work may grow, for some carry a film around; eight times the bytes would be
eight times this if each were looked at again for every other."""


@dataclass(frozen=True)
class Bomb:
    """make: of about so many bytes. read: as the program does. held: most bytes of memory for one of the bomb's.
    longest: beyond it the bomb is refused for its size alone."""

    make: Callable[[int], bytes]
    read: Callable[[bytes], object]
    held: int = 20
    longest: int = 16_000


def _bencoded(raw: bytes) -> object:
    return bencode.decode(raw, MAX_METADATA)


def _deep(size: int) -> bytes:
    """Lists as deep as they are read, side by side."""
    one = b"l" * bencode.MAX_DEPTH + b"e" * bencode.MAX_DEPTH
    return b"l" + one * (size // len(one)) + b"e"


def _keys(size: int) -> bytes:
    return b"d" + b"".join(b"4:%04di0e" % key for key in range(min(size // 9, 9999))) + b"e"


def _info(paths: Sequence[Sequence[bytes]]) -> bytes:
    """An info dictionary of files of one byte each."""
    files: list[bencode.Value] = [{b"length": 1, b"path": list(path)} for path in paths]
    pieces = bytes(20 * -(-len(files) // 16384))
    return bencode.encode({b"files": files, b"name": b"n", b"piece length": 16384, b"pieces": pieces})


def _deep_files(size: int) -> bytes:
    """Each in as many directories as a path may have, none of them another's."""
    return _info([(b"%d" % n, *([b"a"] * 31)) for n in range(size // 125)])


def _many_files(size: int) -> bytes:
    return _info([(b"%d" % n,) for n in range(size // 30)])


def _trackers(size: int) -> bytes:
    outer = bencode.decode_dict(Metainfo.from_info(_many_files(30)).to_file(), MAX_FILE)
    return bencode.encode(outer | {b"announce-list": [[b"u"] for _ in range(size // 5)]})


def _fragments(size: int) -> bytes:
    """A manifest with one long index."""
    film = manifest.Rendition(
        "00" * 20, 2**52, "video/mp4", 16384, 1, 1, 1, 1, "AAAB" * (size // 4)
    )  # three numbers of a byte each
    return manifest.encode(manifest.Manifest("02" + "11" * 32, 1, "n", (film,), 0, "t"))


def _frames(one: bytes) -> Callable[[int], bytes]:
    return lambda size: one * (size // len(one))


def _heard(raw: bytes, at_a_time: int) -> object:
    peer = PeerConnection(
        b"-BC0001-fuzzfuzzfuzz", bytes(20), Geometry(1 << 30, 1 << 18), extensions={1: m.EXTENSION.decode()}
    )
    peer.receive_data(wire.Handshake(bytes(20), bytes(20)).encode())
    peer.unchoke()
    view = memoryview(raw)
    return [peer.receive_data(view[at : at + at_a_time]) for at in range(0, len(raw), at_a_time)]


def _byte_by_byte(raw: bytes) -> object:
    return _heard(raw, 1)


def _at_once(raw: bytes) -> object:
    return _heard(raw, 1 << 20)


def _joined(raw: bytes) -> object:
    joiner = m.Joiner()
    return [joiner.receive(part) for part in m.chunked(raw)]


def _spending(*coins: Outpoint, pays: int = 1, script: bytes = b"\x51") -> Tx:
    return Tx(tuple(TxInput(coin, b"\x51") for coin in coins), (TxOutput(Satoshi(pays), script),))


def _whole_block(size: int) -> bytes:
    """A path that holds a whole block, and a proof that takes each of the block's transactions from it."""
    count = 1 << (size // 142).bit_length()
    mined = [_spending(Outpoint(Txid(bytes(32)), n)) for n in range(count)]
    row = tuple(Leaf(n, tx.txid, is_txid=True) for n, tx in enumerate(mined))
    path = MerklePath(7, (row, *(() for _ in range((count - 1).bit_length() - 1))))
    last = _spending(*(Outpoint(tx.txid, 0) for tx in mined))
    return Beef(last.txid, (*mined, last), {tx.txid: path for tx in mined}).serialize()


def _chain_of_spends(size: int) -> bytes:
    """One is mined, the others spend each the one before it."""
    mined = _spending(Outpoint(Txid(bytes(32)), 0))
    txs = [mined]
    for _ in range(size // 62):
        txs.append(_spending(Outpoint(txs[-1].txid, 0)))
    path = MerklePath.of_branch(7, mined.txid, 0, [None])
    return Beef(txs[-1].txid, tuple(txs), {mined.txid: path}).serialize()


def _least_transactions(size: int) -> bytes:
    """Without inputs and outputs, so that they are as many as can be."""
    count = size // 11
    return b"".join(
        (bytes.fromhex("01010101"), bytes(32), bytes.fromhex("0100beef"), b"\0", compact_size(count), bytes(11 * count))
    )


def _checked(raw: bytes) -> object:
    beef = Beef.parse(raw)
    return beef.check({path.height: path.root(txid) for txid, path in list(beef.proofs.items())[:1]})


def _tall_path(size: int) -> bytes:
    """64 rows; half of them full of pairs, from each of which a node follows in every row above."""
    count = size // 32 // 41
    rows = [tuple(Leaf((row << 20) + n, bytes(32)) for n in range(count)) for row in range(32)]
    return MerklePath(7, (*rows, *[()] * 32)).serialize()


def _rooted(raw: bytes) -> object:
    return MerklePath.parse(raw).root(Txid(bytes(32)))


def _many_outputs(size: int) -> bytes:
    return Tx((), (TxOutput(Satoshi(0), b""),) * (size // 9)).serialize()


def _tiny_boxes(size: int) -> bytes:
    return mp4.box("free") * (size // 8)


def _inside(kind: str, one: bytes) -> Callable[[int], bytes]:
    """A film whose moov or moof also holds very many of one box."""

    def make(size: int) -> bytes:
        padding, parts = one * (size // len(one)), []
        for box in boxes.outermost(lambda at, n: mp4.film()[at : at + n], len(mp4.film()), 0):
            body = mp4.film()[box.body : box.end]
            parts.append(mp4.box(box.kind.decode(), padding if box.kind == kind.encode() else b"", body))
        return b"".join(parts)

    return make


def _track(trun: bytes) -> bytes:
    return mp4.traf(mp4.full("tfhd", 0, 0, mp4.u32(1)), mp4.full("tfdt", 0, 0, mp4.u32(99_999)), trun)


def _fragments_of_nothing(size: int) -> bytes:
    """As many fragments as can be."""
    one = mp4.fragment(_track(mp4.full("trun", 0, 0, mp4.u32(1))), data=0)
    return mp4.film() + one * (size // len(one))


def _many_samples(size: int) -> bytes:
    trun = mp4.full("trun", 0, 0x100, mp4.u32(size // 4, *[1] * (size // 4)))
    return mp4.film() + mp4.fragment(_track(trun))


def _many_edits(size: int) -> bytes:
    track = mp4.trak(1, "vide", 90_000, mp4.avc1(), edits=[(1, -1)] * (size // 12))
    return mp4.moov([track], [mp4.trex(1)]) + mp4.fragment()


def _scanned(raw: bytes) -> object:
    return boxes.scan(lambda at, size: raw[at : at + size], len(raw))


def _patched(raw: bytes) -> object:
    return sync.patches(lambda at, size: raw[at : at + size], len(raw))


def _index(size: int) -> bytes:
    count = min(size // 12, 0xFFFF)
    return struct.pack(">I4sIIIIIHH", 32 + 12 * count, b"sidx", 0, 1, 1, 0, 0, 0, count) + bytes(12 * count)


def _text(text: str) -> Callable[[int], bytes]:
    return lambda size: (text * (size // len(text))).encode()


def _linked(before: str) -> Callable[[bytes], object]:
    return lambda raw: link.parse(before + raw.decode())


BOMBS: dict[str, Bomb] = {
    "bencoded lists in lists": Bomb(_deep, _bencoded, 60),
    "bencoded lists without end": Bomb(lambda size: b"l" * size, _bencoded),
    "bencoded empty strings": Bomb(lambda size: b"l" + b"0:" * (size // 2) + b"e", _bencoded, 60),
    "bencoded keys": Bomb(_keys, _bencoded, 40),
    "files in many directories": Bomb(_deep_files, Metainfo.from_info, 120),
    "many files": Bomb(_many_files, Metainfo.from_info, 40),
    "many trackers": Bomb(_trackers, torrent_file.decode, 120),
    "extensions": Bomb(lambda size: b"d1:m" + _keys(size) + b"e", ExtendedHandshake.decode, 40, 16_000),
    "metadata's head": Bomb(_deep, metadata.decode, 60, 16_000),
    "manifest's fragments": Bomb(_fragments, manifest.decode, 120),
    "manifest in brackets": Bomb(lambda size: b"[" * size, manifest.decode),
    "link of many fields": Bomb(
        lambda size: b"magnet:?" + b"&=" * (size // 2), lambda raw: link.parse(raw.decode()), 20, 8_000
    ),
    "link of many peers": Bomb(
        _text("magnet:?x.pe=a.b:1&"), lambda raw: link.parse("magnet:?" + raw.decode()), 60, 8_000
    ),
    "link of escapes": Bomb(_text("%C3%A9"), _linked("magnet:?dn="), 60, 8_000),
    "keep-alives": Bomb(_frames(wire.KEEP_ALIVE), _at_once),
    "requests": Bomb(_frames(wire.Request(Block(1, 0, 1)).encode()), _at_once, 60),
    "haves byte by byte": Bomb(_frames(wire.Have(1).encode()), _byte_by_byte, 400),
    "a long message byte by byte": Bomb(lambda size: wire.Extended(1, bytes(size)).encode(), _byte_by_byte, 200),
    "piece map": Bomb(lambda size: m.HaveMap(bytes(size)).encode(), _joined),
    "pieces named": Bomb(lambda size: m.HaveDelta(tuple(range(size // 4))).encode(), _joined, 60),
    "a whole block's proof": Bomb(_whole_block, _checked, 60),
    "a long unproven chain": Bomb(_chain_of_spends, _checked, 60),
    "transactions of nothing": Bomb(_least_transactions, _checked, 60),
    "a tall Merkle path": Bomb(_tall_path, _rooted, 60),
    "outputs of nothing": Bomb(_many_outputs, Tx.parse, 60),
    "boxes of nothing": Bomb(_tiny_boxes, _scanned, 60),
    "boxes in moov": Bomb(_inside("moov", mp4.box("free")), _scanned),
    "tracks in moov": Bomb(_inside("moov", mp4.trak(9, "text", 1, b"")), _scanned),
    "boxes in moof": Bomb(_inside("moof", mp4.box("traf", mp4.full("tfhd", 0, 0, mp4.u32(9)))), _scanned),
    "fragments of nothing": Bomb(_fragments_of_nothing, _scanned),
    "samples": Bomb(_many_samples, _scanned),
    "edits": Bomb(_many_edits, _patched),
    "index of many fragments": Bomb(_index, sidx.starts, 40),
    "boxes before the index": Bomb(_tiny_boxes, sidx.starts, 60),
    "address": Bomb(_text("z"), lambda raw: address.decode(raw.decode(), Network.MAIN)),
    "words": Bomb(_text("zoo "), lambda raw: hd.check_words(raw.decode()), 60),
    "ffmpeg's log": Bomb(_text("  Stream #0:0: Audio: aac\n"), lambda raw: probe.parse(raw.decode()), 60),
    "range": Bomb(_text("bytes=1-2,"), lambda raw: byte_range.parse(raw.decode(), 9)),
}


@cache
def sizes(name: str) -> tuple[bytes, bytes]:
    bomb = BOMBS[name]
    return bomb.make(bomb.longest // 8), bomb.make(bomb.longest)


def read(name: str, raw: bytes) -> Callable[[], object]:
    def work() -> object:
        with suppress(BctError):
            return BOMBS[name].read(raw)
        return None

    return work


@pytest.mark.parametrize("name", BOMBS)
def test_work_grows_with_the_bytes_and_no_faster(name: str) -> None:
    small, big = sizes(name)
    least, most = steps(read(name, small)), steps(read(name, big))
    assert most <= GROWTH * least * len(big) / len(small) + 100, (
        f"{least} steps for {len(small)}, {most} for {len(big)}"
    )


@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_paid_for_byte_by_byte(name: str) -> None:
    _, big = sizes(name)
    held = memory(read(name, big))
    assert held <= BOMBS[name].held * len(big) + 100_000, f"{held} bytes for {len(big)}"
