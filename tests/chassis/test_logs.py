"""Logs cannot leak."""

import io
import logging
from pathlib import Path

import pytest

from services.chassis import logs
from services.chassis.errors import SettingError


def test_values_of_telling_fields_are_withheld() -> None:
    out = io.StringIO()
    logs.configure("edge", "debug", out)
    logs.get("x").info("registered", token="eyJhbGci", uri="mailto:ann@example.org", user="ann")
    line = out.getvalue()
    assert "eyJhbGci" not in line
    assert "ann@example.org" not in line
    assert "user=ann" in line
    assert "service=edge" in line


def test_the_text_of_a_library_is_not_passed_on() -> None:
    out = io.StringIO()
    logs.configure("edge", "debug", out)
    try:
        raise ValueError("GET /?token=secret")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("bad request: %s", "GET /?token=secret")
    line = out.getvalue()
    assert "secret" not in line
    assert "aiohttp.server" in line
    assert "raised=ValueError" in line


def test_of_an_exception_only_its_type_and_place_are_told() -> None:
    out = io.StringIO()
    logs.configure("edge", "debug", out)
    try:
        raise ExceptionGroup("quoting", [KeyError("what Ann wrote"), ValueError("and Bob")])
    except ExceptionGroup:
        logs.get("x").exception("failed", user="ann")
    line = out.getvalue()
    assert "wrote" not in line
    assert "Bob" not in line
    assert "quoting" not in line
    assert 'raised="KeyError, ValueError"' in line
    assert line.count("\n") == 1
    try:
        int("what Ann wrote")
    except ValueError as error:
        told = logs.describe(error)
    assert told["raised"] == "ValueError"
    assert told["at"].startswith("chassis/test_logs.py:")


def test_an_unknown_level_is_a_wrong_setting() -> None:
    with pytest.raises(SettingError, match="ONWARD_LOG_LEVEL"):
        logs.configure("edge", "loud")


def test_a_full_disk_loses_lines_and_no_work() -> None:
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails
    logs.configure("edge", "info", full)
    logs.get("x").error("store_full")
    logging.getLogger("grpc").error("more")
    logs.configure("edge", "info", io.StringIO())
    with pytest.raises(OSError, match="No space left"):
        full.close()
