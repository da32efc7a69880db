"""What judges runs knows nothing of the programs that it judges, nor of the world."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "faults"
ALLOWED = {"array", "collections", "dataclasses", "typing"}
JUDGES = ["checker", "check_log", "check_notices", "check_readers", "tally"]


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_imports_only_plain_data_and_other_judges(name: str) -> None:
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            own = module.removeprefix("tests.faults.") in JUDGES
            assert own or module.split(".")[0] in ALLOWED, module
