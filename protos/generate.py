"""Writes the Python stubs of every proto file into gen/, with their types.

Run by `make protos`; `tests/rules` runs it into a temporary folder to see that gen/ is current.
The generators are pinned in pyproject.toml (grpcio-tools, mypy-protobuf).
"""

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def generate(out: Path) -> None:
    """Generate `*_pb2.py`, `*_pb2.pyi`, `*_pb2_grpc.py` and `*_pb2_grpc.pyi` below `out`."""
    bundled = resources.files("grpc_tools") / "_proto"
    sources = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "onward").rglob("*.proto"))
    plugins = Path(sys.executable).parent
    flags = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    paths = [
        f"--plugin=protoc-gen-{name}={plugins / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    if protoc.main(["protoc", f"-I{ROOT}", f"-I{bundled}", *paths, *flags, *sources]) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "gen"
    generate(target)
