"""The shape of the source: sizes, names, docstrings, tests that mirror it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 500
FUNCTION_LINES_MAX = 60  # 50 of code, and a signature and docstring
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "impl", "misc"}
CODE = sorted(p for folder in ("services", "sdk/python") for p in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_a_module_is_small_named_for_its_job_and_explained(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX
    assert path.stem not in VAGUE
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_what_is_public_has_a_docstring(path: Path) -> None:
    """Public classes and functions of a module say what they do; methods may be plain."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.name.startswith("_") or ast.get_docstring(node), node.name


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_a_broad_except_stands_only_where_a_task_ends(path: Path) -> None:
    """`except Exception` logs and says why it may be there, in a comment on its line."""
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            name = node.type.id if isinstance(node.type, ast.Name) else None
            if node.type is None or name in ("Exception", "BaseException"):
                assert "#" in lines[node.lineno - 1], f"line {node.lineno}"


def test_every_test_folder_mirrors_a_source_folder() -> None:
    own = {"path", "rules", "faults", "hostile", "browser", "bench", "docs", "deploy"}
    own |= {"simulation", "notifications", "upgrade", "plugins", "__pycache__"}
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir()} - own
    mirrored = {p.name for p in (ROOT / "services").iterdir() if p.is_dir()} | {"sdk", "bench"}
    assert folders <= mirrored
