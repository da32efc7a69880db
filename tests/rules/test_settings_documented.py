"""Every setting stands in docs/settings.md, as the code has it."""

import importlib
from pathlib import Path

import pytest

from services.chassis.settings import variables

ROOT = Path(__file__).parents[2]
SERVICES = ["edge", "coordinator", "presence", "notifier"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_documented_with_its_default(service: str) -> None:
    page = (ROOT / "docs/settings.md").read_text()
    settings = importlib.import_module(f"services.{service}.settings").Settings
    for variable in variables(settings, service):
        assert f"`{variable.name}`" in page, f"{variable.name}: run `make settings`"
        assert " ".join(variable.doc.split()) in page, f"{variable.name}: run `make settings`"
