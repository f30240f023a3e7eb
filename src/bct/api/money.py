"""``/api/wallet``, ``/api/channels`` and ``/api/receipts``: coins, payment channels, and what was bought.

Trust: only the owner gets here (`door`). Amounts are whole satoshis; an address is checked against its checksum and
this node's network before anything is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import APIRouter, Body
from pydantic import Field

from bct.api.errors import not_found
from bct.bitcoin import address
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.channel.state import Role, State
from bct.channel.transactions import Params
from bct.errors import ChainError, ConfigError
from bct.node.daemon import Node, Receipt
from bct.node.purse import Spending
from bct.node.till import Earning
from bct.units import Outpoint, Satoshi, txid_from_hex, txid_hex

_OVER = frozenset((State.SETTLED, State.REFUNDED, State.DONE, State.VOID))
FAUCET_SECONDS = 30.0
MOST = 21 * 10**14

Amount = Annotated[int, Field(ge=1, le=MOST)]


def is_over(state: State) -> bool:
    """Whether the chain has seen the channel's end."""
    return state in _OVER


@dataclass(frozen=True, slots=True)
class WalletView:
    """pending: in no block yet. reserved: set aside for a transaction being made."""

    locked: bool
    confirmed: int
    pending: int
    reserved: int


@dataclass(frozen=True, slots=True)
class AddressView:
    address: str


@dataclass(frozen=True, slots=True)
class SentView:
    txid: str


@dataclass(frozen=True, slots=True)
class ChannelView:
    """expiry: Unix seconds. peer: of a channel we spend on. change: what came back to the payer, fee: what the miners
    got, txid: of the settlement or refund; all three once the channel is over."""

    outpoint: str
    role: str
    state: str
    capacity: int
    paid: int
    expiry: int
    peer: str
    txid: str | None
    change: int | None
    fee: int | None


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """What was bought of one title over one channel. txid: as in `ChannelView`."""

    infohash: str
    name: str
    pieces: int
    satoshi: int
    channel: str
    txid: str | None


def wallet_view(node: Node) -> WalletView:
    balance = node.wallet.balance
    return WalletView(node.wallet.locked, balance.confirmed, balance.pending, balance.reserved)


def earning_view(earning: Earning) -> ChannelView:
    payee = earning.account.payee
    return _channel(Role.PAYEE, payee.state, payee.params, payee.paid, "", earning.settlement)


def spending_view(spending: Spending) -> ChannelView:
    saved, payer = spending.saved, spending.payer
    return _channel(Role.PAYER, payer.state, saved.params, payer.paid, f"{saved.host}:{saved.port}", saved.closing)


def _channel(role: Role, state: State, params: Params, paid: int, peer: str, closing: bytes) -> ChannelView:
    end = Tx.parse(closing) if closing and is_over(state) else None
    return ChannelView(
        outpoint=str(params.outpoint),
        role=role.value,
        state=state.value,
        capacity=params.capacity,
        paid=paid,
        expiry=params.lock.expiry,
        peer=peer,
        txid=txid_hex(end.txid) if end else None,
        change=_change(end, params, state) if end else None,
        fee=params.capacity - sum(output.value for output in end.outputs) if end else None,
    )


def _change(end: Tx, params: Params, state: State) -> int:
    """The payer's part of a settlement; all of a refund."""
    return sum(o.value for o in end.outputs if state is State.REFUNDED or o.script == p2pkh(params.change))


def receipt_view(receipt: Receipt) -> ReceiptView:
    saved = receipt.channel
    txid = txid_hex(Tx.parse(saved.closing).txid) if saved.closing and is_over(saved.state) else None
    return ReceiptView(
        receipt.infohash.hex(), receipt.name, receipt.pieces, receipt.satoshi, str(saved.params.outpoint), txid
    )


async def top_up(node: Node, satoshi: int) -> SentView:
    """Asks the regtest faucet for coins, and waits until the wallet has them. Raises ConfigError, ChainError."""
    faucet = node.config.chain.faucet
    if not faucet:
        raise ConfigError("there is no faucet to ask: set chain.faucet to its address (regtest only)")
    wanted = {"hash": node.wallet.new_address().hex(), "satoshi": satoshi}
    try:
        async with httpx.AsyncClient(timeout=FAUCET_SECONDS, trust_env=False) as http:
            answer = await http.post(f"{faucet}/pay", json=wanted)
        said = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ChainError(f"the faucet at {faucet} does not answer: {error or type(error).__name__}") from error
    if "txid" not in said:
        raise ChainError(f"the faucet at {faucet} gave nothing: {said.get('error', answer.status_code)}")
    txid = txid_from_hex(said["txid"])
    raw, place = await node.chain.transaction(txid), await node.chain.place(txid)
    if raw is None or place is None:
        raise ChainError(f"the faucet paid in {said['txid']}, which our chain does not know: is it another chain's?")
    node.wallet.saw(Tx.parse(raw), place.height)
    return SentView(said["txid"])


def router(node: Node) -> APIRouter:
    routes = APIRouter()

    @routes.get("/api/wallet")
    async def balance() -> WalletView:
        return wallet_view(node)

    @routes.post("/api/wallet/address")
    async def new_address() -> AddressView:
        return AddressView(address.encode(node.wallet.new_address(), node.chain.network))

    @routes.post("/api/wallet/topup")
    async def topup(satoshi: Annotated[Amount, Body(embed=True)]) -> SentView:
        return await top_up(node, satoshi)

    @routes.post("/api/wallet/send")
    async def send(to: Annotated[str, Body()], satoshi: Annotated[Amount | None, Body()] = None) -> SentView:
        """All of it when no amount is given."""
        recipient = address.decode(to, node.chain.network)
        rate = max(await node.chain.fee_rate(), node.config.channel.fee_rate)
        tx = await node.wallet.send(recipient, None if satoshi is None else Satoshi(satoshi), rate)
        return SentView(txid_hex(tx.txid))

    @routes.get("/api/channels")
    async def channels() -> list[ChannelView]:
        earning = [earning_view(one) for one in node.till.earnings.values()]
        return earning + [spending_view(one) for one in node.purse.spendings.values()]

    @routes.post("/api/channels/{outpoint}/close")
    async def close(outpoint: str) -> ChannelView:
        await node.close_channel(Outpoint.parse(outpoint))
        return _find(node, outpoint)

    @routes.post("/api/channels/{outpoint}/refund")
    async def refund(outpoint: str) -> ChannelView:
        await node.refund_channel(Outpoint.parse(outpoint))
        return _find(node, outpoint)

    @routes.get("/api/receipts")
    async def receipts() -> list[ReceiptView]:
        return [receipt_view(receipt) for receipt in await node.purchases()]

    return routes


def _find(node: Node, text: str) -> ChannelView:
    outpoint = Outpoint.parse(text)
    if earning := node.till.earnings.get(outpoint):
        return earning_view(earning)
    if spending := node.purse.spendings.get(outpoint):
        return spending_view(spending)
    raise not_found(f"no payment channel {text} is known here")
