"""Twelve words and all the keys that follow from them: BIP 39 and BIP 32, private derivation only.

The words are the money: whoever reads them has it. Nothing here prints or keeps them. The words come from a library
(the reference implementation of BIP 39); of BIP 32 so little is needed that it stands here.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from mnemonic import Mnemonic

from bct.bitcoin.keys import PrivateKey
from bct.errors import ConfigError, LocalProtocolError

HARDENED = 1 << 31
"""Added to an index in a path: such a child's siblings and parent cannot be computed from it."""
ENTROPY_SIZE = 16
WORDS = 12


@cache
def _list() -> Mnemonic:
    return Mnemonic("english")


def words_of_entropy(entropy: bytes) -> str:
    """Twelve words, one space between them, out of 16 random bytes (BIP 39)."""
    if len(entropy) != ENTROPY_SIZE:
        raise LocalProtocolError(f"twelve words hold {ENTROPY_SIZE} bytes, got {len(entropy)}")
    return _list().to_mnemonic(entropy)


def check_words(text: str) -> str:
    """The words as they should be written, out of what a person typed. Raises ConfigError, which names the place of a
    wrong word and never the word."""
    words = text.lower().split()
    if len(words) != WORDS:
        raise ConfigError(f"a wallet has {WORDS} words, got {len(words)}")
    for number, word in enumerate(words, start=1):
        if word not in _list().wordlist:
            raise ConfigError(f"word {number} is not one of the 2,048 words (BIP 39, English): look for a slip")
    if not _list().check(" ".join(words)):
        raise ConfigError("each word exists, but they do not belong together: one is wrong, or their order is")
    return " ".join(words)


def seed_of_words(words: str, passphrase: str = "") -> bytes:
    """64 bytes (BIP 39). words: as `check_words` gives them. Another passphrase is another wallet."""
    return Mnemonic.to_seed(words, passphrase)


@dataclass(frozen=True, slots=True)
class ExtendedKey:
    """A private key and the chain code that its children are made with (BIP 32)."""

    key: PrivateKey
    chain_code: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> ExtendedKey:
        """The root of all keys of a seed of 16 to 64 bytes."""
        if not 16 <= len(seed) <= 64:
            raise LocalProtocolError(f"a seed has 16 to 64 bytes, got {len(seed)}")
        digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
        return cls(PrivateKey(digest[:32]), digest[32:])

    def child(self, index: int, hardened: bool = False) -> ExtendedKey:
        """One of 2^31 ordinary or 2^31 hardened children. index: 0 to 2^31 - 1."""
        if not 0 <= index < HARDENED:
            raise LocalProtocolError(f"a child's index is 0 to {HARDENED - 1}, got {index}")
        return self.derive((index + HARDENED * hardened,))

    def derive(self, path: Sequence[int]) -> ExtendedKey:
        """The key at the end of a path; hardened steps are index + HARDENED."""
        key = self
        for index in path:
            key = key._step(index)
        return key

    def _step(self, index: int) -> ExtendedKey:
        parent = b"\0" + self.key.secret if index & HARDENED else self.key.public
        digest = hmac.digest(self.chain_code, parent + struct.pack(">I", index), "sha512")
        return ExtendedKey(PrivateKey(_sum(self.key.secret, digest[:32])), digest[32:])

    def __repr__(self) -> str:
        return f"ExtendedKey({self.key!r})"


def _sum(secret: bytes, tweak: bytes) -> bytes:
    """Both numbers added modulo the curve's order, in constant time."""
    buffer = ffi.new("unsigned char[32]", secret)
    if not lib.secp256k1_ec_seckey_tweak_add(GLOBAL_CONTEXT.ctx, buffer, tweak):
        # Once in 2^127. BIP 32 then takes the next index, which nobody has ever seen done.
        raise LocalProtocolError("this child has no key: take the next index")
    return bytes(ffi.buffer(buffer))
