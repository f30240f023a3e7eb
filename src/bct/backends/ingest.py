"""A creator's file on its way into a torrent: probe, convert, hash. Implements `media.ingest.Ingester`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from bct.backends.transcoder import Transcoder
from bct.errors import MediaError, StoreError
from bct.media.boxes import Movie
from bct.media.ingest import Ingested, Progress, Stage, can_be_sought, check_whole, piece_length_for
from bct.media.probe import MediaInfo, plan

_BATCH = 16 << 20
"""Bytes hashed between two reports of progress."""
_THREADS = 2
"""SHA-1 runs at 1.7 GB/s a core, and the disk rarely feeds more than two."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """Copies where it can, and encodes where copying fails or would make a film that cannot be sought in."""

    transcoder: Transcoder

    async def ingest(self, source: str, target: str, progress: Progress) -> Ingested:
        """See `Ingester`. Works in ``target + ".partial"``; one left by a crash is written over."""
        partial = target + ".partial"
        progress(Stage.PROBE, 0.0)
        info = await self.transcoder.probe(source)
        progress(Stage.PROBE, 1.0)
        try:
            movie = await self._convert(source, partial, info, progress)
            length = os.stat(partial).st_size
            piece_length = piece_length_for(length)
            hashes = await _hashes(partial, length, piece_length, lambda done: progress(Stage.HASH, done))
            os.replace(partial, target)
        except OSError as error:
            raise StoreError(f"{target!r} cannot be kept: {error.strerror}") from None
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)
        return Ingested(target, length, movie, piece_length, hashes)

    async def _convert(self, source: str, target: str, info: MediaInfo, progress: Progress) -> Movie:
        wanted = plan(info)
        if wanted.copy_video:
            try:
                made = await self.transcoder.convert(
                    source, target, wanted, info.duration, lambda done: progress(Stage.COPY, done)
                )
            except MediaError:
                pass  # packets without times, for one: decoding gives them new ones
            else:
                check_whole(info.duration, made.seconds)
                if can_be_sought(made.movie):
                    return made.movie
        encoded = replace(wanted, copy_video=False)
        made = await self.transcoder.convert(
            source, target, encoded, info.duration, lambda done: progress(Stage.ENCODE, done)
        )
        check_whole(info.duration, made.seconds)
        return made.movie


async def _hashes(path: str, length: int, piece_length: int, tell: Callable[[float], None]) -> tuple[bytes, ...]:
    """SHA-1 of each piece. Reading and hashing both let other threads run."""
    batch = max(_BATCH, piece_length)
    starts = range(0, length, batch)
    hashes: list[bytes] = []
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(_THREADS)
    try:
        jobs = [loop.run_in_executor(threads, _hash_batch, path, at, batch, piece_length) for at in starts]
        for number, job in enumerate(jobs, 1):
            hashes += await job
            tell(number / len(jobs))
    finally:
        threads.shutdown(cancel_futures=True)
    return tuple(hashes)


def _hash_batch(path: str, start: int, size: int, piece_length: int) -> list[bytes]:
    """SHA-1 of each piece that begins within `size` bytes from `start`, a multiple of the piece length."""
    with open(path, "rb") as file:
        file.seek(start)
        pieces = iter(lambda: file.read(piece_length), b"")
        return [hashlib.sha1(piece, usedforsecurity=False).digest() for piece in islice(pieces, size // piece_length)]
