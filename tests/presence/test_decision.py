"""The decision about a message that presence found due, and its reason."""

from services.presence.decision import (
    NO_ENDPOINT,
    OPTED_OUT,
    PUBLISHER,
    Due,
    Facts,
    Suppressed,
    decide,
)

MAIL, PUSH = "mailto:ann@example.org", "fcm:abc"


def test_a_message_is_due_at_every_endpoint():
    assert decide(Facts("ann", "bob", (MAIL, PUSH))) == Due((MAIL, PUSH))


def test_the_rest_of_a_backlog_has_no_publisher_and_is_due():
    assert decide(Facts("ann", None, (MAIL,))) == Due((MAIL,))


def test_nobody_is_notified_of_an_own_message():
    assert decide(Facts("ann", "ann", (MAIL,))) == Suppressed(PUBLISHER)


def test_without_an_endpoint_there_is_nowhere_to_send():
    assert decide(Facts("ann", "bob", ())) == Suppressed(NO_ENDPOINT)


def test_the_own_message_is_the_first_reason():
    assert decide(Facts("ann", "ann", ())) == Suppressed(PUBLISHER)


def test_an_endpoint_that_opted_out_is_left_out():
    assert decide(Facts("ann", "bob", (MAIL, PUSH), frozenset({PUSH}))) == Due((MAIL,))


def test_if_all_endpoints_opted_out_that_is_the_reason():
    assert decide(Facts("ann", "bob", (MAIL,), frozenset({MAIL}))) == Suppressed(OPTED_OUT)
