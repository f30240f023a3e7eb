"""Transactions that try to take a payment channel's money against the lock, each honest in all but one way.

Made for any funding, so that the same attacks are tried in the vectors, on two other script interpreters and on a real
node. What hashes are found by trial is found by the output's value, so that each attack fails for its own reason only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bct.bitcoin.keys import ORDER, PrivateKey, sha256d
from bct.bitcoin.script import p2pkh, p2pkh_unlock, push, push_signature
from bct.bitcoin.tx import FINAL, Tx, TxInput, TxOutput, sighash, sighash_preimage
from bct.channel.lock import REFUND_SEQUENCE
from bct.channel.transactions import Lines, Params, Totals, commitment, settlement
from bct.units import Outpoint, Satoshi
from tests.channel_parts import CHANGE, FILM, PAYEE, PAYER, key

SCRIPT_CODE = bytes.fromhex("ac68")
"""CHECKSIG ENDIF: what follows the lock's CODESEPARATOR."""
WORKS = range(0x01, 0x7F)
"""First bytes of a preimage's hash to which the script can add one."""
FEE = 200


@dataclass(frozen=True, slots=True)
class Coin:
    """A P2PKH coin of the attacker's, beside the channel."""

    outpoint: Outpoint
    value: Satoshi
    owner: PrivateKey


@dataclass(frozen=True, slots=True)
class Refund:
    """How a refund is made. The defaults are honest, but for its lock time: None is the channel's expiry exactly.

    before, after: further inputs. twin: a second channel, spent behind the first by the same transaction. pushed: what
    becomes of the preimage before it is pushed. head: what stands before it in the unlocking script.
    """

    locktime: int | None = None
    sequence: int = REFUND_SEQUENCE
    before: tuple[Coin, ...] = ()
    after: tuple[Coin, ...] = ()
    twin: Params | None = None
    script_code: bytes = SCRIPT_CODE
    signer: PrivateKey = PAYER
    first_bytes: range = WORKS
    pushed: Callable[[bytes], bytes] = bytes
    push: Callable[[bytes], bytes] = push
    head: bytes = b""

    def of(self, params: Params) -> Tx:
        """The transaction that would refund this channel so."""
        channels = (params, self.twin) if self.twin else (params,)
        at = range(len(self.before), len(self.before) + len(channels))
        unsigned, preimages = next(self._found(channels, at))
        coins = dict(zip((*range(at.start), *range(at.stop, len(unsigned.inputs))), self._coins, strict=True))
        unlocks = {i: _coin_unlock(unsigned, i, coin) for i, coin in coins.items()}
        for i, channel, preimage in zip(at, channels, preimages, strict=True):
            signature = self.signer.sign(sighash(unsigned, i, channel.lock.script(), channel.capacity))
            unlocks[i] = self.head + self.push(self.pushed(preimage)) + push_signature(signature)
        return replace(unsigned, inputs=tuple(replace(one, script=unlocks[i]) for i, one in enumerate(unsigned.inputs)))

    @property
    def _coins(self) -> tuple[Coin, ...]:
        return (*self.before, *self.after)

    def _found(self, channels: tuple[Params, ...], at: range) -> Iterator[tuple[Tx, list[bytes]]]:
        """Refunds of falling value whose preimages' hashes all begin as wanted, and these preimages."""
        spent: tuple[Coin | Params, ...] = (*self.before, *channels, *self.after)
        inputs = tuple(TxInput(one.outpoint, sequence=self.sequence) for one in spent)
        locktime = channels[0].lock.expiry if self.locktime is None else self.locktime
        most = sum(c.capacity for c in channels) + sum(c.value for c in self._coins) - FEE
        for value in range(most, 0, -1):
            tx = Tx(inputs, (TxOutput(Satoshi(value), p2pkh(CHANGE)),), locktime=locktime)
            preimages = [
                sighash_preimage(tx, i, self.script_code, channel.capacity)
                for i, channel in zip(at, channels, strict=True)
            ]
            if all(sha256d(preimage)[0] in self.first_bytes for preimage in preimages):
                yield tx, preimages


def _coin_unlock(tx: Tx, index: int, coin: Coin) -> bytes:
    digest = sighash(tx, index, p2pkh(coin.owner.hash), coin.value)
    return p2pkh_unlock(coin.owner.sign(digest), coin.owner.public)


def early_refunds(params: Params) -> dict[str, Tx]:
    """THREATS 4: the money back before the expiry."""
    expiry = params.lock.expiry
    return {
        "sequence FFFFFFFF, so that the lock time does not count": Refund(sequence=FINAL).of(params),
        "sequence FFFFFFFF and lock time 0": Refund(sequence=FINAL, locktime=0).of(params),
        "sequence 0": Refund(sequence=0).of(params),
        "sequence FFFFFFFD": Refund(sequence=REFUND_SEQUENCE - 1).of(params),
        "one second before the expiry": Refund(locktime=expiry - 1).of(params),
        "lock time 0": Refund(locktime=0).of(params),
        "a height": Refund(locktime=100).of(params),
        "the highest height": Refund(locktime=499_999_999).of(params),
        "an old time": Refund(locktime=500_000_000).of(params),
        "a preimage that says the expiry where the transaction says 0": forged(params, locktime=0),
        "a preimage that says FFFFFFFE where the transaction says FFFFFFFF": forged(params, sequence=FINAL),
    }


def forged(params: Params, locktime: int | None = None, sequence: int = REFUND_SEQUENCE) -> Tx:
    """Pushes the preimage of the honest refund in a transaction that is another."""
    honest = Refund().of(params)
    preimage = sighash_preimage(honest, 0, SCRIPT_CODE, params.capacity)
    other = replace(
        honest,
        inputs=(TxInput(params.outpoint, sequence=sequence),),
        locktime=params.lock.expiry if locktime is None else locktime,
    )
    signature = PAYER.sign(sighash(other, 0, params.lock.script(), params.capacity))
    return replace(other, inputs=(replace(other.inputs[0], script=push(preimage) + push_signature(signature)),))


def refunds_with_company(params: Params, coin: Coin, twin: Params) -> dict[str, Tx]:
    """THREATS 6: parked with a second input, a refund would make the node refuse every settlement."""
    return {
        "a second input behind": Refund(after=(coin,)).of(params),
        "a second input before": Refund(before=(coin,)).of(params),
        "two channels in one": Refund(twin=twin).of(params),
    }


def crooked_refunds(params: Params) -> dict[str, Tx]:
    """THREATS 4 and 14: the right time, the wrong bytes."""
    return {
        "signed by the payee": Refund(signer=PAYEE).of(params),
        "signed by a stranger": Refund(signer=key("stranger")).of(params),
        "an empty preimage": Refund(pushed=lambda p: b"").of(params),
        "a short preimage": Refund(pushed=lambda p: p[:-1]).of(params),
        "a long preimage": Refund(pushed=lambda p: p + b"\0").of(params),
        "a preimage over the whole script": Refund(script_code=params.lock.script()).of(params),
        "one flipped bit in the preimage's hash of outputs": Refund(pushed=lambda p: _flip(p, -40)).of(params),
        "a preimage whose hash begins with 7f": Refund(first_bytes=range(0x7F, 0x80)).of(params),
        "a preimage whose hash begins with 80 or more": Refund(first_bytes=range(0x80, 0x100)).of(params),
        "one more item on the stack": Refund(head=push(b"more")).of(params),
        "the preimage pushed with two bytes of length": Refund(push=_fat_push).of(params),
    }


def _flip(data: bytes, at: int) -> bytes:
    raw = bytearray(data)
    raw[at] ^= 1
    return bytes(raw)


def _fat_push(data: bytes) -> bytes:
    return b"\x4d" + len(data).to_bytes(2, "little") + data


# -- settlements ------------------------------------------------------------------------------------------------------


def signatures(params: Params, lines: Lines, totals: Totals) -> tuple[bytes, bytes]:
    """Both sides' over the commitment: the payee's, the payer's."""
    digest = sighash(commitment(params, lines, totals), 0, params.lock.script(), params.capacity)
    return PAYEE.sign(digest), PAYER.sign(digest)


def settled(params: Params, lines: Lines, totals: Totals) -> Tx:
    return settlement(commitment(params, lines, totals), *signatures(params, lines, totals))


def crooked_settlements(params: Params) -> dict[str, Tx]:
    """THREATS 1, 12, 13, 14: by one side alone, with other outputs, in another shape."""
    lines, totals = (FILM,), (600,)
    honest = settled(params, lines, totals)
    payee, payer = signatures(params, lines, totals)
    creator, seeder, change = honest.outputs
    stranger = key("stranger").sign(
        sighash(commitment(params, lines, totals), 0, params.lock.script(), params.capacity)
    )

    def unlocked(script: bytes) -> Tx:
        return replace(honest, inputs=(replace(honest.inputs[0], script=script),))

    def both(first: bytes, second: bytes) -> Tx:
        return unlocked(push_signature(first) + push_signature(second))

    poorer = replace(creator, value=Satoshi(creator.value - 100))
    richer = replace(seeder, value=Satoshi(seeder.value + 100))
    return {
        "the payer twice": both(payer, payer),
        "the payee twice": both(payee, payee),
        "swapped": both(payer, payee),
        "a stranger for the payee": both(stranger, payer),
        "a stranger for the payer": both(payee, stranger),
        "the payer alone": unlocked(push_signature(payer)),
        "the payee alone": unlocked(push_signature(payee)),
        "an empty signature for the payee's": unlocked(push(b"") + push_signature(payer)),
        "100 sat moved from the creator to the seeder": replace(honest, outputs=(poorer, richer, change)),
        "the creator left out": replace(honest, outputs=(seeder, change)),
        "outputs in another order": replace(honest, outputs=(seeder, creator, change)),
        "an older state under the newest signature": replace(
            honest, outputs=commitment(params, lines, (totals[0] - 1,)).outputs
        ),
        "a lock time added": replace(honest, locktime=params.lock.expiry),
        "the sequence changed": replace(honest, inputs=(replace(honest.inputs[0], sequence=REFUND_SEQUENCE),)),
        "another version": replace(honest, version=2),
        "the payer's s in the upper half": both(payee, _high(payer)),
        "the payee's s in the upper half": both(_high(payee), payer),
        "one more item on the stack": unlocked(push(b"more") + honest.inputs[0].script),
        "a signature pushed with one more byte of length": unlocked(
            b"\x4c" + push_signature(payee) + push_signature(payer)
        ),
        "400 bytes where the payee's signature was": unlocked(push(bytes(400)) + push_signature(payer)),
    }


def _high(signature: bytes) -> bytes:
    return signature[:32] + (ORDER - int.from_bytes(signature[32:])).to_bytes(32)


def another_signature(secret: PrivateKey, digest: bytes) -> bytes:
    """A valid low-s signature under a nonce of one's own choice, different from the one `sign` gives."""
    nonce = 0x1234567890ABCDEF
    r = int.from_bytes(PrivateKey(nonce.to_bytes(32)).public[1:]) % ORDER
    s = pow(nonce, -1, ORDER) * (int.from_bytes(digest) + r * int.from_bytes(secret.secret)) % ORDER
    return r.to_bytes(32) + min(s, ORDER - s).to_bytes(32)
