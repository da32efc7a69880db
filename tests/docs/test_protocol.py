"""The tables of docs/protocol.md name what the contract and the code have."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from onward.client.v1 import client_pb2
from onward.types.v1 import refusal_pb2

from services.coordinator.settings import Settings as CoordinatorSettings
from services.edge import socket
from services.edge.settings import Settings as EdgeSettings

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
CODES = set(refusal_pb2.Refusal.Code.keys())
REASONS = set(client_pb2.SubscriptionState.Reason.keys())


def section(title: str) -> str:
    """The text under a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def limits() -> Iterator[list[str]]:
    """The rows of the table of limits."""
    for line in section("Limits").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in ("what", "---"):
            yield cells


def marked(text: str) -> set[str]:
    """Words in capitals between backticks."""
    return set(re.findall(r"`([A-Z][A-Z_]+)`", text))


def test_a_limit_names_settings_and_codes_that_there_are() -> None:
    rows = list(limits())
    assert len(rows) > 20
    settings = {
        field.name.upper()
        for cls in (EdgeSettings, CoordinatorSettings)
        for field in dataclasses.fields(cls)
    }
    for what, most, setting, beyond in rows:
        assert marked(setting) <= settings, what
        assert marked(beyond) <= CODES | REASONS, what
        assert most, what
        assert beyond, what


def test_the_defaults_are_those_of_the_settings() -> None:
    """Where a row has one setting and one plain number."""
    defaults: dict[str, float] = {}
    for cls in (CoordinatorSettings, EdgeSettings):
        for field in dataclasses.fields(cls):
            if isinstance(field.default, int | float):
                defaults[field.name.upper()] = field.default
    units = {"": 1, "KiB": 1024, "MiB": 1024**2, "s": 1, "h": 3600, "days": 86_400, "messages": 1}
    checked = 0
    for what, most, setting, _ in limits():
        number = re.fullmatch(r"([\d,]+) ?(KiB|MiB|s|h|days|messages|)(?: each)?", most)
        if number and len(marked(setting)) == 1:
            (name,) = marked(setting)
            assert int(number[1].replace(",", "")) * units[number[2]] == defaults[name], what
            checked += 1
    assert checked >= 10


def test_every_close_code_is_listed() -> None:
    known = {value for name, value in vars(socket).items() if name.startswith("CLOSE_")}
    listed = {int(code) for code in re.findall(r"\b(?:1\d{3}|4\d{3})\b", section("Close codes"))}
    assert known <= listed
    assert {code for code in listed if code % 100 < 50} - known <= {4499, 4999}


def test_every_kind_of_frame_and_message_is_listed() -> None:
    for title, frame in (
        ("Frames up", client_pb2.ClientFrame),
        ("Frames down", client_pb2.ServerFrame),
    ):
        listed = set(re.findall(r"`(\w+)`", section(title)))
        assert {field.json_name for field in frame.DESCRIPTOR.fields} - {"id"} <= listed
    kinds = set(client_pb2.Message.Kind.keys()) - {"KIND_UNSPECIFIED"}
    assert kinds <= marked(section("Kinds of messages"))
