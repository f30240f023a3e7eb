"""Bitcoin's formats: transactions, proofs, headers, locks, addresses, words; and a chain that answers as it likes."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from bct import units
from bct.bitcoin import address, extended, hd, header_chain, headers, merkle, proof, script, tx
from bct.bitcoin.chain import HistoryItem, Network, Spend
from bct.bitcoin.header_chain import HeaderChain
from bct.bitcoin.headers import SIZE, BlockHeader
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.proof import Beef
from bct.bitcoin.script import p2pkh, p2pkh_hash
from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.channel import lock
from bct.channel.lock import Lock
from bct.errors import ChainError, ConfigError, RemoteProtocolError
from bct.pay import funding
from bct.units import Outpoint, Satoshi, Txid, txid_from_hex
from bct.wallet import recovery
from bct.wallet.keyring import Keyring
from bct.wallet.paths import RECEIVE, Path, channel_change, channel_payer, payee
from bct.wallet.recovery import AskHistory, AskSpender, AskTransaction, Search
from tests import header_parts
from tests.fuzz.target import Target, joined, parts_of, text_of, vector
from tests.vectors.wallet import KEYRING, NONCE, WORDS

_BAD_TX = frozenset(("bad-tx",))


def _transaction(raw: bytes) -> None:
    assert Tx.parse(raw).serialize() == raw


def _extended(raw: bytes) -> None:
    assert extended.serialize(*extended.parse(raw)) == raw


def _path(raw: bytes) -> None:
    path = MerklePath.parse(raw)
    assert path.serialize() == raw
    for leaf in path.levels[0][:4]:
        if leaf.hash:
            with suppress(RemoteProtocolError):
                assert len(path.root(Txid(leaf.hash))) == 32


def _proof(raw: bytes) -> None:
    """What is written again reads the same; and against headers of ours it checks or is refused, as a payment too."""
    beef = Beef.parse(raw)
    written = beef.serialize()
    assert Beef.parse(written).serialize() == written
    with suppress(RemoteProtocolError):
        ancestry = beef.check(_roots())
        assert ancestry.subject.txid == beef.subject
        assert all(one.fee >= 0 for one in ancestry.unproven)
    with suppress(RemoteProtocolError):
        funding.check_blocks(beef)
        funding.read(beef, _roots(), 0, _locks()[0], 100)


@cache
def _roots() -> dict[int, bytes]:
    return {int(height): bytes.fromhex(root) for height, root in vector("proof")["roots"].items()}


@cache
def _locks() -> list[Lock]:
    found = (Lock.read(bytes.fromhex(one["script"])) for one in vector("channel")["locks"])
    return [one for one in found if one]


def _script(raw: bytes) -> None:
    found, payee_hash = Lock.read(raw), p2pkh_hash(raw)
    assert found is None or found.script() == raw
    assert payee_hash is None or p2pkh(payee_hash) == raw


def _header(raw: bytes) -> None:
    header = BlockHeader.parse(raw)
    assert header.serialize() == raw
    assert headers.work_of(header.bits) > 0


def _headers(raw: bytes) -> None:
    """First byte: the height that the service says they begin at. What was kept before is the chain's yet."""
    if raw:
        chain = header_parts.begun(_row())
        cut = [raw[at : at + SIZE] for at in range(1, len(raw), SIZE)]
        chain.joins(raw[0], cut)
        before = chain.height
        try:
            moved = chain.extend(raw[0], cut)
        except RemoteProtocolError:
            assert chain.height == before
            raise
        assert HeaderChain(chain.rules, 0, chain.raw(0)).height == chain.height >= before + moved
        assert chain.raw(0)[:SIZE] == _row()[0]


@cache
def _row() -> list[bytes]:
    return header_parts.row(12)


def _address(raw: bytes) -> None:
    text = text_of(raw)
    assert address.encode(address.decode(text, Network.REGTEST), Network.REGTEST) == text


def _words(raw: bytes) -> None:
    assert len(hd.check_words(text_of(raw)).split()) == hd.WORDS


def _outpoint(raw: bytes) -> None:
    outpoint = Outpoint.parse(text_of(raw))
    assert Outpoint.parse(str(outpoint)) == outpoint == Outpoint.unpack(outpoint.pack())


def _recovered(raw: bytes) -> None:
    """A chain is asked for a wallet's coins. First part: whom it names as spender, each time it is asked; beyond them,
    and where they are 0, it tells the truth. The other parts are its transactions."""
    choices, *raws = parts_of(raw) or [b""]
    known = {tx.txid: tx for tx in (Tx.parse(one) for one in raws if _is_transaction(one))}
    lies, search = iter(choices), Search(_KEYRING, Lock.read)
    while search.ask:
        match search.ask:
            case AskHistory(wanted):
                paying = [txid for txid, tx in known.items() if any(out.script == wanted for out in tx.outputs)]
                search.answer([HistoryItem(txid, 7) for txid in paying])
            case AskTransaction(txid):
                search.answer(known[txid].serialize() if txid in known else None)
            case AskSpender(outpoint):
                spending = [txid for txid, tx in known.items() if outpoint in (i.outpoint for i in tx.inputs)]
                if lie := next(lies, 0):
                    spending = list(known)[lie % (len(known) + 1) :]
                search.answer(Spend(spending[0], 0, None) if spending else None)
    coins = [coin.outpoint for coin in search.found.coins]
    assert len(coins) == len(set(coins))
    for channel in (*search.found.channels, *search.found.ended):
        assert Lock.read(Tx.parse(channel.funding).outputs[channel.outpoint.index].script)


@cache
def _key(path: Path) -> PrivateKey:
    return KEYRING.key(path)


class _Remembering(Keyring):
    """Derives each key once."""

    def key(self, path: Path) -> PrivateKey:
        return _key(path)


_KEYRING = _Remembering(KEYRING.identity, KEYRING.payee, KEYRING.payout, KEYRING.root)


def _is_transaction(raw: bytes) -> bool:
    try:
        Tx.parse(raw)
    except RemoteProtocolError:
        return False
    return True


def _histories() -> list[bytes]:
    """Coins that were paid to the wallet's first address; one of them opened a channel, which was settled."""
    to_us = p2pkh(_key((*RECEIVE, 0)).hash)
    paid = Tx((TxInput(Outpoint(Txid(bytes(32)), 1)),), (TxOutput(Satoshi(900), to_us),) * 2)
    anchor = Outpoint(paid.txid, 0)
    channel = Lock(_key(channel_payer(anchor, 0)).public, _key(payee(NONCE)).public, 1_800_000_000)
    opened = Tx((TxInput(anchor),), (TxOutput(Satoshi(800), channel.script()),))
    change = p2pkh(_key(channel_change(anchor, 0)).hash)
    closed = Tx((TxInput(Outpoint(opened.txid, 0)),), (TxOutput(Satoshi(700), change),))
    raws = [one.serialize() for one in (paid, opened, closed)]
    return [joined(b"", *raws[:count]) for count in range(4)]


def _transactions() -> list[bytes]:
    return [bytes.fromhex(one["tx"]) for one in vector("channel")["spends"][:6]]


def _extended_transactions() -> list[bytes]:
    parsed = [Tx.parse(raw) for raw in _transactions()]
    return [extended.serialize(one, (TxOutput(Satoshi(7), b"\x51"),) * len(one.inputs)) for one in parsed]


def _proofs() -> list[bytes]:
    listed = vector("proof")["good"] + vector("proof")["refused"]
    example = vector("brc62_brc74")["beef"]
    standard = bytes.fromhex("01010101") + txid_from_hex(example["subject"]) + bytes.fromhex(example["hex"])
    return [*(bytes.fromhex(one["beef"]) for one in listed), standard]


def _scripts() -> list[bytes]:
    listed = vector("channel")["locks"] + vector("channel")["not_locks"]
    return [*(bytes.fromhex(one["script"]) for one in listed), p2pkh(KEYRING.payout)]


def _more_headers() -> list[bytes]:
    longer, branch = header_parts.row(3, _row()), header_parts.row(5, _row()[:9], salt=1)
    return [bytes((12,)) + b"".join(longer), bytes((9,)) + b"".join(branch), bytes((10,)) + b"".join(_row()[10:])]


TARGETS: dict[str, Target] = {
    "transaction": Target(_transaction, _transactions, (tx,), reasons=_BAD_TX),
    "extended-transaction": Target(_extended, _extended_transactions, (extended, tx), reasons=_BAD_TX),
    "merkle-path": Target(
        _path, lambda: [bytes.fromhex(vector("brc62_brc74")["bump"]["hex"])], (merkle,), reasons=_BAD_TX | {"bad-proof"}
    ),
    "proof": Target(_proof, _proofs, (proof, merkle, funding), reasons=_BAD_TX | {"bad-proof"}),
    "script": Target(_script, _scripts, (lock, script), refusals=()),
    "header": Target(_header, lambda: _row()[:2], (headers,), reasons=frozenset(("bad-header",))),
    "headers": Target(_headers, _more_headers, (header_chain, headers), reasons=frozenset(("bad-header",))),
    "address": Target(
        _address,
        lambda: [address.encode(KEYRING.payout, Network.REGTEST).encode()],
        (address,),
        refusals=(ConfigError,),
    ),
    "words": Target(_words, lambda: [WORDS.encode()], (hd,), refusals=(ConfigError,)),
    "outpoint": Target(_outpoint, lambda: [b"00" * 32 + b":7", b"ab" * 32 + b":4294967295"], (units,), (ConfigError,)),
    "recovery": Target(_recovered, _histories, (recovery,), refusals=(ChainError,)),
}
