"""Codec strings as RFC 6381 and each codec's own registration spell them, from the configuration boxes of the file
that was made. A profile's name would not do: what a browser is asked about must be exactly what it will be fed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from bct.errors import MediaError


def codec_of(entry: bytes, boxes: Mapping[bytes, bytes]) -> str:
    """entry: the sample entry's four characters. boxes: bodies of the boxes inside it, by kind.

    Raises MediaError for a codec that no browser plays from MP4, struct.error or IndexError for a box cut short.
    """
    if entry not in _CODECS:
        raise MediaError(f"codec {entry!r} cannot be played from an MP4 file in a browser")
    kind, spell = _CODECS[entry]
    if kind not in boxes:
        raise MediaError(f"the MP4 file is damaged: codec {entry!r} lacks its {kind!r} box")
    return spell(entry.decode(), boxes[kind])


def _avc(entry: str, box: bytes) -> str:
    """ISO/IEC 14496-15, 5.3.3.1: profile, compatibility and level bytes follow the version."""
    profile, compatibility, level = struct.unpack_from(">3B", box, 1)
    return f"{entry}.{profile:02x}{compatibility:02x}{level:02x}"


def _hevc(entry: str, box: bytes) -> str:
    """ISO/IEC 14496-15, annex E.3."""
    profile, compatibility, constraints, level = struct.unpack_from(">BI6sB", box, 1)
    space = ("", "A", "B", "C")[profile >> 6]
    tier = "H" if profile & 0x20 else "L"
    mirrored = int(f"{compatibility:032b}"[::-1], 2)
    parts = [entry, f"{space}{profile & 0x1F}", f"{mirrored:x}", f"{tier}{level}"]
    return ".".join(parts + [f"{byte:x}" for byte in constraints.rstrip(b"\0")])


def _av1(entry: str, box: bytes) -> str:
    """AV1 Codec ISO Media File Format Binding, 2.3 and 5: profile, level and tier, bit depth."""
    first, second = struct.unpack_from(">BB", box, 1)
    high, twelve = second & 0x40, second & 0x20
    depth = 8 if not high else 12 if twelve else 10
    return f"{entry}.{first >> 5}.{first & 0x1F:02d}{'H' if second & 0x80 else 'M'}.{depth:02d}"


def _vp9(entry: str, box: bytes) -> str:
    """VP Codec ISO Media File Format Binding: profile, level, bit depth, behind version and flags."""
    profile, level, depth = struct.unpack_from(">3B", box, 4)
    return f"{entry}.{profile:02d}.{level:02d}.{depth >> 4:02d}"


def _mp4a(entry: str, box: bytes) -> str:
    """The object type, and for MPEG-4 audio the kind of it (14496-3, 1.6.2.1), from the descriptors of an esds."""
    stream = _descriptor(box[4:], 0x03)
    flags = stream[2]
    at = 3 + 2 * bool(flags & 0x80)
    if flags & 0x40:  # an address, its length before it
        at += 1 + stream[at]
    at += 2 * bool(flags & 0x20)
    decoder = _descriptor(stream[at:], 0x04)
    if decoder[0] != 0x40:
        return f"{entry}.{decoder[0]:02X}"  # the registry's spelling, which browsers compare by letter
    config = _descriptor(decoder[13:], 0x05)
    kind = config[0] >> 3
    if kind == 31:
        kind = 32 + ((config[0] & 7) << 3 | config[1] >> 5)
    return f"{entry}.40.{kind}"


def _descriptor(data: bytes, tag: int) -> bytes:
    """The body of the descriptor that `data` begins with (14496-1, 8.3.3: a size of up to four 7-bit bytes)."""
    if data[0] != tag:
        raise MediaError(f"the MP4 file is damaged: descriptor {data[0]} where {tag} should stand")
    size = 0
    for at in range(1, 5):
        size = size << 7 | data[at] & 0x7F
        if not data[at] & 0x80:
            break
    return data[at + 1 : at + 1 + size]


def _named(name: str) -> Callable[[str, bytes], str]:
    return lambda entry, box: name


_CODECS: dict[bytes, tuple[bytes, Callable[[str, bytes], str]]] = {
    b"avc1": (b"avcC", _avc),
    b"avc3": (b"avcC", _avc),
    b"hvc1": (b"hvcC", _hevc),
    b"hev1": (b"hvcC", _hevc),
    b"av01": (b"av1C", _av1),
    b"vp09": (b"vpcC", _vp9),
    b"mp4a": (b"esds", _mp4a),
    b"Opus": (b"dOps", _named("opus")),
    b"fLaC": (b"dfLa", _named("flac")),
}
