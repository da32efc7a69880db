"""A receiver of webhooks: checks signatures by the published rule, with code of its own."""

import base64
import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.notifier.http_double import Answer, HttpDouble, Request


class Receiver(HttpDouble):
    """Answers 204 to what is signed with a secret it has, else 401."""

    def __init__(self, folder: Path, *secrets: str) -> None:
        super().__init__(folder)
        self.secrets = list(secrets)

    @property
    def endpoint(self) -> str:
        return f"{self.url}/hook"

    def respond(self, request: Request) -> Answer:
        return Answer(204 if self.signed(request) else 401)

    def signed(self, request: Request) -> bool:
        """Whether one of the signatures is by one of the secrets."""
        head = request.headers
        content = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + request.body
        given = [part.split(",", 1) for part in head["webhook-signature"].split(" ")]
        for secret in self.secrets:
            key = base64.b64decode(secret.removeprefix("whsec_"))
            right = base64.b64encode(hmac.new(key, content, sha256).digest()).decode()
            if ["v1", right] in given:
                return True
        return False

    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.requests]
