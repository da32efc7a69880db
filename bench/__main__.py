"""`python -m bench [FIGURES …] [--quick] [--out DIRECTORY]`; `make bench` runs all of it."""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import crowd, fanout, handoff, idle, machine, programs, publishing
from bench.report import Figure, as_json, svg, table

Measure = Callable[[Path], list[Figure]]
FULL: dict[str, Measure] = {
    "fanout": lambda directory: fanout.measure(directory, fanout.Size()),
    "publishing": lambda directory: publishing.measure(directory, publishing.Size()),
    "idle": lambda directory: idle.measure(directory, idle.Size()),
    "handoff": lambda directory: handoff.measure(directory, handoff.Size()),
    "crowd": lambda directory: crowd.measure(directory, crowd.Size()),
}
QUICK: dict[str, Measure] = {
    "fanout": lambda directory: fanout.measure(
        directory, fanout.Size(clients=100, runs=1, seconds=1, settle_s=0.5)
    ),
    "publishing": lambda directory: publishing.measure(
        directory, publishing.Size(runs=1, seconds=1, window=500, clients=4)
    ),
    "idle": lambda directory: idle.measure(directory, idle.Size(clients=300, seconds=1)),
    "handoff": lambda directory: handoff.measure(directory, handoff.Size(calls=20, mails=20)),
    "crowd": lambda directory: crowd.measure(directory, crowd.Size(followers=200)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="What Onward costs on this machine.")
    parser.add_argument("figures", nargs="*", metavar="FIGURES", help=", ".join(FULL))
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it works, not more")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    options = parser.parse_args(arguments)
    unknown = [name for name in options.figures if name not in FULL]
    if unknown:
        parser.error(f"no such figures: {', '.join(unknown)}; there are {', '.join(FULL)}")
    if programs.compiler() is None:
        print("nothing is measured: there is no C compiler to build the load with (CC, or cc)")
        return 0
    _raise_descriptors()
    about = _about(quick=options.quick)
    figures: list[Figure] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="onward-bench-") as directory:
        programs.build(Path(directory))
        for name in options.figures or FULL:
            began = time.monotonic()
            load = os.getloadavg()[0]
            try:
                measured = (QUICK if options.quick else FULL)[name](Path(directory))
            except (AssertionError, TimeoutError, programs.ProgramFailed) as fault:
                # A machine that is busy with other things can close the clients of one figure.
                failed.append(f"{name} could not be measured: {fault or type(fault).__name__}")
                continue
            figures += measured
            took_s = time.monotonic() - began
            print(f"{name}: {took_s:.0f} s, load average {load:.1f} before", flush=True)
            for one in measured:
                for what, value in one.notes.items():
                    print(f"  {one.key or one.what}: {what} {json.dumps(value)}")
    print(f"\n{about['machine']['cores']} cores, load average {about['load_average']}\n")
    print(table(figures))
    _write(options.out, figures, about)
    for line in failed:
        print(line)
    return 1 if failed else 0


def _about(*, quick: bool) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "machine": machine.described(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def _write(out: Path, figures: Sequence[Figure], about: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(figures, about), indent=1, ensure_ascii=False)
    (out / "bench.json").write_text(text + "\n")
    (out / "bench.svg").write_text(svg(figures))
    print(f"\nwritten: {out}/bench.json and bench.svg")


def _raise_descriptors() -> None:
    """As many file descriptors as this user may have; what is started here inherits it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
