"""Who gets in: the owner, and nobody's web page (the hostile page of docs/THREATS, by each way it can come)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bct.api.door import MAX_BODY
from bct.api.server import bind
from bct.backends.chain_node import ChainNode
from bct.config import ApiConfig
from bct.errors import ConfigError
from tests.desk import SECRET, Desk, desk
from tests.nodes import running_node

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(tmp_path: Path, chain: ChainNode) -> AsyncIterator[Desk]:
    async with running_node(tmp_path, chain) as node, desk(node) as opened:
        yield opened


def refused(answer: httpx.Response, status: int, exit_code: int) -> bool:
    body = answer.json()
    return (answer.status_code, body["exit_code"], set(body)) == (status, exit_code, {"error", "text", "exit_code"})


async def test_the_owner_gets_in_under_each_name_of_this_machine(api: Desk) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        headers = {"Host": f"{host}:{api.port}"}
        assert (await api.owner.get("/api/status", headers=headers)).status_code == 200
        headers["Origin"] = f"http://{host}:{api.port}"
        assert (await api.owner.get("/api/status", headers=headers)).status_code == 200


@pytest.mark.parametrize("shown", ["", "Bearer", f"Bearer {SECRET[:-1]}", f"Basic {SECRET}", f"bearer {SECRET}", "é"])
async def test_without_the_cookie_nobody_gets_in(api: Desk, shown: str) -> None:
    for path in ("/api/status", "/api/openapi.json", "/", "/stream", "/stream/../api/status"):
        assert refused(await api.stranger.get(path, headers={b"Authorization": shown.encode()}), 401, 4), path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", ""]
)
async def test_a_rebound_name_gets_nowhere_not_even_with_the_cookie(api: Desk, host: str) -> None:
    headers = {"Host": host.format(port=api.port)}
    for path in ("/api/status", "/stream/0/film.mp4"):
        assert refused(await api.owner.get(path, headers=headers), 401, 4)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_sites_page_gets_nowhere(api: Desk, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=api.port) for name, value in headers.items()}
    for path in ("/api/status", "/stream/0/film.mp4"):
        assert refused(await api.owner.get(path, headers=sent), 401, 4)


async def test_a_page_cannot_ask_for_leave_first(api: Desk) -> None:
    """No preflight is ever answered well, so a browser sends no request that needs one."""
    ask = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await api.stranger.options("/api/wallet/send", headers=ask)
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_body_too_long_is_refused_whether_it_says_so_or_not(api: Desk) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b" " * (MAX_BODY // 4)

    for content in (b" " * (MAX_BODY + 1), endless()):
        answer = await api.owner.post("/api/plays", content=content)
        assert refused(answer, 413, 1), answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/plays", b"{"),
        ("/api/plays", b"[]"),
        ("/api/plays", b'{"link": 5}'),
        ("/api/plays", b'{"max_sats": -1, "link": "magnet:?"}'),
        ("/api/plays", b'{"surprise": 1}'),
        ("/api/plays", b"{}"),
        ("/api/plays", b'{"link": "bct:nobody/film"}'),
        ("/api/plays", b'{"torrent": "bm90aGluZw=="}'),
        ("/api/plays", b'{"torrent": "!"}'),
        ("/api/wallet/send", b'{"to": "nobody"}'),
        ("/api/wallet/send", b'{"to": "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8", "satoshi": 0}'),
        ("/api/wallet/topup", b'{"satoshi": 1e99}'),
        ("/api/channels/nothing/close", b""),
        ("/api/channels/%s:0/close" % ("00" * 32), b""),
        ("/api/channels/%s:0/refund" % ("00" * 32), b""),
    ],
)
async def test_what_cannot_be_meant_is_the_callers_error_and_says_so(api: Desk, path: str, body: bytes) -> None:
    answer = await api.owner.post(path, content=body, headers={"Content-Type": "application/json"})
    assert refused(answer, 400, 2), answer.text


@pytest.mark.parametrize(
    "incoming", ["../wallet.json", "/etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", ""]
)
async def test_a_film_is_named_by_an_id_never_by_a_path(api: Desk, incoming: str) -> None:
    seed = {"link": f"magnet:?xt=urn:btih:{'0' * 40}", "incoming": incoming}
    answer = await api.owner.post("/api/seeds", json=seed)
    assert refused(answer, 400, 2)
    assert "incoming" in answer.json()["text"]


async def test_what_is_not_there_is_not_there_in_the_same_form(api: Desk) -> None:
    for method, path in (("GET", "/api/nothing"), ("GET", "/api/plays/0"), ("DELETE", "/api/plays/0")):
        assert refused(await api.owner.request(method, path), 404, 1)


def test_the_door_opens_on_loopback_only() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        with pytest.raises(ConfigError, match=r"api\.host"):
            bind(ApiConfig(host=host, port=0))
    taken = bind(ApiConfig(port=0))
    with pytest.raises(ConfigError, match=r"api\.port"):
        bind(ApiConfig(port=taken.getsockname()[1]))
    taken.close()
