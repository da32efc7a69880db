"""Whether users who are away may still read what they would be sent: asks the hook of the settings.

The hook is asked before the claim to send, for all pairs of a batch at once. ALLOWED is remembered
for a while; DENIED is not, since it acts at once: nothing is sent, and the user's follows of the
subject end. Without a verdict nothing is sent and nothing is deleted: the delivery stays due, and
is looked at again after a pause.

Knows the hook's contract, and that it may answer anything. Must not know when something is due. To
drive it: `known(pairs)`, also on the store's thread; for what is not known `ask(pairs)`, and then,
in the claim's transaction, `entitled` for each delivery; `close()` in the end.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from onward.extension.v1 import entitlement_pb2, entitlement_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.errors import SettingError
from services.chassis.tls import Trust
from services.presence import metrics
from services.presence.events import revoke
from services.presence.notifications import Delivery, cancel, defer
from services.presence.recording import Recording
from services.presence.store import Transaction

log = logs.get(__name__)

Verdict = entitlement_pb2.CheckEntitlementResponse.Verdict
ALLOWED, DENIED = Verdict.ALLOWED, Verdict.DENIED
# A user and a subject.
Pair = tuple[str, str]
# ALLOWED or DENIED; pairs without a verdict are left out.
Verdicts = Mapping[Pair, Verdict.ValueType]

# What the contract allows in one call.
QUESTIONS_MAX = 1_000
# Pairs remembered as allowed; the oldest makes room, and is asked about again.
REMEMBERED_MAX = 100_000
# However long the hook says that a verdict may be relied on.
_VALID_MAX_S = 86_400.0
# After the hook failed it is left alone for so long, so that a hook which hangs does not keep
# every call of every plugin for its deadline.
_LEFT_ALONE_S = 1.0
# What waits for a verdict is looked at again after a third of the time that there has been none.
_PAUSE_LEAST_S, _PAUSE_MOST_S = 3.0, 30.0
_PLAIN = "grpc://"
_JUDGED = frozenset({ALLOWED, DENIED})


@dataclass(frozen=True, slots=True)
class Judged:
    """What a claim needs to know of entitlement: verdicts on its pairs, and when to look again at
    deliveries without one; `chance()` is a random number in [0, 1)."""

    verdicts: Verdicts
    pause_s: float
    chance: Callable[[], float]

    def again_at(self, now: float) -> float:
        """When to look at a delivery again; spread, so that they do not all come at once."""
        return now + self.pause_s * (1 + self.chance()) / 2


def entitled(
    tx: Transaction, delivery: Delivery, judged: Judged | None, recording: Recording
) -> Delivery | None:
    """In a claim, with the user locked: None: it may be sent; else the delivery as it has ended,
    or, without a verdict, as it is put off."""
    if judged is None:
        return None
    verdict = judged.verdicts.get((delivery.user, delivery.subject))
    if verdict == ALLOWED:
        return None
    if verdict == DENIED:
        effects = revoke(tx.load_user(delivery.user, delivery.subject), [delivery.subject])
        if effects and tx.is_observed():
            recording.user(tx.load_user(delivery.user), effects)
        for effect in effects:
            tx.write_user(delivery.user, effect)
        return cancel(delivery, "NOT_ENTITLED")
    return defer(delivery, judged.again_at(tx.now()), "ENTITLEMENT_UNKNOWN")


class Entitlement:
    """The hook at `address` (`host:port`, or `grpc://host:port` for one without TLS). `cache_s`:
    how long ALLOWED is relied on, where the hook does not say. `clock`: seconds that do not
    jump."""

    def __init__(
        self,
        address: str,
        trust: Trust | str,
        deadline_s: float,
        cache_s: float,
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._trust = _reached_at(address, trust)
        self._deadline_s = deadline_s
        self._cache_s = cache_s
        self._chance = chance
        self._clock = clock
        self._channel: grpc.aio.Channel | None = None
        # Pairs that are allowed, and until when.
        self._allowed: OrderedDict[Pair, float] = OrderedDict()
        self._failed_since: float | None = None
        self._left_alone_until = 0.0
        # What it failed with last, in our words; empty: its last answer was whole.
        self.fault = ""

    def known(self, pairs: Collection[Pair]) -> Verdicts:
        """What is remembered. May be asked on the store's thread: it only looks keys up."""
        now = self._clock()
        return {pair: ALLOWED for pair in pairs if self._allowed.get(pair, now - 1) > now}

    def judged(self, verdicts: Verdicts) -> Judged:
        """These verdicts, for a claim."""
        since = self._failed_since
        out_for_s = 0.0 if since is None else self._clock() - since
        pause_s = min(max(_PAUSE_LEAST_S, out_for_s / 3), _PAUSE_MOST_S)
        return Judged(verdicts, pause_s, self._chance)

    async def ask(self, pairs: Collection[Pair]) -> Verdicts:
        """The verdicts on these pairs, remembered or asked for; those that cannot be had are left
        out."""
        found = dict(self.known(pairs))
        unknown = [pair for pair in dict.fromkeys(pairs) if pair not in found]
        for first in range(0, len(unknown), QUESTIONS_MAX):
            found |= await self._ask(unknown[first : first + QUESTIONS_MAX])
        return found

    async def close(self) -> None:
        """End the connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _ask(self, pairs: Sequence[Pair]) -> Verdicts:
        if self._clock() < self._left_alone_until:
            return {}
        request = entitlement_pb2.CheckEntitlementRequest(
            questions=[
                entitlement_pb2.EntitlementQuestion(user=user, subject=subject)
                for user, subject in pairs
            ]
        )
        if self._channel is None:
            self._channel = open_channel(self._address, self._trust)
        stub: entitlement_pb2_grpc.EntitlementServiceAsyncStub = (
            entitlement_pb2_grpc.EntitlementServiceStub(self._channel)
        )
        with metrics.entitlement_seconds.time():
            try:
                response = await stub.CheckEntitlement(request, timeout=self._deadline_s)
            except grpc.aio.AioRpcError as error:
                self._left_alone_until = self._clock() + _LEFT_ALONE_S
                return self._fail(f"the call ended with {error.code().name}", len(pairs))
        if len(response.verdicts) != len(pairs):
            said = f"it gave {len(response.verdicts)} verdicts on {len(pairs)} questions"
            return self._fail(said, len(pairs))
        return self._take(pairs, response)

    def _take(
        self, pairs: Sequence[Pair], response: entitlement_pb2.CheckEntitlementResponse
    ) -> Verdicts:
        found = {
            pair: verdict
            for pair, verdict in zip(pairs, response.verdicts, strict=True)
            if verdict in _JUDGED
        }
        valid_s = min(float(response.valid_s), _VALID_MAX_S) or self._cache_s
        until = self._clock() + valid_s
        for pair, verdict in found.items():
            self._allowed.pop(pair, None)
            if verdict == ALLOWED:
                self._allowed[pair] = until
            metrics.entitlement_verdicts.labels(Verdict.Name(verdict)).inc()
        while len(self._allowed) > REMEMBERED_MAX:
            self._allowed.popitem(last=False)
        missing = len(pairs) - len(found)
        if missing:
            self._fail(f"it gave no verdict on {missing} of {len(pairs)} questions", missing)
        else:
            self.fault, self._failed_since = "", None
        return found

    def _fail(self, fault: str, questions: int) -> Verdicts:
        if not self.fault:
            log.warning("entitlement_unknown", detail=fault)
        self.fault = fault
        if self._failed_since is None:
            self._failed_since = self._clock()
        metrics.entitlement_verdicts.labels("NONE").inc(questions)
        return {}


def _reached_at(address: str, trust: Trust | str) -> tuple[str, Trust | str]:
    """As `plugins.reached_at`: without TLS, the secret alone is shown."""
    if not address.startswith(_PLAIN):
        return address, trust
    secret = trust.secret if isinstance(trust, Trust) else trust
    if not secret:
        raise SettingError(
            f"ONWARD_PRESENCE_ENTITLEMENT is {address}, which is called without TLS, and "
            "ONWARD_SECRET is not set; set it, or give the hook a certificate"
        )
    return address.removeprefix(_PLAIN), secret
