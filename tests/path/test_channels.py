"""Per channel, what a provider answers: tried, removed, told and explained as the table says.

One suite with every channel, each sending to its provider's double; the table is
`tests/path/cells.py`. These are contract tests: they show that what is published of each provider
is kept, not how it behaves.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise

import pytest

from services.notifier.wording import as_json
from tests.notifier import twilio_schema
from tests.notifier.fake_twilio import form_of
from tests.path.cells import CELLS, FCM, ROUTING, SMS, TRIES_MAX, Cell, taken
from tests.path.doubles import PUBLIC_URL, Doubles
from tests.path.mail_double import PASSWORD, MailDouble
from tests.path.playing import (
    Played,
    connect,
    has_ended,
    leave,
    listed,
    play,
    publish,
    times_of,
    tries_of,
    was_tried_twice,
    watch,
)
from tests.path.socket_client import Socket
from tests.path.stack import QUICK, ROOT, Program, Suite, base_environ, ended, free_port

# All cells are played before the first test, in half a minute; a slow machine may take longer.
pytestmark = pytest.mark.timeout(300)

PATIENT = {
    "ONWARD_PRESENCE_GRACE_S": "0.3",
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.3",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.1",
    "ONWARD_PRESENCE_RETRY_LONGEST_S": "0.5",
    "ONWARD_PRESENCE_RETRY_TRIES_MAX": str(TRIES_MAX),
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.1",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "0.3",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    "ONWARD_NOTIFIER_SMTP_BACK_OFF_S": "0.7",
    "ONWARD_NOTIFIER_SMS_CHARACTERS": "1600",
    "ONWARD_NOTIFIER_CALLS_MAX": "16",
}


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doubles]:
    with Doubles(tmp_path_factory.mktemp("doubles")) as made:
        yield made


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, doubles: Doubles) -> Iterator[Suite]:
    routing = tmp_path_factory.mktemp("routing") / "routing.yaml"
    routing.write_text(ROUTING)
    settings = PATIENT | doubles.settings | {"ONWARD_PRESENCE_ROUTING": str(routing)}
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | settings)
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
    for earlier, later in pairwise(times):
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
    scheme, retries = played.line.scheme, len(times_of(played.ended)) - 1
    after = f", after {retries} retr{'y' if retries == 1 else 'ies'}" if retries else ""
    match cell.state:
        case "NOTIFIED":
            done = "Delivered" if cell.taken == "DELIVERED" else "Sent"
            return f"{done} by {scheme} at .*{after}\\."
        case "UNKNOWN":
            return f"It is unknown whether it was sent by {scheme}; it is not repeated there\\."
        case "PENDING":
            return f"To be tried again by {scheme} from .* on, after 1 try: {cell.reason}\\."
    verb = "Given up" if cell.reason == "TRIES_EXHAUSTED" else "Failed"
    return f"{verb} by {scheme} at .*{after}: {cell.reason}\\."


@every_cell
def test_the_next_message_is_sent_unless_there_is_nowhere_to_send_it(
    cell: Cell, played: Played
) -> None:
    assert (played.next["state"], played.next["reason"]) == (cell.next_state, cell.next_reason)
    assert tries_of(played.next) == ([cell.taken] if cell.next_state == "NOTIFIED" else [])


# -- what the doubles got ------------------------------------------------------------------------

after_all = pytest.mark.usefixtures("all_played")


@after_all
def test_every_request_to_fcm_is_as_googles_discovery_document_says(doubles: Doubles) -> None:
    fcm = doubles.fcm
    assert fcm.faults == []
    assert len(fcm.requests) > len(FCM)
    for request in fcm.requests:
        assert fcm.schema.faults(json.loads(request.body), "SendMessageRequest") == []
    sizes = [len(as_json({k: one[k] for k in ("notification", "data")})) for one in fcm.messages]
    assert 3_900 < max(sizes) <= 4_096


@after_all
def test_every_request_to_twilio_is_as_its_openapi_description_says(doubles: Doubles) -> None:
    twilio = doubles.twilio
    assert len(twilio.requests) > len(SMS)
    for request in twilio.requests:
        kind = request.headers["content-type"].partition(";")[0]
        assert twilio_schema.faults(request.method, request.path, kind, request.body) == []
    longest = max(len(form_of(request)["Body"]) for request in twilio.requests)
    assert longest == 1_600
    taken = twilio.respond(twilio.requests[0])
    assert twilio_schema.response_faults(taken.status, taken.body) == []


@after_all
def test_every_web_push_could_be_read_and_was_signed_for_its_own_origin(doubles: Doubles) -> None:
    for server in (doubles.push, doubles.other_push):
        assert server.faults == []  # the claim's audience is one of them
        assert server.received
        assert all(push.ttl > 0 for push in server.received)
    sizes = [len(as_json(push.payload)) for push in doubles.push.received]
    assert 2_500 < max(sizes) <= 2_700


@after_all
def test_a_request_to_apple_has_the_same_id_on_each_try_and_tokens_are_reused(
    doubles: Doubles, all_played: dict[str, Played]
) -> None:
    requests = doubles.apns.requests
    assert 3_900 < max(len(request.body) for request in requests) <= 4_096
    assert len({request.headers["authorization"] for request in requests}) == 2  # one had expired
    played = all_played["apns: no answer"]
    ids = [one.headers["apns-id"] for one in requests if doubles.apns.addressee(one) == played.key]
    assert len(ids) == 3  # two tries, and the next message
    assert ids[0] == ids[1] != ids[2]


@after_all
def test_webhooks_are_signed_with_both_secrets_and_repeats_have_the_same_id(
    doubles: Doubles, all_played: dict[str, Played]
) -> None:
    requests = doubles.receiver.requests
    assert all(len(one.headers["webhook-signature"].split()) == 2 for one in requests)
    # The long message itself is left out, and most of it is in the text.
    assert 4_000 < max(len(request.body) for request in requests) <= 20_000
    for name in ("503", "no answer", "an answer after 11 s"):
        played = all_played[f"webhook: {name}"]
        ids = [one.headers["webhook-id"] for one in requests if one.query == played.key]
        assert len(set(ids[:-1])) == 1, name
        assert ids[-1] != ids[0]  # the next message


@after_all
def test_a_mail_says_how_to_stop_it_and_that_no_person_wrote_it(
    doubles: Doubles, all_played: dict[str, Played]
) -> None:
    assert all(doubles.mail.over_tls)
    for mail in doubles.mail.mails:
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["List-Unsubscribe"].startswith(f"<{PUBLIC_URL}/")
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    played = all_played["e-mail: connection lost after DATA"]
    first, again, other = doubles.mail.mails_to(played.key)
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]


# -- what concerns a whole channel ---------------------------------------------------------------


def _absent(suite: Suite, doubles: Doubles, channel: str, number: int) -> Played:
    """Somebody who has left."""
    made = Played(taken(channel, "more"), doubles.lines[channel], len(CELLS) + number)
    leave(suite, made)
    return made


def _refuse_login(mail: MailDouble) -> None:
    mail.password = "another"
    mail.hang_up()


def _accept_login(mail: MailDouble) -> None:
    mail.password = PASSWORD


def _refuse_sender(mail: MailDouble) -> None:
    mail.sender = "550 5.7.1 sender not allowed"


def _accept_sender(mail: MailDouble) -> None:
    mail.sender = ""


@after_all
@pytest.mark.parametrize(
    ("number", "spoil", "mend", "outcome"),
    [
        (1, _refuse_login, _accept_login, "MISCONFIGURED"),
        (2, _refuse_sender, _accept_sender, "MISCONFIGURED"),
        (3, MailDouble.stop, MailDouble.restart, "PROVIDER_UNAVAILABLE"),
    ],
    ids=["login refused", "sender refused", "nobody listens"],
)
def test_mail_waits_for_a_server_that_takes_none_and_no_address_is_deleted(
    suite: Suite,
    doubles: Doubles,
    number: int,
    spoil: Callable[[MailDouble], None],
    mend: Callable[[MailDouble], None],
    outcome: str,
) -> None:
    absent = _absent(suite, doubles, "e-mail", number)
    spoil(doubles.mail)
    try:
        publish(suite, absent, 1)
        [waiting] = watch(suite, [absent], 1, was_tried_twice)
        assert (waiting["state"], waiting["reason"]) == ("PENDING", outcome)
        assert listed(suite, absent) == [absent.endpoint]
    finally:
        mend(doubles.mail)
    [ended_so] = watch(suite, [absent], 1, has_ended)
    assert set(tries_of(ended_so)[:-1]) == {outcome}
    assert tries_of(ended_so)[-1] == "ACCEPTED"
    assert len(doubles.mail.mails_to(absent.key)) == 1


@after_all
def test_what_users_write_adds_no_header_to_a_mail(suite: Suite, doubles: Doubles) -> None:
    absent = _absent(suite, doubles, "e-mail", 4)
    evil = "Hello\r\nBcc: eve@example.org\r\n\r\nand a body"
    suite.publish(absent.subject, evil, headers={"title": "=?utf-8?q?=0D=0ABcc=3A_eve=40x?="})
    watch(suite, [absent], 1, has_ended)
    [mail] = doubles.mail.mails_to(absent.key)
    assert mail["Bcc"] is None
    assert "eve@example.org" not in doubles.mail.recipients


@after_all
def test_apple_gets_one_summary_of_what_was_missed(suite: Suite, doubles: Doubles) -> None:
    absent = Played(taken("apns", "summary"), doubles.lines["apns"], len(CELLS) + 5)
    with Socket(suite, absent.user) as client:
        client.ask(connect=connect(absent, externalTokens=[{"uri": absent.endpoint}]))
        for number in (1, 2, 3):  # It acknowledges none of them.
            publish(suite, absent, number)
    for number in (1, 2, 3):
        [story] = watch(suite, [absent], number, has_ended)
        assert story["state"] == "NOTIFIED"
        assert "Told together with 2 other messages." in story["text"]
    sent = [one for one in doubles.apns.requests if doubles.apns.addressee(one) == absent.key]
    assert [json.loads(one.body)["onward"]["count"] for one in sent] == [3]
