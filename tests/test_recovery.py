"""Twelve words and a chain: every coin and every open channel comes back, and nothing else."""

from __future__ import annotations

import secrets

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.chain import HistoryItem, Outcome, Spend
from bct.bitcoin.hd import words_of_entropy
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxOutput
from bct.channel.lock import Lock
from bct.errors import ChainError, WalletLockedError
from bct.units import Outpoint, Satoshi, Txid
from bct.wallet.coins import Want, select, sign
from bct.wallet.keyring import Keyring
from bct.wallet.paths import CHANGE, PAYOUT, RECEIVE, Path, channel_change, channel_payer, channel_refund, payee
from bct.wallet.recovery import Answer, Ask, AskHistory, AskSpender, AskTransaction, Recovered, Search
from bct.wallet.wallet import GAP
from tests.test_wallet import STRANGER, outpoint, pay, script
from tests.vectors.wallet import KEYRING, LOCK_SIZE, NONCE

EXPIRY = 1_800_000_000
SEEDER = KEYRING.key(payee(NONCE))


class Book:
    """A chain in memory: every transaction put into it, at the height of its place."""

    def __init__(self) -> None:
        self.txs: dict[Txid, Tx] = {}
        self.asked: list[Ask] = []

    def put(self, tx: Tx) -> Tx:
        self.txs[tx.txid] = tx
        return tx

    def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        match ask:
            case AskTransaction(txid):
                return self.txs[txid].serialize() if txid in self.txs else None
            case AskSpender(spent):
                for txid, tx in self.txs.items():
                    for index, i in enumerate(tx.inputs):
                        if i.outpoint == spent:
                            return Spend(txid, index, self._height(txid))
                return None
            case AskHistory(wanted):
                return [HistoryItem(t, self._height(t)) for t, tx in self.txs.items() if self._touches(tx, wanted)]

    def _height(self, txid: Txid) -> int:
        return list(self.txs).index(txid)

    def _touches(self, tx: Tx, wanted: bytes) -> bool:
        spent = [self.txs[i.outpoint.txid].outputs[i.outpoint.index] for i in tx.inputs if i.outpoint.txid in self.txs]
        return any(output.script == wanted for output in (*tx.outputs, *spent))


def recovered(book: Book, keyring: Keyring = KEYRING) -> Recovered:
    search = Search(keyring, Lock.read)
    while search.ask:
        search.answer(book.answer(search.ask))
    return search.found


def found(result: Recovered) -> list[tuple[int, Path]]:
    return sorted((coin.value, coin.path) for coin in result.coins)


def channel_lock(anchor: Outpoint, vout: int, keyring: Keyring = KEYRING) -> bytes:
    return Lock(keyring.key(channel_payer(anchor, vout)).public, SEEDER.public, EXPIRY).script()


def fund(book: Book, *spend: Outpoint, capacities: tuple[int, ...] = (5000,), change: int = 900) -> Tx:
    """Channels at outputs 0, 1, …, then change to the first change address."""
    locks = [(value, channel_lock(spend[0], vout)) for vout, value in enumerate(capacities)]
    return book.put(pay(*locks, (change, script((*CHANGE, 0))), spend=spend))


def test_an_empty_chain_holds_nothing_and_is_asked_only_what_the_gap_demands() -> None:
    book = Book()
    assert recovered(book) == Recovered([], [], {RECEIVE: 0, CHANGE: 0, PAYOUT: 0})
    assert len(book.asked) == 3 * GAP


def test_coins_are_found_on_each_branch_as_far_as_the_gap() -> None:
    book = Book()
    paths = [(*RECEIVE, 0), (*RECEIVE, 19), (*RECEIVE, 39), (*CHANGE, 3), (*PAYOUT, 2), (*RECEIVE, 60)]
    for value, path in enumerate(paths, start=1):
        book.put(pay((value, script(path)), name=str(path)))
    result = recovered(book)
    assert found(result) == list(enumerate(paths[:-1], start=1))  # 60 lies behind 20 that were never paid
    assert result.used == {RECEIVE: 40, CHANGE: 4, PAYOUT: 3}
    assert [coin.height for coin in result.coins if coin.value == 3] == [2]


def test_a_spent_coin_is_followed_to_its_change() -> None:
    book = Book()
    coin = book.put(pay((1000, script((*RECEIVE, 0)))))
    book.put(pay((300, STRANGER), (650, script((*CHANGE, 0))), spend=(outpoint(coin),)))
    assert found(recovered(book)) == [(650, (*CHANGE, 0))]


def test_an_address_paid_twice_by_one_transaction_counts_twice_and_shown_twice_counts_once() -> None:
    class Stutterer(Book):
        def answer(self, ask: Ask) -> Answer:
            answer = super().answer(ask)
            return answer * 2 if isinstance(answer, list) else answer

    book = Stutterer()
    book.put(pay((1000, script((*RECEIVE, 0))), (2000, script((*RECEIVE, 0)))))
    assert found(recovered(book)) == [(1000, (*RECEIVE, 0)), (2000, (*RECEIVE, 0))]


def test_an_open_channel_is_found_with_all_that_its_refund_needs() -> None:
    book = Book()
    coin = book.put(pay((1000, STRANGER), (6000, script((*RECEIVE, 0)))))
    funding = fund(book, outpoint(coin, 1))
    (channel,) = recovered(book).channels
    assert (channel.outpoint, channel.anchor) == (outpoint(funding), outpoint(coin, 1))
    assert (channel.capacity, channel.payee, channel.expiry) == (5000, SEEDER.public, EXPIRY)
    assert (channel.height, channel.funding) == (1, funding.serialize())
    assert found(recovered(book)) == [(900, (*CHANGE, 0))]


def test_each_channel_of_a_fan_out_is_found_once_though_two_coins_paid_for_it() -> None:
    book = Book()
    coins = [book.put(pay((6000, script((*RECEIVE, n))), name=str(n))) for n in range(2)]
    funding = fund(book, *map(outpoint, coins), capacities=(5000, 3000, 2000))
    assert [c.outpoint for c in recovered(book).channels] == [outpoint(funding, n) for n in range(3)]


def test_what_a_settlement_and_a_refund_gave_back_is_found_and_followed() -> None:
    book = Book()
    coin = book.put(pay((9000, script((*RECEIVE, 0)))))
    anchor = outpoint(coin)
    funding = fund(book, anchor, capacities=(5000, 3000))
    settled = pay((4000, STRANGER), (800, script(channel_change(anchor, 0))), spend=(outpoint(funding, 0),))
    refunded = pay((2900, script(channel_refund(anchor, 1))), spend=(outpoint(funding, 1),))
    book.put(settled)
    book.put(refunded)
    result = recovered(book)
    assert result.channels == []
    ends = {c.outpoint: c.closing for c in result.ended}
    assert ends == {outpoint(funding, 0): settled.serialize(), outpoint(funding, 1): refunded.serialize()}
    assert [coin.height for coin in result.coins if coin.value == 800] == [2]
    assert found(result) == [
        (800, channel_change(anchor, 0)),
        (900, (*CHANGE, 0)),
        (2900, channel_refund(anchor, 1)),
    ]
    again = fund(book, outpoint(refunded), capacities=(2000,), change=800)
    assert [c.outpoint for c in recovered(book).channels] == [outpoint(again)]


def test_hundreds_of_channels_one_after_another_are_followed_to_the_last() -> None:
    book = Book()
    spend = outpoint(book.put(pay((9_000_000, script((*RECEIVE, 0))))))
    for n in range(250):
        last, capacity = spend, 9_000_000 - n
        funding = book.put(pay((capacity, channel_lock(last, 0)), spend=(last,)))
        spend = outpoint(book.put(pay((capacity, script(channel_change(last, 0))), spend=(outpoint(funding),))))
    assert found(recovered(book)) == [(9_000_000 - 249, channel_change(last, 0))]


def test_somebody_elses_channel_is_not_ours() -> None:
    book = Book()
    coin = book.put(pay((6000, script((*RECEIVE, 0)))))
    theirs = Lock(SEEDER.public, SEEDER.public, EXPIRY).script()
    misplaced = channel_lock(outpoint(coin), 5)
    book.put(pay((2000, theirs), (2000, misplaced), spend=(outpoint(coin),)))
    assert recovered(book).channels == []


@pytest.mark.parametrize(
    ("raw", "why"),
    [(None, "does not have it"), (b"\1\2", "is none: ends"), (pay((1, STRANGER)).serialize(), "the chain gave")],
    ids=("nothing", "noise", "another"),
)
def test_a_chain_that_answers_what_cannot_be_is_not_believed(raw: bytes | None, why: str) -> None:
    book = Book()
    book.put(pay((6000, script((*RECEIVE, 0)))))

    class Liar(Book):
        def answer(self, ask: Ask) -> Answer:
            return raw if isinstance(ask, AskTransaction) else super().answer(ask)

    liar = Liar()
    liar.txs = book.txs
    with pytest.raises(ChainError, match=why):
        recovered(liar)


@pytest.mark.parametrize("named", [pay((1, STRANGER)), Tx((), (TxOutput(Satoshi(1), STRANGER),))], ids=("any", "empty"))
@pytest.mark.parametrize("of", [0, 1], ids=("of a coin", "of a channel"))
def test_a_spender_that_does_not_spend_is_not_believed(named: Tx, of: int) -> None:
    """A source could name any transaction, hide a coin with it, or have what a channel paid back looked for in it."""
    book = Book()
    coin = book.put(pay((6000, script((*RECEIVE, 0)))))
    asked = outpoint(coin) if of == 0 else outpoint(fund(book, outpoint(coin)))
    book.put(named)

    class Liar(Book):
        def answer(self, ask: Ask) -> Answer:
            return Spend(named.txid, 0, None) if ask == AskSpender(asked) else super().answer(ask)

    liar = Liar()
    liar.txs = book.txs
    with pytest.raises(ChainError, match="does not spend it"):
        recovered(liar)


def test_a_locked_wallet_cannot_search() -> None:
    with pytest.raises(WalletLockedError):
        recovered(Book(), Keyring(KEYRING.identity, KEYRING.payee, KEYRING.payout, None))


async def recovered_from(chain: ChainNode, keyring: Keyring) -> Recovered:
    search = Search(keyring, Lock.read)
    while search.ask:
        search.answer(await told(chain, search.ask))
    return search.found


async def told(chain: ChainNode, ask: Ask) -> Answer:
    match ask:
        case AskHistory(wanted):
            return await chain.history(wanted)
        case AskTransaction(txid):
            return await chain.transaction(txid)
        case AskSpender(spent):
            return await chain.spender(spent)


@pytest.mark.anyio
async def test_on_a_real_node_coins_and_a_channel_come_back(chain: ChainNode, miner: RegtestMiner) -> None:
    keyring = Keyring.of_words(words_of_entropy(secrets.token_bytes(16)))  # the chain is shared with other tests
    await miner.pay(p2pkh(keyring.key((*RECEIVE, 0)).hash), 20_000, 1)
    await miner.mine(1)
    before = await recovered_from(chain, keyring)
    (coin,) = before.coins
    assert (coin.value, coin.path) == (20_000, (*RECEIVE, 0))
    assert coin.height is not None

    plan = select(before.coins, [Want(Satoshi(12_000), LOCK_SIZE)], 500)
    lock = channel_lock(plan.anchor, plan.vout(0), keyring)
    tx = sign(plan.build([lock], keyring.key((*CHANGE, 0)).hash), plan.coins, keyring.key)
    (said,) = await chain.broadcast([tx.serialize()])
    assert said.outcome is Outcome.ACCEPTED, said.detail
    assert tx.outputs[plan.vout(0)] == TxOutput(Satoshi(12_000), lock)

    after = await recovered_from(chain, keyring)
    assert [(c.value, c.path, c.height) for c in after.coins] == [(plan.change, (*CHANGE, 0), None)]
    assert [(c.outpoint, c.capacity) for c in after.channels] == [(outpoint(tx, plan.vout(0)), 12_000)]
    assert p2pkh(keyring.key(after.coins[0].path).hash) == tx.outputs[1].script
