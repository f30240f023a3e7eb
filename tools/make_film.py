"""Makes the demo's film, .cache/film/demo.mp4: four seconds of Big Buck Bunny, over and over for a minute, at 1080p.

H.264 and AAC stereo with a keyframe every two seconds. The picture is encoded once, on one thread so that the same
bytes come out anywhere, and then repeated by copying; its quality is set so high that of some hundred pieces of 256 KiB
well over sixty are left to be paid for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg

CACHE = Path(__file__).parents[1] / ".cache/film"
BUNNY = CACHE / "bigbuckbunny.mp4"
ROUND = "4"
ROUNDS = 15

SCALED = ("-vf", "scale=1920:1080")
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "22", "-g", "50", "-sc_threshold", "0", "-threads", "1")
AAC = ("-c:a", "aac", "-b:a", "160k")
EXACT = ("-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact")
AGAIN = ("-stream_loop", str(ROUNDS - 1))


def main() -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        picture, sound, film = (Path(directory) / name for name in ("picture.mp4", "sound.wav", "film.mp4"))
        ffmpeg("-i", BUNNY, "-t", ROUND, "-an", *SCALED, *H264, picture)
        ffmpeg("-i", BUNNY, "-t", ROUND, "-vn", "-ac", "2", sound)
        ffmpeg(*AGAIN, "-i", picture, *AGAIN, "-i", sound, "-c:v", "copy", *AAC, *EXACT, film)
        film.replace(CACHE / "demo.mp4")


def ffmpeg(*arguments: str | Path) -> None:
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *arguments], check=False)
    if done.returncode != 0:
        sys.exit(f"the demo's film could not be made: ffmpeg ended with {done.returncode}")


if __name__ == "__main__":
    main()
