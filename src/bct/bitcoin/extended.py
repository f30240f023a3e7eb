"""The extended format (BRC-30, BIP-239): a transaction that carries what its inputs spend, so that its reader can check
fee and scripts without looking anything up.

Trust: none is needed. The amounts and scripts in it are not under the transaction's id; a reader who is lied to about
them finds a signature that does not verify.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bct.bitcoin.tx import Reader, Tx, TxOutput, compact_size, read_input, read_output
from bct.errors import LocalProtocolError, RemoteProtocolError

MARKER = bytes.fromhex("0000000000ef")
"""Behind the version: read as an ordinary transaction, it has neither inputs nor outputs."""


def serialize(tx: Tx, spent: Sequence[TxOutput]) -> bytes:
    """spent: the output that each input spends, in order.

    An amount has 8 bytes, as in BIP-239 and every implementation; the table of BRC-30 says 4.
    """
    if len(spent) != len(tx.inputs):
        raise LocalProtocolError(f"{len(tx.inputs)} inputs spend as many outputs, got {len(spent)}")
    return b"".join(
        (
            struct.pack("<I", tx.version),
            MARKER,
            compact_size(len(tx.inputs)),
            *(i.serialize() + output.serialize() for i, output in zip(tx.inputs, spent, strict=True)),
            compact_size(len(tx.outputs)),
            *(output.serialize() for output in tx.outputs),
            struct.pack("<I", tx.locktime),
        )
    )


def parse(raw: bytes) -> tuple[Tx, tuple[TxOutput, ...]]:
    """Inverse of `serialize`, exactly these bytes. Raises RemoteProtocolError('bad-tx')."""
    reader = Reader(raw)
    version = reader.u32()
    if reader.take(len(MARKER)) != MARKER:
        raise RemoteProtocolError("bad-tx", "this is no transaction in extended format: its marker is missing")
    pairs = [(read_input(reader), read_output(reader)) for _ in range(reader.count(50))]
    outputs = tuple(read_output(reader) for _ in range(reader.count(9)))
    tx = Tx(tuple(spender for spender, _ in pairs), outputs, version, reader.u32())
    if reader.at != len(raw):
        raise RemoteProtocolError("bad-tx", f"{len(raw) - reader.at} bytes follow the transaction")
    return tx, tuple(output for _, output in pairs)
