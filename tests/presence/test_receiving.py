"""What plugins report takes effect once, in one transaction, in the order in which it came."""

from dataclasses import replace

import pytest
from onward.notifier.v1 import notifier_pb2

from services.presence.notifications import Delivery, DeliveryState, Notification
from services.presence.plan import Plan
from services.presence.receipts import Event, Kind, Receipt
from services.presence.receiving import events_of, record
from services.presence.state import Endpoint, PutEndpoint
from tests.presence.letters import MAIL, NOW, one, put
from tests.presence.test_store import with_store

S = DeliveryState
E = notifier_pb2.DeliveryEvent


async def endpoints(store, user="ann") -> dict[str, bool]:
    return dict(await store.read(lambda tx: tx.uris(user)))


def begun(*deliveries: tuple[str, DeliveryState, str]):
    def work(tx):
        for own_id, state, user in deliveries:
            put(tx, own_id, state, user)
        tx.write_user("ann", PutEndpoint(Endpoint(MAIL, ("c",), 100.0)))

    return work


def test_events_of_many_deliveries_take_effect_at_once_and_a_repeat_changes_nothing(
    run, make_store
):
    events = [
        Event("a", Kind.DELIVERED, 990.0, "SM1", "250"),
        Event("nobody", Kind.DELIVERED),
        Event("b", Kind.FAILED),
        Event("a", Kind.OPENED, 995.0),
        Event("a", Kind.FAILED),
        Event("b", Kind.FAILED),
    ]

    async def body(store):
        await store.write(begun(("a", S.ACCEPTED, "ann"), ("b", S.UNKNOWN, "bob")))
        assert await store.write(lambda tx: record(tx, events)) == (3, True)
        assert (await one(store, "a")).state is S.DELIVERED
        failed = await one(store, "b")
        assert (failed.state, failed.reason) == (S.FAILED, "REPORTED_FAILED")
        kept = await store.read(lambda tx: tx.receipts(["a", "b", "nobody"]))
        assert kept == {
            "a": [
                Receipt("a", Kind.DELIVERED, 990.0, "SM1", "250"),
                Receipt("a", Kind.OPENED, 995.0),
            ],
            "b": [Receipt("b", Kind.FAILED, NOW)],
        }
        assert await store.write(lambda tx: record(tx, events)) == (0, False)
        assert (await one(store, "a")).state is S.DELIVERED

    with_store(run, make_store, body)


def test_an_endpoint_that_is_gone_is_removed_told_and_what_was_due_there_cancelled(run, make_store):
    async def body(store):
        await store.write(begun(("sent", S.ACCEPTED, "ann")))
        await store.write(lambda tx: put(tx, "due", S.RETRY, due_at=NOW))
        gone = Event("sent", Kind.ENDPOINT_GONE, 500.0)
        events = [gone, Event("due", Kind.FAILED)]
        assert await store.write(lambda tx: record(tx, events)) == (1, True)
        assert await endpoints(store) == {}
        assert await store.read(lambda tx: tx.gone_endpoints("ann", "c")) == [MAIL]
        assert (await one(store, "due")).state is S.CANCELLED
        failed = await one(store, "sent")
        assert (failed.state, failed.reason) == (S.FAILED, "ENDPOINT_GONE")

    with_store(run, make_store, body)


def test_an_endpoint_registered_after_it_was_gone_stays(run, make_store):
    async def body(store):
        await store.write(begun(("sent", S.ACCEPTED, "ann")))
        gone = Event("sent", Kind.ENDPOINT_GONE, 99.0)
        await store.write(lambda tx: record(tx, [gone]))
        assert await endpoints(store) == {MAIL: False}
        assert (await one(store, "sent")).state is S.FAILED

    with_store(run, make_store, body)


def test_who_opts_out_is_sent_nothing_more_there(run, make_store):
    async def body(store):
        await store.write(begun(("sent", S.DELIVERED, "ann")))
        await store.write(lambda tx: record(tx, [Event("sent", Kind.OPTED_OUT)]))
        assert await endpoints(store) == {MAIL: True}
        assert (await one(store, "sent")).state is S.DELIVERED

    with_store(run, make_store, body)


@pytest.mark.parametrize("kind", [Kind.DELIVERED, Kind.FAILED])
def test_what_overtakes_the_answer_is_kept_for_it(run, make_store, kind):
    async def body(store):
        await store.write(begun(("d", S.SENDING, "ann")))
        await store.write(lambda tx: record(tx, [Event("d", kind)]))
        assert (await one(store, "d")).state is S.SENDING
        assert "d" in await store.read(lambda tx: tx.early_words(["d"]))

    with_store(run, make_store, body)


def test_events_are_read_from_the_wire_within_our_bounds():
    far = 1 << 62
    messages = [
        E(delivery_id="a", kind=E.DELIVERED, at={"seconds": far}, detail="x\n" * 300),
        E(delivery_id="b", kind=E.OPENED, at={"seconds": -far}),
        E(delivery_id="c", kind=E.FAILED, provider_id="SM1"),
        E(delivery_id="d"),
        E(delivery_id="e", kind=99),
    ]
    assert events_of(messages) == [
        Event("a", Kind.DELIVERED, float(far), "", "x " * 128),
        Event("b", Kind.OPENED, 0.0),
        Event("c", Kind.FAILED, None, "SM1"),
    ]


def test_an_escalation_goes_on_at_once_when_its_first_step_is_reported_failed(run, make_store):
    plan = Plan(steps=(("mailto",), ("tel",)), escalate_s=60)
    notification = Notification("n", "ann", "/a", 1, 1.0, 1.0, NOW + 500, False, plan)
    first = Delivery("d0", "n", "ann", "/a", MAIL, S.ACCEPTED, None, NOW + 500, attempts=1)
    second = Delivery("d1", "n", "ann", "/a", "tel:+491700000000", S.PENDING, NOW + 60, NOW + 500)

    async def body(store):
        deliveries = [first, replace(second, step=1)]
        await store.write(lambda tx: tx.begin_all([notification], deliveries))
        failed = [Event("d0", Kind.FAILED)]
        assert await store.write(lambda tx: record(tx, failed)) == (1, True)
        assert (await one(store, "d1")).due_at == NOW

    with_store(run, make_store, body)
