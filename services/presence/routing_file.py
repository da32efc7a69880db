"""Reads the routing file: YAML to routes, categories and caps; what is wrong is told with its line.

Pure: text in, `Routing` out, and a sentence for each thing that is wrong: where, what, and what to
write instead. Nothing is passed over: an unknown key is wrong. How to write the file stands in
docs/notifications.md. What the file says of words is read by `templates`, and both are put together
by `routing_whole`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.chassis.channel_names import channel_fault
from services.presence import yaml_lines
from services.presence.patterns import star_fault
from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority, Quiet
from services.presence.plan_times import contradiction
from services.presence.routing import (
    ANY_CHANNEL,
    NO_ROUTING,
    Cap,
    Category,
    Route,
    Routing,
    category_fault,
)
from services.presence.yaml_lines import Path, Problem, shown

ROUTES_MAX = 1_000
# As the setting ONWARD_PRESENCE_EXPIRY_S has it.
EXPIRY_S = 86_400.0
_LONGEST_S = 31_622_400.0
_PARTS = ("categories", "defaults", "routes", "rates", "templates")
_ROUTE_KEYS = (
    "category", "template", "policy", "priority", "quiet_hours", "channels", "escalate_s",
    "collapse_s", "digest_s", "expiry_s",
)  # fmt: skip
_SWITCH = {True: True, False: False, "on": True, "off": False}

# The line of what stands at a path of the file, from 1.
Line = Callable[[Path], int]


class RoutingFault(Exception):
    """The file cannot be taken. `problems`: each thing that is wrong, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(" ".join(str(one) for one in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Found:
    """What the file says, as far as it can be read, and what is wrong with it."""

    routing: Routing = NO_ROUTING
    # What stands under `templates`, as it is.
    templates: object = None
    line: Line = lambda _: 1
    problems: list[Problem] = field(default_factory=list)


def parse(text: str, expiry_s: float = EXPIRY_S) -> tuple[Routing, Mapping[str, Any], Line]:
    """The routing, what stands under `templates` as it is, and where everything stands. Raises
    RoutingFault."""
    found = examine(text, expiry_s)
    if found.problems:
        raise RoutingFault(found.problems)
    templates = found.templates if isinstance(found.templates, dict) else {}
    return found.routing, templates, found.line


def examine(text: str, expiry_s: float = EXPIRY_S) -> Found:
    """As `parse`, but goes on whatever is wrong. `expiry_s`: of plans that say none."""
    read = yaml_lines.read(text)
    reader = _Reader(read.line, expiry_s)
    reader.problems += read.problems
    value = read.value
    if not read.whole:
        return Found(problems=reader.problems)
    if value is None:
        # Also what somebody reads who comes while the file is being written.
        remedy = "write `routes: []` if it is to say nothing, or unset ONWARD_PRESENCE_ROUTING"
        return Found(problems=[Problem(1, f"the file is empty; {remedy}.")])
    if not isinstance(value, dict):
        reader.wrong((), f"write the file as a mapping of {_listed(_PARTS)}.")
        return Found(problems=reader.problems)
    reader.keys(value, (), _PARTS)
    categories = reader.categories(value.get("categories"))
    default, fixed = reader.plan(value.get("defaults"), ("defaults",), DEFAULT_PLAN, categories)
    routing = Routing(
        routes=reader.routes(value.get("routes"), default, fixed, categories),
        default=Route("/*", {}, default, fixed),
        categories=categories,
        caps=reader.caps(value.get("rates")),
    )
    templates = reader.mapping(value.get("templates"), ("templates",))
    return Found(routing, templates, read.line, reader.problems)


class _Reader:
    """Reads parts of the file, and gathers what is wrong."""

    def __init__(self, line: Line, expiry_s: float) -> None:
        self.problems: list[Problem] = []
        self._line = line
        self._expiry_s = expiry_s

    def wrong(self, path: Path, sentence: str) -> None:
        self.problems.append(Problem(self._line(path), sentence))

    def mapping(self, value: Any, path: Path) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            names = "names that are texts, and what each says"
            self.wrong(path, f"write `{shown(path[-1])}` as a mapping of {names}.")
            return {}
        return value

    def keys(self, value: Mapping[str, Any], path: Path, known: tuple[str, ...]) -> None:
        for name in value:
            if name not in known:
                self.wrong(
                    (*path, name), f"`{shown(name)}` is not known; write one of {_listed(known)}."
                )

    def categories(self, value: Any) -> Mapping[str, Category]:
        found: dict[str, Category] = {}
        for name, inner in self.mapping(value, ("categories",)).items():
            path = ("categories", name)
            said = self.mapping(inner, path)
            self.keys(said, path, ("title", "default", "off_on"))
            if fault := category_fault(name):
                self.wrong(path, fault)
            found[name] = Category(
                name,
                self.text(said.get("title", name), (*path, "title")),
                self.choice(said.get("default", True), (*path, "default"), _SWITCH),
                self.channels(said.get("off_on", []), (*path, "off_on")),
            )
        return found

    def routes(
        self,
        value: Any,
        default: Plan,
        fixed: frozenset[str],
        categories: Mapping[str, Category],
    ) -> tuple[Route, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > ROUTES_MAX:
            self.wrong(("routes",), f"write `routes` as a list of at most {ROUTES_MAX:,} routes.")
            return ()
        routes = []
        for place, inner in enumerate(value):
            path: Path = ("routes", place)
            if not isinstance(inner, dict):
                self.wrong(path, "a route has a `subject`; write `- subject: /chat/*`.")
                routes.append(Route("/*"))  # Those after it keep their places, and so their lines.
                continue
            subject = inner.get("subject", "/*")
            if "subject" not in inner or not isinstance(subject, str):
                self.wrong(path, "a route has a `subject`; write one, as `subject: /chat/*`.")
                subject = "/*"
            if fault := star_fault(subject):
                said = f"`{shown(subject)}` is no pattern of subjects. {fault}"
                self.wrong((*path, "subject"), said)
            headers = self.mapping(inner.get("headers"), (*path, "headers"))
            for name, one in headers.items():
                self.text(one, (*path, "headers", name))
            own_keys = {n: v for n, v in inner.items() if n not in ("subject", "headers")}
            plan, own = self.plan(own_keys, path, default, categories)
            routes.append(Route(subject, dict(headers), plan, fixed | own))
        return tuple(routes)

    def plan(
        self, value: Any, path: Path, default: Plan, categories: Mapping[str, Category]
    ) -> tuple[Plan, frozenset[str]]:
        """The plan, and the parts of it that are said here."""
        before = len(self.problems)
        said = self.mapping(value, path)
        self.keys(said, path, _ROUTE_KEYS)
        plan = default
        if "category" in said:
            plan = replace(plan, category=self.text(said["category"], (*path, "category")))
            if plan.category not in categories:
                self.wrong(
                    (*path, "category"), f"name `{shown(plan.category)}` under `categories` too."
                )
        if "template" in said:
            plan = replace(plan, template=self.text(said["template"], (*path, "template")))
        for name, part, words in (
            ("policy", "policy", {one.value: one for one in Policy}),
            ("priority", "priority", {one.name.lower(): one for one in Priority}),
            ("quiet_hours", "quiet", {one.value: one for one in Quiet}),
        ):
            if name in said:
                plan = replace(plan, **{part: self.choice(said[name], (*path, name), words)})
        for name in ("collapse_s", "digest_s", "escalate_s", "expiry_s"):
            if name in said:
                least = 0.0 if name in ("collapse_s", "digest_s") else 1.0
                number = self.number(said[name], (*path, name), least, _LONGEST_S)
                changed: dict[str, Any] = {name: number}
                plan = replace(plan, **changed)
        if "channels" in said:
            plan = replace(plan, steps=self.steps(said["channels"], (*path, "channels")))
        if len(plan.steps) > 1 and not plan.escalate_s:
            self.wrong(
                path, "several lists of channels need `escalate_s`; write `escalate_s: 300`."
            )
        if len(self.problems) == before:
            self.times(plan, said, path)
        return plan, frozenset(said)

    def times(self, plan: Plan, said: Mapping[str, Any], path: Path) -> None:
        """That nothing expires before it can be sent; told once, where the file says it."""
        about = ("digest_s", "collapse_s", "escalate_s", "expiry_s", "channels", "priority")
        wrong = contradiction(plan, self._expiry_s) if any(one in said for one in about) else None
        if wrong is not None:
            key, sentence = wrong
            self.wrong((*path, key if key in said else "expiry_s"), sentence)

    def steps(self, value: Any, path: Path) -> tuple[tuple[str, ...], ...]:
        if not isinstance(value, list) or not value:
            self.wrong(path, "write `channels` as a list: `[fcm, mailto]`, or `[[fcm], [tel]]`.")
            return ()
        if any(isinstance(one, list) for one in value):
            steps = tuple(self.channels(one, (*path, n)) for n, one in enumerate(value))
        else:
            steps = (self.channels(value, path),)
        named = [channel for step in steps for channel in step]
        if len(set(named)) < len(named):
            self.wrong(path, "a channel stands there twice; leave it where it is used first.")
        return steps

    def channels(self, value: Any, path: Path) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.wrong(path, "write channels as a list of schemes: `[fcm, mailto]`.")
            return ()
        return tuple(self.channel(one, (*path, place)) for place, one in enumerate(value))

    def channel(self, name: str, path: Path) -> str:
        if fault := channel_fault(name.lower()):
            self.wrong(path, f"`{shown(name)}`: {fault}.")
        return name.lower()

    def caps(self, value: Any) -> Mapping[str, Cap]:
        found: dict[str, Cap] = {}
        for channel, inner in self.mapping(value, ("rates",)).items():
            path = ("rates", channel)
            name = channel if channel == ANY_CHANNEL else self.channel(channel, path)
            said = self.mapping(inner, path)
            self.keys(said, path, ("at_most", "per_s", "then"))
            if "at_most" not in said or "per_s" not in said:
                self.wrong(path, "a rate has both; write `{at_most: 5, per_s: 86400}`.")
                continue
            at_most = self.number(said["at_most"], (*path, "at_most"), 1, 1_000_000)
            per_s = self.number(said["per_s"], (*path, "per_s"), 1, _LONGEST_S)
            words = {"defer": False, "drop": True}
            drops = self.choice(said.get("then", "defer"), (*path, "then"), words)
            found[name] = Cap(int(at_most), per_s, drops)
        return found

    def choice(self, value: Any, path: Path, words: Mapping[Any, Any]) -> Any:
        if isinstance(value, (str, bool)) and value in words:
            return words[value]
        names = [one for one in words if isinstance(one, str)]
        self.wrong(path, f"write one of {_listed(tuple(names))} as `{path[-1]}`.")
        return next(iter(words.values()))

    def number(self, value: Any, path: Path, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.wrong(path, f"write a number as `{path[-1]}`, without quotes.")
        elif not least <= value <= most:
            self.wrong(path, f"write a number from {least:g} to {most:,.0f} as `{path[-1]}`.")
        else:
            return float(value)
        return least

    def text(self, value: Any, path: Path) -> str:
        if isinstance(value, str) and value:
            return value
        self.wrong(path, f"`{shown(path[-1])}` is a text; put it in quotes.")
        return ""


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
