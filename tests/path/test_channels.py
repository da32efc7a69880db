"""Per channel, whatever a provider may answer: tried, removed, told and explained as the table says.

One suite with every channel, each sending to its provider's double; the table is
`tests/path/cells.py`. These are contract tests: they show that what is published of each provider
is kept, not how it behaves.
"""

import re
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.path.cells import CELLS, Cell
from tests.path.doubles import NEW, OLD, Doubles
from tests.path.playing import Played, play, times_of, tries_of
from tests.path.stack import QUICK, ROOT, Program, Suite, base_environ, ended, free_port

PATIENT = {
    "ONWARD_PRESENCE_GRACE_S": "0.3",
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.3",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.1",
    "ONWARD_PRESENCE_RETRY_LONGEST_S": "0.5",
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.1",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "0.3",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    "ONWARD_NOTIFIER_APNS_BACK_OFF_S": "0.5",
    "ONWARD_NOTIFIER_SMS_CHARACTERS": "1600",
    "ONWARD_NOTIFIER_CALLS_MAX": "16",
}


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doubles]:
    with Doubles(tmp_path_factory.mktemp("doubles")) as made:
        yield made


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, doubles: Doubles) -> Iterator[Suite]:
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | PATIENT | doubles.settings)
    with ended(up):
        up.wait_ready()
        port = free_port()
        apprise = Program(
            [sys.executable, "-m", "services.notifier.apprise"],
            base_environ()
            | {
                "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
                "ONWARD_SECRET": (up.data_dir / "secret").read_text().strip(),
                "ONWARD_APPRISE_LISTEN": f"127.0.0.1:{port}",
                "ONWARD_APPRISE_TARGETS_FILE": str(doubles.targets_file()),
            },
        )
        with ended(apprise):
            [added] = up.command("notifiers", "add", "others", f"127.0.0.1:{port}")
            assert added["served"] == ["apprise"]
            yield up


@pytest.fixture(scope="module")
def all_played(suite: Suite, doubles: Doubles) -> dict[str, Played]:
    return play(suite, doubles.lines, CELLS)


@pytest.fixture
def played(all_played: dict[str, Played], cell: Cell) -> Played:
    return all_played[str(cell)]


every_cell = pytest.mark.parametrize("cell", CELLS, ids=str)


@every_cell
def test_it_is_tried_so_often_and_ends_so(cell: Cell, played: Played) -> None:
    tries = tries_of(played.ended)
    if cell.stands:
        assert tries[-1] == cell.taken, played.ended
        assert tries[:-1] == [cell.tries[0]] * len(tries[:-1])
        assert len(tries) >= 3
    else:
        assert tries == [*cell.tries], played.ended
    assert (played.ended["state"], played.ended["reason"]) == (cell.state, cell.reason)
    failed = len([one for one in tries if one not in ("ACCEPTED", "DELIVERED")])
    sent = len(tries) - failed
    first_time = cell.requests_each if not failed else 1
    assert played.requests == failed * cell.requests_each + sent * first_time


@every_cell
def test_tries_are_as_far_apart_as_was_asked(cell: Cell, played: Played) -> None:
    times = [datetime.fromisoformat(at) for at in times_of(played.ended)]
    for earlier, later in zip(times, times[1:], strict=False):
        assert (later - earlier).total_seconds() >= cell.apart_s
    if cell.due_in_s:
        [delivery] = played.ended["deliveries"]
        due_in_s = (datetime.fromisoformat(delivery["dueAt"]) - times[-1]).total_seconds()
        assert cell.due_in_s[0] <= due_in_s <= cell.due_in_s[1]


@every_cell
def test_only_an_endpoint_that_is_gone_is_removed_and_its_owner_told_once(
    cell: Cell, played: Played
) -> None:
    if cell.stands:
        assert played.listed_waiting == [played.endpoint]
    assert played.listed == ([played.endpoint] if cell.kept else [])
    assert played.told_first == ([] if cell.kept else [played.endpoint])
    assert played.told_later == []


@every_cell
def test_explain_says_so_in_a_sentence(cell: Cell, played: Played) -> None:
    if cell.stands:
        assert (played.waiting["state"], played.waiting["reason"]) == ("PENDING", "MISCONFIGURED")
        assert re.fullmatch(
            rf"To be tried again by {played.line.scheme} from .* on, after \d+ tries: "
            r"MISCONFIGURED\.",
            played.waiting["text"],
        )
    assert re.fullmatch(_sentence(cell, played), played.ended["text"]), played.ended["text"]


def _sentence(cell: Cell, played: Played) -> str:
    scheme, retries = played.line.scheme, len(tries_of(played.ended)) - 1
    after = f", after {retries} retr{'y' if retries == 1 else 'ies'}" if retries else ""
    match cell.state:
        case "NOTIFIED":
            done = "Delivered" if cell.taken == "DELIVERED" else "Sent"
            return f"{done} by {scheme} at .*{after}\\."
        case "UNKNOWN":
            return f"It is unknown whether it was sent by {scheme}; it is not repeated there\\."
        case "PENDING":
            return f"To be tried again by {scheme} from .* on, after 1 try: {cell.reason}\\."
    return f"Failed by {scheme} at .*{after}: {cell.reason}\\."


@every_cell
def test_the_next_message_is_sent_unless_there_is_nowhere_to_send_it(
    cell: Cell, played: Played
) -> None:
    assert (played.next["state"], played.next["reason"]) == (cell.next_state, cell.next_reason)
    assert tries_of(played.next) == ([cell.taken] if cell.next_state == "NOTIFIED" else [])
