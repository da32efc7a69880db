"""Claims in a real store, where what users want, policies, caps and steps stand against them."""

from dataclasses import replace

import pytest

from services.presence import state
from services.presence.claims import ClaimRules, claim_deliveries
from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.plan import DEFAULT_PLAN, Plan, Policy
from services.presence.plugins import Description
from services.presence.profile import Mute, Preference, Profile, QuietHours
from services.presence.routing import Cap, Routing
from services.presence.state import Endpoint, Follow, Register, Standing
from services.presence.store_outbox import Decided
from tests.presence.terms import lock_all, own

MAIL, PHONE = "mailto:ann@example.org", "tel:+491700000000"
PLUGIN = Description("fake", {"mailto": True, "tel": True}, 100, 4)
NOON, MIDNIGHT = 12 * 3600.0, 86_400.0
NIGHT = Profile(quiet=QuietHours(22 * 60, 7 * 60))


class Scene:
    """Ann's desktop is online and has had message 1; her phone is away. Both follow /a; each
    registered an endpoint of its own; message 1 is due to her."""

    def __init__(self, make_store, plan: Plan = DEFAULT_PLAN, routing: Routing = Routing()) -> None:  # noqa: B008
        self.now = [NOON]
        self.store = make_store(clock=lambda: self.now[0])
        self.plan = plan
        self.rules = ClaimRules(120.0, 1.0, lambda: routing)
        self.standing = Standing.OFFLINE
        self.acked = 0
        self.steps = (0, 0)

    async def __aenter__(self) -> "Scene":
        await self.store.open()
        await own(self.store)
        lock_all(self.store, ["ann"])
        await self.store.write(self._prepare)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()

    def _prepare(self, tx) -> None:
        desktop = Register("desktop", 1, "s", 7, self.standing, connected=True)
        phone = Register("phone", 1, "t", 7, Standing.OFFLINE, connected=True)
        for row in (
            state.PutRegister(desktop),
            state.PutRegister(phone),
            state.PutFollow(Follow("/a", "desktop", 1, 0, self.acked, session_id="s")),
            state.PutFollow(Follow("/a", "phone", 2, 0, 0, session_id="t")),
            state.PutEndpoint(Endpoint(MAIL, ("desktop",), 0.0)),
            state.PutEndpoint(Endpoint(PHONE, ("phone",), 0.0)),
        ):
            tx.write_user("ann", row)
        tx.begin_all(
            [Notification("n", "ann", "/a", 1, NOON, NOON, 1e9, plan=self.plan)],
            [
                Delivery(uri, "n", "ann", "/a", uri, DeliveryState.PENDING, NOON, 1e9, step=step)
                for uri, step in zip((MAIL, PHONE), self.steps, strict=True)
            ],
        )
        tx.put_decided("ann", "/a", Decided(Span(1, 1, 1), "n", "", NOON))

    async def claimed(self) -> list[str]:
        """The endpoints that are sent to now."""

        def work(tx):
            return claim_deliveries(tx, tx.deliveries([MAIL, PHONE]), PLUGIN, self.rules)

        return [one.delivery.uri for one in await self.store.write(work)]

    async def wants(self, profile: Profile) -> None:
        await self.store.write(lambda tx: tx.put_profile("ann", profile))

    async def row(self, uri: str) -> Delivery:
        [found] = await self.store.read(lambda tx: tx.deliveries([uri]))
        return found


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (Profile(mutes=(Mute("/a"),)), "MUTED"),
        (Profile(preferences=(Preference("", "", False),)), "PREFERENCE"),
    ],
)
def test_what_is_not_wanted_any_more_is_cancelled(run, make_store, profile, reason):
    async def body():
        async with Scene(make_store) as scene:
            await scene.wants(profile)
            assert await scene.claimed() == []
            row = await scene.row(MAIL)
            assert (row.state, row.reason) == (DeliveryState.CANCELLED, reason)

    run(body())


def test_in_quiet_hours_it_waits_for_their_end_and_messages_go_on_joining(run, make_store):
    async def body():
        async with Scene(make_store) as scene:
            scene.now[0] = MIDNIGHT
            await scene.wants(NIGHT)
            assert await scene.claimed() == []
            row = await scene.row(MAIL)
            morning = MIDNIGHT + 7 * 3600
            assert (row.state, row.reason, row.due_at) == (
                DeliveryState.PENDING,
                "QUIET_HOURS",
                morning,
            )
            open_ones = await scene.store.read(
                lambda tx: tx.joinables({"ann": ()}, "/a", DEFAULT_PLAN)
            )
            assert "ann" in open_ones
            scene.now[0] = morning
            assert await scene.claimed() == [MAIL, PHONE]

    run(body())


def test_a_cap_counts_what_is_sent_and_only_its_channel(run, make_store):
    async def body():
        routing = Routing(caps={"tel": Cap(1, 600.0)})
        async with Scene(make_store, routing=routing) as scene:
            assert await scene.claimed() == [MAIL, PHONE]
            again = [replace(await scene.row(uri), attempts=0) for uri in (MAIL, PHONE)]
            due = [
                replace(one, id=f"{one.id}2", state=DeliveryState.PENDING, due_at=NOON)
                for one in again
            ]

            def next_ones(tx):
                tx.put_deliveries(due)
                return claim_deliveries(tx, due, PLUGIN, scene.rules)

            sent = await scene.store.write(next_ones)
            assert [one.delivery.uri for one in sent] == [MAIL]
            row = await scene.row(f"{PHONE}2")
            assert (row.reason, row.due_at) == ("RATE_CAPPED", NOON + 600.0)

    run(body())


def test_one_batch_does_not_go_beyond_the_cap(run, make_store):
    async def body():
        routing = Routing(caps={"*": Cap(1, 600.0)})
        async with Scene(make_store, routing=routing) as scene:
            one = await scene.row(PHONE)
            two = [replace(one, id=name) for name in ("x", "y")]

            def both(tx):
                tx.put_deliveries(two)
                return claim_deliveries(tx, two, PLUGIN, scene.rules)

            assert [one.delivery.id for one in await scene.store.write(both)] == ["x"]

    run(body())


def test_a_further_try_is_not_counted_against_the_cap(run, make_store):
    async def body():
        routing = Routing(caps={"*": Cap(1, 600.0)})
        async with Scene(make_store, routing=routing) as scene:
            await scene.store.write(lambda tx: tx.put_paces({("ann", "tel"): NOON + 600.0}))
            tried = replace(await scene.row(PHONE), state=DeliveryState.RETRY, attempts=1)
            await scene.store.write(lambda tx: tx.put_deliveries([tried]))
            assert PHONE in await scene.claimed()

    run(body())


def test_under_user_a_client_that_answers_holds_all_endpoints(run, make_store):
    async def body():
        scene = Scene(make_store)
        scene.standing = Standing.ONLINE
        async with scene:
            assert await scene.claimed() == []
            assert (await scene.row(PHONE)).held

    run(body())


def test_under_endpoint_a_client_holds_only_what_it_registered(run, make_store):
    async def body():
        scene = Scene(make_store, Plan(policy=Policy.ENDPOINT))
        scene.standing = Standing.ONLINE
        async with scene:
            assert await scene.claimed() == [PHONE]
            assert (await scene.row(MAIL)).held

    run(body())


def test_under_endpoint_an_acknowledgement_silences_only_what_its_client_registered(
    run, make_store
):
    async def body():
        scene = Scene(make_store, Plan(policy=Policy.ENDPOINT))
        scene.acked = 1
        async with scene:
            assert await scene.claimed() == [PHONE]
            row = await scene.row(MAIL)
            assert (row.state, row.reason) == (DeliveryState.CANCELLED, "ACKNOWLEDGED")
            members = await scene.store.read(lambda tx: tx.members("n"))
            assert len(members) == 1, "the phone's goes on standing for it"

    run(body())


def test_under_always_nobody_silences_anything(run, make_store):
    async def body():
        scene = Scene(make_store, Plan(policy=Policy.ALWAYS))
        scene.standing, scene.acked = Standing.ONLINE, 1
        async with scene:
            assert await scene.claimed() == [MAIL, PHONE]

    run(body())


def test_a_receipt_of_the_first_step_ends_the_next(run, make_store):
    async def body():
        scene = Scene(make_store, Plan(steps=(("mailto",), ("tel",)), escalate_s=60.0))
        scene.steps = (0, 1)
        async with scene:
            arrived = replace(await scene.row(MAIL), state=DeliveryState.DELIVERED, due_at=None)
            await scene.store.write(lambda tx: tx.put_deliveries([arrived]))
            assert await scene.claimed() == []
            row = await scene.row(PHONE)
            assert (row.state, row.reason) == (DeliveryState.CANCELLED, "RECEIPTED")

    run(body())


def test_where_the_first_step_can_not_be_sent_the_next_is_due_at_once(run, make_store):
    async def body():
        scene = Scene(make_store, Plan(steps=(("mailto",), ("tel",)), escalate_s=60.0))
        scene.steps = (0, 1)
        async with scene:
            later = replace(await scene.row(PHONE), due_at=NOON + 60.0)
            await scene.store.write(lambda tx: tx.put_deliveries([later]))
            await scene.wants(Profile(preferences=(Preference("", "mailto", False),)))
            assert await scene.claimed() == []
            assert (await scene.row(PHONE)).due_at == NOON
            assert await scene.claimed() == [PHONE]

    run(body())
