"""A service starts from a tree that holds only the stubs, the chassis and its own folder."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Without the site module this installation of the project is out of reach; libraries are not.
START = (
    "import runpy, sys; sys.path.append({packages!r}); "
    "runpy.run_module('services.{service}', run_name='__main__')"
)


@pytest.mark.parametrize("service", ["edge", "coordinator", "presence", "notifier"])
def test_a_service_needs_no_other(service: str, tmp_path: Path) -> None:
    for folder in ("gen", "services/chassis", f"services/{service}"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "services/__init__.py", tmp_path / "services")
    program = START.format(packages=site.getsitepackages()[0], service=service)
    ended = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{tmp_path / 'gen'}", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # It has come as far as its settings, and misses the first of them.
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("ONWARD_SECRET is not set")
