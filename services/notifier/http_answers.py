"""Reads the body of a provider's answer. Pure."""

import json
from typing import Any


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; empty if it is anything else, such as a page of a proxy."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
