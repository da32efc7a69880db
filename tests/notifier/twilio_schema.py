"""Checks requests against Twilio's published OpenAPI description.

The description is in Twilio's own package `@twilio/cli-core`; npm fetches it once, into build/.
Nothing of the package is run.
"""

import json
import re
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

PACKAGE = "@twilio/cli-core@9.0.0"
MEMBER = "package/src/services/twilio-api/twilio_api_v2010.json"
FOLDER = Path(__file__).parents[2] / "build" / "twilio"
MESSAGES = "/2010-04-01/Accounts/{AccountSid}/Messages.json"


@cache
def description() -> dict[str, Any]:
    """The description of Twilio's API; skips the test if it cannot be had."""
    kept = FOLDER / "9.0.0.json"
    if not kept.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm, which fetches Twilio's API description, is not here")
        FOLDER.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", PACKAGE, "--silent", "--ignore-scripts"],
            cwd=FOLDER, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        if packed.returncode != 0:
            pytest.skip("npm cannot fetch Twilio's API description")
        with tarfile.open(FOLDER / packed.stdout.strip().splitlines()[-1]) as archive:
            member = archive.extractfile(MEMBER)
            assert member, "the package has the description"
            fresh = kept.with_suffix(".new")
            fresh.write_bytes(member.read())
            fresh.replace(kept)
    return dict(json.loads(kept.read_bytes()))


def faults(method: str, path: str, content_type: str, body: bytes) -> list[str]:
    """What the description finds wrong with a request; empty: it is valid."""
    operation = description()["paths"][MESSAGES][method.lower()]
    found = [f"path: {path}" for _ in [0] if not _path_fits(operation, path)]
    content = operation["requestBody"]["content"]
    if content_type not in content:
        return [*found, f"content type: {content_type}"]
    schema = content[content_type]["schema"]
    form = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
    found += [f"{name} is missing" for name in schema["required"] if name not in form]
    for name, value in form.items():
        if name not in schema["properties"]:
            found.append(f"{name} is unknown")
        elif not _fits(schema["properties"][name], value):
            found.append(f"{name}: {value!r}")
    return found


def response_faults(status: int, body: bytes) -> list[str]:
    """What it finds wrong with an answer: so that the double, too, speaks as Twilio does."""
    answers = description()["paths"][MESSAGES]["post"]["responses"]
    if str(status) not in answers:
        return [f"status: {status}"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    properties = _resolved(schema)["properties"]
    return [
        name
        for name, value in json.loads(body).items()
        if name not in properties or (value is not None and not _fits(properties[name], str(value)))
    ]


def _path_fits(operation: dict[str, Any], path: str) -> bool:
    match = re.fullmatch(re.escape(MESSAGES).replace(r"\{AccountSid\}", "([^/]+)"), path)
    (sid,) = [p for p in operation["parameters"] if p["in"] == "path"]
    return match is not None and _fits(sid["schema"], match[1])


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = description()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _fits(schema: dict[str, Any], value: str) -> bool:
    schema = _resolved(schema)
    kinds = {"integer": r"-?\d+", "number": r"-?\d+(\.\d+)?", "boolean": "true|false"}
    formats = {"phone-number": r"\+[1-9]\d{6,14}|[A-Za-z0-9 ]{1,11}"}
    return (
        re.fullmatch(kinds.get(schema.get("type", ""), r"(?s).*"), value) is not None
        and re.fullmatch(formats.get(schema.get("format", ""), r"(?s).*"), value) is not None
        and re.search(schema.get("pattern", ""), value) is not None
        and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
        and value in schema.get("enum", [value])
        and (schema.get("format") != "uri" or bool(urlsplit(value).netloc))
    )
