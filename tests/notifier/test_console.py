import io
from typing import Any

from services.notifier.console import TEXT_CHARACTERS_MAX, Console, line
from services.notifier.results import Result
from tests.notifier.deliveries import delivery, message


def test_it_prints_one_line_and_accepts(run: Any) -> None:
    out = io.StringIO()
    result = run(Console(out).send(delivery(message("one"), message("two"))))
    assert result.outcome == Result.ACCEPTED
    assert out.getvalue() == (
        "notification [mailto] to ann: 2 messages in /chat/1: bob: one | bob: two\n"
    )


def test_the_endpoint_is_not_printed_beyond_its_scheme() -> None:
    assert "secret" not in line(delivery(message(), endpoint="fcm:secret"))


def test_what_users_wrote_cannot_break_the_line_or_steer_the_terminal() -> None:
    printed = line(delivery(message("a\nb\x1b[2J\x00"), subject="/chat/1"))
    assert printed.isprintable()
    assert "\n" not in printed


def test_a_long_text_is_cut() -> None:
    assert len(line(delivery(message("x" * 10_000)))) < TEXT_CHARACTERS_MAX + 100


def test_data_is_described() -> None:
    made = delivery(message(data=b"\xff\x00"))
    assert line(made).endswith("bob: (2 bytes)")


def test_a_notification_without_messages_says_how_many() -> None:
    assert line(delivery(count=7)) == "notification [mailto] to ann: 7 messages in /chat/1"


def test_a_closed_terminal_is_a_passing_failure(run: Any) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert run(Console(Closed()).send(delivery(message()))).outcome == Result.RETRY
