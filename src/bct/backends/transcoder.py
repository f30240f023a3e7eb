"""ffmpeg, behind walls: says what a file holds, and makes a fragmented MP4 of it, by copying or by encoding.

Trust: the file is a stranger's and ffmpeg's parsers are large. ffmpeg therefore runs in `sandbox` and is handed the
file already open, never a path. A playlist that points at other files or at addresses gets nowhere: formats that point
elsewhere are not among those read, the only protocol allowed on the input's side is reading that one open file, and
there is no network and no file to reach.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bct.backends import sandbox
from bct.errors import MediaError, StoreError
from bct.media.boxes import Movie, scan
from bct.media.probe import MediaInfo, Plan, parse
from bct.media.sidx import MAX_FRAGMENTS, front, sidx_size
from bct.media.sync import patches

_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf"
_READ = ("-hide_banner", "-nostdin", "-protocol_whitelist", "fd", "-format_whitelist", _FORMATS, "-i", "fd:")
_FRAGMENT_US = 1_500_000  # cut at the first keyframe after it: two-second keyframes make two-second fragments
_MP4 = (
    *("-map_metadata", "-1", "-map_chapters", "-1"),  # a phone's film says where it was taken
    *("-fflags", "+bitexact", "-flags", "+bitexact"),  # the same input makes the same torrent
    *("-movflags", "+frag_keyframe+empty_moov+delay_moov+default_base_moof+skip_trailer"),
    *("-min_frag_duration", str(_FRAGMENT_US), "-f", "mp4"),
    *("-progress", "pipe:1", "-nostats", "-loglevel", "warning"),
)
_H264 = (
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-pix_fmt", "yuv420p"),
    *("-vf", "scale=trunc(iw/2)*2:trunc(ih/2)*2"),  # 4:2:0 has no odd sides
    *("-force_key_frames", "expr:gte(t,n_forced*2)", "-sc_threshold", "0"),
)
_AAC = ("-c:a", "aac", "-ac", "2", "-b:a", "160k")

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Made:
    """seconds: how much of the source came out, whichever of its streams is longest."""

    movie: Movie
    seconds: float


@dataclass(frozen=True, slots=True)
class Transcoder:
    """program: absolute path of an ffmpeg, 6.0 or newer."""

    program: str

    async def probe(self, source: str) -> MediaInfo:
        """What the file `source` holds. Raises MediaError."""
        with _opened(source) as file:
            # With no output named, ffmpeg describes its input and ends with 1 whether or not it could.
            finished = await sandbox.run(self.program, _READ, sandbox.Limits(60), file, file, lambda line: None)
        info = parse(finished.log)
        if not info.video and not info.audio:
            raise _explained(finished)
        return info

    async def convert(
        self, source: str, target: str, plan: Plan, duration: float | None, on_progress: Callable[[float], None]
    ) -> Made:
        """Copies what `plan` says can be copied, encodes the rest, into the new file `target`.

        duration: seconds the source says it has. on_progress: told the part that is done, 0 to 1, never less than
        before. Raises MediaError or StoreError; half a film is then left for the caller to remove.
        """
        with _opened(source) as file, _created(target) as made:
            size = os.fstat(file).st_size
            limits = sandbox.Limits(_patience(size, plan, duration), file_size=4 * size + _GIB)
            space = _index_space(duration)
            os.lseek(made, space, os.SEEK_SET)
            arguments = (*_READ, *_streams(plan), *_MP4, f"pipe:{made}")
            report = _Progress(duration, on_progress)
            finished = await sandbox.run(self.program, arguments, limits, file, made, report.line)
            if finished.code != 0:
                raise _explained(finished)
        movie = await asyncio.to_thread(_completed, target, space)
        on_progress(1.0)
        return Made(movie, report.seconds)


def _streams(plan: Plan) -> Iterator[str]:
    yield from ("-map", f"0:{plan.video.index}")
    if plan.audio:
        yield from ("-map", f"0:{plan.audio.index}")
    yield from ("-c:v", "copy") if plan.copy_video else _H264
    yield from ("-c:a", "copy") if plan.copy_audio else _AAC
    if plan.copy_audio and plan.audio and plan.audio.codec == "aac":
        yield from ("-bsf:a", "aac_adtstoasc")  # broadcasts repeat its headers in each packet, MP4 does not


class _Progress:
    """Reads ffmpeg's progress lines (``out_time_us=1234567``)."""

    def __init__(self, duration: float | None, tell: Callable[[float], None]) -> None:
        self._duration = duration
        self._tell = tell
        self.seconds = 0.0

    def line(self, line: str) -> None:
        name, _, value = line.partition("=")
        if name == "out_time_us" and value.isdecimal() and self._duration:
            self.seconds = max(self.seconds, int(value) / 1e6)
            self._tell(min(1.0, self.seconds / self._duration))


def _patience(size: int, plan: Plan, duration: float | None) -> float:
    """Seconds. Copying is as fast as the disk; encoding may take twenty times the film's own time, and a day."""
    encoding = 0 if plan.copy_video else 20 * (duration or 3600)
    return min(120 + size / 4e6 + encoding, 24 * 3600)


def _index_space(duration: float | None) -> int:
    """Bytes kept free before the first fragment, so that an index of picture and one of sound can be put there without
    moving the film."""
    fragments = int((duration or 6 * 3600) * 1e6 / _FRAGMENT_US) + 16
    return 2 * sidx_size(min(fragments, MAX_FRAGMENTS)) + 8


def _completed(path: str, space: int) -> Movie:
    """Puts the tracks in step, then the init segment in front of the free space, and the index into it.

    Runs in a thread that nothing can stop: it has the file open itself, so that a cancelled caller may clear up.
    """
    with open(path, "r+b", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size

        def read(offset: int, size: int) -> bytes:
            return os.pread(file.fileno(), size, offset)

        for offset, data in patches(read, length, space):
            os.pwrite(file.fileno(), data, offset)
        movie = scan(read, length, space)
        os.pwrite(file.fileno(), front(movie, read(space, movie.init_size), space), 0)
        return movie


@contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe must not hold us up
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise MediaError(f"{path!r} cannot be read: {error}") from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise MediaError(f"{path!r} is no file")
        if found.st_size == 0:
            raise MediaError(f"{path!r} is empty: it has 0 bytes")
        yield file
    finally:
        os.close(file)


@contextmanager
def _created(path: str) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{path!r} cannot be written: {error.strerror}") from None
    try:
        yield file
    finally:
        os.close(file)


_NO_VIDEO = "the file is not a video, or of a kind that is not read: try MP4, MKV or WebM"
_FAILURES = (
    ("No space left on device", StoreError, "the disk is full: make room for a copy of the film and try again"),
    ("File too large", MediaError, "the film became more than four times as large as the file it is made from"),
    ("moov atom not found", MediaError, "the file is cut off or still being written: its index (moov) is missing"),
    ("Invalid data found", MediaError, _NO_VIDEO),
    ("Format not on whitelist", MediaError, _NO_VIDEO),
    ("Cannot allocate memory", MediaError, "the file takes more memory to read than it may"),
)


def _explained(finished: sandbox.Finished) -> MediaError | StoreError:
    """The sentence for what ffmpeg said when it failed."""
    for words, error, text in _FAILURES:
        if words in finished.log:
            return error(text)
    if finished.code < 0:
        return MediaError(f"ffmpeg was ended by signal {-finished.code} while it read the file")
    said = (finished.log.strip().splitlines() or [f"it ended with {finished.code}"])[-1]
    shown = "".join(character if character.isprintable() else "?" for character in said)[:200]
    return MediaError(f"ffmpeg cannot make a film of this file: {shown}")
