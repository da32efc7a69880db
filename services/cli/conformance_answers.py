"""Rules of `onward conformance` about what a plugin says and answers.

Each is given the plugin and returns what it saw in half a sentence; it raises Failed or Skipped.
Knows the contract; must not know which rules come before or after.
"""

import re
import time
from collections import Counter
from uuid import uuid4

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.channel_names import MEANT, SCHEME
from services.chassis.tls import Trust
from services.cli.conformance_plugin import (
    ANY,
    NUMBER,
    REACHED_S,
    TAKEN,
    Examined,
    Failed,
    Result,
    Skipped,
    name_of,
    outcome_of,
    status_of,
)

_NAME = re.compile("[a-z0-9-]{1,40}")
_CHANNELS_MAX = 32
_BATCH_MAX, _CONCURRENCY_MAX = 1_000, 64
_TEXT_BYTES_MAX = 256
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_SEND_AGAIN = (Result.RETRY, Result.UNKNOWN, Result.PROVIDER_UNAVAILABLE)
_SERVICE = "onward.notifier.v1.NotifierService"


async def describe(plugin: Examined) -> str:
    """What it says of itself is complete and within range."""
    said = plugin.description = await plugin.describe()
    schemes = [channel.scheme.lower() for channel in said.channels]
    if not _NAME.fullmatch(said.name):
        raise Failed(f"its name is {said.name[:60]!r}; it must match [a-z0-9-]{{1,40}}")
    if not schemes:
        raise Failed("it describes no channel")
    if len(schemes) > _CHANNELS_MAX:
        raise Failed(f"it describes {len(schemes)} channels; {_CHANNELS_MAX} are looked at")
    for scheme in schemes:
        if scheme in MEANT:
            raise Failed(f"its channel {scheme!r} is that of {MEANT[scheme]}: tokens; name it so")
        if scheme != ANY and not SCHEME.fullmatch(scheme):
            raise Failed(f"its channel {scheme[:60]!r} is no scheme of a URI")
    if len(set(schemes)) < len(schemes):
        raise Failed("it describes one channel twice")
    if said.batch_max > _BATCH_MAX:
        raise Failed(f"its batch_max is {said.batch_max}; at most {_BATCH_MAX} count")
    if said.concurrency_max > _CONCURRENCY_MAX:
        raise Failed(f"its concurrency_max is {said.concurrency_max}; {_CONCURRENCY_MAX} count")
    if plugin.scheme not in schemes and ANY not in schemes:
        raise Failed(f"it does not describe the channel {plugin.scheme!r}")
    return (
        f"{' '.join([said.name, said.version]).strip()} serves {', '.join(schemes)}; "
        f"{plugin.batch_max} in a batch, "
        f"{plugin.concurrency_max} calls at a time"
    )


async def callers(plugin: Examined) -> str:
    """A call that shows nothing, and one that shows less or other than is asked, are refused,
    whatever the method."""
    if plugin.trust is None:
        # It has described itself to whoever this is.
        raise Failed(
            "it serves whoever shows nothing; give it a secret or certificates, and show them here"
        )
    seen = []
    for words, trust in _strangers(plugin.trust):
        async with open_channel(plugin.address, trust) as channel:
            stub: notifier_pb2_grpc.NotifierServiceAsyncStub = (
                notifier_pb2_grpc.NotifierServiceStub(channel)
            )
            asked = notifier_pb2.NotifyRequest(deliveries=[plugin.delivery()])
            found = {
                "Notify": await status_of(lambda s=stub, a=asked: s.Notify(a, timeout=REACHED_S)),  # type: ignore[misc]
                "Describe": await status_of(
                    lambda s=stub: s.Describe(notifier_pb2.DescribeRequest(), timeout=REACHED_S)  # type: ignore[misc]
                ),
                "HandleCallback": await status_of(
                    lambda s=stub: s.HandleCallback(  # type: ignore[misc]
                        notifier_pb2.HandleCallbackRequest(method="POST"), timeout=REACHED_S
                    )
                ),
            }
        tls = trust is None and plugin.trust.certificates is not None
        for method, code in found.items():
            if code is grpc.StatusCode.OK:
                raise Failed(f"it serves a caller that {words}, who calls {method}")
            if method == "HandleCallback" and code is grpc.StatusCode.UNIMPLEMENTED:
                continue  # There is nothing to refuse.
            if code not in _REFUSED and not (tls and code is grpc.StatusCode.UNAVAILABLE):
                raise Failed(
                    f"a caller that {words} gets {code.name} of {method}, not UNAUTHENTICATED"
                )
        seen.append(words)
    return f"refused is who {' or '.join(seen)}"


def _strangers(trust: Trust) -> list[tuple[str, Trust | None]]:
    """Callers that are none of those `trust` speaks for: what each shows, in words."""
    found: list[tuple[str, Trust | None]] = [("shows nothing", None)]
    if trust.secret:
        found.append(("shows a wrong secret", Trust(uuid4().hex, trust.certificates)))
    if trust.secret and trust.certificates is not None:
        # Who gives a plugin both wants both.
        found.append(("shows a certificate without the secret", Trust("", trust.certificates)))
    return found


async def health(plugin: Examined) -> str:
    """What health says is what a delivery shows."""
    serving = health_pb2.HealthCheckResponse.SERVING
    try:
        says = await plugin.health() == serving
    except grpc.aio.AioRpcError as error:
        raise Failed(f"grpc.health.v1 ends with {error.code().name}") from None
    code = await status_of(lambda: plugin.notify([plugin.delivery()]))
    works = code is grpc.StatusCode.OK
    if says and not works:
        raise Failed(f"health says SERVING, and Notify ends with {code.name}")
    if works and not says:
        raise Failed("health says that it does not serve, and Notify is answered")
    try:
        if await plugin.health(f"{_SERVICE}.{uuid4().hex}") == serving:
            raise Failed("health says SERVING of a service that does not exist")
    except grpc.aio.AioRpcError:
        pass  # NOT_FOUND is what the health protocol asks for.
    return "SERVING, and it works" if works else "not SERVING, and Notify fails"


async def delivery(plugin: Examined) -> str:
    """One delivery is answered; where the author named its endpoint, it is taken."""
    one = plugin.delivery()
    outcome = outcome_of(one, await plugin.notify([one]))
    if outcome == Result.OUTCOME_UNSPECIFIED or outcome not in Result.Outcome.values():
        raise Failed(f"the outcome is {name_of(outcome)}, which says nothing")
    if plugin.vouched and outcome not in TAKEN:
        raise Failed(f"the outcome is {name_of(outcome)}, for an endpoint of --endpoint")
    if outcome in TAKEN and plugin.sends and not await plugin.sends.appear(one.delivery_id):
        raise Failed(f"{name_of(outcome)}, and no line of it in {plugin.sends.path}")
    return name_of(outcome)


async def claimed_channels(plugin: Examined) -> str:
    """Each channel that it describes takes a delivery."""
    judged = []
    for scheme, named in plugin.named_channels().items():
        outcome = await plugin.outcome(plugin.delivery(plugin.endpoint(scheme)))
        if named and outcome == Result.REJECTED_MESSAGE:
            raise Failed(f"it describes {scheme}, and rejects a delivery for {scheme}")
        judged += [scheme] * bool(named)
    if not judged:
        raise Skipped("which endpoints exist is not known; name one for each with --endpoint")
    return f"takes {', '.join(judged)}"


async def unknown_channel(plugin: Examined) -> str:
    """A delivery for a channel that it does not describe is the message's fault, and not sent."""
    if any(channel.scheme == ANY for channel in plugin.description.channels):
        raise Skipped("it serves any channel")
    one = plugin.delivery(f"unknown-{uuid4().hex[:8]}:conformance")
    outcome = await plugin.outcome(one)
    said = f"the outcome is {name_of(outcome)}"
    if outcome in TAKEN:
        raise Failed(f"{said}, for a channel that it does not describe")
    if outcome in (Result.ENDPOINT_GONE, Result.OPTED_OUT):
        raise Failed(f"{said}, which would take the endpoint from its user")
    if outcome in _SEND_AGAIN:
        raise Failed(f"{said}, so the delivery would come again and again")
    if plugin.sends and await plugin.sends.settled(one.delivery_id):
        raise Failed(f"{said}, and it was sent")
    return name_of(outcome)


async def every_recipient(plugin: Examined) -> str:
    """Nobody is left out of a full batch."""
    batch, counts = await _counted(plugin)
    missing = sum(1 for one in batch if one.delivery_id not in counts)
    if missing:
        raise Failed(f"{missing} of {len(batch)} deliveries are not answered")
    return f"{len(batch)} of {len(batch)}"


async def once_each(plugin: Examined) -> str:
    """Nobody is answered for twice."""
    batch, counts = await _counted(plugin)
    twice = sum(1 for one in batch if counts[one.delivery_id] > 1)
    if twice:
        raise Failed(f"{twice} of {len(batch)} deliveries are answered more than once")
    return f"none of {len(batch)} twice"


async def no_strangers(plugin: Examined) -> str:
    """Nobody is answered for who was not asked about."""
    batch, counts = await _counted(plugin)
    strangers = len(counts.keys() - {one.delivery_id for one in batch})
    if strangers:
        raise Failed(f"{strangers} results are for ids that were not asked about")
    return "none"


async def right_recipient(plugin: Examined) -> str:
    """Each delivery of a batch is sent to its endpoint and to no other."""
    sends = plugin.need_sends()
    if NUMBER not in plugin.endpoint_pattern:
        raise Skipped("all deliveries have one endpoint; write {n} in --endpoint")
    batch = plugin.batch(min(plugin.batch_max, 10))
    results = await plugin.notify(batch)
    taken = [one for one in batch if outcome_of(one, results) in TAKEN]
    if not taken:
        raise Skipped("no delivery was accepted; name an endpoint with --endpoint")
    await sends.appear(taken[-1].delivery_id)
    for one in taken:
        endpoints = sends.of(one.delivery_id)
        if not endpoints:
            raise Failed("a delivery was accepted, and not sent")
        if set(endpoints) != {one.endpoint}:
            raise Failed("a delivery was sent to another endpoint than its own")
    return f"{len(taken)} of {len(taken)}"


async def expired(plugin: Examined) -> str:
    """A delivery that expired a minute ago is not sent."""
    one = plugin.delivery()
    one.expires_at.FromSeconds(int(time.time()) - 60)
    outcome = await plugin.outcome(one)
    if outcome != Result.EXPIRED:
        raise Failed(f"the outcome is {name_of(outcome)}")
    if plugin.sends and await plugin.sends.settled(one.delivery_id):
        raise Failed("it says EXPIRED, and has sent it")
    return "EXPIRED" if plugin.sends else "EXPIRED; --sent FILE would show that it is not sent"


async def discreet(plugin: Examined) -> str:
    """What operators read of a result holds nothing of the message nor where it went."""
    mark = uuid4().hex
    strange = f"unknown-{uuid4().hex[:8]}:{mark}"
    known = plugin.delivery(title=mark, body=mark, html=f"<p>{mark}</p>")
    known.messages[0].text = mark
    known.messages[0].headers["title"] = mark
    for result in [*await plugin.notify([known]), *await plugin.notify([plugin.delivery(strange)])]:
        for words in (result.provider_id, result.detail):
            if mark in words or known.endpoint in words:
                raise Failed("a result quotes what was to be sent, or where to")
            if len(words.encode()) > _TEXT_BYTES_MAX:
                raise Failed(f"a text of a result is longer than {_TEXT_BYTES_MAX} bytes")
    return "they do not"


async def _counted(plugin: Examined) -> tuple[list[notifier_pb2.Delivery], Counter[str]]:
    """A full batch, and how often each id was answered."""
    batch = plugin.batch(plugin.batch_max)
    results = await plugin.notify(batch)
    return batch, Counter(result.delivery_id for result in results)
