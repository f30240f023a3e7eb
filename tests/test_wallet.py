"""The wallet as a rule over transactions: what is ours, what waits, what is set aside, what comes back."""

from __future__ import annotations

import pytest

from bct.bitcoin.hd import HARDENED
from bct.bitcoin.keys import sha256
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.errors import LocalProtocolError, WalletLockedError
from bct.units import Outpoint, Satoshi, Txid
from bct.wallet.keyring import Keyring
from bct.wallet.paths import (
    CHANGE,
    CREATOR,
    IDENTITY,
    PAYOUT,
    RECEIVE,
    Path,
    channel_change,
    channel_payer,
    channel_refund,
    payee,
    show,
)
from bct.wallet.wallet import GAP, Balance, Moved, Wallet
from tests.vectors.wallet import ANCHOR, KEYRING, NONCE

STRANGER = p2pkh(KEYRING.key((*CREATOR, 9)).hash)


def script(path: Path) -> bytes:
    return p2pkh(KEYRING.key(path).hash)


def pay(*outputs: tuple[int, bytes], spend: tuple[Outpoint, ...] = (), name: str = "") -> Tx:
    """A transaction of (value, script) outputs; without `spend` out of a stranger's coin called `name`."""
    inputs = spend or (Outpoint(Txid(sha256(name.encode())), 0),)
    return Tx(tuple(map(TxInput, inputs)), tuple(TxOutput(Satoshi(value), s) for value, s in outputs))


def outpoint(tx: Tx, index: int = 0) -> Outpoint:
    return Outpoint(tx.txid, index)


def balance(confirmed: int = 0, pending: int = 0, reserved: int = 0) -> Balance:
    return Balance(Satoshi(confirmed), Satoshi(pending), Satoshi(reserved))


@pytest.fixture
def wallet() -> Wallet:
    """Knows the first addresses of each branch."""
    fresh = Wallet()
    keep_watching(fresh)
    return fresh


def keep_watching(wallet: Wallet) -> None:
    for path in wallet.unwatched():
        wallet.watch(path, KEYRING.key(path).hash)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_no_two_purposes_share_a_key() -> None:
    branches = [(*branch, n) for branch in (RECEIVE, CHANGE, PAYOUT, CREATOR) for n in range(3)]
    channels = [
        role(anchor, vout)
        for role in (channel_payer, channel_change, channel_refund)
        for anchor in (ANCHOR, Outpoint(ANCHOR.txid, 259))
        for vout in range(2)
    ]
    paths = [*branches, *channels, payee(NONCE), payee(bytes(16)), IDENTITY]
    assert len({KEYRING.key(path).public for path in paths}) == len(paths)
    assert len(channel_payer(ANCHOR, 2**32 - 1)) == len(channels[0])
    assert all(step >= HARDENED for path in (*channels, payee(NONCE)) for step in path)


def test_a_path_is_shown_as_people_write_it() -> None:
    assert show((*RECEIVE, 7)) == "m/44'/236'/0'/0/7"
    assert show(payee(NONCE)).startswith("m/236'/1'/")


def test_a_locked_keyring_settles_but_does_not_spend() -> None:
    locked = Keyring(KEYRING.identity, KEYRING.payee, KEYRING.payout, None)
    assert locked.payout == KEYRING.key((*PAYOUT, 0)).hash
    assert locked.locked
    assert not KEYRING.locked
    for path in (payee(NONCE), IDENTITY):
        assert locked.key(path).public == KEYRING.key(path).public
    assert KEYRING.root is not None
    assert KEYRING.root.derive(payee(NONCE)).key.public == KEYRING.key(payee(NONCE)).public
    for path in ((*RECEIVE, 0), (*PAYOUT, 0), (*CREATOR, 0), channel_payer(ANCHOR, 3)):
        with pytest.raises(WalletLockedError, match="give its passphrase"):
            locked.key(path)


# -- coins ------------------------------------------------------------------------------------------------------------


def test_a_payment_is_pending_then_confirmed_and_counted_once(wallet: Wallet) -> None:
    tx = pay((700, STRANGER), (300, script((*RECEIVE, 0))))
    (gained,) = wallet.see(tx, None).gained
    assert (gained.outpoint, gained.value, gained.path) == (outpoint(tx, 1), 300, (*RECEIVE, 0))
    assert gained.ancestors == {tx.txid}
    assert wallet.balance == balance(pending=300)
    assert wallet.see(tx, 120).gained == ()
    assert wallet.balance == balance(confirmed=300)
    assert [(c.height, c.ancestors) for c in wallet.spendable] == [(120, frozenset())]


def test_after_a_reorganisation_it_is_pending_again(wallet: Wallet) -> None:
    tx = pay((300, script((*RECEIVE, 0))))
    wallet.see(tx, 120)
    wallet.see(tx, None)
    assert wallet.balance == balance(pending=300)


def test_a_spent_coin_is_gone_even_when_its_transaction_is_shown_again(wallet: Wallet) -> None:
    tx = pay((300, script((*RECEIVE, 0))))
    (coin,) = wallet.see(tx, None).gained
    spend = pay((280, STRANGER), spend=(outpoint(tx),))
    assert [c.outpoint for c in wallet.see(spend, None).spent] == [coin.outpoint]
    assert wallet.see(tx, 120).gained == ()
    assert wallet.balance == balance()


def test_a_stranger_s_transaction_changes_nothing(wallet: Wallet) -> None:
    tx = pay((300, STRANGER))
    assert wallet.see(tx, None) == Moved()
    child = pay((280, script((*RECEIVE, 0))), spend=(outpoint(tx),))
    (coin,) = wallet.see(child, None).gained
    assert coin.ancestors == {child.txid}  # nothing was remembered of the stranger's


def test_unconfirmed_parents_are_counted_until_they_are_mined(wallet: Wallet) -> None:
    first = pay((900, script((*RECEIVE, 0))), name="one")
    other = pay((900, script((*RECEIVE, 1))), name="two")
    child = pay((1700, script((*CHANGE, 0))), spend=(outpoint(first), outpoint(other)))
    for tx in (first, other, child):
        wallet.see(tx, None)
    (coin,) = wallet.spendable
    assert coin.ancestors == {first.txid, other.txid, child.txid}
    wallet.see(first, 120)
    (coin,) = wallet.spendable
    assert coin.ancestors == {other.txid, child.txid}
    wallet.see(first, None)
    (coin,) = wallet.spendable
    assert coin.ancestors == {first.txid, other.txid, child.txid}


def test_a_dropped_transaction_gives_back_what_it_spent(wallet: Wallet) -> None:
    tx = pay((300, script((*RECEIVE, 0))))
    wallet.see(tx, 120)
    wallet.reserve([outpoint(tx)])
    spend = pay((280, script((*CHANGE, 0))), spend=(outpoint(tx),))
    wallet.see(spend, None)
    assert wallet.balance == balance(pending=280)
    wallet.drop(spend)
    assert wallet.balance == balance(confirmed=300)


def test_an_older_transaction_is_dropped_when_others_have_spent_since(wallet: Wallet) -> None:
    """And one whose outputs are not ours, so that there is nothing of it to take away."""
    coins = [pay((300 + n, script((*RECEIVE, n))), name=str(n)) for n in range(3)]
    spends = [pay((280, STRANGER), spend=(outpoint(coin),)) for coin in coins]
    for tx in (*coins, *spends):
        wallet.see(tx, 120)
    wallet.drop(spends[0])
    assert [c.outpoint for c in wallet.spendable] == [outpoint(coins[0])]


def test_a_reserved_coin_is_not_spent_twice(wallet: Wallet) -> None:
    one, two = pay((300, script((*RECEIVE, 0))), name="one"), pay((500, script((*RECEIVE, 1))), name="two")
    wallet.see(one, 120)
    wallet.see(two, 120)
    wallet.reserve([outpoint(one)])
    assert wallet.balance == balance(confirmed=500, reserved=300)
    assert [c.value for c in wallet.spendable] == [500]
    with pytest.raises(LocalProtocolError, match="reserved already"):
        wallet.reserve([outpoint(two), outpoint(one)])
    assert wallet.balance == balance(confirmed=500, reserved=300)  # a refused reservation reserves nothing
    with pytest.raises(LocalProtocolError, match="no coin of ours"):
        wallet.reserve([ANCHOR])
    wallet.release([outpoint(one), ANCHOR])
    assert wallet.balance == balance(confirmed=800)


def test_a_channels_change_is_ours_once_it_is_watched(wallet: Wallet) -> None:
    path = channel_change(ANCHOR, 0)
    wallet.watch(path, KEYRING.key(path).hash)
    assert wallet.watched[-1] == script(path)
    (coin,) = wallet.see(pay((300, script(path))), 120).gained
    assert coin.path == path


# -- addresses --------------------------------------------------------------------------------------------------------


def test_addresses_are_new_each_time_and_never_past_what_a_recovery_finds(wallet: Wallet) -> None:
    assert [wallet.next_index(RECEIVE) for _ in range(GAP + 2)] == [*range(GAP), 0, 1]
    wallet.see(pay((300, script((*RECEIVE, 5)))), None)
    assert [wallet.next_index(RECEIVE) for _ in range(GAP)] == [*range(6, GAP + 6)]
    assert wallet.next_index(RECEIVE) == 6
    assert wallet.next_index(CHANGE) == 0


def test_a_used_address_widens_what_is_watched(wallet: Wallet) -> None:
    assert wallet.unwatched() == []
    wallet.see(pay((300, script((*PAYOUT, 19)))), None)
    assert wallet.unwatched() == [(*PAYOUT, n) for n in range(20, 40)]
    keep_watching(wallet)
    assert wallet.unwatched() == []
    assert wallet.see(pay((300, script((*PAYOUT, 39)))), None).gained
