"""Pieces on disk: what is believed after a clean end, after a crash, after damage, and on a disk that is full."""

from __future__ import annotations

import hashlib
import mmap
import os
import resource
from pathlib import Path

import pytest

from bct.backends.disk import DiskStore, DiskStores
from bct.errors import ConfigError, StoreError
from bct.torrent.metainfo import Metainfo, build_info
from bct.torrent.store import PieceStore, PieceStores
from bct.units import PieceIndex

PIECE = 16 * 1024
PIECES = [bytes((65 + n,)) * PIECE for n in range(4)] + [b"the short last one"]
FILM = b"".join(PIECES)


def torrent(content: bytes = FILM) -> Metainfo:
    parts = (content[at : at + PIECE] for at in range(0, len(content), PIECE))
    hashes = [hashlib.sha1(part).digest() for part in parts]
    return Metainfo.from_info(build_info("film.mp4", len(content), PIECE, hashes))


def index(n: int) -> PieceIndex:
    return PieceIndex(n)


def filled(root: Path, *pieces: int) -> DiskStore:
    store = DiskStore.open(root, torrent())
    for n in pieces:
        store.write(index(n), PIECES[n])
    return store


def data_of(root: Path) -> Path:
    return root / torrent().infohash.hex() / "data"


def test_pieces_come_back_as_they_were_written_in_any_order(tmp_path: Path) -> None:
    store: PieceStore = filled(tmp_path, 4, 0, 2)
    assert list(store.pieces) == [0, 2, 4]
    assert [bytes(store.read(index(n))) for n in (0, 2, 4)] == [PIECES[0], PIECES[2], PIECES[4]]
    store.close()
    again = DiskStore.open(tmp_path, torrent())
    assert list(again.pieces) == [0, 2, 4]
    again.write(index(1), PIECES[1])
    again.write(index(3), PIECES[3])
    assert again.pieces.full
    again.close()
    assert data_of(tmp_path).read_bytes() == FILM


def test_reading_copies_nothing_and_a_view_outlives_the_store(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    view = store.read(index(3))
    assert isinstance(view.obj, mmap.mmap)
    assert view.readonly
    store.close()
    assert view == PIECES[3]


def test_a_piece_that_is_here_is_never_written_over(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    store.write(index(1), bytes(PIECE))
    assert store.read(index(1)) == PIECES[1]


def test_missing_pieces_take_no_room(tmp_path: Path) -> None:
    content = os.urandom(PIECE) + bytes(64 * PIECE)
    store = DiskStore.open(tmp_path, metainfo := torrent(content))
    store.write(index(0), content[:PIECE])
    store.close()
    assert (tmp_path / metainfo.infohash.hex() / "data").stat().st_blocks * 512 < 4 * PIECE


def test_after_a_crash_what_was_not_marked_is_hashed_again(tmp_path: Path) -> None:
    crashed = filled(tmp_path, 0)
    crashed.sync()
    crashed.write(index(1), PIECES[1])
    crashed.write(index(2), PIECES[2][:-1] + b"?")  # as if its last block had never reached the disk
    assert list(DiskStore.open(tmp_path, torrent()).pieces) == [0, 1]


def test_what_was_marked_is_not_hashed_again(tmp_path: Path) -> None:
    filled(tmp_path, 0, 1).close()
    with data_of(tmp_path).open("r+b") as file:
        file.write(b"rot")
    assert list(DiskStore.open(tmp_path, torrent()).pieces) == [0, 1]


def test_damaged_marks_mark_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 0, 3).close()
    with data_of(tmp_path).open("r+b") as file:
        file.write(b"rot")  # so that piece 0 is found only if the marks are believed
    marks = data_of(tmp_path).with_name("marks")
    sound = marks.read_bytes()
    for at in range(len(sound)):
        marks.write_bytes(sound[:at] + bytes((sound[at] ^ 1,)) + sound[at + 1 :])
        assert list(DiskStore.open(tmp_path, torrent()).pieces) == [3]
        marks.write_bytes(sound[:at])
        assert list(DiskStore.open(tmp_path, torrent()).pieces) == [3]


def test_marks_without_their_data_mark_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 0, 3).close()
    data_of(tmp_path).unlink()
    assert list(DiskStore.open(tmp_path, torrent()).pieces) == []
    assert list(DiskStore.open(tmp_path, torrent()).pieces) == []  # nor when a new file has taken the old one's place
    filled(tmp_path, 0, 3).close()
    os.truncate(data_of(tmp_path), PIECE)
    assert list(DiskStore.open(tmp_path, torrent()).pieces) == [0]


def test_a_publishers_file_is_taken_in_without_a_copy(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(FILM)
    store = DiskStore.adopt(tmp_path / "pieces", torrent(), film)
    assert store.pieces.full
    assert store.read(index(4)) == PIECES[4]
    assert data_of(tmp_path / "pieces").samefile(film)
    store.close()
    assert DiskStore.adopt(tmp_path / "pieces", torrent(), data_of(tmp_path / "pieces")).pieces.full
    assert DiskStore.open(tmp_path / "pieces", torrent()).pieces.full


def test_files_come_from_the_incoming_folder_by_name_alone(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    stores: PieceStores = DiskStores(tmp_path / "pieces", incoming)
    (tmp_path / "film.mp4").write_bytes(FILM)
    for name in ("../film.mp4", str(tmp_path / "film.mp4"), "..", "", "."):
        with pytest.raises(ConfigError, match="not the name of a file"):
            stores.adopt(torrent(), name)
    (incoming / "film.mp4").symlink_to(tmp_path / "film.mp4")
    assert stores.adopt(torrent(), "film.mp4").pieces.full
    assert stores.open(torrent()).pieces.full
    assert not data_of(tmp_path / "pieces").is_symlink()


def test_a_publishers_file_takes_the_place_of_a_part(tmp_path: Path) -> None:
    filled(tmp_path / "pieces", 0).close()
    film = tmp_path / "film.mp4"
    film.write_bytes(FILM)
    assert DiskStore.adopt(tmp_path / "pieces", torrent(), film).pieces.full
    assert data_of(tmp_path / "pieces").read_bytes() == FILM


def test_a_film_with_holes_is_whole(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.touch()
    os.truncate(film, 3 * PIECE)
    assert DiskStore.adopt(tmp_path / "pieces", torrent(bytes(3 * PIECE)), film).pieces.full


def test_another_file_is_not_taken_in(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    for content, why in ((FILM[:-1], "65553 bytes, the torrent 65554"), (FILM[:-1] + b"?", "piece 4 differs")):
        film.write_bytes(content)
        with pytest.raises(StoreError, match=why):
            DiskStore.adopt(tmp_path / "pieces", torrent(), film)
    with pytest.raises(StoreError, match="No such file"):
        DiskStore.adopt(tmp_path / "pieces", torrent(), tmp_path / "nowhere")
    assert not (tmp_path / "pieces").exists()


def test_a_torrent_larger_than_the_disk_is_refused_with_what_is_lacking(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    piece_length = 64 << 20
    count = disk.f_bavail * disk.f_frsize // piece_length + 17
    giant = Metainfo.from_info(build_info("giant", count * piece_length, piece_length, [bytes(20)] * count))
    with pytest.raises(StoreError, match=r"its disk lacks \d{9,} of them"):
        DiskStore.open(tmp_path, giant)


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    store = filled(tmp_path, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE + 100, before[1]))
    try:
        with pytest.raises(StoreError, match="is full: piece 1 needs"):
            store.write(index(1), PIECES[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(store.pieces) == [0]
    store.write(index(1), PIECES[1])
    store.close()
    assert list(DiskStore.open(tmp_path, torrent()).pieces) == [0, 1]


def test_a_root_that_cannot_be_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        DiskStore.open(tmp_path / "file", torrent())
