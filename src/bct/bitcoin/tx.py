"""Transactions: the bytes, the id, and what a signature covers.

Parsing is strict: one transaction, nothing after it, no count or length beyond the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bct.bitcoin.keys import sha256d
from bct.bitcoin.script import SIGHASH_ALL_FORKID
from bct.errors import RemoteProtocolError
from bct.units import Outpoint, Satoshi, Txid

FINAL = 0xFFFFFFFF
MAX_MONEY = 21_000_000 * 100_000_000


@dataclass(frozen=True, slots=True)
class TxInput:
    outpoint: Outpoint
    script: bytes = b""
    sequence: int = FINAL

    def serialize(self) -> bytes:
        return self.outpoint.pack() + compact_size(len(self.script)) + self.script + struct.pack("<I", self.sequence)


@dataclass(frozen=True, slots=True)
class TxOutput:
    value: Satoshi
    script: bytes

    def serialize(self) -> bytes:
        return struct.pack("<Q", self.value) + compact_size(len(self.script)) + self.script


@dataclass(frozen=True, slots=True)
class Tx:
    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    version: int = 1
    locktime: int = 0

    def serialize(self) -> bytes:
        return b"".join(
            (
                struct.pack("<I", self.version),
                compact_size(len(self.inputs)),
                *(i.serialize() for i in self.inputs),
                compact_size(len(self.outputs)),
                *(o.serialize() for o in self.outputs),
                struct.pack("<I", self.locktime),
            )
        )

    @property
    def txid(self) -> Txid:
        return Txid(sha256d(self.serialize()))

    @classmethod
    def parse(cls, raw: bytes) -> Tx:
        """Exactly one transaction. Raises RemoteProtocolError('bad-tx')."""
        tx, end = cls.parse_at(raw, 0)
        if end != len(raw):
            raise RemoteProtocolError("bad-tx", f"{len(raw) - end} bytes follow the transaction")
        return tx

    @classmethod
    def parse_at(cls, raw: bytes, start: int) -> tuple[Tx, int]:
        """The transaction at `start` and where it ends. Raises RemoteProtocolError('bad-tx')."""
        reader = Reader(raw, start)
        version = reader.u32()
        inputs = tuple(read_input(reader) for _ in range(reader.count(41)))
        outputs = tuple(read_output(reader) for _ in range(reader.count(9)))
        return cls(inputs, outputs, version, reader.u32()), reader.at


def read_input(reader: Reader) -> TxInput:
    """The input at the reader's place. Raises RemoteProtocolError('bad-tx')."""
    outpoint = Outpoint.unpack(reader.take(36))
    return TxInput(outpoint, reader.take(reader.size()), reader.u32())


def read_output(reader: Reader) -> TxOutput:
    """The output at the reader's place. Raises RemoteProtocolError('bad-tx')."""
    value = reader.u64()
    if value > MAX_MONEY:
        raise RemoteProtocolError("bad-tx", f"an output of {value} sat is more than there will ever be")
    return TxOutput(Satoshi(value), reader.take(reader.size()))


def compact_size(n: int) -> bytes:
    """Bitcoin's variable-length integer, little-endian."""
    if n < 0xFD:
        return bytes((n,))
    if n <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", n)
    if n <= 0xFFFFFFFF:
        return b"\xfe" + struct.pack("<I", n)
    return b"\xff" + struct.pack("<Q", n)


class Reader:
    """Little-endian fields out of a stranger's bytes; every shortfall is one RemoteProtocolError('bad-tx')."""

    __slots__ = ("at", "raw")

    def __init__(self, raw: bytes, at: int = 0) -> None:
        self.raw = raw
        self.at = at

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.raw):
            raise RemoteProtocolError("bad-tx", f"ends {end - len(self.raw)} bytes early, at byte {len(self.raw)}")
        part = self.raw[self.at : end]
        self.at = end
        return part

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def size(self) -> int:
        """A compact size, in its shortest form only."""
        first = self.u8()
        if first < 0xFD:
            return first
        width, floor = {0xFD: (2, 0xFD), 0xFE: (4, 0x10000), 0xFF: (8, 0x100000000)}[first]
        n = int.from_bytes(self.take(width), "little")
        if n < floor:
            raise RemoteProtocolError("bad-tx", f"{n} is written in {width} bytes where fewer do")
        return n

    def count(self, least: int) -> int:
        """How many items follow; refused when that many items of at least `least` bytes cannot be there."""
        n = self.size()
        if n * least > len(self.raw) - self.at:
            raise RemoteProtocolError("bad-tx", f"{n} items announced, {len(self.raw) - self.at} bytes left")
        return n


def sighash_preimage(tx: Tx, index: int, script_code: bytes, value: Satoshi) -> bytes:
    """What a 0x41 (ALL|FORKID) signature on input `index` covers: ten parts in order (BIP 143 as BSV uses it)."""
    spent = tx.inputs[index]
    return b"".join(
        (
            struct.pack("<I", tx.version),
            sha256d(b"".join(i.outpoint.pack() for i in tx.inputs)),
            sha256d(b"".join(struct.pack("<I", i.sequence) for i in tx.inputs)),
            spent.outpoint.pack(),
            compact_size(len(script_code)) + script_code,
            struct.pack("<Q", value),
            struct.pack("<I", spent.sequence),
            hash_outputs(tx.outputs),
            struct.pack("<I", tx.locktime),
            struct.pack("<I", SIGHASH_ALL_FORKID),
        )
    )


def hash_outputs(outputs: Sequence[TxOutput]) -> bytes:
    return sha256d(b"".join(o.serialize() for o in outputs))


def sighash(tx: Tx, index: int, script_code: bytes, value: Satoshi) -> bytes:
    """The 32-byte digest to sign for input `index`, which spends `value` locked by `script_code`."""
    return sha256d(sighash_preimage(tx, index, script_code, value))
