"""What happens to etcd, and to what it remembers."""

import asyncio
import base64
import json
import shutil
import subprocess
import urllib.request
from signal import SIGCONT, SIGSTOP, SIGTERM

from tests.faults.coordinator_rows import without_lease
from tests.faults.row import TTL_S, Row, Run, untold
from tests.faults.timeline import Timeline
from tests.real_etcd import BINARY

ETCD = "etcd-1"
_REVISIONS = 300  # more than a coordinator's claims, tried again, use up in a run


class EtcdKilled(Row):
    name = "etcd-kill"
    says = "etcd: SIGKILL, away for longer than a lease"
    must = "owners stop 1 s before their leases can have ended; all goes on when it is back"
    bound_s, bound, since = 2.0, "outage + 2 s", "healed"
    lasts_s = TTL_S + 3.0

    async def inject(self, run: Run) -> None:
        await run.stop(ETCD)

    async def heal(self, run: Run) -> None:
        run.cluster.start(ETCD)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return without_lease(timeline)


class EtcdFrozen(EtcdKilled):
    name = "etcd-freeze"
    says = "etcd: SIGSTOP for longer than a lease, then SIGCONT"

    async def inject(self, run: Run) -> None:
        run.signal(ETCD, SIGSTOP)

    async def heal(self, run: Run) -> None:
        run.signal(ETCD, SIGCONT)


class EtcdBlinks(Row):
    name = "etcd-blink"
    says = "etcd: SIGKILL, back within the lease"
    must = "nobody notices"
    bound_s, bound = 1.0, "1 s"
    lasts_s = 1.0

    async def inject(self, run: Run) -> None:
        await run.stop(ETCD)

    async def heal(self, run: Run) -> None:
        run.cluster.start(ETCD)


class EtcdRestored(Row):
    name = "etcd-restore"
    says = "etcd restored from an older snapshot"
    must = (
        "the store refuses its terms, an alarm says so, nothing is accepted until the era is raised"
    )
    lasts_s = TTL_S + 8.0

    async def before(self, run: Run) -> None:
        await asyncio.to_thread(self._save, run)
        run.signal("coordinator-1", SIGTERM)
        await asyncio.sleep(2.0)

    def _save(self, run: Run) -> None:
        address = f"http://127.0.0.1:{run.cluster.ports[ETCD]}"
        command = [BINARY.with_name("etcdctl"), f"--endpoints={address}", "snapshot", "save",
                   run.folder / "snapshot"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        for _ in range(_REVISIONS):
            word = base64.b64encode(b"elsewhere").decode()
            body = json.dumps({"key": word, "value": word}).encode()
            with urllib.request.urlopen(f"{address}/v3/kv/put", body, timeout=5) as answer:
                answer.read()

    async def inject(self, run: Run) -> None:
        await run.stop(ETCD)
        await asyncio.to_thread(self._restore, run)
        run.cluster.start(ETCD)

    def _restore(self, run: Run) -> None:
        data = run.cluster.folder_of(ETCD) / "data"
        shutil.rmtree(data)
        peer = f"http://127.0.0.1:{run.cluster.peer_ports[ETCD]}"
        options = [f"--data-dir={data}", f"--name={ETCD}", f"--initial-cluster={ETCD}={peer}",
                   f"--initial-advertise-peer-urls={peer}"]  # fmt: skip
        command = [BINARY.with_name("etcdutl"), "snapshot", "restore", run.folder / "snapshot"]
        subprocess.run([*command, *options], check=True, capture_output=True)

    async def heal(self, run: Run) -> None:
        run.cluster.change("coordinator-1", ONWARD_COORDINATOR_ERA="1")
        run.cluster.change("presence-1", ONWARD_PRESENCE_ERA="1")
        run.signal("coordinator-1", SIGTERM)
        run.signal("presence-1", SIGTERM)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        stale = timeline.accepted_between(timeline.in_effect + TTL_S, timeline.healed)
        found = [f"{stale} messages were accepted in a term of the past"] if stale else []
        return [*found, *untold(run, "CLAIM_REFUSED")]


class StoreRestored(Row):
    name = "store-restore"
    says = "the log's store replaced by an older copy"
    must = "it is refused, an alarm says so, nothing is accepted until the newer one is back"
    lasts_s = 6.0

    async def before(self, run: Run) -> None:
        own = run.cluster.folder_of("coordinator-1")
        await run.stop("coordinator-1", SIGTERM)
        await asyncio.to_thread(shutil.copytree, own, run.folder / "older")
        run.cluster.start("coordinator-1")
        await asyncio.sleep(4.0)

    async def inject(self, run: Run) -> None:
        own = run.cluster.folder_of("coordinator-1")
        # As before a restore: a stop, not a kill. It leaves in etcd how far the log has come.
        await run.stop("coordinator-1", SIGTERM)
        await asyncio.to_thread(own.rename, run.folder / "newer")
        await asyncio.to_thread(shutil.copytree, run.folder / "older", own)
        run.cluster.start("coordinator-1")

    async def heal(self, run: Run) -> None:
        own = run.cluster.folder_of("coordinator-1")
        await run.stop("coordinator-1", SIGTERM)
        await asyncio.to_thread(own.rename, run.folder / "refused")
        await asyncio.to_thread((run.folder / "newer").rename, own)
        run.cluster.start("coordinator-1")

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        stale = timeline.accepted_between(timeline.in_effect, timeline.healed)
        found = [f"{stale} messages were accepted over those that are missing"] if stale else []
        return [*found, *untold(run, "CLAIM_REFUSED")]


ROWS = (EtcdKilled, EtcdFrozen, EtcdBlinks, EtcdRestored, StoreRestored)
