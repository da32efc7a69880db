"""Claims in a real store: what is claimed, and which holds are counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.presence import state
from services.presence.claims import ClaimRules, claim_deliveries
from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.plugins import Description
from services.presence.state import Endpoint, Follow, Register, Standing
from services.presence.store_outbox import Attempt, Decided
from tests.presence.terms import lock_all, own

HOLD_S, CHECK_S = 120.0, 1.0
RULES = ClaimRules(HOLD_S, CHECK_S)
MAIL, PHONE = "mailto:ann@example.org", "tel:+491700000000"
PLUGIN = Description("fake", {"mailto": True, "tel": True}, 100, 4)


def due(uri: str) -> Delivery:
    return Delivery(uri, "n", "ann", "/a", uri, DeliveryState.PENDING, 0.0, 10_000.0)


def prepare(tx) -> None:
    """Messages 1 and 2 are due to ann at two endpoints; her client is back, and has had 1."""
    rows = [
        state.PutRegister(Register("c", 2, "s", 7, Standing.ONLINE, connected=True)),
        state.PutFollow(Follow("/a", "c", 1, 0, 1, session_id="s")),
        state.PutEndpoint(Endpoint(MAIL, ("c",), 0.0)),
        state.PutEndpoint(Endpoint(PHONE, ("c",), 0.0)),
    ]
    for row in rows:
        tx.write_user("ann", row)
    notification = Notification("n", "ann", "/a", 1, 0.0, 0.0, 10_000.0)
    tx.begin_all([notification], [due(MAIL), due(PHONE)])
    for seq in (1, 2):
        tx.put_decided("ann", "/a", Decided(Span(seq, seq, seq), "n", "", 0.0))


@asynccontextmanager
async def opened(make_store, clock) -> AsyncIterator:
    """A store in which ann's rows may be written."""
    store = make_store(clock=clock)
    await store.open()
    await own(store)
    lock_all(store, ["ann"])
    try:
        yield store
    finally:
        await store.close()


async def claimed(store, *ids: str) -> list[tuple[str, list[Span]]]:
    """What is claimed of these deliveries."""
    claims = await store.write(
        lambda tx: claim_deliveries(tx, tx.deliveries(list(ids)), PLUGIN, RULES)
    )
    return [(one.delivery.id, list(one.spans)) for one in claims]


def test_a_hold_that_has_ended_has_ended_for_every_endpoint(run, make_store):
    now = [0.0]

    async def body():
        async with opened(make_store, lambda: now[0]) as store:
            await store.write(prepare)
            assert await claimed(store, MAIL, PHONE) == [], "held: the client answers for 2"
            now[0] = HOLD_S - 1
            assert await claimed(store, MAIL, PHONE) == []
            now[0] = HOLD_S
            two = [Span(2, 2, 2)]
            assert await claimed(store, MAIL, PHONE) == [(MAIL, two), (PHONE, two)]

    run(body())


@pytest.mark.parametrize(("outcome", "left"), [("RETRY", [2]), ("UNKNOWN", [1, 2])])
def test_what_is_acknowledged_after_a_try_is_taken_out_if_nothing_was_sent(
    run, make_store, outcome, left
):
    def tried(tx) -> None:
        prepare(tx)
        tx.close_notifications(["n"], sent=True)
        tx.put_attempts([Attempt(MAIL, 1, 0.0, "p", outcome)])
        gone = Register("c", 2, "s", 7, Standing.OFFLINE, connected=True)
        tx.write_user("ann", state.PutRegister(gone))

    async def body():
        async with opened(make_store, lambda: 1_000.0) as store:
            await store.write(tried)
            assert await claimed(store, MAIL) == [(MAIL, [Span(2, 2, 2)])]
            members = await store.read(lambda tx: tx.members("n"))
            assert [span.to_seq for span in members] == left

    run(body())


@pytest.mark.parametrize(
    ("outcome", "left"),
    [(None, [(4, 9)]), ("RETRY", [(4, 9)]), ("UNKNOWN", [(1, 9)])],
)
def test_of_a_long_backlog_only_what_is_told_stays_in_the_notification(
    run, make_store, outcome, left
):
    """Else it would be said of messages that they were notified, and no notification told them."""

    def placed(tx) -> None:
        offline = Register("c", 2, "s", 7, Standing.OFFLINE, connected=True)
        for row in (
            state.PutRegister(offline),
            state.PutFollow(Follow("/a", "c", 1, 0, 3, session_id="s")),
            state.PutEndpoint(Endpoint(MAIL, ("c",), 0.0)),
        ):
            tx.write_user("ann", row)
        tx.begin_all([Notification("n", "ann", "/a", 1, 0.0, 0.0, 10_000.0)], [due(MAIL)])
        tx.put_decided("ann", "/a", Decided(Span(1, 9, 90), "n", "", 5.0))
        if outcome is not None:
            tx.close_notifications(["n"], sent=True)
            tx.put_attempts([Attempt(MAIL, 1, 0.0, "p", outcome)])

    async def body():
        async with opened(make_store, lambda: 1_000.0) as store:
            await store.write(placed)
            assert await claimed(store, MAIL) == [(MAIL, [Span(4, 9, 90)])]
            members = await store.read(lambda tx: tx.members("n"))
            assert [(span.from_seq, span.to_seq) for span in members] == left
            rows = await store.read(lambda tx: tx.decided_in("ann", "/a", 1, 9))
            gone = [] if outcome == "UNKNOWN" else [(1, 3, "ACKNOWLEDGED", 5.0)]
            assert gone == [
                (one.span.from_seq, one.span.to_seq, one.reason, one.at)
                for one in rows
                if not one.notification_id
            ]

    run(body())
