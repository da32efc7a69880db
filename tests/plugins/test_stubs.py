"""The stubs that the Python template carries are what the protos give."""

import filecmp
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "plugins/python"


def test_the_stubs_of_the_python_template_are_current(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHON": sys.executable}
    subprocess.run(["./generate.sh", tmp_path], cwd=FOLDER, env=environ, check=True)
    fresh = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py*"))
    assert len(fresh) == 3
    _, different, missing = filecmp.cmpfiles(tmp_path, FOLDER, fresh, shallow=False)
    assert (different, missing) == ([], [])
