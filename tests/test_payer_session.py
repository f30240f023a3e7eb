"""The spending session, one story a rule or an attack: the seeder lies, and the viewer's money stays where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bct.bitcoin.chain import Network
from bct.channel.payer import Payer
from bct.channel.state import Event, State
from bct.channel.timing import SETTLE_BEFORE
from bct.errors import Action, FundsError, LocalProtocolError, RemoteProtocolError
from bct.pay import messages as m
from bct.pay import offers
from bct.pay.account import Verdict
from bct.pay.messages import Fault
from bct.pay.payer_session import Closed, Failed, LineNeeded, Offered, Ready, Refused, Stage
from bct.title.terms import Terms
from bct.units import Payees, PieceIndex, Satoshi
from tests.channel_parts import BOB, EXPIRY, FILM, NOW, SERIES, key
from tests.pay_parts import CREATOR, IDENTITY, POLICY, Seeder, Viewer, Wire, terms

PRICE = 1


@pytest.fixture
def wire() -> Wire:
    return Wire(Seeder())


def offer(wire: Wire, of: Terms, policy: offers.Policy = POLICY, by: Any = IDENTITY) -> m.Offer:
    nonce = offers.new_nonce(b"secret", of.infohash, NOW, bytes(4))
    return offers.make_offer(policy, of, wire.context, by, key("payee").public, nonce)


def refused(wire: Wire, message: m.Message) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as error:
        wire.payer.receive(message, wire.now)
    return error.value


def affords(wire: Wire, price: int = PRICE) -> bool:
    return wire.payer.affords(price, wire.now)


# -- the offer (THREATS 8, 15, 16, 52) --------------------------------------------------------------------------------


def test_an_offer_under_the_creators_terms(wire: Wire) -> None:
    (offered,) = wire.deliver()
    assert isinstance(offered, Offered)
    assert offered.terms == wire.terms


def test_an_offer_signed_by_another_key(wire: Wire) -> None:
    """THREATS 8, 25: who sells is who shook hands; anything else is a lie that can be proven."""
    assert refused(wire, offer(wire, wire.terms, by=key("stranger"))).action is Action.BAN


def test_an_offer_of_another_connection(wire: Wire) -> None:
    """THREATS 24."""
    other = Wire(wire.seeder)
    assert refused(wire, other.to_viewer[0]).reason == "bad-offer"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"payee": bytes(33)}, "no public key"),
        ({"fee_rate": 0}, "0 sat/kB"),
        ({"fee_rate": 1001}, "1001 sat/kB"),
        ({"max_outputs": 2}, "2 outputs"),
        ({"max_outputs": 21}, "21 outputs"),
        ({"idle": 59}, "59 s idle"),
        ({"idle": 86_401}, "86401 s idle"),
        ({"capacity_min": 39}, "39 sat to be locked, 38 sat would do"),
        ({"capacity_min": 2**32 - 1}, "4294967295 sat to be locked"),
        ({"capacity_max": 37}, "to be locked"),
    ],
)
def test_bounds_of_an_offer(wire: Wire, change: dict[str, Any], text: str) -> None:
    """THREATS 8: what a seeder asks for may cost neither fees nor a wallet locked for half a day."""
    greedy = replace(offer(wire, wire.terms), **change)
    assert text in str(refused(wire, wire.signed(greedy, IDENTITY)))
    assert wire.payer.offered is None


@pytest.mark.parametrize(
    ("crooked", "reason"),
    [
        (replace(terms(), price=Satoshi(2)), "bad-signature"),
        (replace(terms(), payees=SERIES), "bad-signature"),
        (replace(terms(), free=()), "bad-signature"),
        (replace(terms(), creator=key("thief").public).sign(key("thief")), "wrong-creator"),
        (terms("another title"), "wrong-title"),
        (replace(terms(), network=Network.TEST).sign(CREATOR), "wrong-network"),
        (replace(terms(), valid_until=NOW).sign(CREATOR), "expired"),
        (replace(terms(), valid_from=NOW + 1).sign(CREATOR), "not-yet-valid"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_terms_that_are_not_the_creators(wire: Wire, crooked: Terms, reason: str) -> None:
    """THREATS 15, 16: the seeder's own, altered, expired, of another title or network."""
    assert refused(wire, offer(wire, crooked)).reason == reason
    assert wire.payer.offered is None


def test_downgraded_terms() -> None:
    """THREATS 16, 52: the highest sequence seen wins; an equal one is the same."""
    wire = Wire(Seeder(), terms(sequence=4), lowest=5)
    assert refused(wire, wire.to_viewer[0]).reason == "old-sequence"
    Wire(Seeder(), terms(sequence=5), lowest=5).deliver()


def test_downgraded_on_the_same_connection(wire: Wire) -> None:
    """THREATS 52."""
    wire.payer.receive(offer(wire, terms(sequence=2)), NOW)
    assert refused(wire, offer(wire, terms(sequence=1))).reason == "old-sequence"


def test_terms_that_were_renewed_are_taken_while_no_channel_runs(wire: Wire) -> None:
    wire.deliver()
    wire.payer.receive(offer(wire, terms(price=3, sequence=2)), NOW)
    assert wire.payer.offered
    assert wire.payer.offered.terms.sequence == 2


def test_an_offer_that_is_asked_for_anew_is_not_there_until_it_comes(wire: Wire) -> None:
    wire.deliver()
    assert wire.payer.ask_anew() == m.OfferRequest(wire.terms.infohash)
    assert wire.payer.offered is None


def test_a_running_channel_keeps_its_terms(wire: Wire) -> None:
    """A price raised by the creator counts from the next channel on."""
    wire.open()
    wire.payer.receive(offer(wire, terms(price=3, sequence=2)), NOW)
    assert wire.payer.offered
    assert wire.payer.offered.terms == wire.terms


# -- opening ----------------------------------------------------------------------------------------------------------


def test_open_says_what_was_saved(wire: Wire) -> None:
    viewer = wire.fund()
    opening = wire.opening(viewer)
    fixed = viewer.payer.params
    assert (opening.payer, opening.expiry) == (fixed.lock.payer, fixed.lock.expiry)
    assert (opening.change, opening.fee_rate, opening.max_outputs) == (fixed.change, fixed.fee_rate, fixed.max_outputs)


def test_nothing_is_paid_before_ready(wire: Wire) -> None:
    wire.seeder.chain_answers = False
    wire.say(wire.opening(wire.fund()))
    assert not affords(wire)
    with pytest.raises(FundsError):
        wire.payer.pay(PRICE, NOW)


def test_a_ready_that_nobody_waits_for(wire: Wire) -> None:
    """Before OPEN, or for a handle that is not ours, it says nothing."""
    assert wire.payer.receive(m.ChannelReady(7, 1000), NOW) is None
    wire.seeder.chain_answers = False
    wire.say(wire.opening(wire.fund()))
    assert wire.payer.receive(m.ChannelReady(8, 1000), NOW) is None
    assert not wire.payer.ready


def test_the_cap_is_kept_and_raised_later() -> None:
    """What an unmined funding is good for is the seeder's to say; the viewer pays no more than that."""
    seeder = Seeder(cap=3)
    wire = Wire(seeder)
    viewer = wire.open()
    assert wire.payer.affords(3, NOW)
    assert not wire.payer.affords(4, NOW)
    wire.pay(3)
    assert not affords(wire)
    seeder.book.accounts[viewer.outpoint].cap = None
    seeder.perform(wire, wire.payee.cap_changed())
    wire.deliver()
    assert affords(wire)


@pytest.mark.parametrize("event", [Event.CLOSE, Event.SETTLEMENT_SEEN, Event.EXPIRED])
def test_ready_for_a_channel_that_is_over(wire: Wire, event: Event) -> None:
    """The seeder cannot bring a channel back; it used to be a bug of ours."""
    wire.seeder.chain_answers = False
    viewer = wire.fund()
    wire.say(wire.opening(viewer))
    viewer.payer.on(event)
    assert refused(wire, m.ChannelReady(7, 1000)).reason == "channel-over"
    assert not affords(wire)


def test_ready_after_close_opens_nothing(wire: Wire) -> None:
    viewer = wire.open()
    wire.payer.close(m.CloseReason.DONE)
    assert wire.payer.receive(m.ChannelReady(7, m.UNLIMITED), NOW) is None
    assert (wire.payer.ready, viewer.payer.state) == (False, State.CLOSING)
    assert refused(wire, m.LineAdded(7, 0)).reason == "unexpected-line"


# -- what the seeder refuses ------------------------------------------------------------------------------------------


def test_what_was_signed_is_spent(wire: Wire) -> None:
    """THREATS 55: a payee that refuses a payment still holds its signature."""
    viewer = wire.open()
    wire.payer.pay(5, NOW)
    refusal = wire.payer.receive(m.PaymentRefused(7, m.Refusal.EXPOSURE, (0,), bytes(64)), NOW)
    assert isinstance(refusal, Refused)
    assert refusal.reason == "exposure"
    assert [payment.total for payment in refusal.missed] == [5], "it was only too early: to be said again"
    assert viewer.payer.paid == 5
    assert wire.payer.pay(1, NOW).total == 6


def test_a_payment_said_again_that_had_come_after_all_is_nobodys_fault(wire: Wire) -> None:
    wire.open()
    wire.payer.pay(5, NOW)
    assert wire.payer.receive(m.PaymentRefused(7, m.Refusal.NOT_RISING, (5,), bytes(64)), NOW) is None
    refusal = m.PaymentRefused(7, m.Refusal.NOT_RISING, (4,), bytes(64))
    assert wire.payer.receive(refusal, NOW) == Refused("not_rising"), "it holds less than we signed: no excuse"


def test_a_reason_nobody_knows(wire: Wire) -> None:
    wire.open()
    assert wire.payer.receive(m.PaymentRefused(7, 200, (), bytes(64)), NOW) == Refused("reason 200")


@pytest.mark.parametrize("code", set(Fault) - {Fault.BAD_RECEIPT})
def test_no_other_channel_for_an_error(wire: Wire, code: Fault) -> None:
    """THREATS 53: each channel costs two fees, so no word of the seeder's makes us open the next, whatever it says."""
    wire.open()
    assert wire.payer.receive(m.ChannelError(7, code, 0, b"<b>\xff"), NOW) == Failed(code, "<b>\ufffd", again=False)
    assert wire.payer.payer is None
    assert not affords(wire)


def test_a_seeder_that_lost_its_channels(wire: Wire) -> None:
    """Then RESUME leads nowhere, and a new channel is in order."""
    viewer = wire.open()
    forgetful = Wire(Seeder())
    (failed,) = forgetful.resume(viewer)
    assert isinstance(failed, Failed)
    assert (failed.code, failed.again) == (Fault.UNKNOWN_CHANNEL, True)


def test_errors_about_other_handles_say_nothing(wire: Wire) -> None:
    """THREATS 46."""
    wire.open()
    assert wire.payer.receive(m.ChannelError(8, Fault.BAD_OPEN, 1, b""), NOW) is None
    assert affords(wire)


# -- resuming ---------------------------------------------------------------------------------------------------------


def again(viewer: Viewer, wire: Wire, handle: int = 9) -> Wire:
    """A new connection to the same seeder, with RESUME said and not answered."""
    newer = Wire(wire.seeder, wire.terms)
    newer.deliver()
    newer.say(newer.payer.resume(viewer.payer, viewer.key, handle))
    return newer


def lie(wire: Wire, viewer: Viewer, **change: Any) -> m.Message:
    """RESUMED with something changed, signed by the payee all the same."""
    answer = wire.to_viewer.pop()
    assert isinstance(answer, m.Resumed)
    (_, nonce, _) = wire.seeder.saved[viewer.outpoint]
    return wire.signed(replace(answer, **change), wire.seeder.keys.derive(nonce))  # type: ignore[no-any-return]


def test_resumed(wire: Wire) -> None:
    viewer = wire.open()
    wire.buy(2)
    newer = again(viewer, wire)
    assert newer.deliver() == [Ready((PieceIndex(2),))]
    assert affords(newer)


def test_resumed_not_signed_by_the_payee(wire: Wire) -> None:
    """THREATS 24, 25."""
    viewer = wire.open()
    newer = again(viewer, wire)
    answer = newer.to_viewer.pop()
    error = refused(newer, newer.signed(answer, key("stranger")))
    assert (error.reason, error.action) == ("bad-resume", Action.BAN)


def test_resumed_that_nobody_asked_for(wire: Wire) -> None:
    viewer = wire.open()
    newer = again(viewer, wire)
    answer = newer.to_viewer[-1]
    newer.deliver()
    assert refused(newer, answer).reason == "unexpected-resumed"
    assert refused(again(viewer, wire), m.ChannelReady(9, 1)).reason == "unexpected-ready"


@pytest.mark.parametrize("totals", [(6,), (500,), (2**32 - 1,), (5, 1), (5, 0)])
def test_resumed_with_more_than_was_signed(wire: Wire, totals: tuple[int, ...]) -> None:
    """THREATS 55: totals count only under our own signature."""
    viewer = wire.open()
    wire.pay(5)
    newer = again(viewer, wire)
    assert refused(newer, lie(newer, viewer, totals=totals)).reason == "bad-resume"
    assert viewer.payer.totals == (5,)


def test_resumed_with_less_than_was_signed(wire: Wire) -> None:
    """THREATS 55: ours stand. What it says it never got is sent once more, and costs nothing anew."""
    viewer = wire.open()
    wire.pay(2)
    kept = wire.seeder.book.accounts[viewer.outpoint].payee.signature
    wire.payer.pay(3, NOW)  # and the connection breaks under it
    newer = again(viewer, wire)
    (ready,) = newer.deliver()
    assert isinstance(ready, Ready)
    assert [(one.line, one.total) for one in ready.missed] == [(0, 5)]
    assert (viewer.payer.paid, kept != ready.missed[0].signature) == (5, True)
    assert newer.say(*ready.missed) == []
    assert wire.seeder.book.accounts[viewer.outpoint].payee.totals == (5,)
    assert newer.pay() == []


def test_two_lines_of_which_the_seeder_missed_both(wire: Wire) -> None:
    """A payment's signature covers all lines: made good one by one, in order, each is accepted."""
    viewer = wire.open()
    wire.pay(2)
    wire.payer.pay(1, NOW)
    wire.payee.lost()
    series = Wire(wire.seeder, terms("series", payees=SERIES))
    assert isinstance(series.resume(viewer)[0], LineNeeded)
    series.say(series.payer.add_line())
    viewer.raise_mark()
    series.deliver()
    series.payer.pay(4, NOW)
    newer = Wire(wire.seeder)
    (ready,) = newer.resume(viewer)
    assert isinstance(ready, Ready)
    assert newer.say(*ready.missed) == []
    assert wire.seeder.book.accounts[viewer.outpoint].payee.totals == (3, 4) == viewer.payer.totals


def test_an_old_log_goes_on_from_what_the_payee_proves(wire: Wire) -> None:
    """THREATS 29: a viewer with an old backup never signs a total again that it signed before."""
    viewer = wire.open()
    for piece in range(2, 8):
        assert wire.buy(piece) is Verdict.SERVE
    old = Viewer(Payer(viewer.payer.params, (FILM,), reserved=(1000,)), viewer.key)
    (ready,) = again(old, wire).deliver()
    assert isinstance(ready, Ready)
    assert ready.opened == (2, 3, 4, 5, 6, 7)
    assert old.payer.totals == (6,)


def test_a_line_is_added_when_the_channel_has_none_for_us(wire: Wire) -> None:
    viewer = wire.open()
    wire.payee.lost()
    series = Wire(wire.seeder, terms("series", payees=SERIES))
    assert series.resume(viewer) == [LineNeeded(())]
    assert (series.payer.stage, series.payer.line, affords(series)) == (Stage.ADDING, 1, False)
    series.say(series.payer.add_line())
    assert series.deliver() == [Ready()]
    assert affords(series)


def test_a_line_that_was_never_sent_leaves_its_number_to_the_next(wire: Wire) -> None:
    """The connection breaks before ADD_LINE: the next title's creators, other ones, have to get the same number."""
    viewer = wire.open()
    wire.pay(2)
    wire.payee.lost()
    lost = Wire(wire.seeder, terms("series", payees=SERIES))
    lost.resume(viewer)
    lost.payer.add_line()
    lost.payee.lost()
    other = Wire(wire.seeder, terms("other", payees=Payees.of((BOB, 100))))
    assert other.resume(viewer) == [LineNeeded(())]
    other.say(other.payer.add_line())
    assert other.deliver() == [Ready()]
    viewer.raise_mark()
    assert other.buy(5) is Verdict.SERVE
    assert viewer.payer.totals == (2, 1) == wire.seeder.book.accounts[viewer.outpoint].payee.totals
    other.say(other.payer.close(m.CloseReason.DONE))
    assert isinstance(other.deliver()[0], Closed)


def test_a_seeder_that_lost_a_line_we_paid_on_cannot_be_told_of_the_next(wire: Wire) -> None:
    """Its number is taken on our side: a channel that both sides count differently is left."""
    viewer = wire.open()
    wire.payee.lost()
    series = Wire(wire.seeder, terms("series", payees=SERIES))
    series.resume(viewer)
    series.say(series.payer.add_line())
    series.deliver()
    viewer.raise_mark()
    series.pay(3)
    back = wire.seeder.restart(lost=2)
    other = again(viewer, Wire(back, terms("other", payees=Payees.of((BOB, 100)))))
    assert "counts 1 lines, and line 2 is what" in str(refused(other, other.to_viewer.pop()))
    assert viewer.payer.totals == (0, 3)
    assert again(viewer, Wire(back, series.terms)).deliver() == [LineNeeded(())], (
        "the title that it was for can be told of again"
    )


def test_a_line_that_was_not_being_added(wire: Wire) -> None:
    viewer = wire.open()
    assert refused(wire, m.LineAdded(7, 0)).reason == "unexpected-line"
    wire.payee.lost()
    series = Wire(wire.seeder, terms("series", payees=SERIES))
    series.resume(viewer)
    assert refused(series, m.LineAdded(9, 2)).reason == "unexpected-line"


# -- the end ----------------------------------------------------------------------------------------------------------


def test_closed_when_we_asked(wire: Wire) -> None:
    viewer = wire.open()
    wire.pay(62)
    wire.say(wire.payer.close(m.CloseReason.DONE))
    (closed,) = wire.deliver()
    assert isinstance(closed, Closed)
    assert closed.again
    assert closed.txid == wire.seeder.settled[viewer.outpoint].txid
    assert viewer.payer.settlement(closed.commitment, viewer.key) == wire.seeder.settled[viewer.outpoint]
    assert wire.payer.payer is None


def test_closed_at_older_totals_is_no_proof(wire: Wire) -> None:
    """THREATS 55: what the seeder signed has to be our newest state, or we wait for the chain's word."""
    viewer = wire.open()
    wire.pay(5)
    account = wire.seeder.book.accounts[viewer.outpoint]
    _, older = account.payee.settlement(wire.seeder.keys.derive(account.nonce))
    wire.pay(1)
    with pytest.raises(RemoteProtocolError, match="newest totals"):
        viewer.payer.settlement(older, viewer.key)


@pytest.mark.parametrize(("now", "again"), [(NOW, False), (EXPIRY - SETTLE_BEFORE, True)])
def test_the_chain_shows_an_end_that_the_seeder_does_not_tell(wire: Wire, now: int, again: bool) -> None:
    """THREATS 31: from then on nothing is paid, nor closed."""
    viewer = wire.open()
    wire.pay()
    viewer.payer.on(Event.SETTLEMENT_SEEN)
    assert not wire.payer.ready
    assert not affords(wire)
    assert wire.payer.seen_over(now) is again
    assert wire.payer.receive(m.ChannelClosed(7, bytes(32), bytes(64)), now) is None


def test_closed_without_a_reason(wire: Wire) -> None:
    """THREATS 53: taking the funding and closing earns the seeder no second one."""
    wire.open()
    (closed,) = [wire.payer.receive(m.ChannelClosed(7, bytes(32), bytes(64)), NOW)]
    assert isinstance(closed, Closed)
    assert not closed.again


@pytest.mark.parametrize(("now", "again"), [(NOW, False), (EXPIRY - SETTLE_BEFORE, True)])
def test_the_seeder_closes(wire: Wire, now: int, again: bool) -> None:
    """THREATS 53: only the clock, which we read ourselves, is a reason to open another one."""
    viewer = wire.open()
    wire.pay()
    account = wire.seeder.book.accounts[viewer.outpoint]
    account.payee.on(Event.CLOSE)
    wire.now = now
    wire.seeder.perform(wire, wire.payee.close(m.CloseReason.EXPIRY))
    assert wire.deliver() == []
    assert not affords(wire)
    assert wire.payer.stage is Stage.CLOSING
    wire.seeder.settle(wire, account)
    (closed,) = wire.deliver()
    assert isinstance(closed, Closed)
    assert closed.again is again


def test_without_a_channel_there_is_nothing_to_close_or_to_pay_over(wire: Wire) -> None:
    wire.deliver()
    with pytest.raises(LocalProtocolError, match="no payment channel to close"):
        wire.payer.close(m.CloseReason.DONE)
    with pytest.raises(FundsError, match="no open payment channel"):
        wire.payer.pay(PRICE, NOW)


def test_that_a_payment_came_needs_no_answer(wire: Wire) -> None:
    wire.open()
    wire.payer.pay(PRICE, NOW)
    assert wire.payer.receive(m.PaymentAck(7, (PRICE,)), NOW) is None
    assert affords(wire)


def test_a_close_not_signed_by_the_payee(wire: Wire) -> None:
    wire.open()
    assert refused(wire, m.ChannelClose(7, 0, (0,), bytes(64))).reason == "bad-close"


def test_a_channel_that_is_full_or_old_does_not_last(wire: Wire) -> None:
    wire.open(capacity=50)
    assert wire.payer.lasts(20, NOW)
    assert not wire.payer.lasts(21, NOW)
    assert not wire.payer.lasts(1, EXPIRY - SETTLE_BEFORE)
    wire.now = EXPIRY - SETTLE_BEFORE
    assert not affords(wire)


@pytest.mark.parametrize(
    "message", [m.OfferRequest(bytes(20)), m.PiecePayment(7, 0, 1, bytes(64)), m.Resume(7, bytes(36)), m.HaveMap(b"")]
)
def test_what_only_a_viewer_says(wire: Wire, message: m.Message) -> None:
    assert refused(wire, message).reason == "unexpected-message"


def test_a_restored_payer_pays_on_lines_it_knows(wire: Wire) -> None:
    """The terms' creators are on the second line of an old channel: payments go there."""
    viewer = wire.open()
    wire.payee.lost()
    series = Wire(wire.seeder, terms("series", payees=SERIES))
    series.resume(viewer)
    series.say(series.payer.add_line())
    series.deliver()
    restored = Viewer(Payer(viewer.payer.params, (FILM, SERIES), reserved=(100, 100)), viewer.key)
    newer = again(restored, series)
    assert newer.deliver() == [Ready()]
    assert newer.buy(2) is Verdict.SERVE
    assert restored.payer.totals == (0, 1)
