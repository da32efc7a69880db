"""Tokens: which are good, and what is said of the others."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from services.chassis.refusals import Code, Refusal
from services.edge.identity import Identity
from services.edge.tokens import Authenticator, Caller
from tests.edge.door import SECRET

HOUR = 3600


def claims(**changes: Any) -> dict[str, Any]:
    all_claims = {"sub": "ann", "exp": int(time.time()) + HOUR, **changes}
    return {name: value for name, value in all_claims.items() if value is not ...}


def token(key: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def handmade(header: dict[str, Any], body: Any, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed(header: dict[str, Any], body: Any) -> str:
    """A token whose signature is right, whatever it says."""
    unsigned = handmade(header, body).rpartition(".")[0]
    digest = hmac.new(SECRET.encode(), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def identify(text: str, user: str = "", *, anonymous: bool = False) -> Caller | Refusal:
    return Authenticator(SECRET, anonymous=anonymous).identify(text, user, "c-1")


def test_a_good_token_says_who_what_and_until_when() -> None:
    end = int(time.time()) + HOUR
    caller = identify(token(exp=end, onward={"subscribe": ["/a"]}))
    assert isinstance(caller, Caller)
    identity: Identity = caller
    assert (identity.user, identity.expires_at) == ("ann", end)
    assert identity.may_subscribe("/a")
    assert not identity.may_publish("/a")
    assert identity.may_register("fcm:x")
    assert not identity.may_register("mailto:ann@example.org")


BAD = {
    "no JWT": "nonsense",
    "dots": "a.b.c",
    "not ASCII": "é.é.é",
    "another key": token(key="another key of thirty-two bytes, at least"),
    "another algorithm": token(key=SECRET * 2, algorithm="HS512"),
    "no signature": handmade({"alg": "none", "typ": "JWT"}, claims()),
    "an empty signature": handmade({"alg": "HS256", "typ": "JWT"}, claims()),
    "an algorithm that is a list": handmade({"alg": ["HS256"]}, claims(), b"x"),
    "no sub": token(sub=...),
    "no exp": token(exp=...),
    "an empty sub": token(sub=""),
    "a sub with a line break": token(sub="a\nb"),
    "a sub too long": token(sub="x" * 129),
    "an exp that is a word": signed({"alg": "HS256"}, claims(exp="soon")),
    "an exp in quotes": signed({"alg": "HS256"}, claims(exp="99999999999")),
    "an exp beyond all time": signed({"alg": "HS256"}, claims(exp=10**400)),
    "an exp that is no number": signed({"alg": "HS256"}, claims(exp=float("nan"))),
    "claims that are a list": signed({"alg": "HS256"}, []),
    "a sub that is a number": signed({"alg": "HS256"}, claims(sub=1)),
    "not yet valid": token(nbf=int(time.time()) + HOUR),
    "grants of another shape": token(onward={"subscribe": "/a"}),
    "very long": token(filler="x" * 20_000),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("anonymous", [False, True])
def test_a_bad_token_is_refused_also_where_none_is_needed(name: str, anonymous: bool) -> None:
    refusal = identify(BAD[name], "ann", anonymous=anonymous)
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.TOKEN_INVALID
    assert BAD[name] not in refusal.message


def test_an_expired_token_is_told_apart() -> None:
    refusal = identify(token(exp=int(time.time()) - 1))
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.TOKEN_EXPIRED


def test_without_a_key_no_token_is_good() -> None:
    refusal = Authenticator("", anonymous=False).identify(token(), "", "c-1")
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.TOKEN_INVALID


def test_without_a_token_nobody_comes_in_unless_that_is_allowed() -> None:
    refusal = identify("", "ann")
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.TOKEN_INVALID


@pytest.mark.parametrize(("user", "expected"), [("ann", "ann"), ("", "anon:c-1")])
def test_without_authentication_a_client_is_who_it_says(user: str, expected: str) -> None:
    caller = identify("", user, anonymous=True)
    assert isinstance(caller, Caller)
    assert (caller.grants.user, caller.expires_at) == (expected, None)


def test_a_name_that_cannot_be_is_refused() -> None:
    assert isinstance(identify("", "a\nb", anonymous=True), Refusal)


def test_a_client_id_that_makes_too_long_a_name_is_refused_as_such() -> None:
    for size, fits in [(123, True), (124, False)]:
        caller = Authenticator("", anonymous=True).identify("", "", "x" * size)
        assert isinstance(caller, Refusal) is not fits
        assert fits or caller.code == Code.CLIENT_ID_INVALID  # type: ignore[union-attr]
