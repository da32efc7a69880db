"""What judges runs knows nothing of the programs that it judges, nor of the world."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "tests"
ALLOWED = {"array", "collections", "dataclasses", "datetime", "itertools", "typing", "zoneinfo"}
JUDGES = [
    *(f"faults.{name}" for name in ("checker", "check_log", "check_notices", "check_readers")),
    "faults.tally",
    "simulation.checker",
    "simulation.check_presence",
    *(f"notifications.{name}" for name in ("judge", "deliveries", "claims", "standing", "wanted")),
]


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_imports_only_plain_data_and_other_judges(name: str) -> None:
    path = TESTS.joinpath(*name.split(".")).with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.module in ("tests.faults", "tests.notifications", "tests.simulation"):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            own = module.removeprefix("tests.") in JUDGES
            assert own or module.split(".")[0] in ALLOWED, module
