"""What a title consists of, signed by its creator: name, renditions, captions, poster.

It lives outside the torrents, so that a rendition can be added without changing the ones that are already seeded; the
`revision` says which of two manifests is newer.

Who could cheat: whoever hands the manifest over, by changing it, showing another title's, or an older one. It is JSON
in exactly one spelling (`encode`), and the creator's signature covers that spelling with an empty signature; `decode`
refuses any other. `check` compares the key with the one that came with the link. Until then the text in it is a
stranger's, and it stays text for people to read wherever it is shown: it names no file and no address.

Canonical JSON here: UTF-8, keys sorted, no blanks, integers only, and no control characters, so that JavaScript's
JSON.stringify of a sorted object gives the same bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bct.bitcoin.keys import PrivateKey, sha256d, verify
from bct.errors import Action, LocalProtocolError, RemoteProtocolError
from bct.media.boxes import Fragment

MAX_SIZE = 1 << 20

_TAG = b"bct_manifest/1\0"
_MAX_FRAGMENTS = 0xFFFF

# \Z, since $ would let a line end through.
Text = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z")]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
Key = Annotated[str, Meta(pattern=r"^0[23][0-9a-f]{64}\Z")]
TitleId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
Mime = Annotated[str, Meta(max_length=200, pattern=r'^[a-z]+/[a-z0-9.+-]+(; codecs="[A-Za-z0-9., -]+")?\Z')]
Language = Annotated[str, Meta(max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*\Z")]
Size = Annotated[int, Meta(ge=1, lt=2**53)]
"""Positive, and exact in JavaScript too."""
Side = Annotated[int, Meta(ge=1, le=65535)]


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """One file, the only one of its v1 torrent. Sizes in bytes; infohash in hex."""

    infohash: Hash
    length: Size
    mime: Mime
    piece_length: Size


class Rendition(File, frozen=True, forbid_unknown_fields=True):
    """The film at one size. bitrate: bits per second. init: bytes of the init segment, from the file's start."""

    width: Side
    height: Side
    bitrate: Size
    init: Size
    fragments: Annotated[str, Meta(max_length=MAX_SIZE)]
    """See `pack_fragments`."""


class Caption(File, frozen=True, forbid_unknown_fields=True):
    """language: as BCP 47 writes it."""

    label: Text
    language: Language


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """One title. duration: milliseconds. revision rises with each manifest the creator signs for the title."""

    creator: Key
    duration: Size
    name: Text
    renditions: Annotated[tuple[Rendition, ...], Meta(min_length=1, max_length=16)]
    revision: Annotated[int, Meta(ge=0, lt=2**53)]
    title: TitleId
    captions: Annotated[tuple[Caption, ...], Meta(max_length=64)] = ()
    poster: File | None = None
    signature: Annotated[str, Meta(pattern=r"^([0-9a-f]{128})?\Z")] = ""
    version: Annotated[int, Meta(ge=1, le=1)] = 1

    def sign(self, key: PrivateKey) -> Manifest:
        """The same manifest with the creator's signature."""
        if key.public.hex() != self.creator:
            raise LocalProtocolError("a manifest is signed with the key that it names as the creator's")
        return msgspec.structs.replace(self, signature=key.sign(_digest(self)).hex())


def encode(manifest: Manifest) -> bytes:
    """Canonical JSON. What `decode` would refuse is not written: raises LocalProtocolError."""
    data = msgspec.json.encode(manifest, order="sorted")
    try:
        decode(data)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"this manifest could not be read back: {error}") from None
    return data


def decode(data: bytes) -> Manifest:
    """Reads what a stranger sent; `check` says whether it counts. Raises RemoteProtocolError "bad-manifest"."""
    if len(data) > MAX_SIZE:
        raise _bad(f"a manifest has at most {MAX_SIZE} bytes, got {len(data)}")
    try:
        manifest = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(f"the manifest cannot be read: {str(error)[:200]}") from None
    if msgspec.json.encode(manifest, order="sorted") != data:
        raise _bad("the manifest is not canonical JSON")
    for rendition in manifest.renditions:
        fragments_of(rendition)
    return manifest


def check(manifest: Manifest, *, creator: bytes, title: str | None = None, lowest_revision: int = 0) -> None:
    """Whether to believe `manifest`. Raises RemoteProtocolError with the first reason not to.

    creator: the 33-byte key that came with the link, title: the id, where the link had one. lowest_revision: the
    highest seen so far.
    """
    if manifest.creator != creator.hex():
        raise RemoteProtocolError("wrong-creator", f"a manifest by {manifest.creator}, the link says {creator.hex()}")
    if not verify(creator, _digest(manifest), bytes.fromhex(manifest.signature)):
        raise RemoteProtocolError("bad-signature", "the manifest's signature is not its creator's")
    if title is not None and manifest.title != title:
        raise RemoteProtocolError("wrong-title", f"a manifest of {manifest.title!r}, asked for {title!r}")
    if manifest.revision < lowest_revision:
        text = f"manifest revision {manifest.revision} is older than {lowest_revision}, which the creator signed too"
        raise RemoteProtocolError("old-revision", text, Action.REFUSE)


def pack_fragments(fragments: Iterable[Fragment], init: int) -> str:
    """A fragment index in about six bytes a fragment, base64.

    For each fragment three numbers, 7 bits a byte, low bits first, the high bit set on all but the last byte:
    milliseconds since the fragment before began, bytes between that one's end and this one's start, bytes of this
    one. The first counts from 0 ms and from the end of the init segment. Each fragment begins with a keyframe.
    """
    packed = bytearray()
    time, end = 0, init
    for fragment in fragments:
        if not fragment.keyframe:
            raise LocalProtocolError(f"the fragment at {fragment.time_ms} ms begins without a keyframe")
        for number in (fragment.time_ms - time, fragment.offset - end, fragment.size):
            packed += _varint(number)
        time, end = fragment.time_ms, fragment.end
    return base64.b64encode(packed).decode()


def fragments_of(rendition: Rendition) -> tuple[Fragment, ...]:
    """Inverse of `pack_fragments`; each lies inside the file. Raises RemoteProtocolError "bad-manifest"."""
    try:
        packed = base64.b64decode(rendition.fragments, validate=True)
    except (binascii.Error, ValueError):
        raise _bad("a fragment index is not base64") from None
    numbers = list(_numbers(packed))
    if not numbers or len(numbers) % 3 or len(numbers) > 3 * _MAX_FRAGMENTS:
        raise _bad(f"a fragment index of {len(numbers)} numbers, expected three each for 1 to {_MAX_FRAGMENTS}")
    fragments = tuple(_fragments(numbers, rendition.init))
    if fragments[-1].end > rendition.length:
        raise _bad(f"fragments end at byte {fragments[-1].end} of a file of {rendition.length}")
    return fragments


def _fragments(numbers: list[int], init: int) -> Iterator[Fragment]:
    time, end = 0, init
    for later, gap, size in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        fragment = Fragment(time + later, end + gap, size, keyframe=True)
        time, end = fragment.time_ms, fragment.end
        yield fragment


def _varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 49:
            raise _bad("a number in a fragment index has more than 49 bits")
        if not byte & 0x80:
            if shift > 7 and byte == 0:
                raise _bad("a number in a fragment index is longer than it needs to be")
            yield number
            number = shift = 0
    if shift:
        raise _bad("a fragment index ends inside a number")


def _digest(manifest: Manifest) -> bytes:
    unsigned = msgspec.structs.replace(manifest, signature="")
    return sha256d(_TAG + msgspec.json.encode(unsigned, order="sorted"))


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-manifest", text)


_DECODER = msgspec.json.Decoder(Manifest, strict=True)
