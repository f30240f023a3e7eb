"""The keys of one node: all of them, or, while the wallet is locked, those it needs to collect what it is owed."""

from __future__ import annotations

from dataclasses import dataclass

from bct.bitcoin.hd import ExtendedKey, seed_of_words
from bct.bitcoin.keys import PrivateKey
from bct.errors import WalletLockedError
from bct.units import PubKeyHash
from bct.wallet.paths import IDENTITY, PAYEE, PAYOUT, Path


@dataclass(frozen=True, slots=True)
class Keyring:
    """payee: the branch `paths.PAYEE`. payout: of the first payout key, which offers name. root: what all keys derive
    from; None while the wallet is locked."""

    identity: PrivateKey
    payee: ExtendedKey
    payout: PubKeyHash
    root: ExtendedKey | None

    @classmethod
    def of_words(cls, words: str) -> Keyring:
        """words: as `hd.check_words` gives them."""
        root = ExtendedKey.from_seed(seed_of_words(words))
        return cls(root.derive(IDENTITY).key, root.derive(PAYEE), root.derive((*PAYOUT, 0)).key.hash, root)

    @property
    def locked(self) -> bool:
        return self.root is None

    def key(self, path: Path) -> PrivateKey:
        """Raises WalletLockedError for a path that is not open while the wallet is locked."""
        if path == IDENTITY:
            return self.identity
        if path[: len(PAYEE)] == PAYEE:
            return self.payee.derive(path[len(PAYEE) :]).key
        if self.root is None:
            raise WalletLockedError("the wallet is locked: give its passphrase to spend")
        return self.root.derive(path).key
