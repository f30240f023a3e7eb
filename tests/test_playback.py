"""What players want to read next, drawn: one character a second of film, a digit when it is due, a dot when it is not.

The film has twenty fragments of a second and of a hundred bytes each.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from bct.media.boxes import Fragment
from bct.media.playback import Playback, Timeline, Want

SECONDS = 20
LENGTH = SECONDS * 100
FRAGMENTS = [Fragment(i * 1000, i * 100, 100, keyframe=True) for i in range(SECONDS)]
FILM = Timeline.of_fragments(FRAGMENTS, SECONDS, LENGTH)


def playback(read_ahead: float = 5) -> Playback:
    return Playback(FILM, read_ahead)


def draw(playing: Playback, now: float) -> str:
    """For each fragment, in how many seconds the part of it that is wanted is due."""
    picture = ["."] * SECONDS
    for want in playing.wanted(now):
        picture[want.start // 100] = f"{want.deadline - now:.0f}"
    return "".join(picture)


def test_a_player_that_begins_wants_its_first_byte_now_and_each_second_a_second_later() -> None:
    playing = playback()
    playing.open(0, LENGTH, now=50)
    assert draw(playing, 50) == "012345.............."


def test_a_player_that_takes_in_step_with_the_film_always_wants_the_next_now() -> None:
    playing = playback()
    reader = playing.open(0, LENGTH, now=50)
    playing.advance(reader, 300, now=53)
    assert draw(playing, 53) == "...012345..........."


def test_what_a_player_has_buffered_makes_the_next_less_urgent() -> None:
    playing = playback(read_ahead=3)
    reader = playing.open(0, LENGTH, now=50)
    playing.advance(reader, 400, now=50)
    assert draw(playing, 50) == "....4567............"
    assert draw(playing, 52) == "....2345............"


def test_a_player_that_was_starved_wants_it_now_and_not_in_the_past() -> None:
    playing = playback(read_ahead=3)
    reader = playing.open(0, LENGTH, now=50)
    assert draw(playing, 59) == "0123................"
    playing.advance(reader, 100, now=60)  # ten seconds late: the film goes on from here
    assert draw(playing, 60) == ".0123..............."
    playing.advance(reader, 300, now=60)
    assert draw(playing, 60) == "...2345............."


def test_a_player_that_looks_at_the_end_first_gets_it_beside_the_start() -> None:
    playing = playback(read_ahead=2)
    playing.open(0, LENGTH, now=50)
    probe = playing.open(1850, LENGTH, now=50)
    assert (
        draw(playing, 50) == "012...............00"
    )  # the last second and a half lies in two fragments, half a second apart
    playing.close(probe)
    assert draw(playing, 50) == "012................."


def test_a_seek_opens_a_new_reader_whose_needs_come_first() -> None:
    playing = playback(read_ahead=2)
    old = playing.open(0, LENGTH, now=50)
    playing.open(1000, LENGTH, now=50)
    assert [want.start for want in playing.wanted(50)] == [1000, 0, 1100, 100, 1200, 200]
    playing.close(old)
    assert draw(playing, 50) == "..........012......."


def test_nothing_is_wanted_beyond_the_range_a_player_asked_for() -> None:
    playing = playback()
    playing.open(150, 320, now=50)
    assert list(playing.wanted(50)) == [Want(150, 200, 50), Want(200, 300, 50.5), Want(300, 320, 51.5)]


def test_nothing_is_wanted_beyond_the_end_nor_by_a_reader_that_has_all() -> None:
    playing = playback()
    reader = playing.open(1800, LENGTH, now=50)
    assert draw(playing, 50) == "..................01"
    playing.advance(reader, LENGTH, now=50)
    assert draw(playing, 50) == "...................."


def test_two_readers_of_the_same_bytes_want_them_once_and_by_the_earlier_time() -> None:
    playing = playback(read_ahead=4)
    ahead = playing.open(0, LENGTH, now=50)
    playing.advance(ahead, 250, now=50)  # two and a half seconds buffered
    playing.open(0, LENGTH, now=50)
    assert draw(playing, 50) == "0123456............."
    wants = list(playing.wanted(50))
    assert sum(want.end - want.start for want in wants) == 700


def test_an_init_segment_belongs_to_the_first_second_and_a_gap_to_the_one_before() -> None:
    film = Timeline.of_fragments([Fragment(0, 40, 60, True), Fragment(2000, 150, 50, True)], 4, 230)
    assert [step[:] for step in film.steps] == [(0, 0, 150), (2, 150, 230)]
    assert (film.time_of(0), film.time_of(75), film.time_of(150), film.time_of(230)) == (0, 1, 2, 4)


def test_a_file_of_which_only_the_bitrate_is_known_is_even() -> None:
    film = Timeline.of_bitrate(800, 250)
    assert film.steps == ((0, 0, 100), (1, 100, 200), (2, 200, 250))
    assert (film.time_of(150), film.duration) == (1.5, 2.5)


def test_what_is_left_of_the_film_is_what_the_slowest_reader_has_before_it() -> None:
    playing = playback()
    assert playing.remaining() == SECONDS
    ahead = playing.open(0, LENGTH, now=50)
    playing.advance(ahead, 1250, now=60)
    assert playing.remaining() == 7.5
    behind = playing.open(400, 500, now=60)
    assert playing.remaining() == 16
    playing.close(behind)
    playing.advance(ahead, LENGTH, now=70)
    assert playing.remaining() == 0


def test_of_a_film_without_an_index_the_length_tells_how_long_it_is() -> None:
    playing = Playback(Timeline.of_bitrate(4_000_000, 18_000_000_000), read_ahead=20)
    playing.open(4_500_000_000, 18_000_000_000, now=0)
    assert playing.remaining() == 7.5 * 3600
    playing.learn(Timeline.of_fragments(FRAGMENTS, SECONDS, 18_000_000_000))
    assert playing.remaining() < SECONDS


moves = st.lists(st.tuples(st.integers(0, LENGTH - 1), st.integers(0, 900), st.floats(0, 30)), min_size=1, max_size=6)


@settings(max_examples=100)
@given(moves, st.floats(0, 10))
def test_no_byte_is_wanted_twice_or_in_the_past_and_each_readers_next_is_wanted(
    readers: list[tuple[int, int, float]], read_ahead: float
) -> None:
    playing = playback(read_ahead)
    places = []
    for start, taken, at in sorted(readers, key=lambda reader: reader[2]):
        reader = playing.open(start, LENGTH, now=at)
        playing.advance(reader, min(start + taken, LENGTH - 1), now=at)
        places.append(reader.position)
    wants = list(playing.wanted(30))
    assert [want.deadline for want in wants] == sorted(want.deadline for want in wants)
    assert all(want.start < want.end and want.deadline >= 30 for want in wants)
    covered = [byte for want in wants for byte in range(want.start, want.end)]
    assert len(covered) == len(set(covered))
    assert set(places) <= set(covered)
