"""Small films to try things on: five seconds of Big Buck Bunny, and whatever ffmpeg makes of them."""

import subprocess
from functools import lru_cache
from pathlib import Path

import imageio_ffmpeg

BUNNY = Path(__file__).parent.parent / ".cache/film/bigbuckbunny.mp4"
"""1280x720, 25 frames a second, 132 frames, H.264 with one keyframe, AAC 5.1; set up by ./run."""


@lru_cache
def ffmpeg() -> str:
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def run_ffmpeg(*arguments: str | Path) -> str:
    """Runs the tests' own ffmpeg, without walls, and gives back what it prints."""
    command = [ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make(path: Path, *arguments: str, seconds: float = 3, before: tuple[str, ...] = ()) -> Path:
    """The first seconds of the bunny, small, as `arguments` say; a path's ending chooses the container."""
    run_ffmpeg(*before, "-i", BUNNY, "-t", str(seconds), *arguments, path)
    return path


def packets(path: Path, stream: str) -> list[str]:
    """SHA-256 of each packet of one stream ("v" or "a"), in order, as it lies in the file."""
    return _hashes(run_ffmpeg("-i", path, "-map", f"0:{stream}:0", "-c", "copy", "-f", "framehash", "pipe:1"))


def pictures(path: Path, *before: str) -> list[str]:
    """SHA-256 of each picture a decoder makes of the file; `before`: what ffmpeg is told about the file."""
    return _hashes(
        run_ffmpeg(*before, "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framehash", "pipe:1")
    )


def begins(path: Path, stream: str) -> float:
    """When the first packet of a stream ("v" or "a") is due, in seconds on the file's own clock."""
    said = run_ffmpeg("-i", path, "-map", f"0:{stream}:0", "-c", "copy", "-copyts", "-f", "framehash", "pipe:1")
    lines = said.splitlines()
    ticks = min(int(line.split(",")[2]) for line in lines if not line.startswith("#"))
    scale = next(line.split("/")[1] for line in lines if line.startswith("#tb 0:"))
    return ticks / int(scale)


def _hashes(said: str) -> list[str]:
    return [line.split(",")[5].strip() for line in said.splitlines() if not line.startswith("#")]
