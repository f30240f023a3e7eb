"""Ingest of a film that can be copied, 1 GiB of H.264 and AAC, beside ffmpeg's own copy and libtorrent's hashing.

bct's figure is the whole way from a creator's file to a film with its pieces hashed: starting ffmpeg behind its walls,
looking at the file, copying it into fragments, reading these back, writing the index, SHA-1. The other figure is what a
person would do by hand: ``ffmpeg -c copy`` into an MP4, then libtorrent's hashes. Rounds alternate; rows carry medians.
The film is made once and kept in .cache/.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import imageio_ffmpeg
import libtorrent as lt

from bct.backends.ingest import Ingest
from bct.backends.transcoder import Transcoder
from bench.row import Row

CACHE = Path(__file__).parents[1] / ".cache/film"
BUNNY = CACHE / "bigbuckbunny.mp4"
PIECE_LENGTH = 256 * 1024
GOAL = 1.6
"""At most 1.6 times as long."""


def rows(mib: int = 1024, rounds: int = 5) -> list[Row]:
    film = long_film(mib)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        target = Path(directory) / "film.mp4"
        for _ in range(rounds):
            ours.append(timed(by_bct, film, target))
            theirs.append(timed(by_hand, film, target))
    other = f"ffmpeg -c copy, then libtorrent {lt.__version__}"
    return [Row(f"ingest {mib} MiB", median(ours), "s", other, median(theirs), "", GOAL)]


def long_film(mib: int) -> Path:
    """The bunny with a keyframe every two seconds, again and again until it is large enough, by copying."""
    film = CACHE / f"long-{mib}.mp4"
    if not film.exists():
        short = CACHE / "short.mp4"
        ffmpeg("-i", BUNNY, "-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-g", "50", "-c:a", "aac", short)
        partial = film.with_suffix(".partial")
        ffmpeg("-stream_loop", "-1", "-i", short, "-c", "copy", "-fs", str(mib << 20), "-f", "mp4", partial)
        partial.rename(film)
        short.unlink()
    return film


def by_bct(film: Path, target: Path) -> None:
    ingest = Ingest(Transcoder(imageio_ffmpeg.get_ffmpeg_exe()))
    asyncio.run(ingest.ingest(str(film), str(target), lambda stage, done: None))


def by_hand(film: Path, target: Path) -> None:
    ffmpeg("-i", film, "-c", "copy", target)
    files = lt.file_storage()
    files.add_file(target.name, target.stat().st_size)
    torrent = lt.create_torrent(files, PIECE_LENGTH, lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, str(target.parent))


def ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def timed(step: Callable[[Path, Path], None], film: Path, target: Path) -> float:
    """Seconds; the target is not there before or after, so nobody pays for clearing it away."""
    start = time.perf_counter()
    step(film, target)
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds
