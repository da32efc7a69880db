"""Which field of a JSON body is not as the contract has it, in one sentence. Pure.

Knows proto3's JSON mapping by trying it on parts of the body; must not know what is asked for. The
sentence names the field by its path, as in `mutes[2].until`, and never quotes a value: those are
users' own. A name that the contract does not have is quoted where it looks like one. To drive it:
`body_fault(body, type)` for a body that could not be read.
"""

import re
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]{0,39}")
_INTEGERS: Final = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    | {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
)
_WORDS: Final = {
    FieldDescriptor.CPPTYPE_STRING: "a text",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_ENUM: "one of its names",
    **dict.fromkeys(_INTEGERS, "a whole number in its range"),
}
# Messages that JSON writes as texts.
_TEXTS: Final = {
    "google.protobuf.Timestamp": "a time, as in 2026-11-22T12:00:00Z",
    "google.protobuf.Duration": "a duration, as in 1.5s",
}


def body_fault(body: dict[str, Any], kind: type[Message]) -> str:
    """What is wrong with a body that is no `kind`. Names the first field at fault."""
    # Its type is said twice in the stubs: as it is in Python, and as the library has it in C.
    described: Any = kind.DESCRIPTOR
    return _of_object(body, described, "") or "The body is not as it is agreed."


def unknown_field(name: str, path: str = "") -> str:
    """The sentence for a field that the object at `path`, or the body, does not have."""
    where = f" in `{path}`" if path else ""
    named = f" `{name}`" if _NAME.fullmatch(name) else ""
    return f"The body has a field{named}{where} that is not known."


def _of_object(body: dict[str, Any], kind: Descriptor, path: str) -> str:
    known = {name: one for one in kind.fields for name in (one.json_name, one.name)}
    for name, value in body.items():
        if name not in known:
            return unknown_field(name, path.removesuffix("."))
        field = known[name]
        if not _is_taken({name: value}, kind):
            return _of_field(value, field, kind, f"{path}{field.json_name}")
    return ""


def _of_field(value: Any, field: FieldDescriptor, kind: Descriptor, path: str) -> str:
    if not field.is_repeated:
        return _of_one(value, field, path)
    if not isinstance(value, list):
        return f"`{path}` is a list."
    for place, one in enumerate(value):
        if not _is_taken({field.json_name: [one]}, kind):
            return _of_one(one, field, f"{path}[{place}]")
    return f"`{path}` is not as it is agreed."


def _of_one(value: Any, field: FieldDescriptor, path: str) -> str:
    kind = field.message_type
    if kind is None:
        return f"`{path}` is {_WORDS[field.cpp_type]}."
    if kind.full_name in _TEXTS:
        return f"`{path}` is {_TEXTS[kind.full_name]}."
    if not isinstance(value, dict):
        return f"`{path}` is an object."
    return _of_object(value, kind, f"{path}.") or f"`{path}` is not as it is agreed."


def _is_taken(body: dict[str, Any], kind: Descriptor) -> bool:
    try:
        json_format.ParseDict(body, GetMessageClass(kind)())
    except (json_format.ParseError, ValueError, RecursionError):
        return False
    return True
