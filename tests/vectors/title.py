"""Terms, manifests and links: what is signed, byte by byte, and what must be refused and why."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import ORDER, PrivateKey
from bct.errors import ConfigError, RemoteProtocolError
from bct.media.boxes import Fragment
from bct.title import link, manifest, terms
from bct.title.link import Peer, TitleLink, TorrentLink
from bct.title.manifest import Manifest, Rendition, pack_fragments
from bct.title.ranges import PieceRange, free_start
from bct.title.terms import Terms
from bct.units import Infohash, Payees, PieceIndex, Satoshi

_CREATOR = PrivateKey(bytes(31) + b"\x07")
_STRANGER = PrivateKey(bytes(31) + b"\x08")
_FILM = Infohash(bytes.fromhex("d2474e86c95b19b8bcfdb92bc12c9d44667cfa36"))
_NOW = 1_800_000_000
_DAY = 86_400
_FRAGMENTS = tuple(Fragment(i * 2000, 2030 + i * 850_000, 850_000, keyframe=True) for i in range(5))
_PIECE = 262_144


def build() -> dict[str, Any]:
    return {
        "terms": _terms(),
        "manifest": _manifest(),
        "links": _links(),
        "free_start": {
            "fragments": [[one.time_ms, one.offset, one.size] for one in _FRAGMENTS],
            "piece_length": _PIECE,
            "pieces": {str(seconds): free_start(seconds, _FRAGMENTS, _PIECE).count for seconds in (0, 2, 2.5, 60)},
        },
    }


def _signed(key: PrivateKey = _CREATOR, **changes: Any) -> Terms:
    plain = Terms(
        network=Network.REGTEST,
        infohash=_FILM,
        price=Satoshi(1),
        payees=Payees.of((b"\x11" * 20, 5000), (b"\x22" * 20, 1000)),
        free=(PieceRange(PieceIndex(0), 4), PieceRange(PieceIndex(90), 2)),
        sequence=7,
        valid_from=_NOW - _DAY,
        valid_until=_NOW + _DAY,
        creator=key.public,
    )
    return replace(plain, **changes).sign(key)


def _terms() -> dict[str, Any]:
    good = _signed()
    r, s = good.signature[:32], int.from_bytes(good.signature[32:])
    wire = terms.encode(good)
    shown = {
        "as signed": wire,
        "another price": terms.encode(replace(good, price=Satoshi(0))),
        "high s": terms.encode(replace(good, signature=r + (ORDER - s).to_bytes(32))),
        "a stranger's": terms.encode(_signed(_STRANGER)),
        "another network": terms.encode(_signed(network=Network.MAIN)),
        "another title": terms.encode(_signed(infohash=Infohash(bytes(20)))),
        "expired": terms.encode(_signed(valid_from=_NOW - 2 * _DAY, valid_until=_NOW)),
        "not yet": terms.encode(_signed(valid_from=_NOW + 1)),
        "older": terms.encode(_signed(sequence=6)),
        "cut": wire[:-1],
        "longer": wire + b"\0",
        "shares above the whole": wire.replace(b"\x22\x03\xe8", b"\x22\x13\x89"),
        "free ranges that touch": wire.replace(bytes((0, 0, 0, 90, 0, 0, 0, 2)), bytes((0, 0, 0, 4, 0, 0, 0, 2))),
    }
    return {
        "now": _NOW,
        "lowest_sequence": 7,
        "infohash": _FILM.hex(),
        "creator_secret": _CREATOR.secret.hex(),
        "creator": _CREATOR.public.hex(),
        "fields": {
            "network": good.network.value,
            "price": good.price,
            "payees": [[h.hex(), share] for h, share in zip(good.payees.hashes, good.payees.split.shares, strict=True)],
            "free": [[free.first, free.count] for free in good.free],
            "sequence": good.sequence,
            "valid_from": good.valid_from,
            "valid_until": good.valid_until,
        },
        "total_of_100_pieces": good.total(PieceRange(PieceIndex(0), 100)),
        "shown": [{"name": name, "hex": data.hex(), "reason": _terms_reason(data)} for name, data in shown.items()],
    }


def _terms_reason(data: bytes) -> str | None:
    try:
        terms.check(
            terms.decode(data),
            creator=_CREATOR.public,
            network=Network.REGTEST,
            infohash=_FILM,
            now=_NOW,
            lowest_sequence=7,
        )
    except RemoteProtocolError as error:
        return error.reason
    return None


def _manifest() -> dict[str, Any]:
    film = Rendition(
        infohash=_FILM.hex(),
        length=5_000_000,
        mime='video/mp4; codecs="avc1.640028, mp4a.40.2"',
        piece_length=_PIECE,
        width=1920,
        height=1080,
        bitrate=3_400_000,
        init=1310,
        fragments=pack_fragments(_FRAGMENTS, 1310),
    )
    signed = Manifest(
        creator=_CREATOR.public.hex(),
        duration=10_000,
        name='Der "große" Hase \\ 🐰',
        renditions=(film,),
        revision=3,
        title="big-buck-bunny",
    ).sign(_CREATOR)
    text = manifest.encode(signed).decode()
    shown = {
        "as signed": text,
        "another name": text.replace("Hase", "Igel"),
        "a blank": text.replace(":3,", ": 3,"),
        "escaped": text.replace("ß", "\\u00df"),
        "unsorted": json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":"), ensure_ascii=False),
        "unknown field": text.replace('"version":1', '"version":1,"x":1'),
    }
    return {
        "creator": _CREATOR.public.hex(),
        "fragments": [[one.time_ms, one.offset, one.size] for one in _FRAGMENTS],
        "shown": [{"name": name, "text": one, "reason": _manifest_reason(one)} for name, one in shown.items()],
    }


def _manifest_reason(text: str) -> str | None:
    try:
        manifest.check(manifest.decode(text.encode()), creator=_CREATOR.public)
    except RemoteProtocolError as error:
        return error.reason
    return None


def _links() -> dict[str, Any]:
    torrent = TorrentLink(
        _FILM,
        _CREATOR.public,
        "Big Buck Bunny & Co",
        (Peer("127.0.0.1", 6881), Peer("::1", 6882)),
        ("http://tracker.example:6969/announce?a=1&b=2",),
    )
    title = TitleLink(_CREATOR.public, "big-buck-bunny")
    plain = str(TorrentLink(_FILM))
    refused = [
        "hello",
        plain[:-1],
        plain + "&x.bct=00",
        plain + "&x.pe=1.2.3.4:0",
        plain + "&x.pe=::1:80",
        plain + "&tr=file:///etc/passwd",
        plain + "&dn=%00",
        plain + "&dn=%ff",
        f"{title}/../x",
    ]
    for one in refused:
        _must_refuse(one)
    return {
        "torrent": {
            "text": str(torrent),
            "page": link.page("https://film.example/watch", torrent),
            "infohash": torrent.infohash.hex(),
            "creator": _CREATOR.public.hex(),
            "name": torrent.name,
            "peers": [[peer.host, peer.port] for peer in torrent.peers],
            "trackers": list(torrent.trackers),
        },
        "ordinary": plain,
        "title": {"text": str(title), "creator": _CREATOR.public.hex(), "title": title.title},
        "refused": refused,
    }


def _must_refuse(text: str) -> None:
    try:
        link.parse(text)
    except ConfigError:
        return
    raise AssertionError(f"{text!r} should be refused")
