"""vectors/messages.json: the paid wire as bytes: every bct_pay message, what its signature covers, what is refused.

`bytes` is the whole message in hex, as one extension message carries it. `digest` is what a signed message's signature
covers on the connection described by `context`. `refused` must end the connection; `ignored` must not.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from bct.bitcoin.chain import Network
from bct.pay import messages as m
from tests.channel_parts import CHANGE, FUNDING, PAYEE, PAYER, SEEDER, key
from tests.vectors.wire import plain

Json = dict[str, Any]

CONTEXT = m.Context(Network.REGTEST, bytes(range(16)), bytes(range(16, 32)), key("viewer").public, key("node").public)
NONCE = bytes(range(100, 116))
TERMS = bytes(range(256))
OFFER = m.Offer(TERMS, PAYEE.public, SEEDER, 100, 8, 108, 2**32 - 1, 900, NONCE)
OPEN = m.ChannelOpen(7, NONCE, PAYER.public, 1, 1_800_043_200, CHANGE, 100, 8, 900, b"an Atomic BEEF")
RECEIPT = m.Receipt(7, FUNDING.pack(), 1, 64, 64 << 18, bytes(range(32)), (64,), bytes(64), bytes(range(58)))
EACH: tuple[m.Message, ...] = (
    m.OfferRequest(bytes(range(20))),
    OFFER,
    m.HaveMap(bytes.fromhex("ff80")),
    m.HaveDelta((0, 7, 2**32 - 1)),
    OPEN,
    m.ChannelReady(7, 1000),
    m.ChannelReady(7, m.UNLIMITED),
    m.AddLine(7, 1, TERMS),
    m.LineAdded(7, 1),
    m.PiecePayment(7, 0, 62, bytes(range(64))),
    m.PaymentAck(7, (62, 0)),
    m.PaymentRefused(7, m.Refusal.NOT_RISING, (62,), bytes(range(64))),
    RECEIPT,
    m.ReceiptSigned(7, FUNDING.pack(), 1, 64, 64 << 18, bytes(range(32)), (64,)),
    m.Resume(7, FUNDING.pack()),
    m.Resumed(7, 1000, (62,), bytes(range(64)), (0, 1, 2)),
    m.ChannelClose(7, m.CloseReason.DONE, (62,), bytes(range(64))),
    m.ChannelClosed(7, bytes(range(32)), bytes(range(64))),
    m.ChannelError(7, m.Fault.FUNDING_REFUSED, 0, "zu wenig Gebühr".encode()),
    m.Chunk(1, b"the first part"),
)
SIGNER = {m.Offer: key("node"), m.Resumed: PAYEE, m.ReceiptSigned: PAYEE}
"""Who signs; the payer everything else."""
REFUSED = {
    "nothing": "",
    "type 0": "00",
    "an unknown type below 0x80": "7f",
    "a payment without its last byte": (m.PiecePayment(7, 0, 62, bytes(64)).encode()[:-1]).hex(),
    "a payment with a byte behind it": (m.PiecePayment(7, 0, 62, bytes(64)).encode() + b"\0").hex(),
    "terms of 2,049 bytes": (bytes((m.AddLine.TYPE,)) + bytes(5) + (2049).to_bytes(2) + bytes(2049)).hex(),
    "65 totals": (bytes((m.PaymentAck.TYPE,)) + bytes(4) + bytes((65,)) + bytes(260)).hex(),
    "a list that says 4 and holds 3": (bytes((m.HaveDelta.TYPE,)) + (4).to_bytes(4) + bytes(12)).hex(),
    "a funding that says 1 MiB and a byte": (OPEN.encode()[: -64 - 4 - len(OPEN.funding)] + b"\0\x10\0\1").hex(),
    "a part longer than a chunk": (bytes((m.Chunk.TYPE, 0)) + (m.CHUNK_SIZE + 1).to_bytes(4)).hex(),
}
IGNORED = {"type 0x80": "80", "type 0xff with a body": "ff00112233"}


def build() -> Json:
    return {
        "context": {"network": CONTEXT.network.value}
        | {
            name: plain(getattr(CONTEXT, name))
            for name in ("viewer_random", "seeder_random", "viewer_key", "seeder_key")
        },
        "messages": [entry(signed(one)) for one in EACH],
        "refused": REFUSED,
        "ignored": IGNORED,
        "limits": {
            "message": m.MESSAGE_MAX,
            "chunk": m.CHUNK_SIZE,
            "totals": m.TOTALS_MAX,
            "terms": 2048,
            "text": 1024,
            "indices": 1 << 18,
            "leaves": m.LEAVES_MAX * m.LEAF_SIZE,
        },
    }


def is_signed(message: m.Message) -> bool:
    """Whether it ends in a signature over the context; a payment's is over the commitment instead."""
    return hasattr(message, "signature") and not isinstance(message, m.PiecePayment)


def signed(message: Any) -> Any:
    if not is_signed(message):
        return message
    signer = SIGNER.get(type(message), PAYER)
    return replace(message, signature=signer.sign(CONTEXT.digest(message)))


def entry(message: Any) -> Json:
    said = {"name": type(message).__name__, "type": message.TYPE}
    said |= {field.name: plain(getattr(message, field.name)) for field in fields(message)}
    if is_signed(message):
        said["digest"] = CONTEXT.digest(message).hex()
    return said | {"bytes": message.encode().hex()}
