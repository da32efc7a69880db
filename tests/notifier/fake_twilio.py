"""A fake of Twilio's Messages resource: answers as the real one does, and signs its callbacks.

Each request is kept, so that a test can check it against Twilio's description
(`twilio_schema.faults`). It proves that we keep the contract, not how Twilio behaves.
"""

import base64
import hmac
import json
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qsl, urlencode

from services.notifier.sms import Account
from tests.notifier.http_double import Answer, HttpDouble, Request

SID = "AC" + "0a" * 16
TOKEN = "twilio-auth-token"
SENDER = "+15005550006"


class FakeTwilio(HttpDouble):
    """Accepts what has the right account and token; `refuse` says what it says next."""

    def account(self, **changed: Any) -> Account:
        return Account(**{"sid": SID, "token": TOKEN, "sender": SENDER, "url": self.url, **changed})

    def refuse(self, status: int, code: int, **headers: str) -> None:
        """Say this next, as Twilio says it."""
        self.answer(error(status, code, headers))

    def respond(self, request: Request) -> Answer:
        given = request.headers.get("authorization", "")
        if given != "Basic " + base64.b64encode(f"{SID}:{TOKEN}".encode()).decode():
            return error(401, 20003)
        form = form_of(request)
        if not form.get("Body"):
            return error(400, 21602)
        if len(form["Body"].encode("utf-16-le")) // 2 > 1600:
            return error(400, 21617)
        return Answer(
            201, json.dumps(resource(form)).encode(), {"content-type": "application/json"}
        )


def form_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


def resource(form: dict[str, str]) -> dict[str, Any]:
    """A message that was taken."""
    return {
        "sid": "SM" + "1b" * 16,
        "account_sid": SID,
        "to": form.get("To"),
        "from": form.get("From"),
        "messaging_service_sid": form.get("MessagingServiceSid"),
        "body": form.get("Body"),
        "status": "queued",
        "direction": "outbound-api",
        "num_segments": "1",
        "error_code": None,
        "error_message": None,
        "api_version": "2010-04-01",
    }


def error(status: int, code: int, headers: dict[str, str] | None = None) -> Answer:
    told = {"code": code, "message": "told to +15550001111", "status": status,
            "more_info": f"https://www.twilio.com/docs/errors/{code}"}  # fmt: skip
    named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
    return Answer(status, json.dumps(told).encode(), {"content-type": "application/json", **named})


def callback(url: str, token: str = TOKEN, **form: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a signed status callback, by Twilio's published rule: the URL, then each
    parameter's name and value in order of names; HMAC-SHA1, in Base64."""
    fields = {"AccountSid": SID, "MessageSid": "SM" + "1b" * 16, "To": "+15550001111", **form}
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    digest = hmac.new(token.encode(), signed.encode(), sha1).digest()
    headers = {
        "x-twilio-signature": base64.b64encode(digest).decode(),
        "content-type": "application/x-www-form-urlencoded",
    }
    return headers, urlencode(fields).encode()
