"""Reads all of the routing file, decisions and words, and finds all that is wrong with it. Pure.

Knows that both stand in one file, and how they name one another. Must not know where the file is.
To drive it: `read_whole(text)`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.presence.routing import ANY_CHANNEL, NO_ROUTING, Route, Routing
from services.presence.routing_file import EXPIRY_S, Line, RoutingFault, examine
from services.presence.templates import (
    NO_TEMPLATES,
    Places,
    Templates,
    WrongTemplates,
    parse_templates,
)
from services.presence.yaml_lines import Path, Problem, shown


@dataclass(frozen=True, slots=True)
class Whole:
    """What a routing file says."""

    routing: Routing = NO_ROUTING
    templates: Templates = NO_TEMPLATES

    def channels(self) -> frozenset[str]:
        """Every channel that it names, wherever."""
        return frozenset(self._channels())

    def _channels(self) -> Iterator[str]:
        routing = self.routing
        for route in (*routing.routes, routing.default):
            for step in route.plan.steps:
                yield from step
        for category in routing.categories.values():
            yield from category.silent
        yield from (channel for channel in routing.caps if channel != ANY_CHANNEL)
        for variants in self.templates.named.values():
            yield from (channel for _, channel in variants if channel)


def read_whole(text: str, expiry_s: float = EXPIRY_S) -> Whole:
    """What the file says. Raises RoutingFault, with all that is wrong, by line. `expiry_s`: of
    plans that say none."""
    found = examine(text, expiry_s)
    problems = list(found.problems)
    templates = NO_TEMPLATES
    try:
        templates = parse_templates(found.templates, Places(line=found.line))
    except WrongTemplates as wrong:
        for mistake in wrong.mistakes:
            where = ".".join(mistake.path)
            problems.append(Problem(mistake.line or 1, f"`{where}`: {mistake.text}."))
    named = frozenset(found.templates) if isinstance(found.templates, dict) else frozenset()
    default = found.routing.default
    problems += _missing(default, ("defaults",), named, found.line)
    for number, route in enumerate(found.routing.routes):
        # What it has of the defaults is told there.
        if route.plan.template != default.plan.template:
            problems += _missing(route, ("routes", number), named, found.line)
    if problems:
        raise RoutingFault(sorted(problems, key=lambda one: one.line))
    return Whole(found.routing, templates)


def _missing(route: Route, at: Path, named: frozenset[str], line: Line) -> list[Problem]:
    name = route.plan.template
    if not name or name in named:
        return []
    said = f"there is no template `{shown(name)}`; write it under `templates`."
    return [Problem(line((*at, "template")), said)]
