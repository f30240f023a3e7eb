"""wallet.json: the twelve words at rest, sealed with a passphrase if one is given.

Trust: whoever reads the words has the money. The file is the owner's alone (mode 0600), and is refused when others may
read it. With a passphrase the words are sealed: scrypt makes guessing dear (128 MiB and about half a second a guess),
ChaCha20-Poly1305 sees any change, the network's name included. In clear beside them stand the identity, the payee
branch and the payout hash, so that a node nobody has unlocked yet sells, and settles what it is owed; what a thief
could do with these is told in `wallet.paths`. They are compared with what the words give as soon as the words are
there, so nobody slips others in for long.

The cipher is pycryptodomex's (ChaCha20-Poly1305), which needs no compiler to install; scrypt is Python's own.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from pathlib import Path
from typing import Annotated

import msgspec
from Cryptodome.Cipher import ChaCha20_Poly1305

from bct.backends import files
from bct.bitcoin.chain import Network
from bct.bitcoin.hd import ExtendedKey
from bct.bitcoin.keys import PrivateKey
from bct.errors import AuthError, ConfigError, StoreError, WalletLockedError
from bct.units import PubKeyHash
from bct.wallet.keyring import Keyring

VERSION = 1
_SALT_SIZE = 16
_NONCE_SIZE = 12
_TAG_SIZE = 16


class _Sealed(msgspec.Struct, frozen=True):
    """text: the words under ChaCha20-Poly1305, then the tag."""

    salt: Annotated[bytes, msgspec.Meta(min_length=_SALT_SIZE, max_length=_SALT_SIZE)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=_NONCE_SIZE, max_length=_NONCE_SIZE)]
    text: bytes


class _Wallet(msgspec.Struct, frozen=True):
    """One of `words` and `sealed` is there. payee: the branch's key, then its chain code. Bytes are base64 in JSON."""

    version: int
    network: str
    identity: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    payee: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    payout: Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
    words: str | None = None
    sealed: _Sealed | None = None


class _File(msgspec.Struct, frozen=True):
    """check: SHA-256 of the wallet's JSON, so that damage is told apart from a wrong passphrase."""

    wallet: _Wallet
    check: str


def create(path: Path, words: str, network: Network, passphrase: str = "") -> Keyring:
    """Writes a new wallet; words as `hd.check_words` gives them. Raises ConfigError rather than touch a file that is
    there, and StoreError."""
    keyring = Keyring.of_words(words)
    identity, payee, payout = _clear(keyring)
    wallet = _Wallet(
        version=VERSION,
        network=network.name.lower(),
        identity=identity,
        payee=payee,
        payout=payout,
        words=None if passphrase else words,
        sealed=_seal(words, passphrase, network) if passphrase else None,
    )
    raw = msgspec.json.format(msgspec.json.encode(_File(wallet, _check(wallet))), indent=1)
    try:
        if not files.create(path, raw + b"\n"):
            raise ConfigError(f"{path} is there already and holds a wallet: move it away first if you want another")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return keyring


def load(path: Path, network: Network, passphrase: str = "") -> Keyring:
    """The keys; a locked keyring when the words are sealed and no passphrase is given.

    Raises ConfigError (missing, open to others, of another network or a newer version), StoreError (damaged) and
    AuthError (wrong passphrase).
    """
    wallet = _read(path, network)
    if wallet.sealed and not passphrase:
        return _locked(path, wallet)
    return _unlocked(path, wallet, _words(wallet, network, passphrase))


def read_words(path: Path, network: Network, passphrase: str = "") -> str:
    """The twelve words, to be written down. Raises WalletLockedError without the passphrase, and as `load`."""
    wallet = _read(path, network)
    words = _words(wallet, network, passphrase)
    _unlocked(path, wallet, words)
    return words


def _read(path: Path, network: Network) -> _Wallet:
    try:
        mode, raw = path.stat().st_mode & 0o777, path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"there is no wallet at {path}: make one with bct wallet new or bct wallet restore") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"{path} is open to others (mode {mode:03o}): run chmod 600 on it")
    wallet = _parse(path, raw)
    if wallet.network != network.name.lower():
        raise ConfigError(f"{path} is a wallet for network {wallet.network}, this node runs on {network.name.lower()}")
    return wallet


def _parse(path: Path, raw: bytes) -> _Wallet:
    try:
        file = msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{path} is no wallet, or damaged: {error}; restore it from the twelve words") from None
    wallet = file.wallet
    if wallet.version != VERSION:
        raise ConfigError(f"{path} is a wallet of version {wallet.version}; this program knows version {VERSION}")
    if file.check != _check(wallet):
        raise StoreError(f"{path} is damaged or was changed by hand: restore it from the twelve words")
    return wallet


def _words(wallet: _Wallet, network: Network, passphrase: str) -> str:
    if wallet.words is not None:
        return wallet.words
    if not passphrase or wallet.sealed is None:
        raise WalletLockedError("the wallet is locked: give its passphrase")
    return _unseal(wallet.sealed, passphrase, network)


def _locked(path: Path, wallet: _Wallet) -> Keyring:
    try:
        branch = ExtendedKey(PrivateKey(wallet.payee[:32]), wallet.payee[32:])
        return Keyring(PrivateKey(wallet.identity), branch, PubKeyHash(wallet.payout), None)
    except ValueError:
        raise StoreError(f"the keys in clear in {path} are none: restore it from the twelve words") from None


def _unlocked(path: Path, wallet: _Wallet, words: str) -> Keyring:
    keyring = Keyring.of_words(words)
    if (wallet.identity, wallet.payee, wallet.payout) != _clear(keyring):
        raise StoreError(f"the keys in clear in {path} are not those of its words: restore it from the twelve words")
    return keyring


def _clear(keyring: Keyring) -> tuple[bytes, bytes, bytes]:
    """(identity, payee, payout), as they stand in the file."""
    return keyring.identity.secret, keyring.payee.key.secret + keyring.payee.chain_code, keyring.payout


def _seal(words: str, passphrase: str, network: Network) -> _Sealed:
    salt, nonce = secrets.token_bytes(_SALT_SIZE), secrets.token_bytes(_NONCE_SIZE)
    cipher = ChaCha20_Poly1305.new(key=_stretch(passphrase, salt), nonce=nonce)
    cipher.update(_bound_to(network))
    text, tag = cipher.encrypt_and_digest(words.encode())
    return _Sealed(salt, nonce, text + tag)


def _unseal(sealed: _Sealed, passphrase: str, network: Network) -> str:
    text = sealed.text
    cipher = ChaCha20_Poly1305.new(key=_stretch(passphrase, sealed.salt), nonce=sealed.nonce)
    cipher.update(_bound_to(network))
    try:
        return cipher.decrypt_and_verify(text[:-_TAG_SIZE], text[-_TAG_SIZE:]).decode()
    except ValueError:
        raise AuthError("this passphrase does not open the wallet") from None


def _stretch(passphrase: str, salt: bytes) -> bytes:
    """A 32-byte key. Normalised first, since keyboards write the same letter in more than one way."""
    typed = unicodedata.normalize("NFKC", passphrase).encode()
    return hashlib.scrypt(typed, salt=salt, n=1 << 17, r=8, p=1, maxmem=256 << 20, dklen=32)


def _bound_to(network: Network) -> bytes:
    return f"bct wallet {VERSION} {network.name.lower()}".encode()


def _check(wallet: _Wallet) -> str:
    return hashlib.sha256(msgspec.json.encode(wallet)).hexdigest()
