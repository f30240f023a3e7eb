"""MP4 files written by hand, box by box, to read with `bct.media.boxes`: sound ones and broken ones."""

import struct

AVCC = bytes.fromhex("0164001fffe1001a6764001eacd940a02ff97011000003000100000300320f162d9601000668ebe3")
ESDS = bytes.fromhex("031900010004114015" + "00" * 11 + "05021190060102")
"""An ES descriptor of AAC-LC: 48 kHz, stereo."""

NOT_SYNC = 0x0001_0000
NO_MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
QUARTER_TURN = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)


def u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def box(kind: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return u32(8 + len(body)) + kind.encode() + body


def full(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    """A box that begins with version and flags."""
    return box(kind, u32(version << 24 | flags), *parts)


def avc1(avcc: bytes = AVCC) -> bytes:
    return box("avc1", bytes(78), box("avcC", avcc))


def mp4a(descriptor: bytes = ESDS) -> bytes:
    return box("mp4a", bytes(28), full("esds", 0, 0, descriptor))


def trak(
    track_id: int,
    handler: str,
    timescale: int,
    entry: bytes,
    version: int = 0,
    matrix: bytes = NO_MATRIX,
    edits: list[tuple[int, int]] | None = None,
) -> bytes:
    """version 1 has 64-bit times. Every track here is 640 x 360. edits: (duration, media time) each."""
    times = bytes(16 if version else 8)
    tkhd = (times, u32(track_id), bytes(28 if version else 24), matrix, u32(640 << 16, 360 << 16))
    mdhd = (times, u32(timescale), bytes(8))
    stbl = box("stbl", full("stsd", 0, 0, u32(1), entry))
    return box(
        "trak",
        full("tkhd", version, 3, *tkhd),
        edts(edits, version) if edits else b"",
        box(
            "mdia",
            full("mdhd", version, 0, *mdhd),
            full("hdlr", 0, 0, bytes(4), handler.encode(), bytes(13)),
            box("minf", stbl),
        ),
    )


def edts(edits: list[tuple[int, int]], version: int) -> bytes:
    entry = struct.Struct(">QqI" if version else ">IiI")
    return box("edts", full("elst", version, 0, u32(len(edits)), *(entry.pack(*edit, 1 << 16) for edit in edits)))


def trex(track_id: int, duration: int = 0, flags: int = 0) -> bytes:
    return full("trex", 0, 0, u32(track_id, 1, duration, 0, flags))


def moov(traks: list[bytes], trexes: list[bytes]) -> bytes:
    return box("moov", full("mvhd", 0, 0, bytes(8), u32(1000), bytes(84)), *traks, box("mvex", *trexes))


def traf(tfhd: bytes, tfdt: bytes, *truns: bytes) -> bytes:
    return box("traf", tfhd, tfdt, *truns)


def fragment(*trafs: bytes, data: int = 100) -> bytes:
    """A moof and an mdat of that many bytes."""
    return box("moof", full("mfhd", 0, 0, u32(1)), *trafs) + box("mdat", bytes(data))


def film() -> bytes:
    """H.264 and AAC; three fragments that say in three different ways how long their samples are and which are keys."""
    sound = traf(full("tfhd", 0, 0x20000, u32(2)), full("tfdt", 0, 0, u32(0)), full("trun", 0, 0, u32(94)))
    return b"".join(
        (
            box("ftyp", b"iso6", u32(512), b"iso6mp41"),
            moov(
                [trak(1, "vide", 12800, avc1()), trak(2, "soun", 48000, mp4a(), version=1)],
                [trex(1, 512, NOT_SYNC), trex(2, 1024)],
            ),
            fragment(  # each sample says its length, the first its flags; all sizes are there too
                traf(
                    full("tfhd", 0, 0x20000, u32(1)),
                    full("tfdt", 1, 0, bytes(8)),
                    full("trun", 0, 0x305, u32(2, 8, 0x0200_0000, 20000, 50, 5600, 50)),
                ),
                sound,
            ),
            fragment(  # the track says the length for the fragment, each sample its flags and its offset in time
                sound,
                traf(
                    full("tfhd", 0, 0x2002A, u32(1, 1, 256, NOT_SYNC)),
                    full("tfdt", 1, 0, struct.pack(">Q", 25600)),
                    full("trun", 1, 0xC00, u32(3), struct.pack(">IiIiIi", 0, 0, NOT_SYNC, 512, NOT_SYNC, -512)),
                    full("trun", 0, 0, u32(97)),
                ),
                data=1000,
            ),
            fragment(  # nothing is said: both come from the init segment
                traf(full("tfhd", 0, 0x20000, u32(1)), full("tfdt", 0, 0, u32(51200)), full("trun", 0, 1, u32(50, 8))),
                data=0,
            ),
        )
    )
