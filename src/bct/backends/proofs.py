"""Merkle paths from services, believed when they lead to a header of ours.

Who could cheat: who shows a path. It is arithmetic: a wrong one leads elsewhere. A right one stays right until its
block leaves the best chain, and so one that was kept is led home again each time.
"""

from __future__ import annotations

from bct.backends.headers import Headers
from bct.backends.recent import Recent
from bct.backends.woc import Branch, Woc
from bct.bitcoin.merkle import MerklePath
from bct.errors import ChainError, RemoteProtocolError
from bct.units import Txid, txid_hex

_KEPT = 2_000


class Proofs:
    """Of transactions that a block holds."""

    def __init__(self, woc: Woc, headers: Headers) -> None:
        self._woc = woc
        self._headers = headers
        self._found: Recent[Txid, MerklePath] = Recent(_KEPT)

    async def kept(self, txid: Txid) -> MerklePath | None:
        """What was found before, if it still holds. Raises ChainError."""
        path = self._found.get(txid)
        return path if path and await self._leads_home(path, txid) else None

    async def find(self, txid: Txid, shown: bytes) -> MerklePath | None:
        """shown: a BUMP (BRC-74) that somebody has for it, or nothing; WhatsOnChain is asked when it leads nowhere.
        None while no block of ours holds it. Raises ChainError."""
        path = await self._read(shown, txid) or await self._of_woc(txid)
        if path:
            self._found[txid] = path
        return path

    async def _read(self, shown: bytes, txid: Txid) -> MerklePath | None:
        try:
            path = MerklePath.parse(shown) if shown else None
            return path if path and await self._leads_home(path, txid) else None
        except RemoteProtocolError:
            return None

    async def _of_woc(self, txid: Txid) -> MerklePath | None:
        branch = await self._woc.branch(txid)
        height = await self._height_of(branch) if branch else None
        if branch is None or height is None:
            return None
        path = MerklePath.of_branch(height, txid, branch.index, branch.siblings)
        if not await self._leads_home(path, txid):
            raise ChainError(
                f"{self._woc.name} shows {txid_hex(txid)} in block {height}, and its proof leads elsewhere"
            )
        return path

    async def _height_of(self, branch: Branch) -> int | None:
        """Of a block in our chain; None for any other. It may have come in since we looked, or lie further down than
        what we hold."""
        found = self._headers.height_of(branch.block)
        if found is None:
            await self._headers.sync()
            found = self._headers.height_of(branch.block)
        if found is None and (said := await self._woc.height_of(branch.block)) is not None:
            header = await self._headers.header(said)
            found = said if header and header.hash == branch.block else None
        return found

    async def _leads_home(self, path: MerklePath, txid: Txid) -> bool:
        header = await self._headers.header(path.height)
        return header is not None and path.root(txid) == header.merkle_root
