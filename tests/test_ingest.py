"""A creator's file becomes a film: real files, the real ffmpeg, real walls."""

import asyncio
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bct.backends import sandbox
from bct.backends.ingest import Ingest
from bct.backends.transcoder import Transcoder
from bct.errors import MediaError, StoreError
from bct.media.boxes import Movie, find, find_all, scan
from bct.media.ingest import Ingested, Stage
from bct.media.playback import Timeline
from tests.film import BUNNY, begins, ffmpeg, make, packets, pictures, run_ffmpeg

pytestmark = pytest.mark.anyio
INGEST = Ingest(Transcoder(ffmpeg()))

H264 = ("-s", "320x180", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25")
AAC = ("-c:a", "aac", "-ac", "2")


async def ingest(source: Path, tell: Callable[[Stage, float], None] = lambda stage, done: None) -> Ingested:
    return await INGEST.ingest(str(source), str(source.parent / "film.mp4"), tell)


def scan_file(path: str) -> Movie:
    file = os.open(path, os.O_RDONLY)
    try:
        return scan(lambda offset, size: os.pread(file, size, offset), os.fstat(file).st_size)
    finally:
        os.close(file)


def content(film: Ingested) -> bytes:
    return Path(film.path).read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def refused(source: Path) -> str:
    """The sentence a file is refused with; nothing may be left of the attempt."""
    before = names(source.parent)
    with pytest.raises(MediaError) as caught:
        await ingest(source)
    assert names(source.parent) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "codecs"),
    [
        ("film.mkv", (*H264, *AAC), "avc1.42c00c, mp4a.40.2"),
        ("film.mov", (*H264, "-bf", "2", *AAC), "avc1.4d400c, mp4a.40.2"),
        ("film.mp4.upload", ("-f", "mp4", *H264, "-c:a", "libmp3lame", "-ac", "2"), "avc1.42c00c, mp4a.6B"),
        ("film.mp4.upload", ("-f", "mp4", *H264, "-c:a", "flac"), "avc1.42c00c, flac"),
        (
            "film.webm",
            ("-s", "320x180", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
            "vp09.00.11.08, opus",
        ),
        ("film.mkv", ("-s", "320x180", "-c:v", "libsvtav1", "-preset", "12", "-an"), "av01.0.00M.08"),
    ],
)
async def test_what_browsers_play_is_copied_packet_by_packet(
    tmp_path: Path, name: str, arguments: tuple[str, ...], codecs: str
) -> None:
    source = make(tmp_path / name, *arguments)
    film = await ingest(source)
    assert film.movie.mime == f'video/mp4; codecs="{codecs}"'
    assert packets(Path(film.path), "v") == packets(source, "v")
    if "," in codecs:
        assert packets(Path(film.path), "a") == packets(source, "a")
    assert len(pictures(Path(film.path))) == len(pictures(source)) == 75


async def test_a_broadcast_is_copied_though_its_packets_are_framed_differently(tmp_path: Path) -> None:
    source = make(tmp_path / "film.ts", *H264, *AAC)
    stages: list[Stage] = []
    film = await ingest(source, lambda stage, done: stages.append(stage))
    assert Stage.ENCODE not in stages
    assert pictures(Path(film.path)) == pictures(source)


async def test_fragments_last_about_two_seconds_and_begin_on_keyframes(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv", *H264, *AAC, seconds=5)  # a keyframe each second
    film = await ingest(source)
    assert [fragment.time_ms for fragment in film.movie.fragments] == [0, 2000, 4000]
    assert all(fragment.keyframe for fragment in film.movie.fragments)
    assert film.movie.duration_ms == 5000
    for fragment in film.movie.fragments:
        alone = tmp_path / "alone.mp4"
        data = content(film)
        alone.write_bytes(data[: film.movie.init_size] + data[fragment.offset : fragment.end])
        assert len(pictures(alone)) in (25, 50)


async def test_the_film_holds_its_own_index_where_players_look_first(tmp_path: Path) -> None:
    film = await ingest(make(tmp_path / "film.mkv", *H264, *AAC, seconds=5))
    data = content(film)
    init = film.movie.init_size
    assert 0 < data.find(b"sidx", init) < data.find(b"moof", init)
    assert scan_file(film.path) == film.movie
    # A decoder that seeks to the last fragment by the index reads the same pictures as one that reads all.
    assert pictures(Path(film.path), "-ss", "4") == pictures(Path(film.path))[-25:]


async def test_the_viewers_node_reads_the_same_times_out_of_the_index(tmp_path: Path) -> None:
    film = await ingest(make(tmp_path / "film.mkv", *H264, *AAC, seconds=7))
    told = Timeline.of_index(content(film)[: 64 * 1024], film.length)
    known = Timeline.of_fragments(film.movie.fragments, film.movie.duration_ms / 1000, film.length)
    assert told is not None
    assert [(step.start, step.end) for step in told.steps] == [(step.start, step.end) for step in known.steps]
    assert [step.time for step in told.steps] == pytest.approx([step.time for step in known.steps], abs=0.002)
    assert Timeline.of_index(content(film)[:1000], film.length) is None, "a beginning too short to hold it"
    assert Timeline.of_index(content(film)[: 64 * 1024], film.length // 2) is None, "an index of a longer film"


async def test_a_player_opens_and_seeks_without_touching_every_fragment(tmp_path: Path) -> None:
    """Each one touched is a piece bought. What ffmpeg looks at is read from its trace."""
    film = await ingest(make(tmp_path / "film.mkv", *H264, *AAC, seconds=20, before=("-stream_loop", "3")))
    assert len(film.movie.fragments) == 10
    assert touched(film.path) == 1
    assert touched(film.path, "-ss", "14") < 5


def touched(path: str, *before: str) -> int:
    """Fragments whose head ffmpeg reads to show the first picture."""
    command = [ffmpeg(), "-nostdin", "-v", "trace", *before, "-i", path, "-frames:v", "1", "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return said.count("type:'moof' parent:'root'")


async def test_the_pieces_are_hashed_as_they_lie_in_the_file(tmp_path: Path) -> None:
    film = await ingest(linked(tmp_path))
    data = content(film)
    assert (film.length, film.piece_length) == (len(data), 256 * 1024)
    pieces = [data[at : at + film.piece_length] for at in range(0, len(data), film.piece_length)]
    assert film.piece_hashes == tuple(hashlib.sha1(piece).digest() for piece in pieces)
    assert abs(film.bitrate - len(data) * 8 / 5.28) < 1000


def linked(folder: Path) -> Path:
    copy = folder / "bunny"
    copy.symlink_to(BUNNY)
    return copy


async def test_the_same_file_makes_the_same_film(tmp_path: Path) -> None:
    source = linked(tmp_path)
    assert (await ingest(source)).piece_hashes == (await ingest(source)).piece_hashes


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("film.avi", ("-s", "320x180", "-c:v", "mpeg4", "-c:a", "libmp3lame", "-ac", "2")),
        ("film.mkv", ("-s", "320x180", "-c:v", "libx265", "-preset", "ultrafast", "-c:a", "ac3")),
        ("film.mkv", (*H264, "-pix_fmt", "yuv444p", *AAC)),
        ("film.mkv", ("-vf", "scale=161:91", "-c:v", "mpeg4", "-an")),
    ],
)
async def test_the_rest_is_encoded_without_losing_a_picture(
    tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    source = make(tmp_path / name, *arguments)
    film = await ingest(source)
    assert film.movie.leading.codec.startswith("avc1.64")
    assert len(pictures(Path(film.path))) == len(pictures(source)) == 75
    assert [round(fragment.time_ms / 1000) for fragment in film.movie.fragments] == [0, 2]
    assert (film.movie.leading.width % 2, film.movie.leading.height % 2) == (0, 0)


async def test_sound_alone_is_encoded_where_only_the_sound_is_in_the_way(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv", *H264, "-c:a", "ac3")
    film = await ingest(source)
    assert film.movie.mime == 'video/mp4; codecs="avc1.42c00c, mp4a.40.2"'
    assert packets(Path(film.path), "v") == packets(source, "v")


async def test_a_film_that_could_not_be_sought_in_is_encoded(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    test_card = ("-f", "lavfi", "-i", "testsrc=size=160x90:rate=5:duration=14")
    run_ffmpeg(*test_card, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "999", source)
    stages: list[Stage] = []
    film = await ingest(source, lambda stage, done: stages.append(stage))
    assert Stage.COPY in stages
    assert [fragment.time_ms for fragment in film.movie.fragments] == [0, 2000, 4000, 6000, 8000, 10000, 12000]
    assert len(pictures(Path(film.path))) == 70


async def test_a_silent_film_has_one_track(tmp_path: Path) -> None:
    film = await ingest(make(tmp_path / "film.mkv", *H264, "-an"))
    assert [track.kind for track in film.movie.tracks] == ["video"]


async def test_a_film_taken_upright_is_shown_upright(tmp_path: Path) -> None:
    flat = make(tmp_path / "flat.mp4", *H264, *AAC)
    upright = tmp_path / "upright.mp4"
    run_ffmpeg("-display_rotation", "90", "-i", flat, "-c", "copy", upright)
    film = await ingest(upright)
    assert (film.movie.leading.width, film.movie.leading.height) == (180, 320)
    assert packets(Path(film.path), "v") == packets(flat, "v")


async def test_an_upright_film_is_turned_when_it_is_encoded(tmp_path: Path) -> None:
    flat = make(tmp_path / "flat.mp4", "-s", "320x180", "-c:v", "mpeg4", "-an")
    upright = tmp_path / "upright.mp4"
    run_ffmpeg("-display_rotation", "90", "-i", flat, "-c", "copy", upright)
    film = await ingest(upright)
    assert (film.movie.leading.width, film.movie.leading.height) == (180, 320)


async def test_pictures_at_uneven_times_keep_their_times(tmp_path: Path) -> None:
    uneven = ("-vf", "select='not(mod(n,3))+not(mod(n,7))'", "-fps_mode", "vfr")
    source = make(tmp_path / "film.mkv", *uneven, *H264, "-an")
    film = await ingest(source)
    assert times(Path(film.path)) == times(source)


def times(path: Path) -> list[float]:
    """When each picture is shown, in seconds."""
    said = run_ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "framehash", "pipe:1").splitlines()
    scale = next(float(line.rsplit("/", 1)[1]) for line in said if line.startswith("#tb 0:"))
    return [round(int(line.split(",")[2]) / scale, 2) for line in said if not line.startswith("#")]


@pytest.mark.parametrize("offsets", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("ending", ["mkv", "ts"])
async def test_picture_and_sound_stay_in_step_though_one_begins_later(
    tmp_path: Path, ending: str, offsets: tuple[float, float]
) -> None:
    both = make(tmp_path / "both.mp4", *H264, "-bf", "2", *AAC)
    source = tmp_path / f"film.{ending}"
    late = [part for offset in offsets for part in ("-itsoffset", str(offset), "-i", str(both))]
    run_ffmpeg(*late, "-map", "0:v", "-map", "1:a", "-c", "copy", source)
    film = await ingest(source)
    made = Path(film.path)
    assert begins(made, "v") == 0
    # A packet of sound lasts 21 ms; Matroska rounds to whole milliseconds.
    assert begins(made, "a") == pytest.approx(begins(source, "a") - begins(source, "v"), abs=0.002)
    edits = [find(trak, b"edts", b"elst") for trak in find_all(find(content(film), b"moov"), b"trak")]
    assert [int.from_bytes(elst[4:8]) for elst in edits] == [1, 1]  # browsers read no second one
    assert all(int.from_bytes(elst[12:16], signed=True) >= 0 for elst in edits)  # nor one that says "empty"


async def test_where_and_with_what_a_film_was_taken_is_not_passed_on(tmp_path: Path) -> None:
    told = ("-metadata", "location=+48.8577+002.295/", "-metadata:s:v", "handler_name=Eve's phone")
    source = make(tmp_path / "film.mov", *H264, "-an", *told)
    assert b"+48.8577" in source.read_bytes()
    assert b"Eve's phone" in source.read_bytes()
    film = await ingest(source)
    assert b"+48.8577" not in content(film)
    assert b"Eve's phone" not in content(film)


async def test_progress_only_rises_and_ends_at_the_whole(tmp_path: Path) -> None:
    seen: list[tuple[Stage, float]] = []
    source = make(tmp_path / "film.avi", "-s", "640x360", "-c:v", "mpeg4", "-an", seconds=5)
    await ingest(source, lambda stage, done: seen.append((stage, done)))
    for stage in (Stage.PROBE, Stage.ENCODE, Stage.HASH):
        parts = [done for at, done in seen if at is stage]
        assert parts == sorted(parts)
        assert parts[-1] >= 0.99
    assert [stage for stage, _ in seen] == sorted((stage for stage, _ in seen), key=list(Stage).index)


async def test_what_is_no_video_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "is empty: it has 0 bytes" in await refused(tmp_path / "empty")
    (tmp_path / "noise").write_bytes(hashlib.shake_128(b"noise").digest(100_000))
    assert "not a video" in await refused(tmp_path / "noise")
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam,\n" * 999)
    assert "not a video" in await refused(tmp_path / "letter.txt")
    make(tmp_path / "song.m4a", "-vn", "-c:a", "copy")
    assert "no video stream: it has sound only" in await refused(tmp_path / "song.m4a")
    assert "cannot be read" in await refused(tmp_path / "missing")
    assert "cannot be read" in await refused(tmp_path / "zero\0byte")
    assert "is no file" in await refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in await refused(tmp_path / "pipe")


async def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = make(tmp_path / "film.mkv", *H264, *AAC, seconds=5)
    (tmp_path / "half.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "cut off or damaged: it says it lasts 5 s" in await refused(tmp_path / "half.mkv")
    (tmp_path / "half.mp4").write_bytes(BUNNY.read_bytes()[:500_000])
    assert "its index (moov) is missing" in await refused(tmp_path / "half.mp4")


async def test_a_file_that_claims_to_last_a_century_costs_no_more_than_another(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv", *H264, "-an")
    data = source.read_bytes()
    at = data.index(bytes.fromhex("448988"))  # Matroska's Duration, eight bytes of floating point
    source.write_bytes(data[: at + 3] + struct.pack(">d", 3.15e12) + data[at + 11 :])
    assert "it says it lasts 3150000000 s" in await refused(source)


async def test_a_playlist_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    bait = make(tmp_path / "bait.ts", *H264, *AAC)
    for name, text in {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{bait}\n#EXT-X-ENDLIST\n",
        "b.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "c.ffconcat": f"ffconcat version 1.0\nfile '{bait}'\n",
        "d.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "e.mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>{bait}</BaseURL></Period></MPD>',
    }.items():
        (tmp_path / name).write_text(text)
        assert "not a video" in await refused(tmp_path / name)


async def test_a_movie_whose_pictures_lie_in_another_file_reads_no_other_file(tmp_path: Path) -> None:
    make(tmp_path / "film.mov", *H264, "-an")
    data = (tmp_path / "film.mov").read_bytes()
    # The data reference says "in this file" (flags 1); made to name a file instead, whose path follows.
    at = data.index(b"dref") + 12
    assert data[at + 4 : at + 12] == b"url \0\0\0\x01"
    (tmp_path / "film.mov").write_bytes(data[: at + 8] + b"\0\0\0\0" + data[at + 12 :])
    film = await ingest(tmp_path / "film.mov")
    assert len(pictures(Path(film.path))) == 75  # the reference was overlooked, not followed


async def test_inside_the_walls_there_is_neither_network_nor_file(tmp_path: Path) -> None:
    allowed = may_leave_the_network()
    assert await sandbox.standing() == sandbox.Standing(network=allowed, files=True)
    secret = tmp_path / "secret"
    secret.write_text("twelve words")
    assert "Permission denied" in await behind_walls("/usr/bin/cat", str(secret))
    assert "Permission denied" in await behind_walls("/usr/bin/touch", str(tmp_path / "new"))
    heard = await behind_walls(ffmpeg(), "-i", "http://127.0.0.1:9/")
    assert ("Network is unreachable" in heard) is allowed


def may_leave_the_network() -> bool:
    """A container may forbid it; then the whitelist of protocols is all there is, and doctor says so."""
    command = ["unshare", *([] if os.getuid() == 0 else ["--user"]), "--net", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def behind_walls(program: str, *arguments: str) -> str:
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        finished = await sandbox.run(program, arguments, sandbox.Limits(20), nothing, nothing, lambda line: None)
    finally:
        os.close(nothing)
    assert finished.code != 0
    return finished.log


async def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    with pytest.raises(MediaError, match="took more than 1 s"):
        await sandbox.run("/bin/sleep", ("60",), sandbox.Limits(0.6), nothing, nothing, lambda line: None)
    os.close(nothing)


async def test_a_film_that_grows_beyond_measure_is_given_up(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as out:
        arguments = (
            "-nostdin",
            "-f",
            "lavfi",
            "-i",
            "testsrc",
            "-c:v",
            "rawvideo",
            "-f",
            "avi",
            f"pipe:{out.fileno()}",
        )
        limits = sandbox.Limits(20, file_size=1 << 20)
        finished = await sandbox.run(ffmpeg(), arguments, limits, 0, out.fileno(), lambda line: None)
    assert finished.code != 0
    assert "File too large" in finished.log
    assert (tmp_path / "out").stat().st_size <= 1 << 20


async def test_a_full_disk_is_called_a_full_disk(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv", *H264, *AAC)
    (tmp_path / "film.mp4.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="the disk is full"):
        await ingest(source)
    assert names(tmp_path) == ["film.mkv"]


async def test_a_folder_that_is_not_there_is_no_place_for_a_film(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        await INGEST.ingest(str(BUNNY), str(tmp_path / "no" / "film.mp4"), lambda stage, done: None)


async def test_cancelling_ends_ffmpeg_and_leaves_nothing(tmp_path: Path) -> None:
    source = make(tmp_path / "film.avi", "-c:v", "mpeg4", "-an", seconds=5)
    encoding = asyncio.Event()
    others = set(children())
    task = asyncio.create_task(ingest(source, lambda stage, done: encoding.set() if stage is Stage.ENCODE else None))
    await encoding.wait()
    (child,) = set(children()) - others
    assert os.getpgid(child) == child  # a group of its own, which is what is ended
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert child not in children()
    assert names(tmp_path) == ["film.avi"]


def children() -> list[int]:
    """Processes this one started and that still run."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


async def test_ffmpeg_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import asyncio, os\n"
        "from bct.backends import sandbox\n"
        "nothing = os.open(os.devnull, os.O_RDWR)\n"
        "run = sandbox.run('/bin/sh', ('-c', 'echo $$; while :; do :; done'), sandbox.Limits(60), nothing, nothing,\n"
        "    lambda line: print(line, flush=True))\n"
        "asyncio.run(run)\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout
    child = int(await parent.stdout.readline())
    watch = os.pidfd_open(child)
    parent.kill()
    await parent.wait()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watch, ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    asyncio.get_running_loop().remove_reader(watch)
    os.close(watch)
