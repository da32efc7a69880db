"""The contract and what is generated from it stay one."""

import filecmp
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKPLACE_WORDS = ("TODO", "FIXME", "XXX")


def test_the_committed_stubs_are_what_the_protos_give(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "protos/generate.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    fresh = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.py*"))
    committed = sorted(p.relative_to(ROOT / "gen") for p in (ROOT / "gen").rglob("*_pb2*.py*"))
    committed = [p for p in committed if "__pycache__" not in p.parts]
    assert fresh == committed
    _, mismatch, errors = filecmp.cmpfiles(tmp_path, ROOT / "gen", fresh, shallow=False)
    assert not mismatch
    assert not errors


def test_nothing_is_left_to_do_in_the_code() -> None:
    for folder in ("services", "sdk/python", "protos/onward", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".proto", ".html") and path != Path(__file__):
                text = path.read_text()
                assert not [word for word in WORKPLACE_WORDS if word in text], path
