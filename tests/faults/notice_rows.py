"""What happens to those who decide on notifications, and to those who send them."""

import asyncio
from signal import SIGKILL

from tests.faults.mutations import MUTATIONS
from tests.faults.row import TTL_S, Row, Run
from tests.faults.timeline import Timeline

PRESENCE, NOTIFIER = "presence-1", "notifier-1"
_UNAFFECTED_S = 1.0  # what counts as no effect on messages


class PresenceKilled(Row):
    name = "presence-kill"
    says = "presence: SIGKILL, started again"
    must = "it resumes its cursors and handovers"
    bound_s, bound = TTL_S + 1.0, "lease + 1 s"

    async def inject(self, run: Run) -> None:
        run.signal(PRESENCE, SIGKILL)
        await asyncio.sleep(0.1)
        await run.explained()

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        """Until it answered again."""
        return run.noted.get("explains")

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return _affected(timeline)


class PresenceKilledInHandovers(PresenceKilled):
    name = "presence-kill-handover"
    says = "presence: SIGKILL between the two steps of handovers, three times"
    must = "the handovers are resumed: nothing is missing, nothing is doubled"
    bound_s, bound = None, "–"
    # Between `offline` being committed and the backlog being read.
    stretch = MUTATIONS["no handover row"].stretch
    lost = 6

    async def inject(self, run: Run) -> None:
        for n, client in enumerate(run.lost):
            client.die()
            if n % 2:
                # Their grace is 1.5 s; the second step is a second late.
                await asyncio.sleep(run.dice.uniform(1.6, 2.6))
                run.signal(PRESENCE, SIGKILL)
                await asyncio.sleep(1.0)
        await super().inject(run)


class _Plugin(Row):
    bound_s, bound = _UNAFFECTED_S, "messages unaffected: 1 s"
    lasts_s = 5.0

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return _affected(timeline)


class NotifierDown(_Plugin):
    name = "notifier-down"
    says = "notifier: SIGKILL, away for a while"
    must = "presence retries; each notification comes once it is back"

    async def inject(self, run: Run) -> None:
        await run.stop(NOTIFIER)

    async def heal(self, run: Run) -> None:
        run.cluster.start(NOTIFIER)


class NotifierSlow(_Plugin):
    name = "notifier-slow"
    says = "the mail server takes 3 s for each mail"
    must = "notifications are late; nothing else is"

    async def inject(self, run: Run) -> None:
        run.post.slow_s = 3.0

    async def heal(self, run: Run) -> None:
        run.post.slow_s = 0.0


class NotifierGarbled(_Plugin):
    name = "notifier-garbage"
    says = "the notifier answers with nonsense"
    must = "the outcome is unknown, and shown; presence retries"
    proxied = ("presence-1>notifier-1",)

    async def inject(self, run: Run) -> None:
        run.cluster.links["presence-1>notifier-1"].garble()

    async def heal(self, run: Run) -> None:
        run.cluster.links["presence-1>notifier-1"].heal()


def _affected(timeline: Timeline) -> list[str]:
    """That publishers were kept waiting."""
    again = timeline.again_s("injected")
    late = again is None or again > _UNAFFECTED_S + 3.0
    return [f"publishers had to wait {again} s"] if late else []


ROWS = (
    PresenceKilled, PresenceKilledInHandovers, NotifierDown, NotifierSlow, NotifierGarbled,
)  # fmt: skip
