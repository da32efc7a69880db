"""What happens to people, made to happen: each scenario provokes one kind of mistake.

Each passes with the programs as they are. `mutations` says which mistake turns it red.
"""

import asyncio
import signal
from hashlib import blake2b

from tests.faults.cluster import Shape
from tests.faults.scene import Scenario, Scene

A = "/a"
RETRY_SOON = {"ONWARD_PRESENCE_RETRY_LONGEST_S": "0.5", "ONWARD_PRESENCE_RETRY_TRIES_MAX": "100"}


def _partition(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % 256


# A subject whose partition presence hears of before that of any of the users.
EARLY_SUBJECT = next(s for n in range(1_000) if _partition(s := f"/early/{n}") < 8)
LATE_USER = next(u for n in range(1_000) if _partition(u := f"late{n}") > 240)


async def _busy_and_away(scene: Scene, count: int = 3) -> None:
    """The first client is offline, with messages whose mail is refused for now."""
    name, client = next(iter(scene.clients.items()))
    subject = next(iter(client.following))
    await scene.come(name)
    scene.post.busy = True
    await scene.go_offline(name, subject)
    await scene.publish(subject, count)
    await scene.tried(client.user, subject)


async def _killed_once_accepted(scene: Scene) -> None:
    """The coordinator is killed at the moment when something has been accepted, three times."""
    for _ in range(3):
        await scene.publish(A, 20)
        await scene.stage.kill("coordinator")
    await scene.publish(A)


async def _presence_killed_while_it_decides(scene: Scene) -> None:
    await scene.come("ann-1")
    await scene.go_offline("ann-1", A)
    scene.clients["ann-1"].gone = True
    for _ in range(3):
        await scene.publish(A)
        await asyncio.sleep(0.1)  # the stretched transaction has begun
        await scene.stage.kill("presence")
        await scene.publish(A)


async def _returns_and_dies_unread(scene: Scene) -> None:
    await _busy_and_away(scene)
    await scene.come("ann-1", mute=True)
    await scene.read("ann-1", A, 3)
    # Presence knows of the return, and has looked at what is pending.
    await scene.state("ann", A, "HELD", "ACKNOWLEDGED")
    await scene.die("ann-1", for_good=True)
    scene.post.busy = False


async def _a_second_client_comes_later(scene: Scene) -> None:
    scene.clients["ann-1"].gone = False
    await _busy_and_away(scene)
    scene.clients["ann-1"].gone = True
    await scene.come("ann-2")
    await scene.standing("ann", A, "ann-2", "online")
    await asyncio.sleep(1.0)  # for the check of what is pending, several times
    scene.post.busy = False


async def _returns_and_reads(scene: Scene) -> None:
    await _busy_and_away(scene)
    await scene.come("ann-1")
    await scene.acknowledged("ann-1", A, 3)
    await scene.state("ann", A, "ACKNOWLEDGED")
    scene.post.busy = False
    await asyncio.sleep(6.0)  # for a mail that should not be, beyond any hold


async def _dies_under_load(scene: Scene) -> None:
    await scene.come("ann-1")
    await scene.die("ann-1", for_good=True)
    # All through the end of the grace.
    for _ in range(100):
        await scene.publish(A)
        await asyncio.sleep(0.03)


async def _presence_killed_in_a_handover(scene: Scene) -> None:
    await scene.come("ann-1", mute=True)
    await scene.publish(A, 3)
    await scene.read("ann-1", A, 3)
    await scene.go_offline("ann-1", A)
    scene.clients["ann-1"].gone = True
    await scene.stage.kill("presence")


async def _reads_and_unsubscribes(scene: Scene) -> None:
    await scene.come("ann-1", "ann-2")
    await scene.go_offline("ann-2", A)
    scene.clients["ann-2"].gone = True
    await scene.publish(A, 3)
    await scene.acknowledged("ann-1", A, 3)
    await scene.state("ann", A, "ACKNOWLEDGED")
    await scene.clients["ann-1"].unsubscribe(A)
    await asyncio.sleep(3.0)  # for a mail that should not be


async def _dies_while_presence_stands_still(scene: Scene) -> None:
    """The end of a session and a mark are both in the log when presence comes back to it."""
    user = scene.clients[f"{LATE_USER}-1"]
    await scene.come("bob-1")
    await _busy_and_away(scene)
    await scene.come(user.client, mute=True)
    await scene.read(user.client, EARLY_SUBJECT, 3)
    await scene.state(user.user, EARLY_SUBJECT, "HELD")
    scene.stage.signal("presence", signal.SIGSTOP)
    await scene.die(user.client, for_good=True)
    await scene.publish(EARLY_SUBJECT)
    await scene.acknowledged("bob-1", EARLY_SUBJECT, 4)
    await asyncio.sleep(2.0)  # rounds of marks
    await scene.stage.kill("presence")
    await scene.state(user.user, EARLY_SUBJECT, "PENDING", "ACKNOWLEDGED", "HELD", "ANSWERED_FOR")
    scene.post.busy = False


async def _returns_after_others_have_read(scene: Scene) -> None:
    await scene.come("bob-1")
    await _busy_and_away(scene)
    await scene.acknowledged("bob-1", A, 3)
    await scene.state("bob", A, "ACKNOWLEDGED")  # by a mark: bob is still there
    await scene.come("ann-1", mute=True)
    await scene.read("ann-1", A, 3)
    await scene.state("ann", A, "HELD", "ACKNOWLEDGED")
    await asyncio.sleep(0.7)  # for the check of what is held, twice
    await scene.die("ann-1", for_good=True)
    scene.post.busy = False


async def _comes_as_its_edge_dies(scene: Scene) -> None:
    """A connect is processed, because of the stretch, long after its edge was found dead."""
    await scene.come("ann-1")
    await scene.standing("ann", A, "ann-1", "online")
    await scene.come("late-1")
    for client in scene.clients.values():
        client.gone = True
        client.abandon()
    await scene.stage.kill("edge")
    await scene.publish(A, 3)
    await scene.standing("late", A, "late-1", "online", "grace", "offline")


async def _presence_killed_while_it_sends(scene: Scene) -> None:
    await scene.come("ann-1")
    await scene.go_offline("ann-1", A)
    scene.clients["ann-1"].gone = True
    scene.post.slow_s = 1.5
    await scene.publish(A)
    await scene.told(
        "ann", A,
        lambda outcomes: any(
            d["state"] == "sending" for one in outcomes for d in one["deliveries"]
        ),
        "it is being sent",
    )  # fmt: skip
    await scene.stage.kill("presence")


MANY = [f"/many/{n}" for n in range(8)]  # each of two coordinators owns some of them


async def _rivals(scene: Scene) -> None:
    """A coordinator and an edge know nothing of the end of their leases; others go on elsewhere."""
    stale, present = scene.publishers
    await scene.come("ann-1")
    for subject in MANY:
        await scene.publish(subject)
    for link in scene.cluster.links.values():
        link.cut()
    await scene.owns_all("coordinator-2", scene.cluster.urls[1])
    for _ in range(3):
        for subject in MANY:
            await stale.publish_one(subject)
        await asyncio.sleep(0.5)  # for what should not be accepted
        for subject in MANY:
            await present.publish_one(subject)
        await scene.until(lambda: present.done, "the other coordinator goes on")
    for link in scene.cluster.links.values():
        link.heal()
    await scene.until(lambda: stale.done, "what was not accepted is, by the present owner")


ANN = {"ann-1": [A]}
KILLED_ONCE_ACCEPTED = Scenario(ANN, _killed_once_accepted)
PRESENCE_KILLED_WHILE_IT_DECIDES = Scenario(ANN, _presence_killed_while_it_decides)
# Seldom tried, so that the return does not fall into a try, which nothing can cancel.
RETURNS_AND_DIES_UNREAD = Scenario(
    ANN, _returns_and_dies_unread, RETRY_SOON | {"ONWARD_PRESENCE_RETRY_LONGEST_S": "4"}
)
A_SECOND_CLIENT_COMES_LATER = Scenario(
    ANN | {"ann-2": [A]}, _a_second_client_comes_later, RETRY_SOON
)
RETURNS_AND_READS = Scenario(
    ANN, _returns_and_reads, RETRY_SOON | {"ONWARD_PRESENCE_HOLD_MAX_S": "1.5"}
)
DIES_UNDER_LOAD = Scenario(ANN, _dies_under_load)
PRESENCE_KILLED_IN_A_HANDOVER = Scenario(ANN, _presence_killed_in_a_handover)
READS_AND_UNSUBSCRIBES = Scenario(ANN | {"ann-2": [A]}, _reads_and_unsubscribes)
DIES_WHILE_PRESENCE_STANDS_STILL = Scenario(
    {f"{LATE_USER}-1": [EARLY_SUBJECT], "bob-1": [EARLY_SUBJECT]},
    _dies_while_presence_stands_still,
    RETRY_SOON | {"ONWARD_PRESENCE_REPORT_ENTRIES_MAX": "1"},
)
RETURNS_AFTER_OTHERS_HAVE_READ = Scenario(
    ANN | {"bob-1": [A]}, _returns_after_others_have_read, RETRY_SOON
)
COMES_AS_ITS_EDGE_DIES = Scenario(ANN | {"late-1": [A]}, _comes_as_its_edge_dies)
PRESENCE_KILLED_WHILE_IT_SENDS = Scenario(ANN, _presence_killed_while_it_sends)
RIVALS = Scenario(
    {"ann-1": MANY},
    _rivals,
    shape=Shape(coordinators=2, edges=2, postgres=True),
    proxied=("coordinator-1>etcd", "edge-1>etcd"),
)
