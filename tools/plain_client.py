"""An ordinary BitTorrent client, libtorrent as it is, that knows nothing of payments and wants a whole film.

    python tools/plain_client.py --torrent FILE --peer 127.0.0.1:6881 --free 17 --into DIRECTORY

It asks until it has as many pieces as are free, and for a few seconds more; then prints one JSON object:
{"free_pieces": verified ones among the free, "leaked_bytes": verified bytes beyond them, "messages": sent and received}
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import libtorrent as lt

PATIENCE = 20.0
"""Seconds for the free pieces to come."""
LONGER = 3.0
"""Seconds in which more could come, for one who goes on asking."""
POLL = 0.05

SETTINGS: lt.settings_pack = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "alert_mask": int(lt.alert.category_t.stats_notification),
}


def main() -> None:
    said = arguments()
    session = lt.session(SETTINGS)
    torrent = lt.torrent_info(str(said.torrent))
    params = lt.add_torrent_params()
    params.ti, params.save_path = torrent, str(said.into)
    handle = session.add_torrent(params)
    host, _, port = said.peer.rpartition(":")
    handle.connect_peer((host, int(port)))
    wait_for(handle, said.free)
    time.sleep(LONGER)
    pieces = verified(handle)
    print(
        json.dumps(
            {
                "free_pieces": sum(piece < said.free for piece in pieces),
                "leaked_bytes": sum(torrent.piece_size(piece) for piece in pieces if piece >= said.free),
                "messages": messages(session),
            }
        )
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Asks a seeder for everything, and pays nothing.")
    parser.add_argument("--torrent", required=True, type=Path)
    parser.add_argument("--peer", required=True, help="the seeder, host:port")
    parser.add_argument("--free", required=True, type=int, help="pieces that cost nothing, from the first on")
    parser.add_argument("--into", required=True, type=Path, help="directory for what it gets")
    return parser.parse_args()


def wait_for(handle: lt.torrent_handle, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(verified(handle)) < count and time.monotonic() < deadline:
        time.sleep(POLL)


def verified(handle: lt.torrent_handle) -> list[int]:
    """Pieces whose hash fits."""
    return [piece for piece, here in enumerate(handle.status(lt.torrent_handle.query_pieces).pieces) if here]


def messages(session: lt.session) -> int:
    """All BitTorrent messages of its life, both ways."""
    session.post_session_stats()
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.session_stats_alert):
                ways = ("ses.num_incoming_", "ses.num_outgoing_")
                return sum(count for name, count in alert.values.items() if name.startswith(ways))


if __name__ == "__main__":
    main()
