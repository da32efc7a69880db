"""A notifier plugin and an entitlement hook in the test's own process, told by what they are asked.

An external token says how each of its tries is answered, the last word for all that follow:
`fcm:RETRY.ACCEPTED/anything`. Words are outcomes; `LATER` is a RETRY in ten minutes. The hook
denies who is called `denied-…`, and says nothing of who is called `unjudged-…`. A callback's body
is a list of events as JSON. Ids of all deliveries handed over are kept.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import grpc
from onward.extension.v1 import entitlement_pb2, entitlement_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

R = notifier_pb2.Result
Verdict = entitlement_pb2.CheckEntitlementResponse.Verdict
LATER_S = 600
NAME = "scripted"
# What the plugin's operators would read of a try that was not taken.
DETAIL = "the provider is busy"


@dataclass(frozen=True)
class Pace:
    """How fast it is: deliveries in a call, calls at a time (0: as many as the caller wants), and
    how long a call takes."""

    batch_max: int = 0
    calls_max: int = 0
    call_s: float = 0.0


class ScriptedPlugin(notifier_pb2_grpc.NotifierServiceServicer):
    """Serves these channels at `address`, with the block. Those of `once` are never repeated;
    those of `always` are answered with their word, whatever the token is."""

    def __init__(
        self,
        channels: tuple[str, ...],
        once: tuple[str, ...] = (),
        always: Mapping[str, str] | None = None,
        pace: Pace = Pace(),
    ) -> None:
        self.handed: list[tuple[str, str]] = []  # (user, delivery id)
        self._channels, self._once, self._always = channels, once, always or {}
        self._pace = pace
        self._tries: Counter[str] = Counter()
        self._lock = Lock()
        self._server = grpc.server(ThreadPoolExecutor(16))
        notifier_pb2_grpc.add_NotifierServiceServicer_to_server(self, self._server)
        entitlement_pb2_grpc.add_EntitlementServiceServicer_to_server(_Hook(), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "ScriptedPlugin":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait(10)

    def Describe(self, request: Any, context: Any) -> notifier_pb2.DescribeResponse:
        channels = [
            notifier_pb2.Channel(
                scheme=scheme, repeats_unknown=scheme not in self._once, receipts=True
            )
            for scheme in (*self._channels, *self._once, *self._always)
        ]
        return notifier_pb2.DescribeResponse(
            name=NAME,
            channels=channels,
            callbacks=True,
            batch_max=self._pace.batch_max,
            concurrency_max=self._pace.calls_max,
        )

    def Notify(self, request: Any, context: Any) -> notifier_pb2.NotifyResponse:
        with self._lock:
            self.handed += [(one.user, one.delivery_id) for one in request.deliveries]
            results = [self._result(one) for one in request.deliveries]
        # Known as handed over before it is answered, as with a provider.
        time.sleep(self._pace.call_s)
        return notifier_pb2.NotifyResponse(results=results)

    def _result(self, one: notifier_pb2.Delivery) -> notifier_pb2.Result:
        scheme, _, rest = one.endpoint.partition(":")
        said = self._always.get(scheme) or rest.partition("/")[0]
        words = said.split(".")
        word = words[min(self._tries[one.endpoint], len(words) - 1)]
        self._tries[one.endpoint] += 1
        result = R(delivery_id=one.delivery_id)
        if word == "LATER":
            result.retry_after.FromSeconds(LATER_S)
            word = "RETRY"
        result.outcome = R.Outcome.Value(word)
        if word not in ("ACCEPTED", "DELIVERED"):
            result.detail = DETAIL
        return result

    def HandleCallback(self, request: Any, context: Any) -> notifier_pb2.HandleCallbackResponse:
        kinds = notifier_pb2.DeliveryEvent.Kind
        events = [
            notifier_pb2.DeliveryEvent(delivery_id=own_id, kind=kinds.Value(kind))
            for own_id, kind in json.loads(request.body)
        ]
        return notifier_pb2.HandleCallbackResponse(status=200, events=events)


class _Hook(entitlement_pb2_grpc.EntitlementServiceServicer):
    def CheckEntitlement(
        self, request: Any, context: Any
    ) -> entitlement_pb2.CheckEntitlementResponse:
        words = {"denied": Verdict.DENIED, "unjudged": Verdict.VERDICT_UNSPECIFIED}
        return entitlement_pb2.CheckEntitlementResponse(
            verdicts=[
                words.get(one.user.partition("-")[0], Verdict.ALLOWED) for one in request.questions
            ]
        )
