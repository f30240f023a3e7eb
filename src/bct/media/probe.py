"""What ffmpeg says about a file before anything is made of it, and what is to be made.

Trust: the file is a stranger's. Its metadata may hold any text, but ffmpeg writes metadata indented and escapes line
ends in it, so lines that begin with exactly two blanks and "Stream" or "Duration" are ffmpeg's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bct.errors import MediaError

_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d\d)", re.MULTILINE)
_STREAM = re.compile(r"^  Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\(\w+\))?: (Video|Audio): (\w+)(.*)$", re.MULTILINE)
_PICTURE = re.compile(r"[^,]*, (\w+).*?, (\d+)x(\d+)")

# What a MediaSource takes from MP4 in every browser that has the codec at all.
_PICTURES = {
    "h264": frozenset(("yuv420p", "yuvj420p")),
    "vp9": frozenset(("yuv420p", "yuv420p10le")),
    "av1": frozenset(("yuv420p", "yuv420p10le")),
}
_SOUNDS = frozenset(("aac", "opus", "mp3", "flac"))


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream that is seen or heard; pixel format and size are empty for sound. Size before rotation."""

    index: int
    codec: str
    pixels: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """duration: seconds; None where the file does not say. Cover art is not counted as video."""

    duration: float | None
    video: tuple[Stream, ...]
    audio: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which streams are taken, and whether each is copied packet by packet or encoded anew."""

    video: Stream
    audio: Stream | None
    copy_video: bool
    copy_audio: bool


def parse(log: str) -> MediaInfo:
    """Reads what ``ffmpeg -i`` writes about its one input."""
    streams: dict[str, list[Stream]] = {"Video": [], "Audio": []}
    for index, kind, codec, rest in _STREAM.findall(log):
        picture = _PICTURE.match(rest)
        if kind == "Audio":
            streams[kind].append(Stream(int(index), codec))
        elif picture and "(attached pic)" not in rest:
            pixels, width, height = picture.groups()
            streams[kind].append(Stream(int(index), codec, pixels, int(width), int(height)))
    duration = None
    if said := _DURATION.search(log):
        hours, minutes, seconds = said.groups()
        duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return MediaInfo(duration, tuple(streams["Video"]), tuple(streams["Audio"]))


def plan(info: MediaInfo) -> Plan:
    """The first video and the first audio stream; what browsers play is copied. Raises MediaError without video."""
    if not info.video:
        heard = "it has sound only" if info.audio else "it has neither picture nor sound"
        raise MediaError(f"the file has no video stream: {heard}")
    video, audio = info.video[0], next(iter(info.audio), None)
    return Plan(
        video,
        audio,
        copy_video=video.pixels in _PICTURES.get(video.codec, ()),
        copy_audio=audio is not None and audio.codec in _SOUNDS,
    )
