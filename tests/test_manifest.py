"""The creator says what a title consists of; nobody else can, and there is one way to write it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bct.bitcoin.keys import PrivateKey
from bct.errors import LocalProtocolError, RemoteProtocolError
from bct.media.boxes import Fragment
from bct.title.manifest import (
    MAX_SIZE,
    Caption,
    File,
    Manifest,
    Rendition,
    check,
    decode,
    encode,
    fragments_of,
    pack_fragments,
)

CREATOR = PrivateKey(bytes(31) + b"\x01")
STRANGER = PrivateKey(bytes(31) + b"\x02")
FRAGMENTS = tuple(Fragment(i * 2000, 2000 + i * 400_000, 400_000 - i, keyframe=True) for i in range(30))
FILM = Rendition(
    infohash="ab" * 20,
    length=12_002_000,
    mime='video/mp4; codecs="avc1.640028, mp4a.40.2"',
    piece_length=262_144,
    width=1920,
    height=1080,
    bitrate=1_600_000,
    init=1310,
    fragments=pack_fragments(FRAGMENTS, 1310),
)
MANIFEST = Manifest(
    creator=CREATOR.public.hex(),
    duration=60_000,
    name="Der große Hase 🐰",
    renditions=(FILM,),
    revision=3,
    title="big-buck-bunny",
    captions=(Caption("cd" * 20, 40_000, "text/vtt", 262_144, label="Deutsch", language="de-CH"),),
    poster=File("ef" * 20, 90_000, "image/jpeg", 262_144),
).sign(CREATOR)


def reason(manifest: Manifest, creator: bytes = CREATOR.public, title: str | None = None, lowest: int = 0) -> str:
    try:
        check(manifest, creator=creator, title=title, lowest_revision=lowest)
    except RemoteProtocolError as error:
        return error.reason
    return ""


def edited(**changes: Any) -> bytes:
    """The manifest's JSON with some fields changed, written canonically."""
    fields = json.loads(encode(MANIFEST)) | changes
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_what_the_creator_signed_is_believed() -> None:
    read = decode(encode(MANIFEST))
    assert read == MANIFEST
    assert reason(read, title="big-buck-bunny", lowest=3) == ""


def test_what_anybody_changed_is_not() -> None:
    assert reason(replace(MANIFEST, name="Another")) == "bad-signature"
    assert reason(replace(MANIFEST, renditions=(replace(FILM, infohash="00" * 20),))) == "bad-signature"
    assert reason(replace(MANIFEST, signature="")) == "bad-signature"
    assert reason(replace(MANIFEST, creator=STRANGER.public.hex()).sign(STRANGER)) == "wrong-creator"
    assert reason(MANIFEST, title="sintel") == "wrong-title"
    assert reason(MANIFEST, lowest=4) == "old-revision"


def test_a_stranger_cannot_sign_for_the_creator() -> None:
    with pytest.raises(LocalProtocolError):
        MANIFEST.sign(STRANGER)


def test_another_language_writes_the_same_bytes() -> None:
    assert edited() == encode(MANIFEST)


def test_the_fragment_index_takes_six_bytes_a_fragment_or_so() -> None:
    assert fragments_of(FILM) == FRAGMENTS
    assert len(FILM.fragments) < 30 * 9
    # 300 ms, then 2 bytes of gap, then 129 bytes of fragment: low seven bits first
    assert pack_fragments([Fragment(300, 102, 129, keyframe=True)], 100) == "rAICgQE="


def test_a_fragment_that_playback_cannot_begin_at_is_not_listed() -> None:
    with pytest.raises(LocalProtocolError):
        pack_fragments([Fragment(0, 100, 100, keyframe=False)], 100)


fragment_lists = st.lists(
    st.tuples(st.integers(0, 2**40), st.integers(0, 2**30), st.integers(0, 2**30)), min_size=1, max_size=20
)


@settings(max_examples=60)
@given(fragment_lists, st.integers(1, 5000))
def test_any_fragment_index_comes_back(steps: list[tuple[int, int, int]], init: int) -> None:
    fragments, time, end = [], 0, init
    for later, gap, size in steps:
        fragments.append(Fragment(time + later, end + gap, size, keyframe=True))
        time, end = time + later, end + gap + size
    rendition = replace(FILM, init=init, length=2**52, fragments=pack_fragments(fragments, init))
    assert fragments_of(rendition) == tuple(fragments)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "!!!!",
        "AAA",  # two bytes and no padding
        "AAA=",  # two numbers
        "AACBAA==",  # a number with a needless byte
        "AAGA",  # ends inside a number
        "////////////",  # never ends
        "AACAgICAgICAAQ==",  # 2^49
        "AACA2sQJ",  # ends behind the file
    ],
)
def test_a_fragment_index_that_cannot_be_is_refused(index: str) -> None:
    refuse(edited(renditions=[json.loads(encode(MANIFEST))["renditions"][0] | {"fragments": index}]))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"unknown": 1},
        {"name": ""},
        {"name": "x" * 256},
        {"name": "a\nb"},
        {"name": "a\n"},
        {"title": "a\n"},
        {"name": "a\x7fb"},
        {"name": "a\u2028b"},
        {"title": "../etc"},
        {"title": "A"},
        {"creator": "04" * 33},
        {"creator": CREATOR.public.hex().upper()},
        {"duration": 0},
        {"duration": 1.5},
        {"duration": "60000"},
        {"duration": 2**53},
        {"revision": -1},
        {"renditions": []},
        {"signature": "00"},
        {"poster": {"infohash": "ef" * 20, "length": 1, "mime": "text/html<script>", "piece_length": 1}},
    ],
)
def test_a_field_nobody_could_mean_is_refused(change: dict[str, Any]) -> None:
    refuse(edited(**change))


def test_a_second_spelling_of_the_same_manifest_is_refused() -> None:
    wire = encode(MANIFEST)
    refuse(wire + b" ")
    refuse(wire.replace(b'"duration":60000', b'"duration": 60000'))
    refuse(wire.replace(b'"duration":60000', b'"duration":1,"duration":60000'))
    refuse(wire.replace("ß".encode(), b"\\u00df"))
    refuse(json.dumps(json.loads(wire), sort_keys=True, separators=(",", ":")).encode())


def test_a_manifest_cut_at_any_byte_too_long_or_too_deep_is_refused() -> None:
    wire = encode(MANIFEST)
    for size in range(0, len(wire), 7):
        refuse(wire[:size])
    refuse(b" " * (MAX_SIZE + 1))
    refuse(b"[" * 100_000)
    refuse(b'{"poster":' * 50_000)
    refuse(edited(name="?").replace(b'"?"', b'"\\ud800"'))
    refuse(edited(name="?").replace(b'"?"', b'"\xff"'))


def refuse(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(data)
    assert caught.value.reason == "bad-manifest"
    assert len(str(caught.value)) < 400


@settings(max_examples=200)
@given(st.integers(0, len(encode(MANIFEST)) - 1), st.binary(max_size=3))
def test_whatever_the_bytes_the_only_error_is_a_remote_one(at: int, other: bytes) -> None:
    wire = encode(MANIFEST)
    data = wire[:at] + other + wire[at + 1 :]
    try:
        read = decode(data)
    except RemoteProtocolError:
        return
    assert encode(read) == data


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(LocalProtocolError):
        encode(replace(MANIFEST, name="\n"))


def test_a_long_film_in_many_renditions_fits() -> None:
    long = [Fragment(i * 2000, 2000 + i * 3_000_000, 3_000_000, keyframe=True) for i in range(3600)]  # two hours
    rendition = replace(FILM, length=2**40, fragments=pack_fragments(long, 1310))
    assert len(encode(replace(MANIFEST, renditions=(rendition,) * 8))) < MAX_SIZE / 2
