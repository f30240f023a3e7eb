"""secp256k1 keys and signatures; with `hd`, the only module that touches the curve library.

A signature travels as 64 bytes, r then s, each 32 bytes big-endian, always with the lower of the two valid s (BIP 62,
BIP 146): one signature has exactly one encoding, so nobody on the way can change a transaction's id.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from coincurve import PrivateKey as _Secret
from coincurve import PublicKey as _Point
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from bct.units import PubKeyHash

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SIGNATURE = "secp256k1_ecdsa_signature *"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha256d(data: bytes) -> bytes:
    """SHA-256 of SHA-256: Bitcoin's hash of transactions, blocks and signed messages."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def hash160(data: bytes) -> PubKeyHash:
    """RIPEMD-160 of SHA-256, what a P2PKH output locks to."""
    return PubKeyHash(_ripemd160(sha256(data)))


def _ripemd160(data: bytes) -> bytes:
    return hashlib.new("ripemd160", data).digest()


class PrivateKey:
    """A secret number below the curve's order. Never printed, never compared in a log."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes) -> None:
        """secret: 32 bytes, 0 < value < ORDER. Raises ValueError otherwise."""
        if len(secret) != 32:
            raise ValueError(f"a private key is 32 bytes, got {len(secret)}")
        self._secret = _Secret(secret)
        self.public: bytes = self._secret.public_key.format(compressed=True)
        """33 bytes, compressed."""

    @property
    def secret(self) -> bytes:
        return bytes(self._secret.secret)

    @property
    def hash(self) -> PubKeyHash:
        return hash160(self.public)

    def sign(self, digest: bytes) -> bytes:
        """64 bytes r|s over a 32-byte digest, deterministic (RFC 6979), low s."""
        return der_to_compact(self._secret.sign(digest, hasher=None))

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.hex()})"


class Verifier:
    """A public key parsed once, for a peer that signs many times."""

    __slots__ = ("_point",)

    def __init__(self, public: bytes) -> None:
        """public: 33 bytes compressed. Raises ValueError if it is no point on the curve."""
        if len(public) != 33:
            raise ValueError(f"a public key is 33 bytes, got {len(public)}")
        self._point = _Point(public).public_key

    def verify(self, digest: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes, low s) is this key's over the 32-byte digest. High s is refused."""
        if len(signature) != 64:
            return False
        context = GLOBAL_CONTEXT.ctx
        parsed = ffi.new(_SIGNATURE)  # one for each call: another thread may be verifying under the same key
        if not lib.secp256k1_ecdsa_signature_parse_compact(context, parsed, signature):
            return False
        # libsecp256k1 itself returns 0 for a signature whose s is in the upper half.
        return bool(lib.secp256k1_ecdsa_verify(context, parsed, digest, self._point))


@lru_cache(maxsize=1024)
def _verifier(public: bytes) -> Verifier:
    return Verifier(public)


def verify(public: bytes, digest: bytes, signature: bytes) -> bool:
    """`Verifier.verify` for a key seen rarely. A key that is no point verifies nothing."""
    try:
        return _verifier(public).verify(digest, signature)
    except ValueError:
        return False


def is_public_key(public: bytes) -> bool:
    """Whether these are 33 bytes that name a point on the curve."""
    try:
        _verifier(public)
    except ValueError:
        return False
    return True


def der_to_compact(der: bytes) -> bytes:
    """DER as the curve library writes it → 64 bytes. For our own signatures only: strangers' arrive as 64 bytes."""
    r_size = der[3]
    r = int.from_bytes(der[4 : 4 + r_size])
    s = int.from_bytes(der[6 + r_size :])
    return r.to_bytes(32) + min(s, ORDER - s).to_bytes(32)


def compact_to_der(signature: bytes) -> bytes:
    """64 bytes → DER, 70 to 72 bytes nearly always, for the unlocking scripts that want it."""
    r, s = (_der_integer(signature[:32]), _der_integer(signature[32:]))
    return bytes((0x30, len(r) + len(s))) + r + s


def _der_integer(number: bytes) -> bytes:
    digits = number.lstrip(b"\0") or b"\0"
    if digits[0] & 0x80:
        digits = b"\0" + digits
    return bytes((2, len(digits))) + digits
