"""Prints the part of requirements.lock that one service needs, hashes included.

    python deploy/service_lock.py edge > edge.lock

The service's extra and the project's own dependencies are where it begins; what each of them needs
it takes from the notes "via …" of the lock file. It reads the two files, knows nothing of indexes,
and needs nothing but Python. Exit code 2 with a sentence when an extra or a package is not there.
"""

import re
import sys
import tomllib
from pathlib import Path

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VIA = re.compile(r"^    #(?: via)? +([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)


def normal(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(pyproject: str, extra: str) -> set[str]:
    """The packages that the project itself and one extra of it name. KeyError: no such extra."""
    project = tomllib.loads(pyproject)["project"]
    named = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return {normal(match[0]) for text in named if (match := _NAME.match(text))}


def pins(lock: str) -> dict[str, str]:
    """Package → its lines of the lock file: pin, hashes, and on whose account it is there."""
    starts = [match.start() for match in _PIN.finditer(lock)]
    blocks = [lock[a:b] for a, b in zip(starts, [*starts[1:], len(lock)], strict=True)]
    return {normal(block.partition("==")[0]): block for block in blocks}


def closure(names: set[str], blocks: dict[str, str]) -> list[str]:
    """`names` and all that they need, sorted. KeyError: the lock file has no such package."""
    needs: dict[str, set[str]] = {}
    for name, block in blocks.items():
        for needed_by in _VIA.findall(block):
            needs.setdefault(normal(needed_by), set()).add(name)
    found: set[str] = set()
    while names:
        for name in names:
            blocks[name]
        found |= names
        names = {needed for name in names for needed in needs.get(name, ())} - found
    return sorted(found)


def main(service: str, folder: Path) -> int:
    """Print the part; returns the exit code."""
    try:
        blocks = pins((folder / "requirements.lock").read_text())
        names = wanted((folder / "pyproject.toml").read_text(), service)
        print("".join(blocks[name] for name in closure(names, blocks)), end="")
    except KeyError as missing:
        print(f"neither an extra nor a locked package: {missing}; run `make lock`", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(main(sys.argv[1], here if (here / "requirements.lock").exists() else here.parent))
