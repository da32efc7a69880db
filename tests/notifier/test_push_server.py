"""The push service of the tests is shown what it must find."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.notifier.provider import Got
from tests.notifier.push_server import Browser, PushServer, decoded, decrypted, encoded

KEY = ec.generate_private_key(ec.SECP256R1())


def test_it_decrypts_the_example_of_rfc_8291() -> None:
    """Appendix A."""
    browser = Browser(
        ec.derive_private_key(
            int.from_bytes(decoded("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"), "big"),
            ec.SECP256R1(),
        ),
        decoded("BTBZMqHH6r4Tts7J_aSIgg"),
    )
    body = decoded(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK"
        "6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert decrypted(body, browser) == b"When I grow up, I want to be a watermelon"


def signed(key: Any = KEY, **claims: Any) -> str:
    point = Browser(KEY, b"").public
    return f"vapid t={jwt.encode(claims, key, 'ES256')}, k={encoded(point)}"


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"ttl": "0"}, "TTL"),
        ({"ttl": ""}, "TTL"),
        ({"topic": "/chat/1"}, "Topic"),
        ({"topic": "x" * 33}, "Topic"),
        ({"urgency": "urgent"}, "Urgency"),
        ({"content-encoding": "aesgcm"}, "Content-Encoding"),
        ({"authorization": "Bearer x"}, "not VAPID's"),
    ],
)
def test_a_wrong_header_is_found(headers: dict[str, str], fault: str) -> None:
    with PushServer() as server:
        good = {
            "ttl": "60",
            "content-encoding": "aes128gcm",
            "authorization": signed(aud=server.url, exp=time.time() + 60, sub="mailto:a@b.example"),
        }
        assert server.faults_of(Got("POST", "/", good, b"x")) == []
        (found,) = server.faults_of(Got("POST", "/", good | headers, b"x"))
        assert fault in found
        assert server.faults_of(Got("POST", "/", good, b"x" * 4097))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"aud": "https://other.example"}, "VAPID"),
        ({"exp": 1}, "VAPID"),
        ({"exp": 2**40}, "a day"),
        ({"sub": "me"}, "sub"),
    ],
)
def test_a_wrong_claim_is_found(changes: dict[str, Any], fault: str) -> None:
    with PushServer() as server:
        claims = {"aud": server.url, "exp": time.time() + 60, "sub": "mailto:a@b.example"} | changes
        sent = {"ttl": "1", "content-encoding": "aes128gcm", "authorization": signed(**claims)}
        (found,) = server.faults_of(Got("POST", "/", sent, b"x"))
        assert fault in found


def test_another_signature_or_sender_is_found() -> None:
    with PushServer() as server:
        claims = {"aud": server.url, "exp": time.time() + 60, "sub": "mailto:a@b.example"}
        other = ec.generate_private_key(ec.SECP256R1())
        sent = {"ttl": "1", "content-encoding": "aes128gcm"}
        forged = sent | {"authorization": signed(other, **claims)}
        assert server.faults_of(Got("POST", "/", forged, b"x"))
        server.sender = "another"
        good = sent | {"authorization": signed(**claims)}
        assert server.faults_of(Got("POST", "/", good, b"x")) == ["VAPID: another sender's key"]
