"""The .torrent file: libtorrent reads ours, we read libtorrent's, and what is crooked is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import RemoteProtocolError
from bct.torrent import bencode
from bct.torrent.bencode import Value
from bct.torrent.metainfo import File, Metainfo, build_info
from tests.wire_parts import film

KIB = 1024


def info(**changes: Value) -> bytes:
    """A good info dictionary of 40,000 bytes in three pieces, but for the changes; '_' stands for a space."""
    plain: dict[bytes, Value] = {b"length": 40_000, b"name": b"a", b"piece length": 16 * KIB, b"pieces": bytes(60)}
    return bencode.encode(plain | {key.replace("_", " ").encode(): value for key, value in changes.items()})


def reason(raw: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as refused:
        Metainfo.from_info(raw)
    return refused.value.reason


def file(length: int, *path: bytes) -> Value:
    return {b"length": length, b"path": list(path)}


def multi(*files: Value) -> bytes:
    total = bencode.decode_dict(info(), 10_000)
    del total[b"length"]
    return bencode.encode(total | {b"files": list(files)})


def test_libtorrent_reads_ours() -> None:
    content, meta = film(100_000)
    read = lt.torrent_info(meta.to_file())
    assert read.info_hashes().v1.to_bytes() == meta.infohash
    assert (read.name(), read.total_size(), read.num_pieces()) == ("film.mp4", 100_000, 4)
    assert read.hash_for_piece(3) == meta.piece_hash(3) == hashlib.sha1(content[3 * 32 * KIB :]).digest()


def test_we_read_libtorrents(tmp_path: Path) -> None:
    (tmp_path / "series" / "extras").mkdir(parents=True)
    (tmp_path / "series" / "one.mp4").write_bytes(bytes(50_000))
    (tmp_path / "series" / "extras" / "two.mp4").write_bytes(b"2" * 30_000)
    files = lt.list_files(str(tmp_path / "series"))
    made = lt.create_torrent(files, piece_size=16 * KIB, flags=lt.create_torrent.v1_only)
    made.add_tracker("http://127.0.0.1/announce")
    made.add_tracker("udp://127.0.0.1:1", 1)
    lt.set_piece_hashes(made, str(tmp_path))
    raw = lt.bencode(made.generate())
    meta = Metainfo.from_file(raw)
    assert meta.infohash == lt.torrent_info(raw).info_hashes().v1.to_bytes()
    assert {(f.path, f.length) for f in meta.files} == {(("one.mp4",), 50_000), (("extras", "two.mp4"), 30_000)}
    assert meta.length == 80_000
    assert meta.trackers == (("http://127.0.0.1/announce",), ("udp://127.0.0.1:1",))


def test_a_file_survives_the_round_trip() -> None:
    _, made = film(100_000)
    meta = Metainfo.from_info(made.info_bytes, (("http://a/announce", "http://b/announce"), ("udp://c:1",)))
    assert Metainfo.from_file(meta.to_file()) == meta


def test_a_single_tracker_is_read_from_announce() -> None:
    _, meta = film(10)
    raw = bencode.encode({b"announce": b"http://a", b"info": bencode.decode(meta.info_bytes, 10_000)})
    assert Metainfo.from_file(raw).trackers == (("http://a",),)


@pytest.mark.parametrize("tiers", [5, [5], [[5, b""], []], [b"http://a"]])
def test_odd_trackers_are_passed_over(tiers: Value) -> None:
    _, meta = film(10)
    raw = bencode.encode({b"announce-list": tiers, b"info": bencode.decode(meta.info_bytes, 10_000)})
    assert Metainfo.from_file(raw).trackers == ()


def test_files_follow_one_another() -> None:
    meta = Metainfo.from_info(multi(file(30_000, b"a"), file(0, b"b", b"c"), file(10_000, b"b", b"d")))
    assert meta.files == (File(("a",), 30_000, 0), File(("b", "c"), 0, 30_000), File(("b", "d"), 10_000, 30_000))


@pytest.mark.parametrize(
    "name", [b"", b".", b"..", b"a/b", b"a\\b", b"c:", b"a\0", b"a\n", b"\xff", b"a" * 256, 5, [b"a"]]
)
def test_names_that_lead_elsewhere_are_refused(name: Value) -> None:
    assert reason(info(name=name)) == "bad-metainfo"
    assert reason(multi({b"length": 40_000, b"path": [b"good", name]})) == "bad-metainfo"


@pytest.mark.parametrize("piece_length", [0, -1, 1, 1000, 16 * KIB + 1, 128 * KIB * KIB])
def test_nonsense_piece_lengths_are_refused(piece_length: int) -> None:
    assert reason(info(piece_length=piece_length)) == "bad-metainfo"


@pytest.mark.parametrize("size", [0, 20, 59, 61, 80])
def test_there_is_one_hash_a_piece(size: int) -> None:
    assert reason(info(pieces=bytes(size))) == "bad-metainfo"


@pytest.mark.parametrize(
    "raw",
    [
        info(length=0),
        info(length=-1),
        info(length=1 << 62),
        info(length=b"1"),
        info(pieces=[]),
        info(files=b"x"),
        info(files=[]),
        multi(b"x"),
        multi({b"length": 40_000}),
        multi(file(40_000)),
        multi(file(20_000, b"a"), file(20_000, b"a")),
        multi(file(20_000, b"a"), file(20_000, b"a", b"b")),
        multi(file(40_000, *[b"d"] * 33)),
    ],
)
def test_crooked_dictionaries_are_refused(raw: bytes) -> None:
    assert reason(raw) == "bad-metainfo"


def test_too_large_a_dictionary_is_refused_unread() -> None:
    assert reason(info(padding=bytes(9 * KIB * KIB))) == "bad-bencoding"


def test_private_is_read() -> None:
    assert Metainfo.from_info(info(private=1)).private
    assert not Metainfo.from_info(info()).private


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for read in (Metainfo.from_info, Metainfo.from_file):
        with pytest.raises(RemoteProtocolError):
            read(raw)


def test_cut_anywhere_it_is_refused() -> None:
    raw = build_info("a", 40_000, 16 * KIB, [bytes(20)] * 3)
    assert raw == info()
    assert all(reason(raw[:end]) == "bad-bencoding" for end in range(len(raw)))
