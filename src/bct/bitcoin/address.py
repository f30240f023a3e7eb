"""Addresses as people pass them on: Base58Check of a version byte and the 20-byte hash of a public key.

Trust: an address is typed or pasted; the four bytes of checksum catch a slip, the version byte a wrong network.
"""

from __future__ import annotations

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import sha256d
from bct.errors import ConfigError
from bct.units import PubKeyHash

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_VERSIONS = {Network.MAIN: 0x00, Network.TEST: 0x6F, Network.REGTEST: 0x6F}
_SIZE = 25
_LONGEST = 35


def encode(pubkey_hash: PubKeyHash, network: Network) -> str:
    """The P2PKH address of a key's hash."""
    payload = bytes((_VERSIONS[network],)) + pubkey_hash
    return _spell(payload + sha256d(payload)[:4])


def decode(text: str, network: Network) -> PubKeyHash:
    """Inverse of `encode`. Raises ConfigError that says what is wrong with it."""
    number = 0
    for character in text[: _LONGEST + 1]:
        if character not in _VALUES:
            raise ConfigError(f"{text[:50]!r} is no address: {character!r} does not occur in one")
        number = number * 58 + _VALUES[character]
    if len(text) > _LONGEST or number.bit_length() > 8 * _SIZE:
        raise ConfigError(f"{text[:50]!r} is no address: it is too long")
    raw = number.to_bytes(_SIZE)
    if sha256d(raw[:-4])[:4] != raw[-4:] or _spell(raw) != text:
        raise ConfigError(f"{text!r} is no address: its checksum does not fit, so there is a slip in it")
    if raw[0] != _VERSIONS[network]:
        raise ConfigError(f"{text} is no address of a single key on {network.name.lower()}")
    return PubKeyHash(raw[1:21])


def _spell(raw: bytes) -> str:
    number, digits = int.from_bytes(raw), ""
    while number:
        number, value = divmod(number, 58)
        digits = _ALPHABET[value] + digits
    return "1" * (_SIZE - len(raw.lstrip(b"\0"))) + digits
