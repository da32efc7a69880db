"""What became of one message, and how clients stand, as lines that fit a screen together. Pure.

Knows the messages of `presence.proto` as JSON, and how many lines each part may have: what is too
much is counted and left to `--json`. Must not know where a story comes from. No line is longer than
the width, and no line has control characters.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.local_times import clock, localised, moment
from services.cli.output import printable

Story = Mapping[str, Any]

# Lines of each part, so that all of them fit 24 with the blank lines between.
TEXT_LINES, PLAN_LINES, DELIVERY_LINES, DELIVERIES_LINES, CLIENTS_LINES = 5, 2, 3, 8, 4
# Tries of a delivery that are told at most: the first, and the last ones.
_TRIES = 5
_DETAIL_MAX = 60
_WIDTH_MIN = 60
_MORE = "--json tells all"


def message_lines(whose: str, outcome: Story, width: int) -> list[str]:
    """The outcome; its state is in the first line."""
    width = max(width, _WIDTH_MIN)
    reason = f" ({outcome['reason']})" if outcome.get("reason") else ""
    state = f": {outcome.get('state', '')}{reason}"
    name = f", {'message' if _is_one(outcome) else 'messages'} {seqs(outcome)}"
    title = _cut(whose, width - len(state) - len(name)) + name
    lines = [_cut(printable(title + state), width)]
    lines += _wrapped(localised(str(outcome.get("text", ""))), width, TEXT_LINES)
    lines += _wrapped(_plan(outcome), width, PLAN_LINES)
    deliveries = outcome.get("deliveries") or ()
    if deliveries:
        lines.append("")
        lines += _deliveries(deliveries, str(outcome.get("at") or ""), width)
    return lines


def client_lines(clients: Sequence[Story], width: int) -> list[str]:
    """How each client stands."""
    width = max(width, _WIDTH_MIN)
    lines = ["Clients"]
    # Those that are there speak first.
    ordered = sorted(clients, key=lambda one: _ORDER.get(str(one.get("state")), 9))
    room = CLIENTS_LINES if len(clients) <= CLIENTS_LINES else CLIENTS_LINES - 1
    lines += [_cut(printable(f"  {_client(one)}"), width) for one in ordered[:room]]
    if len(clients) > room:
        lines.append(f"  and {len(clients) - room} more: {_MORE}")
    return lines


def seqs(outcome: Story) -> str:
    """The message, or the first and the last."""
    first, last = outcome.get("fromSeq", 0), outcome.get("toSeq", 0)
    return str(first) if first == last else f"{first}–{last}"


# -- the message ---------------------------------------------------------------------------------


def _is_one(outcome: Story) -> bool:
    return bool(outcome.get("fromSeq") == outcome.get("toSeq"))


def _plan(outcome: Story) -> str:
    """When it was decided, and how it was to be sent."""
    parts = [f"Decided {moment(outcome['at'])}"] if outcome.get("at") else []
    plan = outcome.get("plan") or {}
    if plan.get("category"):
        parts.append(f"category {plan['category']}")
    for name, words in (("priority", "priority"), ("policy", "policy")):
        if plan.get(name):
            parts.append(f"{words} {plan[name]}")
    if plan.get("template"):
        parts.append(f"template {plan['template']}")
    if plan.get("expiresAt") and any(one.get("dueAt") for one in outcome.get("deliveries") or ()):
        parts.append(f"expires {moment(plan['expiresAt'])}")
    return ", ".join(parts) + "." if parts else ""


def _deliveries(deliveries: Sequence[Story], decided_at: str, width: int) -> list[str]:
    lines: list[str] = []
    channels = max(len(printable(str(one.get("channel", "")))) for one in deliveries)
    for place, one in enumerate(deliveries):
        left = len(deliveries) - place
        found = _delivery(one, min(channels, 12), decided_at, width)
        # One line is kept for those that do not fit.
        room = DELIVERIES_LINES - len(lines) - (1 if left > 1 else 0)
        if len(found) > room:
            lines.append(f"  and {left} more: {_MORE}")
            break
        lines += found
    return lines


def _delivery(delivery: Story, channels: int, decided_at: str, width: int) -> list[str]:
    head = f"  {delivery.get('channel', '')!s:<{channels}}  "
    state, reason = str(delivery.get("state", "")), str(delivery.get("reason") or "")
    # Some states say all that there is to say.
    parts = [f"{state} ({reason})" if reason and reason.lower() != state else state]
    if delivery.get("dueAt"):
        parts.append(f"due {moment(delivery['dueAt'])}")
    if attempts := delivery.get("attempts"):
        parts.append(_tries(attempts, decided_at))
    receipts = [
        f"{one.get('kind', '')} {clock(one.get('at', ''), decided_at)}{_detail(one)}"
        for one in delivery.get("receipts") or ()
    ]
    if receipts:
        parts.append(f"receipts: {', '.join(receipts)}")
    return _wrapped(head + "; ".join(parts), width, DELIVERY_LINES, " " * len(head))


def _tries(attempts: Sequence[Story], decided_at: str) -> str:
    told = [
        f"{one.get('outcome') or 'with the plugin since'} {clock(one.get('at', ''), decided_at)}"
        f"{_detail(one)}"
        for one in attempts
    ]
    if len(told) > _TRIES:
        told = [told[0], f"{len(told) - _TRIES} more", *told[1 - _TRIES :]]
    return " → ".join(told)


def _detail(one: Story) -> str:
    return f" ({_cut(str(one['detail']), _DETAIL_MAX)})" if one.get("detail") else ""


# -- clients -------------------------------------------------------------------------------------

_ORDER = {"online": 0, "grace": 1, "offline": 2}
_BACKEND = "@backend"


def _client(client: Story) -> str:
    since = f" since {moment(client['since'])}" if client.get("since") else ""
    state = str(client.get("state", ""))
    if client.get("away"):
        state = f"online, away{since}"
    elif state == "online":
        place = "in the background" if client.get("active") is False else "looked at"
        state = f"online, {place}{since}"
    elif state == "grace" and client.get("graceUntil"):
        state = f"in its grace until {moment(client['graceUntil'])}"
    else:
        state += since
    name = str(client.get("clientId", ""))
    if name == _BACKEND:
        name, state = "a backend", "follows for the user"
    parts = [state, f"from after {client.get('base', 0)}"]
    if name != "a backend":
        parts.append(f"acknowledged up to {client.get('acked', 0)}")
    if client.get("ended"):
        parts.append("follow ended")
    return f"{_cut(name, 24)}  {', '.join(parts)}"


# -- lines ---------------------------------------------------------------------------------------


def _wrapped(text: str, width: int, lines_max: int, indent: str = "") -> list[str]:
    """At most so many lines; what is cut ends in an ellipsis."""
    return textwrap.wrap(
        printable(text),
        width,
        subsequent_indent=indent,
        max_lines=lines_max,
        placeholder=" …",
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most, 1) - 1] + "…"
