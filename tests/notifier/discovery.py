"""Holds a JSON value against a Google discovery document: the schema that Google publishes.

`Schema.of("fcm")` reads the document that the package google-api-python-client carries;
`faults(value, "Message")` lists what the service would not take: a field that it does not know, a
wrong type, a word that is none of an enumeration's, a duration that is none.
"""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Self

_DURATION = re.compile(r"\d{1,12}(\.\d{1,9})?s")
_PLAIN = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}


class Schema:
    """The schemas of one API."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._schemas = document["schemas"]

    @classmethod
    def of(cls, name: str, version: str = "v1") -> Self:
        """The document of a Google API."""
        folder = files("googleapiclient.discovery_cache") / "documents"
        return cls(json.loads((folder / f"{name}.{version}.json").read_text()))

    def faults(self, value: Any, schema: str) -> list[str]:
        """What is wrong with `value` as a `schema`, each with the path to it."""
        return list(self._walk(value, {"$ref": schema}, schema))

    def _walk(self, value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
        if "$ref" in schema:
            yield from self._walk_object(value, self._schemas[schema["$ref"]], path)
        elif schema["type"] == "object":
            yield from self._walk_object(value, schema, path)
        elif schema["type"] == "array":
            if not isinstance(value, list):
                yield f"{path} is no array"
            else:
                for number, item in enumerate(value):
                    yield from self._walk(item, schema["items"], f"{path}[{number}]")
        elif schema["type"] != "any":
            yield from _plain(value, schema, path)

    def _walk_object(self, value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path} is no object"
            return
        known = schema.get("properties", {})
        others = schema.get("additionalProperties")
        for name, inner in value.items():
            if name in known:
                yield from self._walk(inner, known[name], f"{path}.{name}")
            elif others is not None:
                yield from self._walk(inner, others, f"{path}.{name}")
            else:
                yield f"{path} has no field {name}"


def _plain(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    kind = schema["type"]
    right = isinstance(value, _PLAIN[kind])
    if isinstance(value, bool) and kind != "boolean":
        right = False  # which is an int to Python
    if not right:
        yield f"{path} is no {kind}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{path} is none of its words"
    elif schema.get("format") == "google-duration" and not _DURATION.fullmatch(value):
        yield f"{path} is no duration"
