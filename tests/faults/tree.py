"""A copy of the project's programs with some of their text replaced."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.path.stack import ROOT


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces `old`, which stands exactly once in the file, by `new`."""

    path: str  # below the project's root
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The text with the edit. Raises ValueError if it does not apply."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.path} has {text.count(self.old)} times:\n{self.old}")
        return text.replace(self.old, self.new)


def edited(edits: Sequence[Edit], root: Path = ROOT) -> dict[str, str]:
    """The text of every file that is edited, after all edits, in order."""
    texts: dict[str, str] = {}
    for edit in edits:
        text = texts.get(edit.path) or (root / edit.path).read_text()
        texts[edit.path] = edit.applied(text)
    return texts


def copy_tree(folder: Path, edits: Sequence[Edit]) -> Path:
    """A tree with the edits, to be named by PYTHONPATH."""
    tree = folder / "tree"
    shutil.copytree(
        ROOT / "services", tree / "services", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tree / "gen").symlink_to(ROOT / "gen")
    (tree / "sdk").symlink_to(ROOT / "sdk")
    for path, text in edited(edits).items():
        compile(text, path, "exec")
        (tree / path).write_text(text + _TRACE)
    return tree


def not_imported(tree: Path, edits: Sequence[Edit]) -> set[str]:
    """The edited files that no process has imported from there."""
    return {edit.path for edit in edits if not (tree / f"{edit.path}.imported").exists()}


# An edited file leaves a trace when it is imported.
_TRACE = """
open(__file__ + ".imported", "w").close()
"""
