"""Who lives in a story: who publishes and reads all the time, and who goes away."""

from random import Random
from typing import Protocol

from tests.simulation import clients
from tests.simulation.clients import Client

# Two of them share a partition.
SUBJECTS = ("/s/0", "/s/1", "/s/6", "/s/12")
CLIENTS = 3  # who stay, each a user; they alone publish
LEAVERS = (1, 2)  # clients of each user who goes away
AWAY_S = 4.0  # at most, of who comes back
BURSTS = 4  # of publishes, of each client, about
BURST_MAX = 4


class Scene(clients.Scene, Protocol):
    """What people live in."""


def people_of(scene: Scene, random: Random, end_s: float) -> list[Client]:
    """Everybody, with what each will do until `end_s`."""
    found = []
    for number in range(CLIENTS):
        client = _client(scene, random, f"u{number}", list(SUBJECTS[:3]))
        _publish_now_and_then(scene, random, client, end_s)
        found.append(client)
    for number, count in enumerate(LEAVERS, CLIENTS):
        token = random.choice((f"fcm:t{number}", f"tel:+493012340{number}"))
        for one in range(count):
            client = _client(scene, random, f"u{number}{'ab'[one]}", [], f"u{number}", token)
            if one == 0 or random.random() < 0.5:
                _go_away(scene, random, client, end_s)
            found.append(client)
    return found


def _client(
    scene: Scene, random: Random, name: str, writes: list[str], user: str = "", token: str = ""
) -> Client:
    return Client(scene, name, random.sample(SUBJECTS, 2), writes, random, user, token)


def _publish_now_and_then(scene: Scene, random: Random, client: Client, end_s: float) -> None:
    for _ in range(random.randint(BURSTS - 2, BURSTS + 2)):
        at = random.uniform(0.2, end_s)
        for _ in range(random.randint(1, BURST_MAX)):
            scene.network.later(at, client.publish)
            at += random.random() ** 3 * 0.05


def _go_away(scene: Scene, random: Random, client: Client, end_s: float) -> None:
    """Once, or again and again."""
    later, at = scene.network.later, random.uniform(0.8, end_s)
    while at < end_s:
        later(at, client.leave, random.choice(("close", "drop", "drop", "freeze")))
        at += random.uniform(0.05, AWAY_S)
        if at > end_s or random.random() < 0.4:
            return
        later(at, client.come_back)
        at += random.uniform(0.5, 3.0)
