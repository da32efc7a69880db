"""Claims in a real store: what is claimed, and which holds are counted."""

from services.presence import state
from services.presence.claims import claim_deliveries
from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.plugins import Description
from services.presence.sqlite_store import SqliteStore
from services.presence.state import Endpoint, Follow, Register, Standing
from services.presence.store import Decided

HOLD_S, CHECK_S = 120.0, 1.0
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


def test_a_hold_that_has_ended_has_ended_for_every_endpoint(run, tmp_path):
    now = [0.0]

    async def body():
        store = SqliteStore(str(tmp_path), clock=lambda: now[0])
        await store.open()
        await store.claim(1, 4)
        await store.write(prepare)

        async def claimed() -> list[tuple[str, list[Span]]]:
            claims = await store.write(
                lambda tx: claim_deliveries(
                    tx, tx.deliveries([MAIL, PHONE]), PLUGIN, HOLD_S, CHECK_S
                )
            )
            return [(one.delivery.id, list(one.spans)) for one in claims]

        try:
            assert await claimed() == [], "held: the client answers for 2"
            now[0] = HOLD_S - 1
            assert await claimed() == []
            now[0] = HOLD_S
            two = [Span(2, 2, 2)]
            assert await claimed() == [(MAIL, two), (PHONE, two)]
        finally:
            await store.close()

    run(body())
