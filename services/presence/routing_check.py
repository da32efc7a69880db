"""Checks a routing file without a service.

`python -m services.presence.routing_check FILE EXPIRY_S` prints one JSON object a line: a `problem`
for each thing that is wrong (exit 1), or what the file says, and `checked` at its end (exit 0). It
is a program of its own so that `onward routing check` judges by the rules of presence without
importing them.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.presence.plan import Plan
from services.presence.routing import Routing
from services.presence.routing_file import RoutingFault
from services.presence.routing_whole import Whole, read_whole
from services.presence.yaml_lines import BYTES_MAX

Told = Mapping[str, Any]


def check(data: bytes, expiry_s: float) -> tuple[list[Told], bool]:
    """What is to be printed of a file, and whether presence would take it."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        said = "the file is not UTF-8; save it as such."
        return [{"event": "problem", "line": line, "text": said}], False
    try:
        whole = read_whole(text, expiry_s)
    except RoutingFault as fault:
        told = [{"event": "problem", "line": p.line, "text": p.text} for p in fault.problems]
        return list(told), False
    return list(_said(whole)), True


def _said(whole: Whole) -> Iterator[Told]:
    routing = whole.routing
    for category in routing.categories.values():
        yield {
            "event": "category",
            "name": category.name,
            "title": category.title,
            "default": category.allowed,
            "offOn": list(category.silent),
        }
    yield from _routes(routing)
    for channel, cap in routing.caps.items():
        then = "drop" if cap.drops else "defer"
        yield {
            "event": "rate",
            "channel": channel,
            "atMost": cap.at_most,
            "perS": cap.per_s,
            "then": then,
        }
    yield from ({"event": "template", "name": name} for name in whole.templates.named)
    channels = sorted(whole.channels())
    yield {"event": "checked", "routes": len(routing.routes), "channels": channels}


def _routes(routing: Routing) -> Iterator[Told]:
    for route in routing.routes:
        about = {"event": "route", "subject": route.subject, "headers": dict(route.headers)}
        yield about | _plan(route.plan)
    yield {"event": "defaults"} | _plan(routing.default.plan)


def _plan(plan: Plan) -> dict[str, Any]:
    """As the file names its parts; null: the setting's."""
    return {
        "category": plan.category,
        "template": plan.template,
        "policy": plan.policy.value,
        "priority": plan.priority.name.lower(),
        "quietHours": plan.quiet.value,
        "channels": [list(step) for step in plan.steps],
        "escalateS": plan.escalate_s,
        "collapseS": plan.collapse_s,
        "digestS": plan.digest_s,
        "expiryS": plan.expiry_s,
    }


def main(path: str, expiry_s: str) -> int:
    """Prints what there is to tell of the file; returns the exit code."""
    with Path(path).open("rb") as file:
        # One byte more tells that there is too much; a device has no end.
        data = file.read(BYTES_MAX + 1)
    told, taken = check(data, float(expiry_s))
    for one in told:
        print(json.dumps(one))
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
