"""What docs/operating.md says of alarms and log fields is what the code has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from services.coordinator import status as coordinator_status
from services.edge import status as edge_status
from services.presence import alarms as presence_alarms

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operating.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def section(title: str) -> str:
    """The text under a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def calls(folder: Path) -> Iterator[ast.Call]:
    """Every call in the source below a folder."""
    for path in folder.rglob("*.py"):
        yield from (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))


def seen_from_outside() -> set[str]:
    """Alarms that the edge raises for members which cannot."""
    source = (ROOT / "services/edge/cluster_status.py").read_text()
    return set(re.findall(r'_alarm\(.*?, "([A-Z_]{4,})"', source))


def test_every_alarm_is_explained() -> None:
    known = {*coordinator_status._NAMES, *edge_status._NAMES, *presence_alarms.NAMES}
    assert seen_from_outside()
    explained = re.findall(r"^\| `([A-Z_]+)` \|", section("Alarms"), re.MULTILINE)
    assert set(explained) == known | seen_from_outside()
    assert len(explained) == len(set(explained))


def test_every_field_of_a_log_line_is_explained() -> None:
    logged = set()
    for call in calls(ROOT / "services"):
        level = call.func
        if not isinstance(level, ast.Attribute) or level.attr not in LEVELS:
            continue
        if ast.unparse(level.value) == "log":
            logged |= {keyword.arg for keyword in call.keywords if keyword.arg}
    assert logged, "the look finds log calls"
    explained = set(re.findall(r"`([a-z_]+)`", section("Logs").partition("| field |")[2]))
    assert logged <= explained, logged - explained
    assert explained <= logged | {"raised", "at"}, explained - logged
