"""Reads YAML to plain values, and keeps the line of each part. Pure.

Rules: mappings, lists and plain scalars are taken, nothing else: no aliases (a short text with them
may stand for a huge value), no tags. What is wrong does not end the reading, unless the text is no
YAML at all: all of it is told at once, each with its line and what to write instead.

Knows YAML. Must not know what the values mean. To drive it: `read(text)`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

BYTES_MAX = 1024 * 1024
_SHOWN_MAX = 64
_ESCAPE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAPPING, _LIST = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"

Path = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, in a sentence with the remedy."""

    # In the file, from 1.
    line: int
    text: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Read:
    """What a text holds."""

    # None: nothing, or it is no YAML.
    value: Any = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    # Whether it was YAML at all.
    whole: bool = True

    def line(self, path: Path) -> int:
        """Where a part stands; of one that is missing: where it would be."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str) -> Read:
    """The value of the text, the lines of its parts, and what is wrong with it."""
    if len(text.encode("utf-8", "replace")) > BYTES_MAX:
        return _unread(1, f"the file has more than {BYTES_MAX:,} bytes; remove some.")
    try:
        # Before anything is built of it: what aliases stand for may be without end.
        aliases = [
            Problem(event.start_mark.line + 1, "write it out; aliases (`*name`) are not taken.")
            for event in yaml.parse(text, yaml.SafeLoader)
            if isinstance(event, yaml.AliasEvent) and event.start_mark
        ]
        if aliases:
            return Read(problems=tuple(aliases), whole=False)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        reading = _Reading(loader)
        value = None if root is None else reading.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = shown(error.problem)
        remedy = "mend it, or put the text in quotes"
        return _unread(mark.line + 1 if mark else 1, f"no valid YAML: {what}; {remedy}.")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _unread(line, "no valid YAML: a control character; remove it.")
    except RecursionError:
        return _unread(1, "no valid YAML: it is nested too deeply; write it flatter.")
    return Read(value, reading.lines, tuple(reading.problems))


def shown(part: object) -> str:
    """A part of a file as it is told: parts may be anything, of any length."""
    text = _ESCAPE.sub("?", str(part))
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _unread(line: int, text: str) -> Read:
    return Read(problems=(Problem(line, text),), whole=False)


class _Reading:
    """One reading: makes values of nodes."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._loader = loader

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.MappingNode):
            self._has_no_tag(node, _MAPPING)
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._has_no_tag(node, _LIST)
            return [self.value(one, (*path, place)) for place, one in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                remedy = "put it in quotes; to YAML `{{` begins a mapping."
                self.problems.append(Problem(_line(key), remedy))
                continue
            name = self._scalar(key)
            below = (*path, name)
            if below in self.lines:
                said = f"`{shown(name)}` stands there twice; leave one out."
                self.problems.append(Problem(_line(key), said))
            self.lines[below] = _line(key)
            if not isinstance(name, str):
                # Whoever reads it tells it by its text.
                self.lines.setdefault((*path, shown(name)), _line(key))
            found[name] = self.value(inner, below)
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, KeyError):
            # An unknown tag, or a date or a number that is none.
            text = f"`{shown(node.value)}` is no value to YAML; put it in quotes, without a tag."
            self.problems.append(Problem(_line(node), text))
            return str(node.value)

    def _has_no_tag(self, node: yaml.Node, usual: str) -> None:
        if node.tag != usual:
            self.problems.append(Problem(_line(node), f"leave out the tag `{shown(node.tag)}`."))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
