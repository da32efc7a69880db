"""Reads a service's settings from the environment, once, into its frozen dataclass.

A service declares a frozen dataclass whose fields are made by `setting(default, doc)`. The field
`lease_ttl_s` of the coordinator is read from `ONWARD_COORDINATOR_LEASE_TTL_S`; a field made with
`shared=True` is the same for all services and is read from `ONWARD_LEASE_TTL_S`, unless there is
an `ONWARD_COORDINATOR_LEASE_TTL_S` for one service alone. Knows types and names, not what a setting
means.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from services.chassis.errors import SettingError

S = TypeVar("S")

_REQUIRED: Any = dataclasses.MISSING
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def setting(
    default: Any = _REQUIRED,
    *,
    doc: str,
    shared: bool = False,
    least: float | None = None,
    most: float | None = None,
    secret: bool = False,
) -> Any:
    """A field of a settings dataclass.

    `doc` gives meaning, unit and trade-off in a sentence. `least` and `most` bound a number;
    `least` is also the shortest length of a text. A `secret` is never printed. Without a default
    the variable is required.
    """
    metadata = {"doc": doc, "shared": shared, "least": least, "most": most, "secret": secret}
    if default is _REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable of a service, for documentation."""

    name: str
    kind: type
    default: Any  # dataclasses.MISSING if required
    doc: str
    secret: bool


def variables(cls: type[Any], service: str) -> Iterator[Variable]:
    """The variables of a settings dataclass, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        meta = field.metadata
        prefix = "ONWARD_" if meta["shared"] else f"ONWARD_{service.upper()}_"
        kind = hints[field.name]
        yield Variable(
            prefix + field.name.upper(), kind, field.default, meta["doc"], meta["secret"]
        )


def load(cls: type[S], service: str, environ: Mapping[str, str]) -> S:
    """Build the dataclass from `environ`. Raises SettingError naming the variable and the remedy.

    A variable with this service's prefix that names no setting is an error too: a misspelt limit
    would otherwise silently keep its default.
    """
    values: dict[str, Any] = {}
    known = set()
    for field, variable in zip(
        dataclasses.fields(cls),  # type: ignore[arg-type]  # S is always a dataclass
        variables(cls, service),
        strict=True,
    ):
        own = f"ONWARD_{service.upper()}_{field.name.upper()}"
        known.add(own)
        name = own if environ.get(own) else variable.name
        text = environ.get(name, "")
        if text:
            value = _parse(name, variable.kind, text)
            _check_bounds(name, value, field.metadata)
            values[field.name] = value
        elif variable.default is dataclasses.MISSING:
            raise SettingError(f"{variable.name} is not set; set it to: {variable.doc}")
    prefix = f"ONWARD_{service.upper()}_"
    for name in environ:
        if name.startswith(prefix) and name not in known:
            raise SettingError(f"{name} is not a setting of {service}; see docs/settings.md")
    return cls(**values)


def _parse(name: str, kind: type, text: str) -> Any:
    try:
        if kind is bool:
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        if kind in (int, float):
            number = kind(text)
            if not math.isfinite(number):
                raise ValueError  # It would pass every bound.
            return number
    except ValueError:
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise SettingError(f"{name} is {text!r}; set it to {words[kind]}") from None
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _check_bounds(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    if isinstance(value, str):
        if len(value) < (meta["least"] or 0):
            raise SettingError(f"{name} is too short; set it to {meta['least']} characters or more")
        return
    if meta["least"] is not None and value < meta["least"]:
        raise SettingError(f"{name} is {value}; set it to {meta['least']} or more")
    if meta["most"] is not None and value > meta["most"]:
        raise SettingError(f"{name} is {value}; set it to {meta['most']} or less")
