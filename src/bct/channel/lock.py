"""The lock that holds a payment channel's capacity.

Who could cheat, and what stops it. The payer must not take the money back while the payee can still be owed; the payee
must not keep it from the payer for ever; a stranger must not change either transaction's id or hold it up. So the
output can be spent in two ways:

* payer and payee together, at any time (the settlement);
* the payer alone, by a transaction whose lock time is at least the expiry and that has the channel as its only input,
  with sequence FFFFFFFE (the refund).

OP_CHECKLOCKTIMEVERIFY does not exist on BSV. The script sees the spending transaction through its sighash preimage
instead: the spender pushes the preimage, the script checks that it is genuine by making a signature over its hash
under a key whose secret is known (nonce 1, so r is the generator's x; the secret is chosen so that s is the hash plus
2^248, that is the hash with one added to its first byte), and then cuts outpoint, sequence and lock time out of it.

Which branch runs is told by the size of what was pushed, not by a flag: with a flag, anyone could swap a small
settlement's flag for a huge push and make it too expensive to relay. One fixed sequence and one input are demanded
because each freedom left there lets an early refund sit in the node's waiting room and get every settlement refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from bct.bitcoin.keys import ORDER, PrivateKey, is_public_key, sha256d
from bct.bitcoin.script import push, push_signature, pushed_signatures, script_number
from bct.bitcoin.tx import Tx, TxInput, TxOutput, sighash, sighash_preimage
from bct.units import Outpoint, Satoshi

EXPIRY_MIN = 500_000_000  # below this a lock time counts blocks
EXPIRY_END = 1 << 31  # a 4-byte script number ends here
REFUND_SEQUENCE = 0xFFFFFFFE

_GENERATOR_X = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
_PREIMAGE_KEY = PrivateKey((pow(2, 248, ORDER) * pow(_GENERATOR_X, -1, ORDER) % ORDER).to_bytes(32)).public

# Opcodes, named as the node names them.
_OP = {
    "1": 0x51, "4": 0x54, "11": 0x5B,
    "IF": 0x63, "ELSE": 0x67, "ENDIF": 0x68, "VERIFY": 0x69,
    "DUP": 0x76, "NIP": 0x77, "DROP": 0x75, "ROT": 0x7B, "SWAP": 0x7C,
    "CAT": 0x7E, "SPLIT": 0x7F, "BIN2NUM": 0x81, "SIZE": 0x82,
    "EQUALVERIFY": 0x88, "1ADD": 0x8B, "LESSTHAN": 0x9F, "GREATERTHANOREQUAL": 0xA2,
    "HASH256": 0xAA, "CODESEPARATOR": 0xAB, "CHECKSIG": 0xAC, "CHECKSIGVERIFY": 0xAD,
}  # fmt: skip


def _assemble(text: str) -> bytes:
    """Words are opcodes, ``<hex>`` are pushes."""
    return b"".join(push(bytes.fromhex(w[1:-1])) if w[0] == "<" else bytes((_OP[w],)) for w in text.split())


# The two ways are told apart by whether the top item is under 80 bytes: a signature has at most 73, a preimage 159.
_AFTER_PAYER = _assemble("CHECKSIGVERIFY SIZE <50> LESSTHAN IF")
_AFTER_PAYEE = _assemble(
    "CHECKSIG ELSE "
    "DUP 4 SPLIT NIP "  # version away
    "<20> SPLIT <20> SPLIT NIP <24> SPLIT "  # hash of prevouts; hash of sequences away; outpoint
    "ROT ROT HASH256 EQUALVERIFY "  # all inputs together are this one outpoint
    "11 SPLIT NIP 4 SPLIT "  # script code (2 + 1) and value (8) away; sequence
    "SWAP <feffffff> EQUALVERIFY "
    "<20> SPLIT NIP 4 SPLIT DROP "  # hash of outputs and sighash type away; lock time left
    "<00> CAT BIN2NUM"  # unsigned
)
_AFTER_EXPIRY = (
    _assemble("GREATERTHANOREQUAL VERIFY HASH256 1 SPLIT SWAP 1ADD SWAP CAT")
    + push(bytes.fromhex("30440220") + _GENERATOR_X.to_bytes(32) + bytes.fromhex("0220"))
    + _assemble(f"SWAP CAT <41> CAT <{_PREIMAGE_KEY.hex()}> CODESEPARATOR CHECKSIG ENDIF")
)
_AFTER_SEPARATOR = _assemble("CHECKSIG ENDIF")  # what the pushed preimage's own script code is


@dataclass(frozen=True, slots=True)
class Lock:
    """payer, payee: 33-byte compressed public keys. expiry: Unix seconds, EXPIRY_MIN <= expiry < EXPIRY_END."""

    payer: bytes
    payee: bytes
    expiry: int

    def script(self) -> bytes:
        """212 bytes, the output's locking script."""
        parts = (push(self.payer), _AFTER_PAYER, push(self.payee), _AFTER_PAYEE, push(script_number(self.expiry)))
        return b"".join(parts) + _AFTER_EXPIRY

    @classmethod
    def read(cls, script: bytes) -> Lock | None:
        """The lock this script is, byte for byte; None for every other script."""
        at_payee = 34 + len(_AFTER_PAYER)
        at_expiry = at_payee + 34 + len(_AFTER_PAYEE)
        if len(script) != at_expiry + 5 + len(_AFTER_EXPIRY):
            return None
        expiry = int.from_bytes(script[at_expiry + 1 : at_expiry + 5], "little")
        lock = cls(script[1:34], script[at_payee + 1 : at_payee + 34], expiry)
        if not EXPIRY_MIN <= expiry < EXPIRY_END or lock.script() != script:
            return None
        return lock if is_public_key(lock.payer) and is_public_key(lock.payee) else None


def settlement_unlock(payee_signature: bytes, payer_signature: bytes) -> bytes:
    """Both 64-byte signatures as the lock's first way wants them."""
    return push_signature(payee_signature) + push_signature(payer_signature)


def read_settlement_unlock(script: bytes) -> tuple[bytes, bytes] | None:
    """(the payee's signature, the payer's) out of a stranger's script; None unless `settlement_unlock` makes it."""
    signatures = pushed_signatures(script)
    return (signatures[0], signatures[1]) if signatures and len(signatures) == 2 else None


def refund(lock: Lock, outpoint: Outpoint, capacity: Satoshi, output: TxOutput, payer: PrivateKey) -> Tx:
    """The signed transaction that gives the payer everything back once the expiry has passed.

    The lock time is the first one from the expiry on whose preimage hashes to a first byte of 01 to 7e, the only
    ones to which the script's one-byte addition works: about two tries.
    """
    lock_time = lock.expiry
    while True:
        unsigned = Tx((TxInput(outpoint, sequence=REFUND_SEQUENCE),), (output,), locktime=lock_time)
        preimage = sighash_preimage(unsigned, 0, _AFTER_SEPARATOR, capacity)
        if 0x01 <= sha256d(preimage)[0] <= 0x7E:
            break
        lock_time += 1
    signature = payer.sign(sighash(unsigned, 0, lock.script(), capacity))
    unlock = push(preimage) + push_signature(signature)
    return Tx((TxInput(outpoint, unlock, REFUND_SEQUENCE),), (output,), locktime=lock_time)


REFUND_SIZE = 4 + 1 + 36 + 1 + 161 + 74 + 4 + 1 + 34 + 4
"""Most bytes a refund with one P2PKH output can have: preimage push 161, signature push 74."""
