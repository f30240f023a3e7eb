"""Other people's BitTorrent programs, as they come, on loopback and left alone by everything that looks for peers.

Each is a leecher or, where the film lies in its folder already, a seeder. Message encryption is as each has it by
default.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import libtorrent as lt

from bct.backends.regtest_node import die_with_parent
from bct.torrent.metainfo import Metainfo

PATIENCE = 60.0
_LOOK = 0.05


def sound_pieces(file: Path, metainfo: Metainfo) -> set[int]:
    """The pieces of a file that have their hash: what a client has got, whatever it says."""
    data = file.read_bytes() if file.exists() else b""
    size = metainfo.piece_length
    parts = ((index, data[index * size : (index + 1) * size]) for index in range(metainfo.geometry.count))
    return {index for index, part in parts if hashlib.sha1(part).digest() == metainfo.piece_hash(index)}


class Client(Protocol):
    """One running program with one torrent."""

    name: str
    takes_calls_only: bool
    """It refuses to call peers on loopback: it has to be called."""
    port: int

    async def start(self, metainfo: Metainfo, folder: Path, peer: int | None) -> None:
        """folder: where the film is, or is to be. peer: the port on loopback of the one peer that it is told of."""
        ...

    async def flush(self) -> None:
        """What it has of the film is in its file when this returns."""
        ...

    async def stop(self) -> None: ...


class Libtorrent:
    """In this process; qBittorrent, Deluge and others are this library with a window."""

    name = "libtorrent"
    takes_calls_only = False

    async def start(self, metainfo: Metainfo, folder: Path, peer: int | None) -> None:
        self._session = lt.session(
            {
                "listen_interfaces": "127.0.0.1:0",
                "enable_dht": False,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "enable_incoming_utp": False,
                "enable_outgoing_utp": False,
            }
        )
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(metainfo.to_file())
        params.save_path = str(folder)
        self._handle = self._session.add_torrent(params)
        self.port = self._session.listen_port()
        if peer is not None:
            self._handle.connect_peer(("127.0.0.1", peer))

    async def flush(self) -> None:
        self._handle.flush_cache()

    async def stop(self) -> None:
        self._session.pause()
        del self._handle, self._session


class _Program:
    """A client in a process of its own, which the kernel ends when ours ends."""

    name: str

    async def run(self, folder: Path, *command: str) -> None:
        with (folder / "said.log").open("wb") as said:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=die_with_parent
            )

    async def flush(self) -> None:
        """It is told to write at once."""

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:  # a client takes leave of its trackers; this one has none to take leave of
            self._process.kill()
            await self._process.wait()


class Aria2(_Program):
    name = "aria2"
    takes_calls_only = False

    async def start(self, metainfo: Metainfo, folder: Path, peer: int | None) -> None:
        self.port = free_port()
        self._tracker = await OnePeerTracker.start(peer) if peer is not None else None
        file = write_torrent(metainfo, folder, self._tracker.url if self._tracker else None)
        await self.run(
            folder,
            *("aria2c", "--no-conf", "--quiet", "--disable-ipv6", f"--dir={folder}", f"--listen-port={self.port}"),
            *("--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false"),
            *("--file-allocation=none", "--disk-cache=0", "--check-integrity=true", "--seed-ratio=0.0", str(file)),
        )

    async def stop(self) -> None:
        await super().stop()
        if self._tracker:
            self._tracker.close()


class Transmission(_Program):
    """It takes no tracker's word about peers on loopback."""

    name = "transmission"
    takes_calls_only = True

    async def start(self, metainfo: Metainfo, folder: Path, peer: int | None) -> None:
        self.port = free_port()
        home = folder / "transmission"
        home.mkdir(parents=True)
        off = ("dht-enabled", "lpd-enabled", "pex-enabled", "utp-enabled", "port-forwarding-enabled", "rpc-enabled")
        settings = {
            **dict.fromkeys(off, False),
            "rename-partial-files": False,
            "cache-size-mb": 0,
            "bind-address-ipv4": "127.0.0.1",
            "bind-address-ipv6": "::1",
        }
        (home / "settings.json").write_text(json.dumps(settings))
        file = write_torrent(metainfo, folder, None)
        command = ("transmission-cli", "-g", str(home), "-w", str(folder), "-p", str(self.port), "-M", str(file))
        await self.run(folder, *command)


CLIENTS: tuple[type[Client], ...] = (Libtorrent, Aria2, Transmission)


def write_torrent(metainfo: Metainfo, folder: Path, tracker: str | None) -> Path:
    file = folder / "film.torrent"
    file.write_bytes(replace(metainfo, trackers=((tracker,),) if tracker else ()).to_file())
    return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


class OnePeerTracker:
    """A tracker that always names the same one peer (BEP 3, BEP 23): how a client is told whom to call."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/announce"

    @classmethod
    async def start(cls, peer: int) -> OnePeerTracker:
        body = b"d8:intervali1800e5:peers6:" + bytes((127, 0, 0, 1)) + peer.to_bytes(2) + b"e"

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        return cls(await asyncio.start_server(answer, "127.0.0.1", 0))

    def close(self) -> None:
        self._server.close()


def lay_out(folder: Path, name: str, film: bytes) -> None:
    folder.mkdir(parents=True)
    if film:
        (folder / name).write_bytes(film)


@asynccontextmanager
async def running(
    kind: type[Client], metainfo: Metainfo, folder: Path, peer: int | None = None, film: bytes = b""
) -> AsyncIterator[Client]:
    """The client, with the film in its folder when it is to seed."""
    lay_out(folder, metainfo.name, film)
    client = kind()
    await client.start(metainfo, folder, peer)
    try:
        yield client
    finally:
        await client.stop()


async def until_has(client: Client, file: Path, metainfo: Metainfo, wanted: set[int]) -> None:
    """Waits until the client's file holds these pieces."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not wanted <= sound_pieces(file, metainfo):
                await client.flush()
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        got = sorted(sound_pieces(file, metainfo))
        raise AssertionError(f"{client.name} has {got} after {PATIENCE:.0f} s, wanted {sorted(wanted)}") from None


async def until_listening(port: int) -> None:
    """Waits until a program that was just started takes calls."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(_LOOK)
            else:
                writer.close()
                return
