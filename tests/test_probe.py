"""What ffmpeg says about files, as it says it, and what is made of that."""

import pytest

from bct.errors import MediaError
from bct.media.boxes import Fragment, Movie, Track
from bct.media.ingest import can_be_sought, check_whole, piece_length_for
from bct.media.probe import MediaInfo, Stream, parse, plan

PHONE = """\
Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'fd:':
  Metadata:
    title           : x\\n  Stream #0:9: Video: mpeg4, yuv420p, 1x1
    location        : +48.8577+002.295/
  Duration: 01:02:03.45, start: 0.000000, bitrate: 1589 kb/s
  Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuvj420p(pc, bt709, progressive), 1280x720 [SAR 1:1 \
DAR 16:9], 1205 kb/s, 25 fps, 25 tbr, 12800 tbn (default)
    Metadata:
      comment         : Stream #0:8: Video: mpeg4, yuv420p, 1x1
    Side data:
      Display Matrix: rotation of -90.00 degrees
  Stream #0:1[0x2](eng): Audio: aac (LC) (mp4a / 0x6134706D), 48000 Hz, stereo, fltp, 384 kb/s (default)
  Stream #0:2[0x3](eng): Data: none (mebx / 0x7862656D)
At least one output file must be specified
"""

SONG = """\
  Duration: N/A, start: 0.023021, bitrate: 28507 kb/s
  Stream #0:0: Audio: mp3 (mp3float), 48000 Hz, stereo, fltp, 128 kb/s, start 0.023021
  Stream #0:1: Video: mjpeg (Baseline), yuvj420p(pc, bt470bg/unknown/unknown), 1280x720 [SAR 1:1 DAR 16:9], 90k tbr, \
90k tbn, start 0.023022 (attached pic)
"""

BROADCAST = """\
  Duration: 00:00:05.31, start: 1.400000, bitrate: 1690 kb/s
  Program 1
  Stream #0:0[0x100]: Video: hevc (Main 10) ([36][0][0][0] / 0x0024), yuv420p10le(tv), 3840x2160, 90k tbn
  Stream #0:1[0x101](deu): Audio: ac3 ([129][0][0][0] / 0x0081), 48000 Hz, 5.1(side), fltp, 385 kb/s
  Stream #0:2[0x102](eng): Audio: aac (LC) ([15][0][0][0] / 0x000F), 48000 Hz, stereo, fltp, 128 kb/s
"""

H264 = Stream(0, "h264", "yuv420p", 640, 360)
AAC = Stream(1, "aac")


def test_a_phones_film_and_nothing_that_its_metadata_pretends() -> None:
    assert parse(PHONE) == MediaInfo(3723.45, (Stream(0, "h264", "yuvj420p", 1280, 720),), (AAC,))


def test_cover_art_is_no_video() -> None:
    assert parse(SONG) == MediaInfo(None, (), (Stream(0, "mp3"),))


def test_a_broadcast_with_two_languages() -> None:
    info = parse(BROADCAST)
    assert info.video == (Stream(0, "hevc", "yuv420p10le", 3840, 2160),)
    assert [stream.codec for stream in info.audio] == ["ac3", "aac"]


def test_words_that_are_no_description_describe_nothing() -> None:
    assert parse("Error opening input file fd:.\n") == MediaInfo(None, (), ())


@pytest.mark.parametrize(
    ("codec", "pixels", "copied"),
    [
        ("h264", "yuv420p", True),
        ("h264", "yuv420p10le", False),
        ("h264", "yuv422p", False),
        ("vp9", "yuv420p", True),
        ("av1", "yuv420p10le", True),
        ("hevc", "yuv420p", False),
        ("mpeg4", "yuv420p", False),
    ],
)
def test_pictures_are_copied_where_every_browser_with_the_codec_shows_them(
    codec: str, pixels: str, copied: bool
) -> None:
    assert plan(MediaInfo(1, (Stream(0, codec, pixels, 64, 64),), ())).copy_video is copied


def test_the_first_picture_and_the_first_sound_are_taken() -> None:
    info = MediaInfo(1, (H264, Stream(3, "hevc")), (Stream(2, "ac3"), AAC))
    made = plan(info)
    assert (made.video, made.audio, made.copy_video, made.copy_audio) == (H264, Stream(2, "ac3"), True, False)
    assert plan(MediaInfo(1, (H264,), (AAC,))).copy_audio
    assert plan(MediaInfo(1, (H264,), ())).audio is None


def test_without_a_picture_there_is_no_film() -> None:
    with pytest.raises(MediaError, match="sound only"):
        plan(MediaInfo(1, (), (AAC,)))
    with pytest.raises(MediaError, match="neither picture nor sound"):
        plan(MediaInfo(1, (), ()))


def movie(*starts: int, end: int, keyframe: bool = True) -> Movie:
    fragments = tuple(Fragment(ms, 0, 1, keyframe) for ms in starts)
    return Movie((Track(1, "video", "avc1.64001f", 1000, 64, 64),), fragments, 1, (*starts, end))


def test_a_film_can_be_sought_in_when_it_can_begin_at_each_fragment_and_none_is_long() -> None:
    assert can_be_sought(movie(0, 2000, 14_000, end=26_000))
    assert not can_be_sought(movie(0, 2000, 14_001, end=15_000))
    assert not can_be_sought(movie(0, end=12_001))
    assert not can_be_sought(movie(0, 2000, end=3000, keyframe=False))


def test_a_file_of_which_much_is_missing_is_no_whole_film() -> None:
    check_whole(None, 5)
    check_whole(100, 90)
    check_whole(3, 1.1)  # two seconds of a short film may be a delayed sound track
    with pytest.raises(MediaError, match="it lasts 100 s, but only 89 s"):
        check_whole(100, 89)


def test_pieces_grow_with_films_beyond_two_gibibytes() -> None:
    assert piece_length_for(1) == piece_length_for(2 << 30) == 256 << 10
    assert piece_length_for((2 << 30) + 1) == piece_length_for(4 << 30) == 512 << 10
    assert piece_length_for(100 << 30) == 16 << 20
