"""A .torrent file that can be played on its own: the metainfo file (BEP 3) with what a link adds to an infohash.

It stands in a dictionary ``bct`` beside ``info``, so that the infohash stays the same and other clients overlook it:
``creator`` is the 33-byte key that terms are checked against, ``peers`` a list of ``host:port``.

Who could cheat: whoever hands the file over, by putting another creator's key in, exactly as with a link. Terms signed
by that other key are then all that the file can be played under.
"""

from __future__ import annotations

from bct.bitcoin.keys import is_public_key
from bct.errors import ConfigError, RemoteProtocolError
from bct.title.link import MAX_ADDRESSES, Peer, TorrentLink, parse_peer
from bct.torrent import bencode
from bct.torrent.bencode import Value
from bct.torrent.metainfo import MAX_FILE, Metainfo

_KEY = b"bct"


def encode(metainfo: Metainfo, link: TorrentLink) -> bytes:
    """The file of a torrent, with the creator and the peers of its link."""
    outer = bencode.decode_dict(metainfo.to_file(), MAX_FILE)
    ours: dict[bytes, Value] = {b"peers": [str(peer).encode() for peer in link.peers]}
    if link.creator:
        ours[b"creator"] = link.creator
    return bencode.encode(outer | {_KEY: ours})


def decode(raw: bytes) -> tuple[Metainfo, TorrentLink]:
    """The torrent, and the link that the file amounts to. Raises RemoteProtocolError, "bad-metainfo" or
    "bad-bencoding"."""
    metainfo = Metainfo.from_file(raw)
    ours = bencode.decode_dict(raw, MAX_FILE).get(_KEY, {})
    if not isinstance(ours, dict):
        raise _bad("its part for bct is no dictionary")
    creator, peers = ours.get(b"creator"), ours.get(b"peers", [])
    if creator is not None and not (isinstance(creator, bytes) and is_public_key(creator)):
        raise _bad("the creator's key in it is no public key")
    if not isinstance(peers, list) or len(peers) > MAX_ADDRESSES:
        raise _bad(f"it names peers in a list, of at most {MAX_ADDRESSES}")
    link = TorrentLink(metainfo.infohash, creator, metainfo.name, tuple(map(_peer, peers)))
    return metainfo, link


def _peer(raw: Value) -> Peer:
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else ""
    try:
        return parse_peer(text)
    except ConfigError:
        raise _bad(f"{text[:80]!r} in it is no peer") from None


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-metainfo", f"this .torrent file cannot be used: {text}")
