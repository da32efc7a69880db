"""Every metric stands in docs/metrics.md, as the code has it, and every limit shows in one."""

import dataclasses
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LIMITS = re.compile(r"_max$|_rate$|_burst$|_bytes$|^ring_|^retain_messages$|connections$")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The program that writes the page."""
    path = ROOT / "docs/generate_metrics.py"
    spec = importlib.util.spec_from_file_location("generate_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_metrics"] = module
    spec.loader.exec_module(module)
    return module


def test_the_metrics_page_is_what_the_code_gives() -> None:
    """If not: `make metrics`. In a process of its own, since tests make metrics too."""
    program = "import sys; sys.path[:0] = ['docs', 'gen']; import generate_metrics as g; "
    shown = subprocess.run(
        [sys.executable, "-c", program + "print(g.page(), end='')"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (ROOT / "docs/metrics.md").read_text() == shown.stdout


def limits(service: str) -> set[str]:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    names = {field.name for field in dataclasses.fields(settings)}
    return {f"{service}_{name}" for name in names if LIMITS.search(name)}


def test_every_limit_shows_in_a_metric(generator: ModuleType) -> None:
    assert set().union(*map(limits, generator.SERVICES)) == generator.SHOWN_BY.keys()
    known = {metric.name for rows in generator.metrics().values() for metric in rows}
    assert {name.partition("{")[0] for name in generator.SHOWN_BY.values()} <= known


def test_a_metric_says_what_it_counts_in_its_name(generator: ModuleType) -> None:
    for rows in generator.metrics().values():
        assert rows
        for metric in rows:
            assert re.fullmatch(r"onward_[a-z0-9_]+", metric.name)
            assert metric.text, metric.name
