"""Pushes by Firebase Cloud Messaging, HTTP v1, with the key file of a service account.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send and
https://developers.google.com/identity/protocols/oauth2/service-account say what is sent and
answered. `FCM_URL` is where; another one stands in for it in tests.
"""

import asyncio
import json
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import jwt
from chat import Outcome, Push

FCM_URL = "https://fcm.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ANSWER_S = 10.0
_TOKEN_S = 3600
# Of 4xx, what is said of the account, the project or the moment, and not of the push.
_OURS_OR_PASSING = {401, 403, 404, 408, 429}
# A token is renewed so long before it ends.
_MARGIN_S = 120

log = logging.getLogger("fcm-chat")


class FcmSender:
    """Implements `chat.Sender`."""

    def __init__(self, key_file: str, url: str = FCM_URL) -> None:
        self._key = json.loads(Path(key_file).read_text())
        missing = {"project_id", "client_email", "private_key", "token_uri"} - set(self._key)
        if missing:
            raise ValueError(f"{key_file} is no key of a service account: it has no {min(missing)}")
        self._send_url = f"{url}/v1/projects/{self._key['project_id']}/messages:send"
        self._token, self._token_until = "", 0.0
        self._signing = asyncio.Lock()

    async def send(self, token: str, push: Push) -> Outcome:
        """Push to one registration token."""
        try:
            access = await self._access()
            status, answer = await asyncio.to_thread(
                _post, self._send_url, _body(token, push), {"Authorization": f"Bearer {access}"}
            )
        except OSError as error:
            log.warning("FCM cannot be reached (%s)", type(error).__name__)
            return Outcome.LATER
        outcome = verdict(status, answer)
        if outcome is not Outcome.SENT:
            log.warning("FCM answered %d: %s", status, outcome.value)
        if status == 401:
            self._token_until = 0.0  # It may have been revoked.
        return outcome

    async def _access(self) -> str:
        """An access token. Raises OSError."""
        async with self._signing:
            if time.time() >= self._token_until - _MARGIN_S:
                status, answer = await asyncio.to_thread(self._exchange)
                token = answer.get("access_token")
                if status != 200 or not isinstance(token, str):
                    raise OSError(f"the service account was refused with {status}")
                self._token = token
                self._token_until = time.time() + float(answer.get("expires_in", _TOKEN_S))
            return self._token

    def _exchange(self) -> tuple[int, dict]:
        now = int(time.time())
        claims = {
            "iss": self._key["client_email"],
            "scope": _SCOPE,
            "aud": self._key["token_uri"],
            "iat": now,
            "exp": now + _TOKEN_S,
        }
        assertion = jwt.encode(claims, self._key["private_key"], "RS256")
        form = urllib.parse.urlencode({"grant_type": _GRANT, "assertion": assertion})
        return _post(self._key["token_uri"], form.encode())


def verdict(status: int, answer: dict) -> Outcome:
    """What an answer means. What is our own fault (the account, the project), or passes, is tried
    again: nothing is lost until somebody has mended it. What is said of this one push is not: all
    that is behind it in its partition would wait for it."""
    error = answer.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    codes, fields = set(), set()
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            codes.add(str(detail.get("errorCode")))
            violations = detail.get("fieldViolations")
            for one in violations if isinstance(violations, list) else ():
                fields.add(str(one.get("field")) if isinstance(one, dict) else "")
    if 200 <= status < 300:
        return Outcome.SENT
    if (status == 404 and "UNREGISTERED" in codes) or (status == 400 and "message.token" in fields):
        return Outcome.GONE
    if status == 403 and "SENDER_ID_MISMATCH" in codes:
        return Outcome.DROPPED  # The token is one of another project's.
    if 400 <= status < 500 and status not in _OURS_OR_PASSING:
        return Outcome.DROPPED
    return Outcome.LATER


def _body(token: str, push: Push) -> bytes:
    message = {
        "token": token,
        "notification": {"title": push.title, "body": push.body},
        "data": push.data,
        "android": {"priority": "HIGH", "notification": {"tag": push.tag}},
        "apns": {"headers": {"apns-collapse-id": push.tag}},
    }
    return json.dumps({"message": message}).encode()


def _post(url: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict]:
    """Status and JSON of the answer; an answer that is no JSON object counts as an empty one."""
    kind = "application/json" if headers else "application/x-www-form-urlencoded"
    request = urllib.request.Request(url, body, {"Content-Type": kind, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    return status, found if isinstance(found, dict) else {}
