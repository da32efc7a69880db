"""One message and the clients fit a screen, whatever there is to tell."""

from typing import Any

import pytest

from services.cli.story_lines import client_lines, message_lines

AT = "2026-11-22T12:00:00Z"


def tried(outcome: str, detail: str = "") -> dict[str, Any]:
    return {"at": AT, "outcome": outcome, "detail": detail}


def outcome(**fields: Any) -> dict[str, Any]:
    return {"fromSeq": "7", "toSeq": "7", "state": "NOTIFIED", "at": AT, **fields}


def delivery(*attempts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"channel": "fcm", "state": "accepted", "attempts": list(attempts), **fields}


def test_a_message_is_told_with_its_reason_plan_tries_and_receipts() -> None:
    lines = message_lines(
        "/a for ann",
        outcome(
            text="Sent by fcm.",
            plan={"policy": "user", "category": "chat", "priority": "high", "expiresAt": AT},
            deliveries=[
                delivery(
                    tried("RETRY", "busy"),
                    tried("ACCEPTED"),
                    receipts=[{"at": AT, "kind": "DELIVERED", "detail": ""}],
                )
            ],
        ),
        100,
    )
    assert lines[0] == "/a for ann, message 7: NOTIFIED"
    assert lines[1] == "Sent by fcm."
    assert lines[2].startswith("Decided 2026-11-22 ")
    assert lines[2].endswith(", category chat, priority high, policy user.")
    assert lines[3] == ""
    assert lines[4].startswith("  fcm  accepted; RETRY ")
    assert "(busy) → ACCEPTED" in lines[4]
    assert "receipts: DELIVERED" in " ".join(lines[4:])


def test_what_waits_tells_when_it_is_due_and_when_it_expires() -> None:
    lines = message_lines(
        "/a for ann",
        outcome(
            state="DEFERRED",
            reason="QUIET_HOURS",
            plan={"policy": "user", "priority": "normal", "expiresAt": AT},
            deliveries=[delivery(state="pending", dueAt=AT)],
        ),
        100,
    )
    assert lines[0].endswith(": DEFERRED (QUIET_HOURS)")
    assert "expires 2026-11-22" in lines[1]
    assert "pending; due 2026-11-22" in lines[-1]


def test_a_try_without_an_answer_is_still_with_the_plugin() -> None:
    lines = message_lines("/a", outcome(deliveries=[delivery(tried(""), state="sending")]), 100)
    assert "with the plugin since" in lines[-1]


@pytest.mark.parametrize("width", [20, 80, 100])
def test_too_much_of_everything_fits_a_screen(width: int) -> None:
    attempts = [tried("RETRY", "the provider is busy, says it in many words " * 9)] * 100
    receipts = [{"at": AT, "kind": kind, "detail": "x" * 300} for kind in ("DELIVERED", "OPENED")]
    many = [delivery(*attempts, channel=f"channel-{n}" * 3, receipts=receipts) for n in range(16)]
    plan = {"policy": "endpoint", "category": "c" * 64, "template": "t" * 300, "priority": "low"}
    told = outcome(
        toSeq="900", text="Sent by something. " * 99, plan=plan, deliveries=many, reason="R" * 30
    )
    clients = [{"clientId": "c" * 64, "state": "online", "since": AT}] * 50
    lines = message_lines("/s" * 100, told, width)
    lines += ["", *client_lines(clients, width)]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= max(width, 60)
    assert "--json tells all" in lines[-1]
    assert any("more" in line for line in lines[:-1]), "deliveries that are not told are counted"


def test_one_delivery_of_many_tries_tells_the_first_and_the_last_ones() -> None:
    attempts = [tried(f"TRY{n}") for n in range(20)]
    told = " ".join(message_lines("/a", outcome(deliveries=[delivery(*attempts)]), 100))
    assert "TRY0 " in told
    assert "→ 15 more →" in told
    assert "TRY15 " not in told
    assert "TRY16 " in told
    assert "TRY19 " in told


def test_what_others_wrote_has_no_control_characters() -> None:
    evil = "\x1b[31m\nred"
    lines = message_lines(
        f"/a{evil}", outcome(text=evil, deliveries=[delivery(tried("RETRY", evil))]), 100
    )
    lines += client_lines([{"clientId": evil, "state": "offline"}], 100)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({"state": "online", "active": True}, "online, looked at since 2026-11-22"),
        ({"state": "online", "active": False}, "online, in the background since 2026-11-22"),
        ({"state": "online", "away": True}, "online, away since 2026-11-22"),
        ({"state": "grace", "graceUntil": AT}, "in its grace until 2026-11-22"),
        ({"state": "offline", "ended": True}, "acknowledged up to 4, follow ended"),
    ],
)
def test_a_client_says_how_it_stands(client: dict[str, Any], words: str) -> None:
    told = client_lines([{"clientId": "tab", "since": AT, "acked": "4", **client}], 100)
    assert told[1].startswith("  tab  ")
    assert words in told[1]


def test_a_follow_of_a_backend_is_no_client() -> None:
    [_, line] = client_lines([{"clientId": "@backend", "state": "offline", "base": "3"}], 100)
    assert line == "  a backend  follows for the user, from after 3"
