"""Every rule of `onward conformance`, by name and sentence, and how verdicts are come to.

Knows which rules need which others to hold. Must not know how a rule is tried: that is in
`conformance_answers`, `conformance_strain` and `conformance_callbacks`. To drive it:
`await judge(plugin, chosen(names))`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import grpc.aio

from services.cli import conformance_answers as answers
from services.cli import conformance_strain as strain
from services.cli.conformance_callbacks import callbacks
from services.cli.conformance_plugin import Examined, Failed, Skipped

# A rule makes a few calls, of CALL_S each at most.
_RULE_S = 180.0
_DETAILS_MAX = 120


class Verdict(StrEnum):
    """What a rule came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is asked of a plugin.

    `check` returns what was seen, and raises Failed or Skipped. `needs`: rules without which it
    would say nothing.
    """

    name: str
    sentence: str
    check: Callable[[Examined], Awaitable[str]]
    needs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule, its verdict, and why."""

    rule: Rule
    verdict: Verdict
    reason: str


_WORKS = ("delivery",)
_ANSWERS = ("every-recipient", "once-each", "no-strangers")

RULES = (
    Rule("describe", "It says its name, channels and bounds, all within range.", answers.describe),
    Rule("callers", "It refuses callers without the secret, or without a certificate.",
         answers.callers, ("describe",)),
    Rule("health", "Health says SERVING when it works, and only then.",
         answers.health, ("describe",)),
    Rule("delivery", "It answers for one delivery.", answers.delivery, ("health",)),
    Rule("claimed-channels", "It takes deliveries for every channel that it describes.",
         answers.claimed_channels, _WORKS),
    Rule("unknown-channel", "It rejects what is for a channel that it does not describe.",
         answers.unknown_channel, _WORKS),
    Rule("every-recipient", "Every delivery of a full batch is answered.",
         answers.every_recipient, _WORKS),
    Rule("once-each", "No delivery of a batch is answered twice.", answers.once_each, _WORKS),
    Rule("no-strangers", "It answers only for what it was asked about.",
         answers.no_strangers, _WORKS),
    Rule("right-recipient", "Each delivery is sent to its own endpoint.",
         answers.right_recipient, _ANSWERS),
    Rule("expired", "What has expired is answered EXPIRED, and not sent.",
         answers.expired, _WORKS),
    Rule("discreet", "Results quote no content and no endpoint, and are short.",
         answers.discreet, _WORKS),
    Rule("repeats", "One delivery id is sent once, however often it comes.",
         strain.repeats, _WORKS),
    Rule("deadline", "It answers before the deadline of the call, with results.",
         strain.deadline, _ANSWERS),
    Rule("garbage", "Malformed requests are rejected, and do it no harm.", strain.garbage, _WORKS),
    Rule("large", "A delivery with 128 KiB of content is answered.", strain.large, _WORKS),
    Rule("heavy-batch", "A batch of 8 MiB is answered, as large as they come.",
         strain.heavy_batch, _ANSWERS),
    Rule("oversized", "A batch beyond its bound is refused or answered; it lives on.",
         strain.oversized, _ANSWERS),
    Rule("cancellation", "Calls that are cancelled leave it working.", strain.cancellation, _WORKS),
    Rule("concurrency", "As many calls at a time as it describes are answered.",
         strain.concurrency, _ANSWERS),
    Rule("interleaved", "Two calls with a delivery in common are each answered in full.",
         strain.interleaved, ("concurrency",)),
    Rule("reconnect", "A new connection works, and describes the same.", strain.reconnect, _WORKS),
    Rule("callbacks", "A forged callback is answered 4xx, and teaches nothing; a signed one 2xx.",
         callbacks, _WORKS),
)  # fmt: skip


def chosen(names: Collection[str]) -> list[Rule]:
    """The rules of these names, and those that they need; no names: all. Raises KeyError."""
    by_name = {rule.name: rule for rule in RULES}
    wanted: set[str] = set()

    def add(name: str) -> None:
        if name not in wanted:
            wanted.add(name)
            for needed in by_name[name].needs:
                add(needed)

    for name in names or by_name:
        add(name)
    return [rule for rule in RULES if rule.name in wanted]


async def judge(plugin: Examined, rules: Sequence[Rule]) -> list[Judged]:
    """Try each rule on the plugin, in order; after one that it did not survive, skip the rest."""
    judged: dict[str, Judged] = {}
    gone = ""
    for rule in rules:
        missing = [name for name in rule.needs if judged[name].verdict is not Verdict.PASSED]
        if gone:
            verdict = Judged(rule, Verdict.SKIPPED, f"it works no more since `{gone}`")
        elif missing:
            verdict = Judged(rule, Verdict.SKIPPED, f"it needs `{missing[0]}` to hold")
        else:
            verdict = await _tried(plugin, rule)
            if verdict.verdict is Verdict.FAILED:
                # It has worked, where that is needed; else it need not more than be there.
                lives = plugin.works if "delivery" in judged else plugin.reached
                gone = "" if await lives() else rule.name
        judged[rule.name] = verdict
    return list(judged.values())


async def _tried(plugin: Examined, rule: Rule) -> Judged:
    try:
        async with asyncio.timeout(_RULE_S):
            return Judged(rule, Verdict.PASSED, await rule.check(plugin))
    except Skipped as why:
        return Judged(rule, Verdict.SKIPPED, str(why))
    except Failed as why:
        return Judged(rule, Verdict.FAILED, str(why))
    except grpc.aio.AioRpcError as error:
        details = " ".join((error.details() or "").split())[:_DETAILS_MAX]
        return Judged(rule, Verdict.FAILED, f"a call ended with {error.code().name}: {details}")
    except TimeoutError:
        return Judged(rule, Verdict.FAILED, f"it was not tried to its end in {_RULE_S:g} s")
