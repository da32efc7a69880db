"""Reads the routing file: YAML to routes, categories and caps; what is wrong is told with its line.

Pure: text in, `Routing` out, or `RoutingFault` with a sentence for each thing that is wrong: where,
what, and what to write instead. Nothing is passed over: an unknown key is wrong. How to write the
file stands in docs/notifications.md. What the file says of words is read by `templates`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from services.presence.patterns import pattern_fault
from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority, Quiet
from services.presence.routing import ANY_CHANNEL, Cap, Category, Route, Routing

FILE_BYTES_MAX = 1024 * 1024
ROUTES_MAX = 1_000
_LONGEST_S = 31_622_400.0
_PARTS = ("categories", "defaults", "routes", "rates", "templates")
_ROUTE_KEYS = (
    "category", "template", "policy", "priority", "quiet_hours", "channels", "escalate_s",
    "collapse_s", "digest_s", "expiry_s",
)  # fmt: skip
_SWITCH = {True: True, False: False, "on": True, "off": False}

Path = tuple[Any, ...]
# The line of what stands at a path of the file, from 1.
Line = Callable[[Path], int]


class RoutingFault(Exception):
    """The file cannot be taken. `problems`: a sentence for each thing, with its line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def parse(text: str) -> tuple[Routing, Mapping[str, Any], Line]:
    """The routing, what stands under `templates` as it is, and where everything stands. Raises
    RoutingFault."""
    value, lines = _load(text)

    def line(path: Path) -> int:
        # Of something that is missing: where it would be.
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)

    reader = _Reader(line)
    if not isinstance(value, dict):
        raise RoutingFault([f"Line 1: the file is a mapping of {_listed(_PARTS)}."])
    reader.keys(value, (), _PARTS)
    categories = reader.categories(value.get("categories"))
    defaults = value.get("defaults") or {}
    default, fixed = reader.plan(defaults, ("defaults",), DEFAULT_PLAN, categories)
    routing = Routing(
        routes=reader.routes(value.get("routes"), default, fixed, categories),
        default=Route("/*", {}, default, fixed),
        categories=categories,
        caps=reader.caps(value.get("rates")),
    )
    if reader.problems:
        raise RoutingFault(reader.problems)
    return routing, reader.mapping(value.get("templates"), ("templates",)), line


def _load(text: str) -> tuple[Any, dict[Path, int]]:
    """The value of the YAML, and the line of each part. Raises RoutingFault."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise RoutingFault([f"Line 1: the file has more than {FILE_BYTES_MAX} bytes."])
    lines: dict[Path, int] = {}
    problems: list[str] = []
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                at = event.start_mark.line + 1 if event.start_mark else 1
                raise RoutingFault([f"Line {at}: write it out; aliases (`*name`) are not taken."])
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None:
            _note_lines(root, (), lines, problems)
        value = yaml.safe_load(text) if not problems else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = mark.line + 1 if mark else 1
        raise RoutingFault([f"Line {at}: no valid YAML: {error.problem}."]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RoutingFault([f"Line 1: no valid YAML ({type(error).__name__})."]) from None
    if problems:
        raise RoutingFault(problems)
    return value if value is not None else {}, lines


def _note_lines(node: yaml.Node, path: Path, lines: dict[Path, int], problems: list[str]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                problems.append(f"Line {at}: put it in quotes; to YAML `{{{{` begins a mapping.")
                continue
            name = key.value
            if (*path, name) in lines:
                problems.append(f"Line {at}: `{name}` stands there twice; leave one out.")
            lines[(*path, name)] = at
            _note_lines(inner, (*path, name), lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for place, inner in enumerate(node.value):
            _note_lines(inner, (*path, place), lines, problems)


class _Reader:
    """Reads parts of the file, and gathers what is wrong."""

    def __init__(self, line: Line) -> None:
        self.problems: list[str] = []
        self._line = line

    def wrong(self, path: Path, sentence: str) -> None:
        self.problems.append(f"Line {self._line(path)}: {sentence}")

    def mapping(self, value: Any, path: Path) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            self.wrong(path, f"`{path[-1]}` is a mapping of names.")
            return {}
        return value

    def keys(self, value: Mapping[str, Any], path: Path, known: tuple[str, ...]) -> None:
        for name in value:
            if name not in known:
                self.wrong((*path, name), f"`{name}` is not known; it takes {_listed(known)}.")

    def categories(self, value: Any) -> Mapping[str, Category]:
        found: dict[str, Category] = {}
        for name, inner in self.mapping(value, ("categories",)).items():
            path = ("categories", name)
            said = self.mapping(inner, path)
            self.keys(said, path, ("title", "default", "off_on"))
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
            self.wrong(("routes",), f"`routes` is a list of at most {ROUTES_MAX} routes.")
            return ()
        routes = []
        for place, inner in enumerate(value):
            path: Path = ("routes", place)
            if not isinstance(inner, dict) or not isinstance(inner.get("subject"), str):
                self.wrong(path, "a route has a `subject`, as in `subject: /chat/*`.")
                continue
            subject = inner["subject"]
            if fault := pattern_fault(subject):
                self.wrong((*path, "subject"), f"`{subject}` is no pattern of subjects. {fault}")
            headers = self.mapping(inner.get("headers"), (*path, "headers"))
            for name, one in headers.items():
                self.text(one, (*path, "headers", name))
            said = {n: v for n, v in inner.items() if n not in ("subject", "headers")}
            plan, own = self.plan(said, path, default, categories)
            routes.append(Route(subject, dict(headers), plan, fixed | own))
        return tuple(routes)

    def plan(
        self, value: Any, path: Path, default: Plan, categories: Mapping[str, Category]
    ) -> tuple[Plan, frozenset[str]]:
        """The plan, and the parts of it that are said here."""
        said = self.mapping(value, path)
        self.keys(said, path, _ROUTE_KEYS)
        plan = default
        if "category" in said:
            plan = replace(plan, category=self.text(said["category"], (*path, "category")))
            if plan.category not in categories:
                self.wrong((*path, "category"), f"name `{plan.category}` under `categories` too.")
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
            self.wrong(path, "several steps of channels need `escalate_s`, as `escalate_s: 300`.")
        return plan, frozenset(said)

    def steps(self, value: Any, path: Path) -> tuple[tuple[str, ...], ...]:
        if not isinstance(value, list) or not value:
            self.wrong(path, "`channels` is a list, as in `[fcm, mailto]` or `[[fcm], [tel]]`.")
            return ()
        if any(isinstance(one, list) for one in value):
            steps = tuple(self.channels(one, (*path, n)) for n, one in enumerate(value))
        else:
            steps = (self.channels(value, path),)
        named = [channel for step in steps for channel in step]
        if len(set(named)) < len(named):
            self.wrong(path, "a channel stands in two steps; leave it in the first.")
        return steps

    def channels(self, value: Any, path: Path) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.wrong(path, "channels are a list of schemes, as in `[fcm, mailto]`.")
            return ()
        return tuple(one.lower() for one in value)

    def caps(self, value: Any) -> Mapping[str, Cap]:
        found: dict[str, Cap] = {}
        for channel, inner in self.mapping(value, ("rates",)).items():
            path = ("rates", channel)
            said = self.mapping(inner, path)
            self.keys(said, path, ("at_most", "per_s", "then"))
            if "at_most" not in said or "per_s" not in said:
                self.wrong(path, "a rate is `{at_most: 5, per_s: 86400}`.")
                continue
            at_most = self.number(said["at_most"], (*path, "at_most"), 1, 1_000_000)
            per_s = self.number(said["per_s"], (*path, "per_s"), 1, _LONGEST_S)
            words = {"defer": False, "drop": True}
            drops = self.choice(said.get("then", "defer"), (*path, "then"), words)
            found[ANY_CHANNEL if channel == ANY_CHANNEL else channel.lower()] = Cap(
                int(at_most), per_s, drops
            )
        return found

    def choice(self, value: Any, path: Path, words: Mapping[Any, Any]) -> Any:
        if isinstance(value, (str, bool)) and value in words:
            return words[value]
        names = [one for one in words if isinstance(one, str)]
        self.wrong(path, f"`{path[-1]}` is one of {_listed(tuple(names))}.")
        return next(iter(words.values()))

    def number(self, value: Any, path: Path, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.wrong(path, f"`{path[-1]}` is a number.")
        elif not least <= value <= most:
            self.wrong(path, f"`{path[-1]}` is from {least:g} to {most:g}.")
        else:
            return float(value)
        return least

    def text(self, value: Any, path: Path) -> str:
        if isinstance(value, str) and value:
            return value
        self.wrong(path, f"`{path[-1]}` is a text; put it in quotes.")
        return ""


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
