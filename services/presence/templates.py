"""Templates of notifications: how a file gives them, and which text a delivery gets. Pure.

    templates:
      chat:
        title: "{{ newest.publisher }} in {{ subject }}"
        body: "{{ newest.text | truncate(80) }}"
        channels:
          mailto: {html: "<p>{{ newest.text }}</p>"}
        locales:
          de: {title: "{{ newest.publisher }} schreibt", channels: {…}}

Rules: each field is looked up by itself, the most specific first: in the user's locale (`pt-BR`),
its language (`pt`), then without one; in each for the channel, then for all channels. A title
there must be for everybody. What a template does not say is not said, since it may be there to hide
what a message holds; only `url`, which is no words, is then the usual one.

Knows the shape of the value and the language (`sandbox`). Must not know how files are read, nor
how templates are run (`rendering`). To drive it: `parse_templates(value, at)`, then `find`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.chassis.channel_names import SCHEME, channel_fault
from services.presence.sandbox import problem_of

FIELDS = ("title", "body", "html", "url")
TEMPLATES_MAX = 500
# Characters of one field, and of all together.
SOURCE_MAX = 64 * 1024
ALL_SOURCES_MAX = 4 * 1024 * 1024
# All are told at once; a bound on what a file may make of itself.
PROBLEMS_MAX = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")
_ESCAPE = re.compile(r"\\.|[\x00-\x1f\x7f]")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where in the file a value stands: its path, and the line of any path if that is known."""

    path: Path = ("templates",)
    line: Callable[[Path], int | None] = lambda _: None

    def below(self, *names: str) -> "Places":
        """The place of a part."""
        return Places((*self.path, *names), self.line)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong in the file, in a sentence with the remedy."""

    path: Path
    # In the file; None: not known.
    line: int | None
    text: str

    def __str__(self) -> str:
        where = ".".join(self.path)
        said = f"`{where}`: {self.text}."
        return f"Line {self.line}: {said}" if self.line else said


class WrongTemplates(Exception):
    """The file's templates cannot be used. Its text names each mistake, one a line."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Templates:
    """Templates by name: for (locale, channel), each in lower case, empty for all, its fields."""

    named: Mapping[str, Mapping[tuple[str, str], Mapping[str, str]]] = field(default_factory=dict)

    def find(self, name: str, channel: str, locale: str) -> Mapping[str, str] | None:
        """The source of each field that the template says; None: there is no such template."""
        variants = self.named.get(name)
        if variants is None:
            return None
        found: dict[str, str] = {}
        for one in _fallbacks(locale):
            for where in ((one, channel), (one, "")):
                for part, source in variants.get(where, {}).items():
                    found.setdefault(part, source)
        return found


NO_TEMPLATES = Templates()


def parse_templates(value: object, at: Places = Places()) -> Templates:
    """What the file says under `templates`. Raises WrongTemplates."""
    reading = _Reading()
    templates = reading.templates(value, at)
    if reading.mistakes:
        raise WrongTemplates(reading.mistakes)
    return templates


class _Reading:
    """One reading of the value; goes on after a mistake, so that all are told at once."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self._characters = 0

    def templates(self, value: object, at: Places) -> Templates:
        if value is None:
            return NO_TEMPLATES
        named: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
        names = "letters, digits, dots, dashes and underscores"
        for name, one, place in self._parts(value, at, _NAME, f"a template's name has {names}"):
            if len(named) == TEMPLATES_MAX:
                self._wrong(place, f"there are more than {TEMPLATES_MAX} templates; remove some")
                break
            named[name] = self._template(one, place)
        if self._characters > ALL_SOURCES_MAX:
            text = f"all templates together have more than {ALL_SOURCES_MAX:,} characters"
            self._wrong(at, f"{text}; make them shorter")
        return Templates(named)

    def _template(self, value: object, at: Places) -> dict[tuple[str, str], dict[str, str]]:
        variants: dict[tuple[str, str], dict[str, str]] = {}
        if not isinstance(value, Mapping):
            self._wrong(at, "a template has fields; write at least title: below it")
            return variants
        self._variant(value, at, "", variants, ("channels", "locales"))
        if "title" not in variants["", ""] and "title" not in value:
            remedy = 'write title: "{{ title }}" for the usual one'
            self._wrong(at, f"a template needs a title for everybody; {remedy}")
        if value.get("locales") is not None:
            place = at.below("locales")
            expected = "a locale is a language tag, as pt-BR"
            for locale, one, below in self._parts(value["locales"], place, _LOCALE, expected):
                if isinstance(one, Mapping):
                    self._variant(one, below, locale.lower(), variants, ("channels",))
                else:
                    self._wrong(
                        below, "a locale has fields; write title:, body:, html: or url: below it"
                    )
        return variants

    def _variant(
        self,
        value: Mapping[Any, object],
        at: Places,
        locale: str,
        variants: dict[tuple[str, str], dict[str, str]],
        further: tuple[str, ...],
    ) -> None:
        """The fields of all channels, and those of each, in one locale."""
        variants[locale, ""] = self._fields(value, at, further)
        if value.get("channels") is None:
            return
        expected = "a channel is the scheme of external tokens, as mailto"
        channels = at.below("channels")
        for channel, one, below in self._parts(value["channels"], channels, SCHEME, expected):
            if fault := channel_fault(channel):
                self._wrong(below, fault)
            elif isinstance(one, Mapping):
                variants[locale, channel] = self._fields(one, below, ())
            else:
                self._wrong(
                    below, "a channel has fields; write title:, body:, html: or url: below it"
                )

    def _fields(
        self, value: Mapping[Any, object], at: Places, further: tuple[str, ...]
    ) -> dict[str, str]:
        fields: dict[str, str] = {}
        for name, source in value.items():
            place = at.below(_shown(name))
            if name in further:
                continue
            if name not in FIELDS:
                known = ", ".join((*FIELDS, *further))
                self._wrong(place, f"there is no such field; there are {known}")
            elif not isinstance(source, str):
                self._wrong(place, "it is no text; put it in quotes")
            elif len(source) > SOURCE_MAX:
                self._wrong(place, f"it has more than {SOURCE_MAX:,} characters; make it shorter")
            else:
                self._characters += len(source)
                problem = problem_of(source, html=name == "html")
                if problem is None:
                    fields[name] = source
                else:
                    self._wrong(place, f"in line {problem.line} of the template, {problem.text}")
        return fields

    def _parts(
        self, value: object, at: Places, name: re.Pattern[str], expected: str
    ) -> Iterator[tuple[str, object, Places]]:
        if not isinstance(value, Mapping):
            self._wrong(at, "it has names with something below each; write them so, or remove it")
            return
        for key, part in value.items():
            place = at.below(_shown(key))
            if isinstance(key, str) and name.fullmatch(key):
                yield key, part, place
            elif key is False and name is _LOCALE:
                self._wrong(place, 'YAML reads no as false; write "no" in quotes')
            else:
                self._wrong(place, f"{expected}; change it")

    def _wrong(self, at: Places, text: str) -> None:
        if len(self.mistakes) < PROBLEMS_MAX:
            self.mistakes.append(Mistake(at.path, at.line(at.path), text))


def _fallbacks(locale: str) -> list[str]:
    """`pt-BR` → `pt-br`, `pt`, and none."""
    parts = locale.lower().replace("_", "-").split("-") if locale else []
    return ["-".join(parts[:n]) for n in range(len(parts), -1, -1)]


def _shown(key: object) -> str:
    """A key as it is told; keys of a file may be anything."""
    text = _ESCAPE.sub("?", str(key))
    return text if len(text) <= 64 else text[:63] + "…"
