"""What passes from person to person about a film: links, .torrent files, terms, manifests; and the film's own bytes."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

from bct.api import byte_range
from bct.bitcoin.chain import Network
from bct.errors import ConfigError, MediaError, RemoteProtocolError
from bct.media import boxes, codecs, probe, sidx, sync
from bct.title import link, manifest, terms, torrent_file
from bct.title.link import Peer, TorrentLink
from bct.torrent.metainfo import Metainfo
from bct.units import Infohash
from tests import mp4
from tests.fuzz import torrents
from tests.fuzz.target import Target, respelled, text_of, vector


def _link(raw: bytes) -> None:
    read = link.parse(text_of(raw))
    assert link.parse(str(read)) == read
    assert link.parse(link.page("https://film.example/watch", read)) == read
    assert str(read).isascii()
    assert str(read).isprintable()


def _torrent_file(raw: bytes) -> None:
    torrent, address = torrent_file.decode(raw)
    torrents.check_torrent(torrent)
    assert torrent_file.decode(torrent_file.encode(torrent, address)) == (torrent, address)


def _terms(raw: bytes) -> None:
    read = terms.decode(raw)
    assert terms.encode(read) == raw
    with suppress(RemoteProtocolError):
        terms.check(read, creator=read.creator, network=Network.REGTEST, infohash=read.infohash, now=read.valid_from)


def _manifest(raw: bytes) -> None:
    with suppress(RemoteProtocolError):
        _listed(respelled(raw))
    _listed(raw)


def _listed(raw: bytes) -> None:
    read = manifest.decode(raw)
    assert manifest.encode(read) == raw
    for rendition in read.renditions:
        fragments = manifest.fragments_of(rendition)
        assert manifest.pack_fragments(fragments, rendition.init) == rendition.fragments
    with suppress(RemoteProtocolError):
        manifest.check(read, creator=bytes.fromhex(read.creator), title="other")


def _film(raw: bytes) -> None:
    movie = boxes.scan(lambda at, size: raw[at : at + size], len(raw))
    assert all(a.end <= b.offset and a.time_ms <= b.time_ms for a, b in pairwise(movie.fragments))
    assert movie.init_size <= len(raw)
    assert movie.fragments[-1].end <= len(raw)
    assert movie.duration_ms >= 0
    assert movie.mime.isprintable()


def _edit_lists(raw: bytes) -> None:
    """What is put over the file's bytes lies within the file."""
    for at, patch in sync.patches(lambda at, size: raw[at : at + size], len(raw)):
        assert 0 <= at <= at + len(patch) <= len(raw)


def _index(raw: bytes) -> None:
    found = sidx.starts(raw)
    for (time, at), (later, further) in pairwise(found or []):
        assert 0 <= time <= later
        assert 0 <= at <= further


def _ffmpeg_log(raw: bytes) -> None:
    plan = probe.plan(probe.parse(text_of(raw)))
    assert plan.video.width >= 0


def _range(raw: bytes) -> None:
    """First byte: how long the film is."""
    length = raw[0] if raw else 0
    with suppress(byte_range.UnsatisfiableError):
        found = byte_range.parse(text_of(raw[1:]), length)
        if found:
            start, end = found
            assert 0 <= start < end <= length


def _links() -> list[bytes]:
    links = vector("title")["links"]
    texts = [links["torrent"]["text"], links["torrent"]["page"], links["ordinary"], links["title"]["text"]]
    return [text.encode() for text in texts]


def _shown(kind: str) -> list[dict[str, str]]:
    """Those that can be read, whether they count or not."""
    return [one for one in vector("title")[kind]["shown"] if one["reason"] != f"bad-{kind}"]


def _torrent_files() -> list[bytes]:
    creator = bytes.fromhex(vector("title")["terms"]["creator"])
    made = [Metainfo.from_info(raw) for raw in torrents.infos()]
    peers = (Peer("127.0.0.1", 6881), Peer("2001:db8::1", 1))
    return [torrent_file.encode(one, TorrentLink(Infohash(one.infohash), creator, one.name, peers)) for one in made]


def _films() -> list[bytes]:
    """One as ffmpeg makes them, with edit lists; one written by hand."""
    late = mp4.trak(1, "vide", 12800, mp4.avc1(), edits=[(480, -1), (0, 1024)])
    early = mp4.trak(2, "soun", 48000, mp4.mp4a(), version=1, edits=[(0, 1024)])
    track = mp4.traf(
        mp4.full("tfhd", 0, 0, mp4.u32(1)), mp4.full("tfdt", 0, 0, mp4.u32(0)), mp4.full("trun", 0, 0, mp4.u32(9))
    )
    edited = mp4.moov([late, early], [mp4.trex(1, 512), mp4.trex(2, 1024)]) + mp4.fragment(track)
    others = [
        mp4.moov([mp4.trak(1, "vide", 90, mp4.box(entry, bytes(78), mp4.box(box, bytes(range(24)))))], [mp4.trex(1)])
        + mp4.fragment(track)
        for entry, box in (("hvc1", "hvcC"), ("av01", "av1C"), ("vp09", "vpcC"))
    ]
    return [mp4.film(), edited, *others]


def _indexes() -> list[bytes]:
    film = mp4.film()
    movie = boxes.scan(lambda at, size: film[at : at + size], len(film))
    return [sidx.front(movie, film[: movie.init_size], 400), bytes.fromhex(vector("media")["sidx"])]


_LOG = b"""Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'film.mp4':
  Metadata:
    title           : Stream #0:0: Video: h264, yuv420p, 1x1
  Duration: 00:00:30.03, start: 0.000000, bitrate: 700 kb/s
  Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(progressive), 640x360 [SAR 1:1 DAR 16:9]
  Stream #0:1[0x2](eng): Audio: aac (LC) (mp4a / 0x6134706D), 48000 Hz, stereo, fltp, 128 kb/s (default)
"""

TARGETS: dict[str, Target] = {
    "link": Target(_link, _links, (link,), refusals=(ConfigError,)),
    "torrent-file": Target(
        _torrent_file, _torrent_files, (torrent_file,), reasons=frozenset(("bad-bencoding", "bad-metainfo"))
    ),
    "terms": Target(
        _terms,
        lambda: [bytes.fromhex(one["hex"]) for one in _shown("terms")],
        (terms,),
        reasons=frozenset(("bad-terms",)),
    ),
    "manifest": Target(
        _manifest,
        lambda: [one["text"].encode() for one in _shown("manifest")],
        (manifest,),
        reasons=frozenset(("bad-manifest",)),
    ),
    "film": Target(_film, _films, (boxes, codecs), refusals=(MediaError,)),
    "edit-lists": Target(_edit_lists, _films, (sync,), refusals=(MediaError,)),
    "index": Target(_index, _indexes, (sidx,), refusals=()),
    "ffmpeg-log": Target(_ffmpeg_log, lambda: [_LOG], (probe,), refusals=(MediaError,)),
    "range": Target(_range, lambda: [b"\x64bytes=0-99", b"\x64bytes=-5", b"\x64bytes=7-"], (byte_range,), refusals=()),
}
