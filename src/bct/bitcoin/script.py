"""The few scripts bct writes and recognises. The payment channel's lock has a room of its own (`channel.lock`)."""

from __future__ import annotations

from bct.bitcoin.keys import compact_to_der
from bct.units import PubKeyHash

SIGHASH_ALL_FORKID = 0x41

_P2PKH_HEAD = bytes.fromhex("76a914")  # DUP HASH160 <20>
_P2PKH_TAIL = bytes.fromhex("88ac")  # EQUALVERIFY CHECKSIG


def p2pkh(pubkey_hash: PubKeyHash) -> bytes:
    """Pay to the holder of one key: 25 bytes."""
    return _P2PKH_HEAD + pubkey_hash + _P2PKH_TAIL


def p2pkh_hash(script: bytes) -> PubKeyHash | None:
    """The hash a P2PKH script pays to; None for any other script."""
    if len(script) == 25 and script.startswith(_P2PKH_HEAD) and script.endswith(_P2PKH_TAIL):
        return PubKeyHash(script[3:23])
    return None


def push(data: bytes) -> bytes:
    """The shortest push of 2 to 65,535 bytes, or of none; some single bytes have opcodes of their own."""
    size = len(data)
    if size < 0x4C:
        return bytes((size,)) + data
    if size <= 0xFF:
        return bytes((0x4C, size)) + data
    return b"\x4d" + size.to_bytes(2, "little") + data


def script_number(value: int) -> bytes:
    """A non-negative script number, minimally encoded, little-endian with a sign bit."""
    raw = value.to_bytes((value.bit_length() + 7) // 8, "little")
    return raw + b"\0" if raw and raw[-1] & 0x80 else raw


def push_signature(signature: bytes) -> bytes:
    """A 64-byte signature as an unlocking script wants it: DER and the sighash byte."""
    return push(compact_to_der(signature) + bytes((SIGHASH_ALL_FORKID,)))


def pushed_signatures(script: bytes) -> list[bytes] | None:
    """The signatures that a script of a stranger's pushes, 64 bytes each; None unless it is exactly what
    `push_signature` makes of them."""
    found, rest = [], script
    while rest:
        item, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        numbers = _numbers(item)
        if numbers is None:
            return None
        found.append(numbers)
    return found if b"".join(map(push_signature, found)) == script else None


def _numbers(item: bytes) -> bytes | None:
    """r and s of what may be a signature in DER with its sighash byte, 32 bytes each."""
    if len(item) < 9:
        return None
    at = 4 + item[3]
    r, s = int.from_bytes(item[4:at]), int.from_bytes(item[at + 2 : -1])
    return r.to_bytes(32) + s.to_bytes(32) if max(r, s) < 1 << 256 else None


def p2pkh_unlock(signature: bytes, public: bytes) -> bytes:
    return push_signature(signature) + push(public)
