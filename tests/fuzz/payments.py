"""bct_pay: its messages, and both sides' sessions with a stranger at the other end who can sign for himself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from bct.bitcoin.keys import PrivateKey, verify
from bct.channel import payee, payer
from bct.channel.payer import Payer
from bct.channel.state import State
from bct.channel.transactions import Commitments, Totals
from bct.errors import FundsError, RemoteProtocolError, StoreError
from bct.pay import messages as m
from bct.pay import offers, payee_session, payer_session, receipts, records
from bct.pay.effects import CheckFunding
from bct.pay.payer_session import Happening, LineNeeded, Ready, Refused
from bct.title import terms as title_terms
from tests.channel_parts import FILM, NOW, SERIES
from tests.fuzz.target import Target, joined, parts_of, vector
from tests.pay_parts import FILM_TERMS, IDENTITY, Seeder, Viewer, Wire


def _message(raw: bytes) -> None:
    message = m.decode(raw)
    assert message is None or message.encode() == raw


def _joined(raw: bytes) -> None:
    """Chunks and whole messages as they come; what is put together would be cut in the same way."""
    joiner, since = m.Joiner(), []
    for part in parts_of(raw):
        message = joiner.receive(part)
        since.append(part)
        if message or part[:1] >= b"\x80":
            assert message is None or b"".join(m.chunked(message.encode())) == b"".join(since) or len(since) > 1
            since.clear()


def _offer(raw: bytes) -> None:
    """A seeder signs whatever it likes; what passes can be dealt under."""
    offer = m.decode(raw)
    if isinstance(offer, m.Offer):
        wire = Wire(Seeder())
        signed = wire.signed(offer, IDENTITY)
        terms = title_terms.decode(signed.terms)
        offers.check_offer(signed, terms, wire.context, 1000)
        assert 1 <= signed.fee_rate <= 1000
        assert signed.capacity_min <= signed.capacity_max


def _record(raw: bytes) -> None:
    assert records.encode(records.decode(raw)) == raw


def _leaves(raw: bytes) -> None:
    leaves = receipts.unpack_leaves(raw)
    assert b"".join(leaf.pack() for leaf in leaves) == raw
    digests = [leaf.digest(bytes(20)) for leaf in leaves[:9]]
    for index, digest in enumerate(digests):
        assert receipts.climb(digest, receipts.merkle_proof(digests, index)) == receipts.merkle_root(digests)


# -- a seeder, and a viewer who says anything -------------------------------------------------------------------------


class _Guarded(Seeder):
    """Refuses what the shell and its store refuse: a funding that is none, a nonce that was used."""

    def funded(self, wire: Wire, effect: CheckFunding) -> None:
        used = any(nonce == effect.opening.nonce for _, nonce, _ in self.saved.values())
        if used or len(effect.opening.funding) != 44:
            self.perform(wire, wire.payee.unfunded(m.Fault.BAD_OPEN, "no funding of a channel"))
        else:
            super().funded(wire, effect)


def _selling(raw: bytes) -> None:
    """Each part is one thing that the viewer does: a byte that says what, and a message or a number."""
    wire = Wire(_Guarded())
    viewer = wire.open()
    viewer.raise_mark()
    for part in parts_of(raw):
        try:
            wire = _viewer_does(wire, viewer, part[:1], part[1:])
        except RemoteProtocolError:
            wire = _viewer_does(wire, viewer, b"L", b"")
        _check_books(wire.seeder)


def _viewer_does(wire: Wire, viewer: Viewer, what: bytes, told: bytes) -> Wire:
    match what:
        case b"P":  # an honest payment
            with suppress(FundsError):
                wire.pay(1 + int.from_bytes(told[:1]))
        case b"A":  # a request
            wire.seeder.ask(wire, int.from_bytes(told[:1]), 1 + int.from_bytes(told[1:3]))
        case b"L":  # the connection breaks, and the channel is resumed on another
            wire.payee.lost()
            wire = Wire(wire.seeder)
            wire.deliver()
            wire.say(wire.payer.resume(viewer.payer, viewer.key, 9))
            wire.deliver()
        case b"S":  # any message, signed by the channel's own payer
            _say(wire, told, lambda message: wire.signed(message, viewer.key))
        case _:  # any message
            _say(wire, told, lambda message: message)
    return wire


def _say(wire: Wire, raw: bytes, sign: Callable[[m.Message], m.Message]) -> None:
    message = m.decode(raw)
    if message:
        wire.say(sign(message) if message.LAYOUT[-1][0] == "signature" and message.TYPE != 0x09 else message)


def _check_books(seeder: Seeder) -> None:
    """No line has opened more than it was paid, and each channel's newest signature is its payer's over its totals."""
    for account in seeder.book.accounts.values():
        standing = account.payee
        assert all(account.credit(line) >= 0 for line in range(len(standing.lines)))
        if standing.paid:
            digest = Commitments(standing.params, standing.lines).digest(standing.totals)
            assert verify(standing.params.lock.payer, digest, standing.signature)


# -- a viewer, and a seeder that says anything ------------------------------------------------------------------------

_START = (40, 25)


def _buying(raw: bytes) -> None:
    """A channel with two lines is resumed. Each part is what the seeder says, or what the viewer does meanwhile."""
    wire = Wire(Seeder())
    viewer = wire.fund()
    viewer.payer = Payer(viewer.payer.params, (FILM, SERIES), _START, (500, 300), State.OPEN)
    wire.payer.resume(viewer.payer, viewer.key, 9)
    payee_key = wire.seeder.keys.derive(wire.payer.offered.offer.nonce) if wire.payer.offered else IDENTITY
    paid = list(_START)
    for part in parts_of(raw):
        try:
            happening = _seeder_does(wire, viewer, payee_key, paid, part[:1], part[1:])
        except RemoteProtocolError:
            return  # the connection is over
        assert all(ours <= ceiling for ours, ceiling in zip(viewer.payer.totals, paid, strict=True))
        if isinstance(happening, Ready | LineNeeded | Refused):
            _check_missed(viewer.payer, happening)


def _seeder_does(
    wire: Wire, viewer: Viewer, payee_key: PrivateKey, paid: list[int], what: bytes, told: bytes
) -> Happening | None:
    match what:
        case b"P" if wire.payer.affords(price := 1 + int.from_bytes(told[:1]), NOW):
            paid[wire.payer.line] += price
            with suppress(FundsError):
                wire.payer.pay(price, NOW)
        case b"C" if wire.payer.ready:
            wire.payer.close(m.CloseReason.DONE)
        case b"S" | b"I" if message := m.decode(told):
            if message.LAYOUT[-1][0] == "signature" and message.TYPE != 0x09:
                message = wire.signed(message, payee_key if what == b"S" else IDENTITY)
            if isinstance(message, m.Resumed):  # with the newest signature that it was given
                digest = Commitments(viewer.payer.params, viewer.payer.lines).digest(_START)
                message = wire.signed(replace(message, last=viewer.key.sign(digest)), payee_key)
            return wire.payer.receive(message, NOW)
        case _ if message := m.decode(told):
            return wire.payer.receive(message, NOW)
    return None


def _check_missed(payer: Payer, happening: Ready | LineNeeded | Refused) -> None:
    """What is signed again is signed at no more than we had paid before, on any line."""
    commitments = Commitments(payer.params, payer.lines)
    for payment in happening.missed:
        below = _below(payer.totals, payment.line)
        assert payment.total == payer.totals[payment.line]
        assert any(
            (digest := commitments.digest_if_fits(totals))
            and verify(payer.params.lock.payer, digest, payment.signature)
            for totals in below
        )


def _below(totals: Totals, line: int) -> list[Totals]:
    """Every vector up to ours that stands at ours in `line`; ours are small here."""
    (first, second) = totals
    if line == 0:
        return [(first, other) for other in range(second + 1)]
    return [(other, second) for other in range(first + 1)]


# -- seeds ------------------------------------------------------------------------------------------------------------


def _messages() -> list[bytes]:
    return [bytes.fromhex(one["bytes"]) for one in vector("messages")["messages"]]


def _chunked() -> list[bytes]:
    long = m.HaveMap(hashlib.shake_128(b"map").digest(40_000)).encode()
    return [joined(*m.chunked(long)), joined(*_messages()[:2])]


def _offers() -> list[bytes]:
    wire = Wire(Seeder())
    return [message.encode() for message in wire.to_viewer if isinstance(message, m.Offer)]


def _records() -> list[bytes]:
    wire = Wire(Seeder())
    viewer = wire.open()
    viewer.raise_mark()
    wire.buy(5)
    line = records.Lined(viewer.outpoint, 1, SERIES)
    marks = records.Reserved(viewer.outpoint, (7, 300))
    return [records.encode(one) for one in (*wire.seeder.ledger, line, marks)]


def _buyers() -> list[bytes]:
    """What an honest viewer does, and the messages that a dishonest one has to say."""
    closing = m.ChannelClose(7, 0, (0,), bytes(64)).encode()
    asked = joined(b"P\0", b"A\5\xff\xff", b"L", b"P\1", b"A\6\0\1", b"S" + closing)
    resume = m.Resume(9, bytes(36)).encode()
    line = m.AddLine(7, 1, title_terms.encode(FILM_TERMS)).encode()
    return [asked, joined(b"S" + resume, b"S" + line), joined(*(b"S" + raw for raw in _messages()))]


def _sellers() -> list[bytes]:
    resumed = m.Resumed(9, 1 << 20, (40, 25), bytes(64), (3, 4)).encode()
    behind = m.Resumed(9, 1 << 20, (7,), bytes(64), ()).encode()
    early = m.PaymentRefused(9, m.Refusal.EXPOSURE, (40, 3), bytes(64)).encode()
    lie = m.PaymentRefused(9, m.Refusal.EXPOSURE, (900, 3), bytes(64)).encode()
    closed = m.ChannelClosed(9, bytes(32), bytes(64)).encode()
    closing = m.ChannelClose(9, 1, (40, 25), bytes(64)).encode()
    return [
        joined(b"S" + resumed, b"P\1", b" " + early, b"P\0", b"C", b" " + closed),
        joined(b"S" + behind, b"S" + closing),
        joined(b"S" + resumed, b" " + lie),
        joined(b"S" + resumed, b" " + m.ChannelError(9, 5, 0, b"gone").encode()),
        joined(*(b"S" + raw for raw in _messages())),
    ]


_BAD_MESSAGE = frozenset(("bad-message",))

TARGETS: dict[str, Target] = {
    "pay-message": Target(_message, _messages, (m,), reasons=_BAD_MESSAGE),
    "pay-chunks": Target(_joined, _chunked, (m,), reasons=_BAD_MESSAGE),
    "offer": Target(_offer, _offers, (offers,), reasons=_BAD_MESSAGE | {"bad-offer", "bad-terms"}),
    "ledger-record": Target(_record, _records, (records,), refusals=(StoreError,)),
    "receipt-leaves": Target(
        _leaves,
        lambda: [b"".join(bytes.fromhex(one["bytes"]) for one in vector("receipts")["leaves"])],
        (receipts,),
        reasons=frozenset(("bad-receipt",)),
    ),
    "selling": Target(_selling, _buyers, (payee_session, payee), mutations=100),
    "buying": Target(_buying, _sellers, (payer_session, payer), mutations=200),
}
