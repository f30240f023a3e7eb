"""A BSV node of our own, in regtest: started, watched and ended by bct.

It listens on loopback only, on ports that were free a moment ago, and lives in a directory of its own. Its life hangs
on ours: `stop` ends it in order, and the kernel ends it when we die without a word.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import shutil
import signal
import socket
import sys
from pathlib import Path

import bct
from bct.backends.node_events import TOPICS
from bct.backends.node_rpc import NodeRpc, RpcRefusalError
from bct.errors import ChainError, ConfigError, TemporaryError

START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0
_POLL = 0.02
_LAST_WORDS = "stderr.log"
_PR_SET_PDEATHSIG = 1

FEE_FLOOR = 100
"""Satoshis per 1,000 bytes that miners ask."""

_FLAGS = (
    "-regtest",
    "-server",
    "-disablewallet",
    "-listen=0",
    "-dnsseed=0",
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
    "-rpcworkqueue=256",
    "-txindex=1",
    "-genesisactivationheight=1",
    # The node refuses to start without these two and -minminingtxfee, and its own way of saying "no limit" is 0.
    "-excessiveblocksize=0",
    "-maxstackmemoryusageconsensus=0",
    # Without it an underpaying transaction is taken into the pool and never mined.
    f"-mindebugrejectionfee={FEE_FLOOR / 1e8:.8f}",
    # Non-final transactions are looked at again each second instead of every ten minutes.
    "-checknonfinalfreq=1000",
)


class RegtestNode:
    """A running node and how to reach it. Made by `start`."""

    def __init__(self, command: str, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._home = data_dir / "regtest"
        rpc_port, zmq_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{rpc_port}"
        self.zmq = f"tcp://127.0.0.1:{zmq_port}"
        self.cookie_file = self._home / ".cookie"
        notify = (f"-zmqpub{topic}={self.zmq}" for topic in TOPICS)
        self._command = (command, *_FLAGS, f"-datadir={data_dir}", f"-rpcport={rpc_port}", *notify)
        self.fee_floor = FEE_FLOOR
        """What it wants for mining a transaction, from its next start on. Like a real node it takes what pays less into
        its pool, down to `FEE_FLOOR`, and waits for a child that pays."""
        self.process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, data_dir: Path, binary: str = "") -> RegtestNode:
        """Starts it and waits until it answers. binary: path of bitcoind; empty: the one that is found.

        Raises ConfigError when there is no binary, TemporaryError when a node already runs in `data_dir`, ChainError
        with the node's own words when it does not come up.
        """
        node = cls(find_bitcoind(binary), data_dir)
        await node.restart()
        return node

    async def restart(self) -> None:
        """Starts it anew at the same addresses, after it was stopped or died. Raises as `start` does."""
        self._home.mkdir(parents=True, exist_ok=True)
        _refuse_if_running(self._home)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._repair()
                await self._spawn()
                await self._wait_until_ready()
        except TimeoutError:
            await self.kill()
            raise ChainError(f"the node in {self.data_dir} did not answer within {START_TIMEOUT:.0f} s") from None
        except BaseException:
            await self.kill()
            raise

    async def _repair(self) -> None:
        """A node that was killed leaves its pid file, and has written its blocks but not where they are: without this
        it would begin at the first block again."""
        if (self._home / "bitcoind.pid").exists():
            await self._spawn("-reindex", "-stopafterblockimport")
            await self.process.wait()

    async def _spawn(self, *flags: str) -> None:
        self.cookie_file.unlink(missing_ok=True)  # a killed node's would be taken for the new one's
        with (self._home / _LAST_WORDS).open("wb") as last_words:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                f"-minminingtxfee={self.fee_floor / 1e8:.8f}",
                *flags,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=last_words,
                start_new_session=True,  # Ctrl-C is for us: channels are settled before the node goes
                preexec_fn=die_with_parent,
            )

    async def _wait_until_ready(self) -> None:
        rpc = NodeRpc(self.url, self.cookie_file)
        try:
            while not await _answers(rpc):
                if self.process.returncode is not None:
                    raise ChainError(f"the node in {self.data_dir} ended at once: {self._last_words()}")
                await asyncio.sleep(_POLL)
        finally:
            await rpc.close()

    def _last_words(self) -> str:
        said = (self._home / _LAST_WORDS).read_text(errors="replace").strip()
        return said or f"exit code {self.process.returncode}"

    async def stop(self) -> None:
        """Ends it in order, pool saved; kills it if that takes longer than STOP_TIMEOUT."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def find_bitcoind(configured: str = "") -> str:
    """The configured one, else the one on PATH, else the one `./run` unpacked into a checkout.

    Raises ConfigError when there is none.
    """
    unpacked = Path(bct.__file__).parents[2] / ".tools" / "bin" / "bitcoind"
    found = shutil.which(configured or "bitcoind") or (None if configured else shutil.which(unpacked))
    if found is None:
        wanted = f"no program {configured!r}" if configured else "no bitcoind on the PATH"
        raise ConfigError(
            f"{wanted}: run ./run setup in a checkout, or set chain.bitcoind to a BSV node 1.0.13 or later"
        )
    return found


def _refuse_if_running(home: Path) -> None:
    """A running node holds a lock on this file; the kernel lets go of a dead one's."""
    with (home / ".lock").open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TemporaryError(
                f"a node is already running in {home.parent}: stop the other bct, or choose another --data-dir"
            ) from None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def _answers(rpc: NodeRpc) -> bool:
    try:
        await rpc.call("getblockcount")
    except RpcRefusalError:
        return False  # warming up
    except ChainError:
        return False
    return True


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Runs in the child before the program does: the kernel shall end it when we are gone."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
