"""The two trees of an upgrade: the baseline's, out of the history, and this one's.

A tree has what services run: `services/`, `gen/`, `sdk/`. Each tells which processes ran from it,
so that a run which mixed nothing is found out. Both use the libraries that are installed here.
"""

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.path.stack import ROOT

_FILE = Path(__file__).with_name("BASELINE")
_FOLDERS = ("services", "gen", "sdk")
# Whatever runs a service imports its package first.
_TRACE = """
import os as _os

with open(f"{__file__}.ran", "a") as _ran:
    _ran.write(f"{_os.getpid()}\\n")
"""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What BASELINE says, a line each: `commit` and its id, and `stays` with each service that does
    not go back, since the commit's does not know its tables, or cannot find its peers."""

    commit: str
    stays: frozenset[str] = frozenset()


def baseline(text: str | None = None) -> Baseline:
    """The one that the file names."""
    lines = (_FILE.read_text() if text is None else text).splitlines()
    words = [tuple(line.partition("#")[0].split()) for line in lines]
    named: dict[str, list[str]] = {"commit": [], "stays": []}
    for word, value in filter(None, words):
        named[word].append(value)
    (commit,) = named["commit"]
    return Baseline(commit, frozenset(named["stays"]))


def missing() -> str:
    """Why the baseline cannot be had here; empty: it can."""
    if shutil.which("git") is None:
        return "there is no git"
    if _git("rev-parse", "--git-dir").returncode != 0:
        return "this is no clone: the baseline is in the history"
    commit = baseline().commit
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        return f"the history does not reach back to {commit}; git fetch --unshallow brings it"
    return ""


def of_commit(commit: str, folder: Path) -> Path:
    """The tree of a commit, made in the folder."""
    done = _git("archive", "--format=tar", commit, "--", *_FOLDERS)
    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return _traced(folder)


def of_this(folder: Path, root: Path = ROOT) -> Path:
    """The tree as it is now, changes that are not committed too, made in the folder."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "services", folder / "services", ignore=ignored)
    for name in ("gen", "sdk"):
        (folder / name).symlink_to(root / name)
    return _traced(folder)


def ran_from(tree: Path, service: str) -> set[int]:
    """The pids of all processes of a service that ran from the tree."""
    ran = tree / "services" / service / "__init__.py.ran"
    return set(map(int, ran.read_text().split())) if ran.exists() else set()


def _traced(tree: Path) -> Path:
    for package in (tree / "services").glob("*/__init__.py"):
        package.write_text(package.read_text() + _TRACE)
    return tree


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
