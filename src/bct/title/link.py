"""The address of a film, as people pass it on.

Three spellings carry the same:

* ``magnet:?xt=urn:btih:<infohash>&dn=<name>&x.pe=<host:port>&tr=<tracker>&x.bct=<creator key>`` names one torrent.
  Other BitTorrent clients read it too (BEP 9) and overlook ``x.bct``.
* ``bct:<creator key>/<title id>`` names a title: whatever renditions its creator has published.
* ``https://host/page#<either of the above>``, a page that plays it. The link stands behind the ``#`` so that a
  browser shows the page without telling its server what is being watched.

The creator's key in the link is what terms and manifests are checked against. A magnet link without one is an
ordinary torrent's: nothing is ever paid for it. A link is a stranger's text: its size and the number of addresses in it
are bounded, and no part of it is used as a path or shown before control characters are refused.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import parse_qsl, quote, urlsplit

from bct.bitcoin.keys import is_public_key
from bct.errors import ConfigError
from bct.units import Infohash

MAX_LENGTH = 8192
MAX_ADDRESSES = 32
"""Peers, and as many trackers."""
MAX_NAME = 255

EXAMPLE = "magnet:?xt=urn:btih:<40 hex digits>&x.pe=<host:port>&x.bct=<66 hex digits>"

_BTIH = re.compile(r"urn:btih:(?:([0-9a-fA-F]{40})|([a-zA-Z2-7]{32}))")
_HOST = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?")
_TITLE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_TRACKERS = frozenset(("http", "https", "udp", "ws", "wss"))


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a node listens: a name, an IPv4 address or an IPv6 address without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TorrentLink:
    """One torrent, and where to begin looking for peers. creator: the 33-byte key that its terms are checked against;
    None for an ordinary torrent, for which nothing is ever paid."""

    infohash: Infohash
    creator: bytes | None = None
    name: str = ""
    peers: tuple[Peer, ...] = ()
    trackers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "magnet:?" + "&".join(
            (
                f"xt=urn:btih:{self.infohash.hex()}",
                *([f"dn={quote(self.name, safe='')}"] if self.name else []),
                *(f"x.pe={quote(str(peer), safe=':[]')}" for peer in self.peers),
                *(f"tr={quote(tracker, safe='')}" for tracker in self.trackers),
                *([f"x.bct={self.creator.hex()}"] if self.creator else []),
            )
        )


@dataclass(frozen=True, slots=True)
class TitleLink:
    """All of a title: its creator's 33-byte key and the id the creator gave it (a-z, 0-9, hyphens, at most 64)."""

    creator: bytes
    title: str

    def __str__(self) -> str:
        return f"bct:{self.creator.hex()}/{self.title}"


Link = TorrentLink | TitleLink


def parse(text: str) -> Link:
    """Reads any of the three spellings. Raises ConfigError that says what is wrong and what a link looks like."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise _bad(f"it has {len(text)} characters, at most {MAX_LENGTH} are read")
    if text.lower().startswith(("http://", "https://")):
        _, _, text = text.partition("#")
    scheme, _, rest = text.partition(":")
    match scheme.lower():
        case "magnet":
            return _magnet(rest.removeprefix("?"))
        case "bct":
            return _title(rest)
    raise _bad(f"it names no film: {text[:60]!r}")


def page(address: str, link: Link) -> str:
    """The page at `address` that plays `link`."""
    return f"{address}#{link}"


def _magnet(query: str) -> TorrentLink:
    try:
        fields = parse_qsl(query, errors="strict", max_num_fields=4 * MAX_ADDRESSES)
    except ValueError:
        raise _bad("its parts cannot be told apart or are not UTF-8") from None
    values: dict[str, list[str]] = {}
    for key, value in fields:
        values.setdefault(key, []).append(value)
    name = (values.get("dn") or [""])[0]
    if len(name) > MAX_NAME or not name.isprintable():
        raise _bad(f"the name (dn) must be at most {MAX_NAME} printable characters")
    return TorrentLink(
        infohash=_infohash(values.get("xt", [])),
        creator=_only_key(values.get("x.bct", [])),
        name=name,
        peers=tuple(map(parse_peer, _few("x.pe", values))),
        trackers=tuple(map(_tracker, _few("tr", values))),
    )


def _infohash(topics: list[str]) -> Infohash:
    found = [match for topic in topics if (match := _BTIH.fullmatch(topic))]
    if len(found) != 1:
        raise _bad(f"it names {len(found)} infohashes (xt=urn:btih:, 40 hex digits or 32 of base32), expected 1")
    in_hex, in_base32 = found[0].groups()
    return Infohash(bytes.fromhex(in_hex) if in_hex else base64.b32decode(in_base32.upper()))


def _only_key(keys: list[str]) -> bytes | None:
    if len(keys) > 1:
        raise _bad(f"it carries {len(keys)} creator keys (x.bct), expected 1 at most")
    return _key(keys[0]) if keys else None


def _key(text: str) -> bytes:
    if not re.fullmatch(r"0[23][0-9a-fA-F]{64}", text) or not is_public_key(key := bytes.fromhex(text)):
        raise _bad(f"{text[:70]!r} is no creator's key: that is 66 hex digits, beginning with 02 or 03")
    return key


def _few(name: str, values: dict[str, list[str]]) -> list[str]:
    """Each value once, in order."""
    found = list(dict.fromkeys(values.get(name, [])))
    if len(found) > MAX_ADDRESSES:
        raise _bad(f"it has {len(found)} {name} addresses, at most {MAX_ADDRESSES} are read")
    return found


def parse_peer(text: str) -> Peer:
    """``host:port`` as it stands in a link. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise _bad(f"{text[:80]!r} is no peer: that is host:port, the port 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Peer(_ipv6(host[1:-1]), int(port))
    if not _HOST.fullmatch(host):
        raise _bad(f"{text[:80]!r} is no peer: that is name:port, address:port or [IPv6 address]:port")
    return Peer(host, int(port))


def _ipv6(text: str) -> str:
    try:
        if "%" in text:  # a zone of somebody else's machine
            raise AddressValueError
        return IPv6Address(text).compressed
    except AddressValueError:
        raise _bad(f"{text[:60]!r} is no IPv6 address") from None


def _tracker(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in _TRACKERS and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # urlsplit's word for unbalanced brackets and ports beyond 65535
        sound = False
    if not sound or not text.isascii() or not text.isprintable() or " " in text:
        raise _bad(f"{text[:80]!r} is no tracker: that is http(s)://, udp:// or ws(s):// and a host")
    return text


def _title(rest: str) -> TitleLink:
    key, _, title = rest.partition("/")
    if not _TITLE_ID.fullmatch(title):
        raise _bad(f"{title[:70]!r} is no title id: that is 1 to 64 of a-z, 0-9 and hyphens")
    return TitleLink(_key(key), title)


def _bad(text: str) -> ConfigError:
    return ConfigError(f"this link cannot be used: {text}. A link looks like {EXAMPLE}")
