"""The rule of `onward conformance` about requests of providers, and the sample it may be given.

The sample is a request as a provider signs it, in a file of JSON: `method`, `url`, `headers` and
`body` (or `bodyBase64`). Knows the contract; must not know any provider's signatures: it sees only
that the sample is taken, and that it is not once a part is changed.
"""

import json
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onward.notifier.v1 import notifier_pb2

from services.cli.conformance_plugin import CALL_S, Examined, Failed, Skipped

Request = notifier_pb2.HandleCallbackRequest

# As edges hand over.
BODY_BYTES_MAX = 64 * 1024
_FIELDS = {"method": str, "url": str, "headers": dict, "body": str, "bodyBase64": str}
_FORGED = Request(
    method="POST",
    url="https://conformance.invalid/v1/callbacks/conformance?x=%00",
    headers={"content-type": "application/x-www-form-urlencoded"},
    body=b"\x00\xff not what any provider sends",
)


def read_sample(path: Path) -> Request:
    """The request of the file. Raises ValueError with a sentence that quotes nothing of it."""
    try:
        fields = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"{path} is no JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("url"), str):
        raise ValueError(f"{path} is no JSON object with a url")
    for name, value in fields.items():
        if name not in _FIELDS:
            raise ValueError(f"{path} has a field besides {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[name]):
            raise ValueError(f"`{name}` of {path} is of the wrong type")
    headers = fields.get("headers", {})
    if not all(isinstance(value, str) for value in headers.values()):
        raise ValueError(f"`headers` of {path} are texts")
    body = _body(fields, path)
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"the body in {path} has more than {BODY_BYTES_MAX} bytes")
    return Request(
        method=fields.get("method", "POST"),
        url=fields["url"],
        headers={name.lower(): value for name, value in headers.items()},
        body=body,
    )


async def callbacks(plugin: Examined) -> str:
    """A request that no provider signed; and one that a provider did, as it is and changed."""
    if not plugin.description.callbacks:
        raise Skipped("it does not say `callbacks`")
    forged = await _answer(plugin, _FORGED)
    _refused(forged, "what no provider has signed")
    sample = plugin.wishes.callback
    if sample is None:
        return f"{forged.status}; --callback FILE would show what it makes of a real one"
    for words, changed in _changed(sample):
        _refused(await _answer(plugin, changed), f"the sample {words}")
    taken = await _answer(plugin, sample)
    if not 200 <= (taken.status or 204) < 300:
        raise Failed(f"it answers {taken.status} to the sample of --callback; is that too old?")
    for event in taken.events:
        if not event.delivery_id or event.kind == notifier_pb2.DeliveryEvent.KIND_UNSPECIFIED:
            raise Failed("an event of the sample names no delivery, or no kind")
    return f"{forged.status} to what is forged; {len(taken.events)} events of the sample"


def _changed(sample: Request) -> Iterator[tuple[str, Request]]:
    """The sample as somebody might forge it who has seen one."""
    other = Request()
    other.CopyFrom(sample)
    other.body += b"&x=1"
    yield "with more in its body", other
    bare = Request()
    bare.CopyFrom(sample)
    # A signature stands in one or the other.
    bare.url = sample.url.partition("?")[0]
    bare.headers.clear()
    if "content-type" in sample.headers:
        bare.headers["content-type"] = sample.headers["content-type"]
    yield "without its headers and its query", bare


def _refused(answer: notifier_pb2.HandleCallbackResponse, words: str) -> None:
    if not 400 <= answer.status < 500:
        raise Failed(f"it answers {answer.status or 204} to {words}")
    if answer.events:
        raise Failed(f"it learns {len(answer.events)} events from {words}")


async def _answer(plugin: Examined, request: Request) -> notifier_pb2.HandleCallbackResponse:
    return await plugin.stub.HandleCallback(request, timeout=CALL_S)


def _body(fields: dict[str, Any], path: Path) -> bytes:
    if "body" in fields and "bodyBase64" in fields:
        raise ValueError(f"{path} has both body and bodyBase64")
    try:
        encoded = b64decode(fields.get("bodyBase64", ""), validate=True)
    except Error:
        raise ValueError(f"`bodyBase64` of {path} is no Base64") from None
    return encoded or str(fields.get("body", "")).encode("utf-8", "replace")
