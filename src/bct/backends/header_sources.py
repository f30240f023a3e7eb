"""Who shows us block headers: WhatsOnChain, or a Block Headers Service (bitcoin-sv/block-headers-service).

Trust: none. Headers are made into their 80 bytes here and judged by `bitcoin.header_chain`; heights and hashes that
come with them are only believed as to where to look.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

from bct.backends.web import Answer, Web
from bct.bitcoin.headers import SIZE, BlockHeader

_LATEST = 100
"""Headers that WhatsOnChain gives in one answer; more come in files."""
_BATCH = 2_000


class HeaderSource(Protocol):
    """Both raise ChainError."""

    @property
    def name(self) -> str: ...

    async def newest(self) -> tuple[int, list[bytes]]:
        """Its last few headers in a row, and the height of the first."""
        ...

    async def headers(self, first: int) -> list[bytes]:
        """At least one in a row, the first of them at this height, which is not above what `newest` showed last."""
        ...


class WocHeaders:
    """WhatsOnChain's."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._newest = 0

    @property
    def name(self) -> str:
        return self._web.name

    async def newest(self) -> tuple[int, list[bytes]]:
        answer = await self._web.get("/block/headers")
        match answer.good().json():
            case [{"height": int(height)}, *_] as found:  # the newest first
                self._newest = height
                return height - len(found) + 1, [_of_woc(answer, one) for one in reversed(found)]
        raise answer.refused("is no list of headers")

    async def headers(self, first: int) -> list[bytes]:
        missing = self._newest - first + 1
        if missing <= _LATEST:
            return _cut(await self._web.get(f"/block/headers/latest?count={missing}"))
        name, start = await self._file(first)
        answer = await self._web.get(f"/block/headers/{name}")
        raws = _cut(answer)
        if start is None:
            start = self._newest - len(raws) + 1
        if not raws[first - start :]:
            raise answer.refused(f"holds no header {first}")
        return raws[first - start :]

    async def _file(self, height: int) -> tuple[str, int | None]:
        """The name of the file that holds it, and the height it begins with; None: it ends with the newest.

        Only the name is taken from the answer, never an address: ``<first>_<last>_headers.bin``, or ``latest``.
        """
        answer = await self._web.get("/block/headers/resources")
        match answer.good().json():
            case {"files": list(links)}:
                for name in (str(link).rpartition("/")[2] for link in links):
                    first, last = (*name.split("_"), "", "")[:2]
                    if first.isdecimal() and last.isdecimal() and int(first) <= height <= int(last):
                        return f"{int(first)}_{int(last)}_headers.bin", int(first)
                return "latest", None
        raise answer.refused("names no files of headers")


class BlockHeadersService:
    """One of your own, or one that you trust to be there."""

    def __init__(self, url: str, key: str = "") -> None:
        """Raises ConfigError."""
        self._web = Web("the headers service", url, {"Authorization": f"Bearer {key}"} if key else {})

    @property
    def name(self) -> str:
        return self._web.name

    async def newest(self) -> tuple[int, list[bytes]]:
        answer = await self._web.get("/api/v1/chain/tip/longest")
        match answer.good().json():
            case {"header": dict(header), "height": int(height)}:
                return height, [_of_service(answer, header)]
        raise answer.refused("is no tip")

    async def headers(self, first: int) -> list[bytes]:
        answer = await self._web.get(f"/api/v1/chain/header/byHeight?height={first}&count={_BATCH}")
        match answer.good().json():
            case [*found] if found:
                return [_of_service(answer, one) for one in found]
        raise answer.refused(f"is no row of headers from {first} on")

    async def close(self) -> None:
        await self._web.close()


def _of_woc(answer: Answer, one: Any) -> bytes:
    match one:
        case {
            "version": int(version),
            "merkleroot": str(root),
            "time": int(time),
            "bits": str(bits),
            "nonce": int(nonce),
        }:
            # The first block's has none.
            previous = str(one.get("previousblockhash") or "00" * 32)
            return _serialized(answer, version, previous, root, time, _number(answer, bits), nonce)
    raise answer.refused("is no header")


def _of_service(answer: Answer, one: Any) -> bytes:
    match one:
        case {
            "version": int(version),
            "prevBlockHash": str(previous),
            "merkleRoot": str(root),
            "creationTimestamp": int(time),
            "difficultyTarget": int(bits),
            "nonce": int(nonce),
        }:
            return _serialized(answer, version, previous, root, time, bits, nonce)
    raise answer.refused("is no header")


def _serialized(answer: Answer, version: int, previous: str, root: str, time: int, bits: int, nonce: int) -> bytes:
    """80 bytes. Raises ChainError when a number does not fit. A version may come with a sign."""
    header = BlockHeader(version & 0xFFFFFFFF, answer.txid(previous), answer.txid(root), time, bits, nonce)
    try:
        return header.serialize()
    except struct.error:
        raise answer.refused("is no header") from None


def _number(answer: Answer, text: str) -> int:
    return int.from_bytes(answer.hex(text))


def _cut(answer: Answer) -> list[bytes]:
    """80 bytes each. The documentation calls them binary; clients have met hex as well."""
    raw = answer.good().body
    if raw[: 2 * SIZE].isalnum() and answer.text.strip().isalnum():
        raw = answer.hex(answer.text.strip())
    if not raw or len(raw) % SIZE:
        raise answer.refused("is no row of headers")
    return [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]
