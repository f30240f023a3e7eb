"""A .torrent file that plays by itself, and what strangers may put into one."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import PrivateKey
from bct.errors import RemoteProtocolError
from bct.title import torrent_file
from bct.title.link import MAX_ADDRESSES, Peer, TorrentLink
from bct.torrent import bencode
from bct.torrent.bencode import Value
from bct.torrent.metainfo import MAX_FILE, Metainfo, build_info

DATA = bytes(100_000)
METAINFO = Metainfo.from_info(
    build_info("film.mp4", len(DATA), 65536, [hashlib.sha1(DATA[:65536]).digest(), hashlib.sha1(DATA[65536:]).digest()])
)
CREATOR = PrivateKey(bytes(31) + b"\7").public
LINK = TorrentLink(METAINFO.infohash, CREATOR, "film.mp4", (Peer("127.0.0.1", 6881), Peer("2001:db8::1", 1)))


def with_part(part: Value) -> bytes:
    outer = bencode.decode_dict(METAINFO.to_file(), MAX_FILE)
    return bencode.encode(outer | {b"bct": part})


def test_the_file_carries_the_link_and_other_clients_see_the_same_torrent() -> None:
    raw = torrent_file.encode(METAINFO, LINK)
    assert torrent_file.decode(raw) == (METAINFO, LINK)
    assert Metainfo.from_file(raw).infohash == METAINFO.infohash


def test_anybodys_torrent_is_read_as_one_that_costs_nothing() -> None:
    assert torrent_file.decode(METAINFO.to_file()) == (METAINFO, TorrentLink(METAINFO.infohash, None, "film.mp4"))


@pytest.mark.parametrize(
    "part",
    [
        5,
        {b"creator": CREATOR[:-1]},
        {b"creator": b"\2" + bytes(32)},
        {b"creator": 5},
        {b"peers": b"127.0.0.1:1"},
        {b"peers": [5]},
        {b"peers": [b"nowhere"]},
        {b"peers": [b"127.0.0.1:0"]},
        {b"peers": [b"\xff:1"]},
        {b"peers": [b"127.0.0.1:1"] * (MAX_ADDRESSES + 1)},
    ],
)
def test_a_part_that_cannot_be_is_refused(part: Value) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        torrent_file.decode(with_part(part))
    assert caught.value.reason == "bad-metainfo"


@given(st.data())
def test_a_damaged_file_raises_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(torrent_file.encode(METAINFO, LINK))
    cut = data.draw(st.integers(0, len(raw)))
    if cut < len(raw):
        raw[cut] = data.draw(st.integers(0, 255))
    for damaged in (bytes(raw), bytes(raw[:cut])):
        with suppress(RemoteProtocolError):
            torrent_file.decode(damaged)
