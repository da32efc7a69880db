"""Every mistake is found: the checker, shown what it must find, through real processes.

`FAULT_MUTATIONS` names those to play, parted by commas, or is `fast` or `all`; `make mutations`
sets it.
"""

import os
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.mutant import play
from tests.faults.mutations import MUTATIONS
from tests.faults.tree import Edit, copy_tree, edited

FAST = ["no base", "no fence", "cancel on return", "ended follows forgotten", "no check at send"]
ASKED = os.environ.get("FAULT_MUTATIONS", FAST[0])
NAMES = {"fast": FAST, "all": list(MUTATIONS)}.get(ASKED) or ASKED.split(",")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_found(name: str, tmp_path: Path) -> None:
    if reason := MUTATIONS[name].scenario.why_not():
        pytest.skip(reason)
    outcome = play(name, tmp_path)
    print(f"{name}: {outcome}")
    report.save(name.replace(" ", "-"), outcome.record(name))
    assert outcome.found, str(outcome)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_fits_the_source(name: str) -> None:
    mutation = MUTATIONS[name]
    for path, text in edited([*mutation.stretch, *mutation.mistake]).items():
        compile(text, path, "exec")


def test_an_edit_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 times"):
        copy_tree(tmp_path, [Edit("services/cli/__main__.py", "no such line", "")])
