"""Endpoints in a real store: what their going does to what was to be sent there."""

import pytest

from services.presence import state
from services.presence.notifications import Delivery, DeliveryState, Notification
from services.presence.state import Endpoint
from tests.presence.terms import lock_all, own

PHONE, MAIL = "fcm:phone", "mailto:ann"
ENDS_AT = 10_000.0


def step(number: int, uri: str, due_at: float, **fields) -> Delivery:
    return Delivery(
        uri, "n", "ann", "/a", uri, DeliveryState.PENDING, due_at, ENDS_AT, step=number, **fields
    )


@pytest.fixture
def escalation(run, make_store):
    """Runs a body with a store at 100 s, where the phone is due at `first`, mail at 400 s."""

    def play(first: float, body):
        async def with_store():
            store = make_store(clock=lambda: 100.0)
            await store.open()
            await own(store)
            lock_all(store, ["ann"])

            def prepare(tx) -> None:
                for uri in (PHONE, MAIL):
                    tx.write_user("ann", state.PutEndpoint(Endpoint(uri, ("c",), 0.0)))
                notification = Notification("n", "ann", "/a", 1, 0.0, first, ENDS_AT)
                tx.begin_all([notification], [step(0, PHONE, first), step(1, MAIL, 400.0)])

            try:
                await store.write(prepare)
                return await body(store)
            finally:
                await store.close()

        return run(with_store())

    return play


async def mail_of(store) -> Delivery:
    [mail] = await store.read(lambda tx: tx.deliveries([MAIL]))
    return mail


@pytest.mark.parametrize("first", [50.0, 200.0])
def test_where_the_endpoint_of_a_step_goes_the_next_is_due_at_once(escalation, first):
    """But not before the notification is, as the end of a digest."""

    async def body(store):
        await store.write(lambda tx: tx.drop_endpoint("ann", PHONE, "ENDPOINT_REMOVED"))
        return await mail_of(store)

    assert escalation(first, body).due_at == max(100.0, first)


def test_where_one_opts_out_the_next_step_is_due_at_once(escalation):
    async def body(store):
        await store.write(lambda tx: tx.opt_out("ann", PHONE))
        return await mail_of(store)

    assert escalation(50.0, body).due_at == 100.0


def test_a_step_that_may_have_been_sent_is_waited_for(escalation):
    async def body(store):
        sent = Delivery(
            "x", "n", "ann", "/a", "fcm:tablet", DeliveryState.ACCEPTED, None, ENDS_AT, attempts=1
        )
        await store.write(lambda tx: tx.put_deliveries([sent]))
        await store.write(lambda tx: tx.drop_endpoint("ann", PHONE, "ENDPOINT_REMOVED"))
        return await mail_of(store)

    assert escalation(50.0, body).due_at == 400.0


def test_of_a_gone_endpoint_clients_are_to_be_told_and_no_backend(run, make_store):
    """Who would never ask would never be told, and the row would stay."""

    async def body(store):
        await store.open()
        await own(store)
        lock_all(store, ["ann"])
        try:
            clients = (state.BACKEND, state.SELF, "phone")
            put = state.PutEndpoint(Endpoint(PHONE, clients, 0.0))
            await store.write(lambda tx: tx.write_user("ann", put))
            assert await store.write(lambda tx: tx.remove_gone_endpoint("ann", PHONE, 50.0))
            return {
                client: await store.read(lambda tx, c=client: tx.gone_endpoints("ann", c))
                for client in clients
            }
        finally:
            await store.close()

    told = run(body(make_store(clock=lambda: 100.0)))
    assert told == {state.BACKEND: [], state.SELF: [], "phone": [PHONE]}
