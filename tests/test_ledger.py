"""The ledger against what disks do: torn writes, flipped bits, stale blocks, full disks, and killed processes."""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bct.backends.ledger import MAX_PAYLOAD, Ledger, cut_of, read, rewrite
from bct.errors import LocalProtocolError, StoreError

pytestmark = pytest.mark.anyio

HEADER = 44
FRAME = 12


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Ledger, list[bytes]]]:
    """The ledger, and what it found in its file."""
    found: list[bytes] = []
    ledger = Ledger.open(path, found.append)
    try:
        yield ledger, found
    finally:
        await ledger.close()


async def written(path: Path, *payloads: bytes) -> bytes:
    """The bytes of a ledger file that holds `payloads`."""
    async with opened(path) as (ledger, _):
        for payload in payloads:
            ledger.append(payload)
    return contents(path)


def contents(path: Path) -> bytes:
    return path.read_bytes()


def names(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


async def read_back(path: Path) -> tuple[list[bytes], int]:
    """What a new node would believe, and how many bytes it cut off."""
    async with opened(path) as (ledger, found):
        return found, ledger.cut


async def test_what_was_appended_comes_back_in_order_and_the_count_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(path) as (ledger, found):
        assert found == []
        assert [ledger.append(p) for p in (b"one", b"", b"three")] == [1, 2, 3]
    async with opened(path) as (ledger, found):
        assert found == [b"one", b"", b"three"]
        assert (ledger.synced, ledger.cut) == (3, 0)
        assert ledger.append(b"four") == 4
    assert await read_back(path) == ([b"one", b"", b"three", b"four"], 0)


async def test_appending_believes_nothing_and_waiting_does(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger") as (ledger, _):
        sequence = ledger.append(b"payment")
        assert ledger.synced == 0  # the loop had no turn yet, so nobody can have been told
        await ledger.wait(sequence)
        assert ledger.synced == sequence
        await ledger.wait(sequence)
        with pytest.raises(LocalProtocolError, match="never appended"):
            await ledger.wait(sequence + 1)


async def test_many_appends_share_a_few_syncs(tmp_path: Path) -> None:
    syncs: list[int] = []
    ledger = Ledger.open(tmp_path / "ledger", lambda _: None, syncs.append)
    for n in range(5000):
        ledger.append(struct.pack(">Q", n))
    await ledger.wait(5000)
    await ledger.close()
    assert syncs == sorted(set(syncs))
    assert syncs[-1] == 5000
    assert len(syncs) < 500


async def test_a_file_torn_anywhere_in_its_last_record_loses_that_record_only(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"first", b"second", b"the last one")
    start = len(whole) - FRAME - len(b"the last one")
    for size in range(start, len(whole)):
        path.write_bytes(whole[:size])
        assert await read_back(path) == ([b"first", b"second"], size - start)
        assert path.stat().st_size == start


async def test_after_a_torn_write_new_records_follow_the_sound_ones(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"first", b"lost")
    path.write_bytes(whole[:-3])
    await written(path, b"second")
    assert await read_back(path) == ([b"first", b"second"], 0)


async def test_a_flipped_bit_ends_what_is_believed_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    payloads = [b"one", b"two", b"three"]
    whole = await written(path, *payloads)
    ends = [HEADER + sum(FRAME + len(p) for p in payloads[:n]) for n in range(4)]
    for bit in range(HEADER * 8, len(whole) * 8):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        sound = max(n for n, end in enumerate(ends) if end <= bit // 8)
        assert await read_back(path) == (payloads[:sound], len(whole) - ends[sound])


async def test_a_flipped_bit_in_the_header_is_said_and_nothing_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"one")
    for bit in range(HEADER * 8):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(StoreError):
            await read_back(path)
        assert path.read_bytes() == bytes(broken)


async def test_records_swapped_or_dropped_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"aaaa", b"bbbb", b"cccc")
    size = FRAME + 4
    a, b, c = (whole[HEADER + n * size :][:size] for n in range(3))
    for order, believed in ((a + c + b, [b"aaaa"]), (b + a + c, []), (a + c, [b"aaaa"]), (a + a + b, [b"aaaa"])):
        path.write_bytes(whole[:HEADER] + order)
        assert (await read_back(path))[0] == believed


async def test_a_block_left_over_from_an_older_ledger_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    older = await written(path, b"same", b"paid 900")
    path.unlink()
    newer = await written(path, b"same")
    path.write_bytes(newer + older[len(newer) :])
    assert (await read_back(path))[0] == [b"same"]


async def test_what_is_cut_off_is_put_aside(tmp_path: Path) -> None:
    """Damage in the middle may have sound payments behind it: they are not believed, and not destroyed either."""
    path = tmp_path / "ledger"
    whole = await written(path, b"one", b"two", b"three")
    broken = bytearray(whole)
    broken[HEADER + FRAME + 3 + 5] ^= 1
    path.write_bytes(broken)
    async with opened(path) as (ledger, found):
        assert found == [b"one"]
        ledger.append(b"four")
    assert cut_of(path, 1).read_bytes() == broken[HEADER + FRAME + 3 :]
    assert await read_back(path) == ([b"one", b"four"], 0)


async def test_records_lie_across_the_blocks_that_are_read_at_once(tmp_path: Path) -> None:
    chance = random.Random(1)
    payloads = [chance.randbytes(chance.choice((0, 1, 100, 40_000, MAX_PAYLOAD))) for _ in range(200)]
    path = tmp_path / "ledger"
    await written(path, *payloads)
    assert await read_back(path) == (payloads, 0)


async def test_a_length_that_cannot_be_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"one")
    path.write_bytes(whole + b"\xff\xff\xff\xf0" + bytes(5_000_000))
    assert await read_back(path) == ([b"one"], 5_000_004)


async def test_a_copy_can_be_read_while_a_node_writes(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(path) as (ledger, _):
        await ledger.wait(ledger.append(b"one"))
        found: list[bytes] = []
        assert read(path, found.append) == (HEADER + FRAME + 3, 0)
        assert found == [b"one"]
        path.write_bytes(path.read_bytes() + b"half a rec")
        assert read(path, found.append) == (HEADER + FRAME + 3, 10)
    with pytest.raises(StoreError, match="cannot be read"):
        read(tmp_path / "nowhere", found.append)


async def test_a_ledger_written_anew_is_a_ledger_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    older = await written(path, b"one", b"two", b"three")
    rewrite(path, (b"two", b"sum"))
    async with opened(path) as (ledger, found):
        assert found == [b"two", b"sum"]
        assert path.stat().st_mode & 0o777 == 0o600
        ledger.append(b"four")
    newer = contents(path)
    assert await read_back(path) == ([b"two", b"sum", b"four"], 0)
    path.write_bytes(newer + older[len(newer) :])
    assert (await read_back(path))[0] == [b"two", b"sum", b"four"], "blocks of the older file are not believed"


async def test_a_crash_while_it_is_written_anew_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"one", b"two")

    def crashing() -> Iterator[bytes]:
        yield b"sum"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rewrite(path, crashing())
    assert contents(path) == whole
    rewrite(path, (b"sum",))  # what the crash left lying about is in nobody's way
    assert await read_back(path) == ([b"sum"], 0)
    assert names(tmp_path) == ["ledger"]


async def test_nobody_writes_a_ledger_anew_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(path) as (ledger, _):
        with pytest.raises(StoreError, match="open in another node"):
            rewrite(path, (b"sum",))
        await ledger.wait(ledger.append(b"kept"))
    assert await read_back(path) == ([b"kept"], 0)


async def test_a_full_disk_while_it_is_written_anew_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"one", b"two")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
    try:
        with pytest.raises(StoreError, match="cannot be written anew: File too large"):
            rewrite(path, (b"a sum that is longer than sixty bytes, so it does not fit",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(path) == whole
    assert names(tmp_path) == ["ledger"]


async def test_two_nodes_never_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with opened(path):
        with pytest.raises(StoreError, match="open in another node"):
            Ledger.open(path, lambda _: None)
    async with opened(path):
        pass


async def test_a_newer_version_and_a_stranger_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    whole = await written(path, b"one")
    path.write_bytes(whole[:8] + struct.pack(">I", 2) + whole[12:])
    with pytest.raises(StoreError, match="version 2; this program knows version 1"):
        await read_back(path)
    for content in (b"", b"bctledgr", b"a diary, not a ledger, longer than any header"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="no ledger"):
            await read_back(path)


async def test_a_directory_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Ledger.open(tmp_path / "missing" / "ledger", lambda _: None)


async def test_a_record_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "ledger") as (ledger, _):
        with pytest.raises(LocalProtocolError, match="at most 65536 bytes, got 65537"):
            ledger.append(bytes(MAX_PAYLOAD + 1))
        ledger.append(bytes(MAX_PAYLOAD))
    assert await read_back(tmp_path / "ledger") == ([bytes(MAX_PAYLOAD)], 0)


async def test_a_full_disk_fails_the_ledger_for_good(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger.open(path, lambda _: None)
    await ledger.wait(ledger.append(b"kept"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
    try:
        with pytest.raises(StoreError, match="lost its disk after record 1"):
            await ledger.wait(ledger.append(b"does not fit into twenty bytes"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ledger.synced == 1
    with pytest.raises(StoreError):  # there is room again; a ledger that failed once stays failed all the same
        ledger.append(b"more")
    with pytest.raises(StoreError):
        await ledger.wait(2)
    with pytest.raises(StoreError):
        await ledger.close()
    assert (await read_back(path))[0] == [b"kept"]


VICTIM = """
import asyncio, os, struct, sys
from pathlib import Path
from bct.backends.ledger import Ledger

async def main() -> None:
    ledger = Ledger.open(Path(sys.argv[1]), lambda _: None, lambda synced: os.write(1, struct.pack(">Q", synced)))
    while True:
        for _ in range(7):
            ledger.append(struct.pack(">Q", ledger.appended + 1) * 12)
        await asyncio.sleep(0)

asyncio.run(main())
"""


def killed(path: Path, syncs: int) -> int:
    """Runs a node that does nothing but append, kills it after `syncs` syncs; the last sequence it believed durable."""
    with subprocess.Popen((sys.executable, "-c", VICTIM, path), stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        said = victim.stdout.read(8 * syncs)
        os.kill(victim.pid, signal.SIGKILL)
        said += victim.stdout.read()
    return int.from_bytes(said[len(said) // 8 * 8 - 8 : len(said) // 8 * 8])


async def survives_kills(path: Path, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    for _ in range(kills):
        believed = killed(path, chance.randrange(1, 60))
        found, _ = await read_back(path)
        assert len(found) >= believed
        assert found == [struct.pack(">Q", n) * 12 for n in range(1, len(found) + 1)]


async def test_a_killed_node_finds_all_it_believed_and_nothing_else(tmp_path: Path) -> None:
    await survives_kills(tmp_path / "ledger", seed=1, kills=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
async def test_a_node_killed_again_and_again_finds_all_it_believed(tmp_path: Path, seed: int) -> None:
    await survives_kills(tmp_path / "ledger", seed, kills=5)
