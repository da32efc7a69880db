"""What deploy/Dockerfile says: its instructions, and the tree that an image of a service holds."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
SERVICES = ["edge", "coordinator", "presence", "notifier"]


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word, its text with continued lines joined, the stage it stands in."""

    word: str
    text: str
    stage: int


def instructions() -> list[Instruction]:
    """All of them, in order; stages count from 1, and 0 is before the first FROM."""
    found: list[Instruction] = []
    stage = 0
    lines = (line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, text = line.strip().partition(" ")
            stage += word == "FROM"
            found.append(Instruction(word, " ".join(text.split()), stage))
    return found


def copies(service: str) -> list[tuple[list[str], str]]:
    """The COPY instructions of the image itself that take from the source tree: (from, to)."""
    last = instructions()[-1].stage
    found = []
    for instruction in instructions():
        if instruction.word == "COPY" and instruction.stage == last:
            *sources, target = shlex.split(instruction.text.replace("${SERVICE}", service))
            if not sources[0].startswith("--from="):
                found.append((sources, target))
    return found


def build_tree(service: str, folder: Path) -> None:
    """Lay out under `folder` what the image of a service holds of this project."""
    skip = shutil.ignore_patterns("__pycache__", "*.pyc")
    for sources, target in copies(service):
        for source in sources:
            place = folder / target.lstrip("/")
            if source.endswith("/"):
                shutil.copytree(ROOT / source, place, ignore=skip)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)


def environment(service: str) -> dict[str, str]:
    """What ENV sets in the image."""
    text = next(i.text for i in instructions() if i.word == "ENV")
    pairs = shlex.split(text.replace("${SERVICE}", service))
    return dict(pair.split("=", 1) for pair in pairs)
