"""Who may do what, as tables."""

import pytest

from services.edge.entitlement import Grants, Subjects, anonymous_grants, claimed_grants


def granted(**claim: object) -> Grants:
    grants = claimed_grants("ann", claim)
    assert grants is not None
    return grants


@pytest.mark.parametrize(
    ("grant", "subject", "expected"),
    [
        ("/chat/42", "/chat/42", True),
        ("/chat/42", "/chat/421", False),
        ("/chat/42", "/chat/42/x", False),
        ("/chat/42", "/chat", False),
        ("/chat/*", "/chat/42", True),
        ("/chat/*", "/chat/42/x", True),
        ("/chat/*", "/chat", False),
        ("/chat/*", "/chatter/1", False),
        ("/chat/*", "/CHAT/42", False),
        ("/chat*", "/chat/42", False),
        ("/chat*", "/chatter", False),
        ("/*/42", "/chat/42", False),
        ("/*", "/chat", True),
        ("/*", "/chat/42", True),
        ("*", "/chat", False),
        ("", "/chat", False),
    ],
)
def test_a_grant_covers_itself_or_what_is_below_it(
    grant: str, subject: str, expected: bool
) -> None:
    assert (subject in Subjects([grant])) is expected


def test_grants_are_a_union() -> None:
    subjects = Subjects(["/a", "/b/*", "/c/*"])
    assert [s in subjects for s in ("/a", "/b/1", "/c/1", "/d")] == [True, True, True, False]


def test_without_a_claim_nothing_is_granted() -> None:
    for claim in (None, {}):
        grants = claimed_grants("ann", claim)
        assert grants is not None
        assert not grants.may_subscribe("/chat")
        assert not grants.may_publish("/chat")
        assert not grants.may_explain("bob")
        assert grants.may_explain("ann")


def test_subscribing_and_publishing_are_granted_apart() -> None:
    grants = granted(subscribe=["/a"], publish=["/b"])
    assert [grants.may_subscribe(s) for s in ("/a", "/b")] == [True, False]
    assert [grants.may_publish(s) for s in ("/a", "/b")] == [False, True]


@pytest.mark.parametrize(
    ("listed", "uri", "expected"),
    [
        (None, "fcm:x", True),
        (None, "apns:x", True),
        (None, "webpush:x", True),
        (None, "mailto:ann@example.org", False),
        (None, "tel:+15551234567", False),
        (None, "https://example.org/", False),
        (None, "smtp:x", False),
        ([], "fcm:x", False),
        ([], "mailto:ann@example.org", False),
        (["mailto:ann@example.org"], "mailto:ann@example.org", True),
        (["mailto:ann@example.org"], "mailto:bob@example.org", False),
        (["mailto:ann@example.org"], "fcm:x", False),
        (["tel:+15551234567", "fcm:x"], "fcm:x", True),
        (["nonsense"], "nonsense", False),
        (["mailto:*"], "mailto:ann@example.org", False),
        (None, "slack:U024BE7LH", False),
        (["slack:U024BE7LH"], "slack:U024BE7LH", True),
    ],
)
def test_an_external_token_needs_the_claim_unless_nobody_can_guess_it(
    listed: list[str] | None, uri: str, expected: bool
) -> None:
    grants = granted() if listed is None else granted(external_tokens=listed)
    assert grants.may_register(uri) is expected


@pytest.mark.parametrize(
    "claim",
    [
        "all",
        ["/a"],
        1,
        {"subscribe": "/a"},
        {"subscribe": [1]},
        {"publish": {"/a": True}},
        {"publish": None},
        {"external_tokens": None},
        {"external_tokens": "fcm:x"},
        {"admin": "yes"},
        {"admin": 1},
    ],
)
def test_a_claim_of_another_shape_grants_nothing_at_all(claim: object) -> None:
    assert claimed_grants("ann", claim) is None


def test_an_admin_may_see_others_and_no_more_than_that() -> None:
    grants = granted(admin=True)
    assert grants.may_explain("bob")
    assert not grants.may_subscribe("/chat")


def test_without_authentication_everything_that_is_valid_goes() -> None:
    grants = anonymous_grants("ann")
    assert grants.may_subscribe("/a") and grants.may_publish("/a") and grants.may_explain("bob")
    assert grants.may_register("mailto:bob@example.org")
    assert not grants.may_register("mailto:nobody")
