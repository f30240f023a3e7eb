"""Proof that a transaction's money exists: Atomic BEEF (BRC-62, BRC-95, BRC-96).

Who could cheat here: the payer, who sends the funding transaction and everything it descends from. He may invent
ancestors, claim a block they are not in, create money half-way, spend one coin twice within the set, pad the set with
thousands of transactions, or slip in what nobody will mine. What stops him, in this order: the bytes are read strictly
and have a size limit; every transaction is either in a block whose Merkle root is that of *our* header at that height,
or each of its inputs names an output of a transaction checked before it; outputs never exceed inputs; no coin is spent
twice; the unproven ones are counted and reported with fee, size and finality.

What is left to the chain: scripts are not run here. Nothing here makes a payment good before the chain has accepted
these very bytes (`Chain.broadcast`), which runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bct.bitcoin.merkle import MerklePath, Tree
from bct.bitcoin.tx import FINAL, MAX_MONEY, Reader, Tx, compact_size
from bct.errors import LocalProtocolError, RemoteProtocolError
from bct.units import Outpoint, Satoshi, Txid, txid_hex

MAX_BEEF = 1 << 20
"""Bytes; an honest funding transaction with its proofs takes a few thousand."""
MAX_ANCESTORS = 5
"""Unconfirmed ancestors a payment may have."""

_ATOMIC = bytes.fromhex("01010101")
_BEEF_V1 = bytes.fromhex("0100beef")
_BEEF_V2 = bytes.fromhex("0200beef")


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-proof", text)


@dataclass(frozen=True, slots=True)
class Unproven:
    """A transaction that no block holds yet: what a payee wants to know before it counts on it."""

    txid: Txid
    fee: Satoshi
    size: int
    """Bytes."""
    final: bool
    """Whether it can be mined at any time: no lock time, or every input past waiting for it."""

    def pays(self, rate: int) -> bool:
        """Whether its fee reaches `rate` satoshis per 1,000 bytes."""
        return self.fee * 1000 >= self.size * rate


@dataclass(frozen=True, slots=True)
class Ancestry:
    """What `Beef.check` found good: the subject, and all in the set that is not in a block, parents first. The
    subject itself is among them unless it is mined."""

    subject: Tx
    unproven: tuple[Unproven, ...]


@dataclass(frozen=True, slots=True)
class Beef:
    """A transaction with all that proves its inputs: parents before children, proofs by transaction id."""

    subject: Txid
    transactions: tuple[Tx, ...]
    proofs: Mapping[Txid, MerklePath]

    @classmethod
    def build(cls, subject: Tx, sources: Mapping[Txid, Tx], proofs: Mapping[Txid, MerklePath]) -> Beef:
        """The subject and what it needs out of `sources`, up to the first proven ones.

        Raises LocalProtocolError when a source is missing.
        """
        order: dict[Txid, Tx] = {}
        pending = [(subject.txid, subject, False)]
        while pending:
            txid, tx, parents_done = pending.pop()
            if parents_done or txid in proofs:
                order.setdefault(txid, tx)
            elif txid not in order:
                pending.append((txid, tx, True))
                pending.extend((i.outpoint.txid, _source(sources, i.outpoint), False) for i in tx.inputs)
        return cls(subject.txid, tuple(order.values()), {txid: proofs[txid] for txid in order if txid in proofs})

    def serialize(self) -> bytes:
        """Atomic BEEF (BRC-95) around BEEF version 1 (BRC-62), which every reader knows."""
        bumps = list(dict.fromkeys(path.serialize() for path in self.proofs.values()))
        parts = [
            _ATOMIC,
            self.subject,
            _BEEF_V1,
            compact_size(len(bumps)),
            *bumps,
            compact_size(len(self.transactions)),
        ]
        for tx in self.transactions:
            path = self.proofs.get(tx.txid)
            parts += [tx.serialize(), b"\0" if path is None else b"\1" + compact_size(bumps.index(path.serialize()))]
        return b"".join(parts)

    @classmethod
    def parse(cls, raw: bytes) -> Beef:
        """Atomic BEEF, version 1 or 2 inside; ids without their transaction (BRC-96) are refused, since nothing was
        agreed on before. Raises RemoteProtocolError('bad-proof' or 'bad-tx')."""
        if len(raw) > MAX_BEEF:
            raise _bad(f"the proof has {len(raw)} bytes, at most {MAX_BEEF} are read")
        reader = Reader(raw)
        if reader.take(4) != _ATOMIC:
            raise _bad("the proof does not begin like an Atomic BEEF (01010101)")
        subject, version = Txid(reader.take(32)), reader.take(4)
        if version not in (_BEEF_V1, _BEEF_V2):
            raise _bad(f"BEEF version {version.hex()} is unknown: 0100beef and 0200beef are read")
        read_one = _read_v1 if version == _BEEF_V1 else _read_v2
        bumps = [MerklePath.read(reader) for _ in range(reader.count(3))]
        pairs = [read_one(reader, bumps) for _ in range(reader.count(11))]
        if reader.at != len(raw):
            raise _bad(f"{len(raw) - reader.at} bytes follow the proof")
        proofs = {tx.txid: path for tx, path in pairs if path is not None}
        return cls(subject, tuple(tx for tx, _ in pairs), proofs)

    def heights(self) -> frozenset[int]:
        """The blocks whose Merkle roots `check` asks for."""
        return frozenset(path.height for path in self.proofs.values())

    def check(self, roots: Mapping[int, bytes], max_ancestors: int = MAX_ANCESTORS) -> Ancestry:
        """Everything this module can know. roots: our own headers' Merkle roots by height.

        Raises RemoteProtocolError: 'bad-proof', or 'too-many-unconfirmed' beyond `max_ancestors` below the subject.
        """
        checked: dict[Txid, Tx] = {}
        spent: set[Outpoint] = set()
        unproven: list[Unproven] = []
        trees = self._trees()
        for tx in self.transactions:
            txid = tx.txid
            if txid in checked:
                raise _bad(f"{txid_hex(txid)} is there twice")
            if txid in trees:
                _check_mined(tx, txid, trees[txid], roots)
            else:
                unproven.append(_check_spends(tx, txid, checked, spent))
            checked[txid] = tx
        subject = self._check_related(checked)
        if sum(one.txid != self.subject for one in unproven) > max_ancestors:
            text = f"{len(unproven)} transactions are in no block yet, at most {max_ancestors} below the payment may be"
            raise RemoteProtocolError("too-many-unconfirmed", text)
        return Ancestry(subject, tuple(unproven))

    def _trees(self) -> dict[Txid, Tree]:
        """Where the path of each proven transaction leads; one that many share is worked out once."""
        trees: dict[int, Tree] = {}
        for path in self.proofs.values():
            if id(path) not in trees:
                trees[id(path)] = path.tree()
        return {txid: trees[id(path)] for txid, path in self.proofs.items()}

    def _check_related(self, by_id: Mapping[Txid, Tx]) -> Tx:
        """BRC-95: the subject is there, and nothing that it does not need."""
        if self.subject not in by_id:
            raise _bad(f"the proof lacks its subject {txid_hex(self.subject)}")
        reached, pending = {self.subject}, [self.subject]
        while pending:
            txid = pending.pop()
            needed = set() if txid in self.proofs else {i.outpoint.txid for i in by_id[txid].inputs}
            pending += needed - reached
            reached |= needed
        if len(reached) != len(by_id):
            raise _bad(f"{len(by_id) - len(reached)} of {len(by_id)} transactions are unrelated to the subject")
        return by_id[self.subject]


def _source(sources: Mapping[Txid, Tx], outpoint: Outpoint) -> Tx:
    if outpoint.txid not in sources:
        raise LocalProtocolError(f"a proof was to be built without the transaction of {outpoint}")
    return sources[outpoint.txid]


def _read_v1(reader: Reader, bumps: Sequence[MerklePath]) -> tuple[Tx, MerklePath | None]:
    tx = _read_tx(reader)
    return tx, _read_bump(reader, bumps) if _read_format(reader) else None


def _read_v2(reader: Reader, bumps: Sequence[MerklePath]) -> tuple[Tx, MerklePath | None]:
    path = _read_bump(reader, bumps) if _read_format(reader) else None
    return _read_tx(reader), path


def _read_tx(reader: Reader) -> Tx:
    tx, reader.at = Tx.parse_at(reader.raw, reader.at)
    return tx


def _read_format(reader: Reader) -> int:
    """1: a BUMP index comes with the transaction, 0: none does."""
    form = reader.u8()
    if form > 1:
        raise _bad(f"a transaction comes with (1) or without (0) a Merkle path, got {form}")
    return form


def _read_bump(reader: Reader, bumps: Sequence[MerklePath]) -> MerklePath:
    index = reader.size()
    if index >= len(bumps):
        raise _bad(f"Merkle path {index} is named, {len(bumps)} were sent")
    return bumps[index]


def _check_mined(tx: Tx, txid: Txid, tree: Tree, roots: Mapping[int, bytes]) -> None:
    if len(tx.serialize()) == 64:
        # Two hashes side by side are 64 bytes too: such a "transaction" could be an inner node of the tree.
        raise _bad(f"{txid_hex(txid)} has 64 bytes and proves nothing")
    if roots.get(tree.height) != tree.root(txid):
        raise _bad(f"{txid_hex(txid)} is not in our block {tree.height}")


def _check_spends(tx: Tx, txid: Txid, checked: Mapping[Txid, Tx], spent: set[Outpoint]) -> Unproven:
    if not tx.inputs or not tx.outputs:
        raise _bad(f"{txid_hex(txid)} has {len(tx.inputs)} inputs and {len(tx.outputs)} outputs: at least one each")
    paid_in = 0
    for outpoint in (i.outpoint for i in tx.inputs):
        if outpoint in spent:
            raise _bad(f"{outpoint} is spent twice")
        spent.add(outpoint)
        paid_in += _value(checked, outpoint)
    fee = paid_in - sum(o.value for o in tx.outputs)
    if fee < 0 or paid_in > MAX_MONEY:
        raise _bad(f"{txid_hex(txid)} pays out {paid_in - fee} sat of {paid_in}")
    return Unproven(txid, Satoshi(fee), len(tx.serialize()), is_final(tx))


def _value(checked: Mapping[Txid, Tx], outpoint: Outpoint) -> Satoshi:
    source = checked.get(outpoint.txid)
    if source is None:
        raise _bad(f"the transaction of {outpoint} is missing or comes after the one that spends it")
    if outpoint.index >= len(source.outputs):
        raise _bad(f"{outpoint} does not exist, there are {len(source.outputs)} outputs")
    return source.outputs[outpoint.index].value


def is_final(tx: Tx) -> bool:
    """Whether no clock and no height can hold it back."""
    return tx.locktime == 0 or all(i.sequence == FINAL for i in tx.inputs)
