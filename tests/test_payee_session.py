"""The gate and the earning session, one story a rule or an attack. Bytes are counted where they leave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bct.channel.state import Event, State
from bct.channel.timing import SETTLE_BEFORE
from bct.channel.transactions import Commitments
from bct.errors import Action, RemoteProtocolError
from bct.pay import messages as m
from bct.pay.account import TIMES_SERVED, Verdict, unsynced_risk
from bct.pay.effects import Send, Settle
from bct.pay.messages import Fault, Refusal
from bct.pay.payee_session import EARLY_PAYMENTS
from bct.pay.records import Lined, Opened, Paid
from bct.title import terms as title_terms
from bct.units import Outpoint, Txid
from tests.channel_attacks import _high as high
from tests.channel_parts import EXPIRY, FILM, NOW, SERIES, key
from tests.pay_parts import CAPACITY, PIECE, POLICY, Seeder, Viewer, Wire, only, terms

SERVE, HOLD, REFUSE = Verdict.SERVE, Verdict.HOLD, Verdict.REFUSE
SERIES_TERMS = terms("series", payees=SERIES)
SEQUEL_TERMS = terms("sequel")
"""Another title of the film's creators."""


@pytest.fixture
def seeder() -> Seeder:
    return Seeder()


@pytest.fixture
def wire(seeder: Seeder) -> Wire:
    return Wire(seeder)


def payment(viewer: Viewer, wire: Wire, total: int, line: int = 0, handle: int = 7) -> m.PiecePayment:
    """A payment signed by hand, whatever the payer's own books say."""
    totals = [0] * max(1, len(viewer.payer.lines))
    totals[line] = total
    digest = Commitments(viewer.payer.params, viewer.payer.lines).digest(tuple(totals))
    return m.PiecePayment(handle, line, total, viewer.key.sign(digest))


def error(messages: list[m.Message]) -> tuple[Fault, str]:
    said = only(messages)
    assert isinstance(said, m.ChannelError)
    return Fault(said.code), said.text.decode()


def refusal(messages: list[m.Message]) -> Refusal:
    said = only(messages)
    assert isinstance(said, m.PaymentRefused)
    return Refusal(said.reason)


# -- paying and asking ------------------------------------------------------------------------------------------------


def test_a_piece_is_paid_and_served(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    assert wire.buy(2) is SERVE
    assert wire.served == PIECE
    assert [type(record) for record in seeder.ledger] == [Paid, Opened]
    assert seeder.book.accounts[viewer.outpoint].payee.totals == (1,)


def test_free_pieces_need_no_channel(seeder: Seeder, wire: Wire) -> None:
    assert [seeder.ask(wire, piece) for piece in (0, 1, 2)] == [SERVE, SERVE, REFUSE]


def test_nothing_is_served_on_credit(seeder: Seeder, wire: Wire) -> None:
    """THREATS 20: at total 0, and one byte beyond what was paid, nothing leaves."""
    wire.open()
    assert seeder.ask(wire, 2, length=1) is REFUSE
    assert wire.buy(2) is SERVE
    assert seeder.ask(wire, 3, length=1) is REFUSE
    assert wire.served == PIECE


def test_two_pieces_for_the_price_of_one(seeder: Seeder, wire: Wire) -> None:
    """THREATS 20: the first byte asked of a piece costs its whole price."""
    wire.open()
    wire.pay()
    assert [seeder.ask(wire, piece, length=1) for piece in (2, 3, 4)] == [SERVE, REFUSE, REFUSE]


def test_half_a_price_opens_nothing(seeder: Seeder) -> None:
    """THREATS 20: a piece costs 5 sat; 4 do not open it."""
    wire = Wire(seeder, terms("dear", price=5))
    wire.open()
    wire.pay(4)
    assert seeder.ask(wire, 2) is REFUSE
    wire.pay(1)
    assert seeder.ask(wire, 2) is SERVE


def test_a_piece_is_served_three_times_its_length_and_no_more(seeder: Seeder, wire: Wire) -> None:
    """A broken connection costs the viewer nothing; a copying machine is not paid for once."""
    wire.open()
    wire.pay()
    for _ in range(TIMES_SERVED):
        assert seeder.ask(wire, 2) is SERVE
    assert seeder.ask(wire, 2, length=1) is REFUSE
    assert wire.served == 3 * PIECE


def test_asking_again_costs_nothing(seeder: Seeder, wire: Wire) -> None:
    wire.open()
    wire.pay()
    assert [seeder.ask(wire, 2), seeder.ask(wire, 2), seeder.ask(wire, 3)] == [SERVE, SERVE, REFUSE]


@pytest.mark.parametrize("total", [0, 1, 2])
def test_a_total_that_does_not_rise(seeder: Seeder, wire: Wire, total: int) -> None:
    """THREATS 9: refused, nothing served, nothing changed."""
    viewer = wire.open()
    wire.pay(2)
    seeder.ask(wire, 2)
    seeder.ask(wire, 3)
    before, kept = seeder.book.accounts[viewer.outpoint].payee.totals, len(seeder.ledger)
    assert refusal(wire.say(payment(viewer, wire, total))) is Refusal.NOT_RISING
    assert seeder.ask(wire, 4) is REFUSE
    assert (seeder.book.accounts[viewer.outpoint].payee.totals, len(seeder.ledger)) == (before, kept)


@pytest.mark.parametrize("total", [CAPACITY, 2**32 - 1])
def test_a_total_beyond_the_capacity(seeder: Seeder, wire: Wire, total: int) -> None:
    """THREATS 10."""
    wire.open()
    assert refusal(wire.say(m.PiecePayment(7, 0, total, bytes(64)))) is Refusal.OVER_CAPACITY
    assert seeder.ask(wire, 2) is REFUSE


def test_a_signature_over_outputs_that_short_the_creator(seeder: Seeder, wire: Wire) -> None:
    """THREATS 11: the outputs are rebuilt, so a signature over any others is none."""
    viewer = wire.open()
    for_himself = Commitments(replace(viewer.payer.params, change=viewer.payer.params.payout), (FILM,)).digest((1,))
    assert refusal(wire.say(m.PiecePayment(7, 0, 1, viewer.key.sign(for_himself)))) is Refusal.BAD_SIGNATURE
    assert seeder.ask(wire, 2) is REFUSE


def test_a_signature_with_high_s(seeder: Seeder, wire: Wire) -> None:
    """THREATS 13."""
    viewer = wire.open()
    good = payment(viewer, wire, 1)
    assert refusal(wire.say(replace(good, signature=high(good.signature)))) is Refusal.BAD_SIGNATURE
    assert wire.say(good) == []


def test_refused_says_what_holds(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay()
    last = seeder.book.accounts[viewer.outpoint].payee.signature
    said = only(wire.say(m.PiecePayment(7, 0, 2, bytes(64))))
    assert (said.totals, said.last) == ((1,), last)


def test_exposure_bounds_what_an_unmined_funding_is_good_for() -> None:
    """THREATS 57: refused above it, and taken when the cap was raised; the viewer hears of the new cap."""
    seeder = Seeder(cap=10)
    wire = Wire(seeder)
    viewer = wire.open()
    seeder.exposure = 3
    wire.pay(3)
    assert refusal(wire.say(payment(viewer, wire, 4))) is Refusal.EXPOSURE
    account = seeder.book.accounts[viewer.outpoint]
    account.cap = None
    seeder.perform(wire, wire.payee.cap_changed())
    assert wire.say(payment(viewer, wire, 4)) == []
    assert wire.to_viewer[-1] == m.ChannelReady(7, m.UNLIMITED)


def test_nothing_more_is_served_over_a_funding_that_is_contested(seeder: Seeder, wire: Wire) -> None:
    """THREATS 2: not even what is paid, or opened already; until the funding is mined after all."""
    viewer = wire.open()
    assert wire.buy(2) is SERVE
    wire.pay()
    account = seeder.book.accounts[viewer.outpoint]
    account.cap = 0
    assert [seeder.ask(wire, 2, length=1), seeder.ask(wire, 3), seeder.ask(wire, 0)] == [REFUSE, REFUSE, SERVE]
    account.cap = None
    assert seeder.ask(wire, 3) is SERVE


def test_no_payment_two_hours_before_the_expiry(seeder: Seeder, wire: Wire) -> None:
    """THREATS 7: later the refund could overtake the settlement."""
    viewer = wire.open()
    wire.now = EXPIRY - SETTLE_BEFORE
    assert refusal(wire.say(payment(viewer, wire, 1))) is Refusal.EXPIRING


def test_a_handle_that_names_nothing(seeder: Seeder, wire: Wire) -> None:
    """THREATS 46: handles are of the connection; another one's name nothing here."""
    viewer = wire.open(handle=7)
    other = Wire(seeder)
    assert refusal(other.say(payment(viewer, other, 1, handle=7))) is Refusal.UNKNOWN_HANDLE
    assert refusal(wire.say(payment(viewer, wire, 1, handle=8))) is Refusal.UNKNOWN_HANDLE
    assert [seeder.ask(other, 2), seeder.ask(wire, 2)] == [REFUSE, REFUSE]


def test_the_same_handle_on_two_torrents(seeder: Seeder, wire: Wire) -> None:
    """THREATS 46: two channels under one number on two connections stay two."""
    series = Wire(seeder, SERIES_TERMS)
    first, second = wire.open(handle=7), series.open(handle=7)
    assert first.outpoint != second.outpoint
    wire.pay()
    assert [seeder.ask(series, 2), seeder.ask(wire, 2)] == [REFUSE, SERVE]


# -- lines ------------------------------------------------------------------------------------------------------------


def test_money_on_another_line_opens_nothing_here(seeder: Seeder, wire: Wire) -> None:
    """THREATS 20: what was paid to the film's creators is no credit for the series."""
    viewer = wire.open()
    wire.pay(5)
    wire.payee.lost()
    series = Wire(seeder, SERIES_TERMS)
    series.resume(viewer)
    assert seeder.ask(series, 2) is REFUSE, "no line for these creators yet"
    series.say(series.payer.add_line())
    assert seeder.ask(series, 2) is REFUSE, "nothing paid on it yet"
    assert series.served == 0


def test_a_second_title_over_the_same_channel(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    assert wire.buy(2) is SERVE
    wire.payee.lost()
    series = Wire(seeder, SERIES_TERMS)
    series.resume(viewer)
    viewer.raise_mark()
    assert only(series.say(series.payer.add_line())) == m.LineAdded(9, 1)
    series.deliver()
    assert series.buy(2) is SERVE
    assert seeder.book.accounts[viewer.outpoint].payee.totals == (1, 1)
    assert [type(record) for record in seeder.ledger] == [Paid, Opened, Lined, Paid, Opened]


def test_titles_of_the_same_creators_share_a_line(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay(2)
    assert seeder.ask(wire, 2) is SERVE
    wire.payee.lost()
    sequel = Wire(seeder, SEQUEL_TERMS)
    sequel.resume(viewer)
    assert [seeder.ask(sequel, 2), seeder.ask(sequel, 3)] == [SERVE, REFUSE]


@pytest.mark.parametrize("line", [0, 2, 255])
def test_lines_are_numbered_in_order(seeder: Seeder, wire: Wire, line: int) -> None:
    viewer = wire.open()
    wire.payee.lost()
    series = Wire(seeder, SERIES_TERMS)
    series.resume(viewer)
    adding = replace(series.payer.add_line(), line=line)  # type: ignore[call-arg]
    assert error(series.say(adding))[0] is Fault.BAD_LINE


def test_a_line_under_terms_that_are_not_this_connections(seeder: Seeder, wire: Wire) -> None:
    """THREATS 15: a viewer brings terms that pay itself."""
    wire.open()
    crooked = replace(terms(payees=SERIES), payees=FILM)
    assert error(wire.say(m.AddLine(7, 1, title_terms.encode(crooked))))[0] is Fault.BAD_LINE


def test_a_flipped_line_byte(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: the signature is over all lines' outputs, so a payment counts on its own line only."""
    viewer = wire.open()
    wire.payee.lost()
    series = Wire(seeder, SERIES_TERMS)
    series.resume(viewer)
    viewer.raise_mark()
    series.say(series.payer.add_line())
    series.deliver()
    honest = series.payer.pay(3, series.now)
    assert refusal(series.say(replace(honest, line=0))) is Refusal.BAD_SIGNATURE
    assert series.say(honest) == []


# -- opening ----------------------------------------------------------------------------------------------------------


def test_early_payments_are_judged_after_ready(seeder: Seeder, wire: Wire) -> None:
    """OPEN, payment and request leave in one flight; nothing is served before the funding is checked and saved."""
    seeder.chain_answers = False
    viewer = wire.fund()
    wire.say(wire.opening(viewer), payment(viewer, wire, 1))
    assert seeder.ask(wire, 2) is HOLD
    assert wire.unanswered
    seeder.funded(wire, wire.unanswered)
    assert seeder.ask(wire, 2) is SERVE


def test_early_payments_are_bounded(seeder: Seeder, wire: Wire) -> None:
    """THREATS 22: what a stranger can make us keep before the channel is funded."""
    seeder.chain_answers = False
    viewer = wire.fund()
    wire.say(wire.opening(viewer), *(payment(viewer, wire, 1) for _ in range(EARLY_PAYMENTS)))
    with pytest.raises(RemoteProtocolError, match="more than 32 payments before") as cut:
        wire.say(payment(viewer, wire, 1))
    assert cut.value.reason == "too-early"


def test_a_funding_that_is_refused(seeder: Seeder, wire: Wire) -> None:
    """THREATS 3: the early payments are gone with it, and the connection may try another one."""
    seeder.chain_answers = False
    viewer = wire.fund()
    wire.say(wire.opening(viewer), payment(viewer, wire, 1))
    seeder.perform(wire, wire.payee.unfunded(Fault.FUNDING_REFUSED, "no"))
    assert error(wire.to_viewer)[0] is Fault.FUNDING_REFUSED
    assert seeder.ask(wire, 2) is REFUSE
    assert not seeder.book.accounts
    assert not seeder.ledger
    seeder.chain_answers = True
    wire.deliver()
    wire.say(wire.opening(viewer))
    assert seeder.ask(wire, 2) is REFUSE, "its payments were forgotten"


def test_nothing_is_kept_for_an_opening_whose_connection_ends(seeder: Seeder, wire: Wire) -> None:
    """THREATS 22."""
    seeder.chain_answers = False
    wire.say(wire.opening(wire.fund()))
    wire.payee.lost()
    assert wire.unanswered
    seeder.funded(wire, wire.unanswered)
    assert not seeder.book.accounts
    assert not seeder.saved


def test_one_channel_a_connection(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    opening = wire.said[0]
    assert error(wire.say(opening))[0] is Fault.BAD_OPEN
    assert seeder.book.accounts.keys() == {viewer.outpoint}


def test_a_known_funding_is_resumed_not_opened(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: two openings on one outpoint would count its capacity twice."""
    viewer = wire.open()
    other = Wire(seeder)
    other.fund()
    again = other.opening(viewer)
    assert error(other.say(again)) == (Fault.BAD_OPEN, "this funding is known: RESUME it")
    assert seeder.ask(other, 2) is REFUSE


def test_an_opening_replayed_on_another_connection(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: its signature covers both sides' random numbers of its own connection."""
    wire.open()
    with pytest.raises(RemoteProtocolError, match="not signed by its payer key"):
        Wire(seeder).say(wire.said[0])


@pytest.mark.parametrize(("asked", "agreed"), [(60, 60), (899, 899), (901, 900), (86_400, 900)])
def test_the_idle_time_is_the_shorter_one(seeder: Seeder, wire: Wire, asked: int, agreed: int) -> None:
    """The offer says 900 s."""
    viewer = wire.fund()
    wire.say(wire.signed(replace(wire.opening(viewer), idle=asked), viewer.key))
    assert seeder.idle == {viewer.outpoint: agreed}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"nonce": bytes(16)}, "not ours"),
        ({"payer": bytes(33)}, "no public key"),
        ({"fee_rate": POLICY.fee_rate - 1}, "99 sat/kB"),
        ({"fee_rate": POLICY.fee_rate_cap + 1}, "1001 sat/kB"),
        ({"idle": 59}, "59 s"),
        ({"idle": 86_401}, "86401 s"),
        ({"max_outputs": 21}, "21 outputs"),
        ({"max_outputs": 2}, "outputs"),
        ({"expiry": NOW + 3600}, "6 to 72 hours"),
        ({"expiry": NOW + 100 * 3600}, "6 to 72 hours"),
        ({"expiry": 499_999_999}, "a Unix time"),
        ({"expiry": 2**31}, "a Unix time"),
    ],
)
def test_bounds_of_an_opening(seeder: Seeder, wire: Wire, change: dict[str, int], fault: str) -> None:
    """THREATS 5: signed all right, and refused with the reason; the connection goes on."""
    viewer = wire.fund()
    opening = wire.signed(replace(wire.opening(viewer), **change), viewer.key)
    code, text = error(wire.say(opening))
    assert (code, fault in text) == (Fault.BAD_OPEN, True), text
    assert not seeder.book.accounts


@pytest.mark.parametrize(
    "change", [{"fee_rate": POLICY.fee_rate_cap}, {"idle": 60}, {"idle": 86_400}, {"max_outputs": 20}]
)
def test_what_lies_on_the_bounds_is_taken(seeder: Seeder, wire: Wire, change: dict[str, int]) -> None:
    viewer = wire.fund(10_000)
    wire.say(wire.signed(replace(wire.opening(viewer), **change), viewer.key))
    assert seeder.saved.keys() == {viewer.outpoint}


def test_the_least_capacity_is_taken(seeder: Seeder, wire: Wire) -> None:
    """Eight pieces at 1 sat, and the fee of three outputs: 30 sat."""
    assert wire.open(38).outpoint in seeder.book.accounts


def test_an_opening_that_its_payer_did_not_sign(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.fund()
    forged = replace(wire.opening(viewer), change=bytes(20))
    with pytest.raises(RemoteProtocolError, match="not signed by its payer key") as cut:
        wire.say(forged)
    assert (cut.value.reason, cut.value.action) == ("bad-signature", Action.DISCONNECT)
    assert not seeder.saved


@pytest.mark.parametrize("capacity", [0, 37, 2**32])
def test_bounds_of_the_capacity(seeder: Seeder, wire: Wire, capacity: int) -> None:
    viewer = wire.fund(capacity)
    assert error(wire.say(wire.opening(viewer)))[0] is Fault.BAD_OPEN
    assert not seeder.saved


def test_an_offer_is_good_for_an_hour(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.fund()
    wire.now += 3601
    code, text = error(wire.say(wire.opening(viewer)))
    assert (code, text) == (Fault.BAD_OPEN, "the offer is 3601 s old: ask for a new one")


def test_an_offer_of_another_torrent(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: the nonce proves which torrent it was made for."""
    series = Wire(seeder, SERIES_TERMS)
    series.deliver()
    assert series.payer.offered
    viewer = wire.fund()
    opening = replace(wire.opening(viewer), nonce=series.payer.offered.offer.nonce)
    assert "not ours" in error(wire.say(wire.signed(opening, viewer.key)))[1]


def test_an_offer_is_asked_for_anew(seeder: Seeder, wire: Wire) -> None:
    wire.deliver()
    assert wire.payer.offered
    before = wire.payer.offered.offer.nonce
    wire.say(wire.payer.ask_anew())
    wire.deliver()
    assert wire.payer.offered.offer.nonce != before
    with pytest.raises(RemoteProtocolError, match="a torrent this connection is not") as cut:
        wire.say(m.OfferRequest(bytes(20)))
    assert cut.value.reason == "wrong-title"


# -- resuming ---------------------------------------------------------------------------------------------------------


def test_resume_moves_the_handle(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: one channel is served over one connection; the older one is told, and gets nothing more."""
    viewer = wire.open()
    wire.pay(2)
    newer = Wire(seeder)
    newer.resume(viewer)
    seeder.perform(wire, wire.payee.moved())
    assert error(wire.to_viewer)[0] is Fault.MOVED
    assert [seeder.ask(wire, 2), seeder.ask(newer, 2)] == [REFUSE, SERVE]
    assert refusal(wire.say(payment(viewer, wire, 3))) is Refusal.UNKNOWN_HANDLE


def test_no_credit_appears_by_resuming(seeder: Seeder, wire: Wire) -> None:
    """THREATS 20: what was used up stays used up."""
    viewer = wire.open()
    assert wire.buy(2) is SERVE
    for _ in range(3):
        wire = Wire(seeder)
        wire.resume(viewer)
        assert seeder.ask(wire, 3, length=1) is REFUSE


def test_resumed_says_what_was_opened(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    assert [wire.buy(2), wire.buy(5)] == [SERVE, SERVE]
    again = Wire(seeder)
    (ready,) = again.resume(viewer)
    assert ready.opened == (2, 5)  # type: ignore[union-attr]


def test_resume_by_somebody_else(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: the outpoint is public, the payer's key is not."""
    viewer = wire.open()
    thief = Wire(seeder)
    with pytest.raises(RemoteProtocolError, match="not signed by the channel's payer") as cut:
        thief.say(thief.signed(m.Resume(7, viewer.outpoint.pack()), key("thief")))
    assert (cut.value.reason, cut.value.action) == ("bad-signature", Action.DISCONNECT)
    assert seeder.book.holders[viewer.outpoint] is wire.payee


def test_a_resume_replayed_on_another_connection(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24."""
    viewer = wire.open()
    second = Wire(seeder)
    second.resume(viewer)
    with pytest.raises(RemoteProtocolError, match="not signed by the channel's payer"):
        Wire(seeder).say(second.said[-1])
    assert seeder.book.holders[viewer.outpoint] is second.payee


def test_a_connection_resumes_one_channel(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    again = wire.signed(m.Resume(8, viewer.outpoint.pack()), viewer.key)
    assert error(wire.say(again)) == (Fault.BAD_RESUME, "this connection has a payment channel already")


def test_resumed_says_what_the_channel_is_good_for() -> None:
    seeder = Seeder(cap=300)
    viewer = Wire(seeder).open()
    second = Wire(seeder)
    second.deliver()
    (resumed,) = second.say(second.payer.resume(viewer.payer, viewer.key, 9))
    assert isinstance(resumed, m.Resumed)
    assert (resumed.handle, resumed.cap, resumed.last) == (9, 300, bytes(64))


def test_only_who_holds_the_channel_hears_that_its_cap_has_changed() -> None:
    seeder = Seeder(cap=300)
    first, second = Wire(seeder), Wire(seeder)
    assert first.payee.cap_changed() == []
    viewer = first.open()
    account = seeder.book.accounts[viewer.outpoint]
    account.cap = 500
    assert first.payee.cap_changed() == [Send(m.ChannelReady(7, 500))]
    second.resume(viewer)
    assert first.payee.cap_changed() == []
    account.cap = None
    assert second.payee.cap_changed() == [Send(m.ChannelReady(9, m.UNLIMITED))]


def test_who_lost_the_channel_is_told_which(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24: and it cannot close, or add to, what another connection holds now."""
    viewer = wire.open()
    second = Wire(seeder)
    second.resume(viewer)
    (moved,) = wire.payee.moved()
    assert moved == Send(m.ChannelError(7, Fault.MOVED, 0, b"the channel was resumed on another connection"))
    line = m.AddLine(7, 1, title_terms.encode(wire.terms))
    assert error(wire.say(line)) == (Fault.BAD_LINE, "handle 7 names no open channel on this connection")
    assert wire.payee.close(m.CloseReason.DONE) == []


def test_another_handle_than_the_connections_own(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    line = m.AddLine(8, 1, title_terms.encode(wire.terms))
    assert error(wire.say(line)) == (Fault.BAD_LINE, "handle 8 names no open channel on this connection")
    assert seeder.book.accounts[viewer.outpoint].payee.lines == (FILM,)


def test_what_a_viewer_says_went_wrong_is_heard_and_changes_nothing(seeder: Seeder, wire: Wire) -> None:
    wire.open()
    assert wire.say(m.ChannelError(7, Fault.BAD_CLOSE, 1, b"words")) == []
    assert wire.buy(2) is SERVE


def test_resume_of_what_is_not_known(seeder: Seeder, wire: Wire) -> None:
    code, _ = error(wire.say(m.Resume(7, Outpoint(Txid(bytes(32)), 0).pack()))[-1:])
    assert code is Fault.UNKNOWN_CHANNEL


def test_a_closed_channel_is_not_resumed(seeder: Seeder, wire: Wire) -> None:
    """THREATS 31, from the other side: nothing is paid over what was settled."""
    viewer = wire.open()
    wire.pay()
    wire.say(wire.payer.close(m.CloseReason.DONE))
    other = Wire(seeder)
    other.deliver()
    code, text = error(other.say(other.payer.resume(viewer.payer, viewer.key, 9)))
    assert (code, text) == (Fault.UNKNOWN_CHANNEL, "the channel is settled")


# -- closing ----------------------------------------------------------------------------------------------------------


def test_close_settles_the_newest_totals(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay(60)
    wire.pay(2)
    closed = only(wire.say(wire.payer.close(m.CloseReason.DONE)))
    assert isinstance(closed, m.ChannelClosed)
    tx = seeder.settled[viewer.outpoint]
    assert closed.txid == tx.txid
    assert [output.value for output in tx.outputs[:2]] == [37, 25]
    assert viewer.payer.settlement(closed.commitment, viewer.key) == tx


@pytest.mark.parametrize(("said", "told"), [(0, "done"), (4, "capacity"), (5, "fault"), (6, "closed"), (255, "closed")])
def test_why_a_viewer_closes_is_told_in_one_word(seeder: Seeder, wire: Wire, said: int, told: str) -> None:
    viewer = wire.open()
    closing = replace(wire.payer.close(m.CloseReason.DONE), reason=said)  # type: ignore[call-arg]
    (effect,) = wire.payee.receive(wire.signed(closing, viewer.key), NOW, seeder.random)
    assert isinstance(effect, Settle)
    assert (effect.account.outpoint, effect.reason) == (viewer.outpoint, told)


def test_a_connection_without_a_channel_has_none_to_close(wire: Wire) -> None:
    assert wire.payee.close(m.CloseReason.SHUTDOWN) == []


def test_close_at_totals_0(seeder: Seeder, wire: Wire) -> None:
    """The payer's signature comes with CLOSE, so nobody has to wait for the refund."""
    viewer = wire.open()
    wire.say(wire.payer.close(m.CloseReason.DONE))
    (change,) = seeder.settled[viewer.outpoint].outputs
    assert change.value == CAPACITY - 24


def test_nothing_is_served_after_close(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay(5)
    assert seeder.ask(wire, 2) is SERVE
    seeder.book.accounts[viewer.outpoint].payee.on(Event.CLOSE)
    assert [seeder.ask(wire, 2), seeder.ask(wire, 3)] == [REFUSE, REFUSE]


@pytest.mark.parametrize("totals", [(0,), (1,), (3,), (2, 0)])
def test_close_at_other_totals(seeder: Seeder, wire: Wire, totals: tuple[int, ...]) -> None:
    """THREATS 9, 29: a CLOSE never lowers, raises or reshapes what was paid."""
    viewer = wire.open()
    wire.pay(2)
    closing = replace(wire.payer.close(m.CloseReason.DONE), totals=totals)  # type: ignore[call-arg]
    assert error(wire.say(wire.signed(closing, viewer.key)))[0] is Fault.BAD_CLOSE
    assert seeder.book.accounts[viewer.outpoint].payee.state is State.OPEN


def test_a_close_replayed_on_another_connection(seeder: Seeder, wire: Wire) -> None:
    """THREATS 24."""
    viewer = wire.open()
    wire.pay()
    closing = wire.payer.close(m.CloseReason.DONE)
    newer = Wire(seeder)
    newer.deliver()
    viewer.payer.state = State.OPEN
    newer.resume(viewer, handle=7)
    with pytest.raises(RemoteProtocolError, match="not signed by the channel's payer") as cut:
        newer.say(closing)
    assert (cut.value.reason, cut.value.action) == ("bad-signature", Action.DISCONNECT)
    assert seeder.book.accounts[viewer.outpoint].payee.state is State.OPEN


@pytest.mark.parametrize("event", [Event.SETTLEMENT_SEEN, Event.REFUND_SEEN])
def test_close_after_the_end(seeder: Seeder, wire: Wire, event: Event) -> None:
    """The chain was quicker than the viewer. What it says late is refused, and no bug of ours."""
    viewer = wire.open()
    wire.pay()
    closing = wire.payer.close(m.CloseReason.DONE)
    seeder.book.accounts[viewer.outpoint].payee.on(event)
    assert error(wire.say(closing))[0] is Fault.BAD_CLOSE


def test_close_twice(seeder: Seeder, wire: Wire) -> None:
    wire.open()
    wire.pay()
    closing = wire.payer.close(m.CloseReason.DONE)
    wire.say(closing)
    assert error(wire.say(closing)) == (Fault.BAD_CLOSE, "handle 7 names no open channel on this connection")


def test_the_seeder_closes(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay()
    account = seeder.book.accounts[viewer.outpoint]
    account.payee.on(Event.CLOSE)
    seeder.perform(wire, wire.payee.close(m.CloseReason.EXPIRY))
    assert seeder.ask(wire, 2) is REFUSE
    wire.deliver()
    assert not wire.payer.ready


def test_a_settled_channel_leaves_nothing_behind(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay()
    wire.say(wire.payer.close(m.CloseReason.DONE))
    assert viewer.outpoint not in seeder.book.holders
    wire.deliver()
    wire.say(wire.payer.ask_anew())
    assert wire.open().outpoint in seeder.book.accounts, "the connection may have another one"


@pytest.mark.parametrize("message", [m.ChannelReady(7, 1), m.LineAdded(7, 1), m.PaymentAck(7, ()), m.HaveMap(b"")])
def test_what_only_a_seeder_says(wire: Wire, message: m.Message) -> None:
    with pytest.raises(RemoteProtocolError, match="a seeder is never sent"):
        wire.say(message)


# -- the disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("price", "ahead"), [(1, 4), (5, 4), (10, 2), (20, 1), (50, 1)])
def test_how_far_serving_runs_ahead_of_the_ledger(seeder: Seeder, price: int, ahead: int) -> None:
    """THREATS 27: a crash loses the payee at most min(4 pieces, max(1 piece, 20 sat))."""
    seeder.synced = False
    wire = Wire(seeder, terms("dear", price=price))
    viewer = wire.open(20_000)
    wire.pay(10 * price)
    verdicts = [seeder.ask(wire, piece) for piece in range(2, 12)]
    assert verdicts == [SERVE] * ahead + [HOLD] * (10 - ahead)
    assert ahead * price <= unsynced_risk(price)
    account = seeder.book.accounts[viewer.outpoint]
    assert account.is_behind
    account.synced(len(seeder.ledger))
    assert not account.is_behind
    assert seeder.ask(wire, 2 + ahead) is SERVE


def test_a_crash_after_serving(seeder: Seeder, wire: Wire) -> None:
    """THREATS 27: the newest records are lost; what is left adds up, and the payer makes good what it had signed."""
    viewer = wire.open()
    for piece in range(2, 8):
        assert wire.buy(piece) is SERVE
    back = seeder.restart(lost=3)  # payment and piece 7, piece 6
    account = back.book.accounts[viewer.outpoint]
    assert (account.payee.totals, account.credit(0)) == ((5,), 1)
    again = Wire(back)
    (ready,) = again.resume(viewer)
    again.say(*ready.missed)  # type: ignore[union-attr]
    assert account.payee.totals == (6,)
    assert [back.ask(again, piece) for piece in (6, 7, 8)] == [SERVE, SERVE, REFUSE]


def test_the_whole_account_comes_back(seeder: Seeder, wire: Wire) -> None:
    viewer = wire.open()
    wire.pay(3)
    seeder.ask(wire, 2)
    wire.payee.lost()
    series = Wire(seeder, SERIES_TERMS)
    series.resume(viewer)
    viewer.raise_mark()
    series.say(series.payer.add_line())
    series.deliver()
    series.buy(4)
    before = seeder.book.accounts[viewer.outpoint]
    after = seeder.restart().book.accounts[viewer.outpoint]
    for account in (before, after):
        assert account.payee.totals == (3, 1)
        assert account.payee.lines == (FILM, SERIES)
        assert (account.credit(0), account.credit(1)) == (2, 0)
        assert account.opened(wire.terms.infohash) == (2,)
    assert after.payee.signature == before.payee.signature
