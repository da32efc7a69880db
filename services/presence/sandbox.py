"""The language of templates: Jinja2 in a sandbox, and what must not be written in it. Pure.

Knows the language. Must not know routing files, deliveries or processes. `problem_of` looks at a
source without running any of it: not even what a compiler would reckon in advance, since
`{{ 'a' * 10**9 }}` is a gigabyte. `environment` is what the process that renders compiles with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.presence.wording import one_line

# What a template is given; `docs/templates.md` explains them.
VARIABLES = frozenset(
    {
        "user",
        "subject",
        "count",
        "category",
        "priority",
        "locale",
        "messages",
        "newest",
        "title",
        "body",
        "url",
        "mute_url",
        "expires_at",
    }
)
# Functions; `lipsum` would put words of nobody into a notification.
_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")
_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a source, with the remedy. `line`: counted from 1, within the source."""

    text: str
    line: int


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of templates: nothing of Python is within their reach, what they are given
    cannot be changed, and what is not there is an error."""

    # Operators whose operands are constants are otherwise reckoned while it is compiled.
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})


def environment(html: bool) -> Sandbox:
    """The environment for one kind of field: in HTML, what is filled in is escaped."""
    made = Sandbox(
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        cache_size=0,
    )
    made.globals = {name: made.globals[name] for name in _GLOBALS}
    made.filters["one_line"] = one_line
    made.filters["in_zone"] = _in_zone
    # What users wrote would be HTML.
    del made.filters["safe"]
    return made


def problem_of(source: str, html: bool) -> Problem | None:
    """What is wrong with a source; None: nothing that can be seen without running it."""
    sandbox = environment(html)
    try:
        tree = sandbox.parse(source)
    except TemplateSyntaxError as error:
        return Problem(f"it is no valid template: {one_line(error.message or '')}", error.lineno)
    except (ValueError, RecursionError, MemoryError):
        return Problem("it is no valid template: a number is too long, or it is nested too deep", 1)
    for found in _forbidden(tree, sandbox):
        return found
    # Marks all of it as not to be reckoned in advance.
    volatile = nodes.EvalContextModifier([nodes.Keyword("volatile", nodes.Const(True), lineno=1)])
    tree.body.insert(0, volatile.set_lineno(1))
    tree.set_environment(sandbox)
    try:
        unknown = sorted(meta.find_undeclared_variables(tree) - VARIABLES)
    except TemplateSyntaxError as error:
        return Problem(f"it is no valid template: {one_line(error.message or '')}", error.lineno)
    except RecursionError:
        return Problem("it is nested too deep; make it simpler", 1)
    if unknown:
        names = ", ".join(sorted(VARIABLES))
        text = f"there is no variable {', '.join(unknown)}; there are {names}"
        return Problem(text, _line_of(tree, unknown[0]))
    return None


def _forbidden(tree: nodes.Template, sandbox: Sandbox) -> Iterator[Problem]:
    for node in tree.find_all(_OTHER_FILES):
        yield Problem("it cannot include, import or extend another; write it out", node.lineno)
    for node in tree.find_all(nodes.ScopedEvalContextModifier):
        yield Problem(
            "autoescape cannot be changed; HTML goes into html, text into body", node.lineno
        )
    for one in tree.find_all(nodes.Filter):
        if one.name == "safe":
            text = "there is no filter safe, since users' words would be HTML with it"
            yield Problem(f"{text}; write tags outside of {{{{ }}}}", one.lineno)
        elif one.name not in sandbox.filters:
            yield Problem(f"there is no filter {one.name}", one.lineno)
    for test in tree.find_all(nodes.Test):
        if test.name not in sandbox.tests:
            yield Problem(f"there is no test {test.name}", test.lineno)


def _line_of(tree: nodes.Template, name: str) -> int:
    return min((one.lineno for one in tree.find_all(nodes.Name) if one.name == name), default=1)


def _in_zone(value: Any, zone: str) -> datetime:
    """A time as the clocks of a time zone show it."""
    if not isinstance(value, datetime):
        raise TypeError("in_zone is for times")
    return value.astimezone(ZoneInfo(zone))
