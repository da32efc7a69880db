"""Web Push to a real browser: the page is closed, and its service worker shows what it decrypts.

The page subscribes and the worker shows as docs/channels.md tells people to; around that each
reports what it sees.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.notifier.vapid import Vapid
from tests.browser.firefox import Firefox, found
from tests.browser.firefox_push import FirefoxPush
from tests.docs.test_code_blocks import CHANNELS
from tests.notifier.push_server import decoded
from tests.notifier.test_vapid import KEY, pem
from tests.path.stack import QUICK, Subscriber, Suite, ended
from tests.waiting import wait_for

VAPID = Vapid(KEY, "mailto:ops@example.org")
SUBSCRIBE, WORKER = [block.text for block in CHANNELS if block.language == "js"]

# `subscribe()` hangs for ever when it is called before the browser has greeted its push service.
PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><script type="module">
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify(what)});
try {
  await navigator.serviceWorker.register("/worker.js");
  while (!(await fetch("/greeted")).ok) await new Promise((done) => setTimeout(done, 100));
  %s
  await report({kind: "subscribed", token});
} catch (error) {
  await report({kind: "failed", error: String(error)});
}
// A page of another origin: `about:blank` would still count as one of this site's.
location.replace(`http://127.0.0.1:${location.port}/elsewhere`);
</script>"""

REPORTING = """
self.addEventListener("push", (event) => {
  event.waitUntil((async () => {
    const pages = await self.clients.matchAll({includeUncontrolled: true});
    let shown = [];
    for (let tries = 0; tries < 50 && !shown.length; tries += 1) {
      await new Promise((done) => setTimeout(done, 100));
      shown = (await self.registration.getNotifications()).map(
        ({title, body, tag, data}) => ({title, body, tag, data}));
    }
    await fetch("/report", {method: "POST", body: JSON.stringify(
      {kind: "push", said: event.data.json(), pages: pages.length, shown})});
  })());
});
"""


def files() -> dict[str, tuple[str, str]]:
    subscribe = SUBSCRIBE.replace("BNx…", VAPID.public_key)
    assert VAPID.public_key in subscribe
    return {
        "/": ("text/html", PAGE % subscribe),
        "/elsewhere": ("text/html", "<!doctype html><title>elsewhere</title>"),
        "/worker.js": ("text/javascript", WORKER + REPORTING),
    }


@pytest.fixture(scope="module")
def site() -> Iterator[FirefoxPush]:
    """The push service, with the site."""
    if found() is None:
        pytest.skip("no Firefox on this machine")
    with FirefoxPush(files()) as running:
        running.sender = VAPID.public_key
        yield running


@pytest.fixture(scope="module")
def token(site: FirefoxPush, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the page got as its external token, the page being closed now."""
    browser = Firefox(tmp_path_factory.mktemp("firefox"), f"{site.url}/", site.socket_url)
    try:
        wait_for(lambda: site.reports, 60, "the page subscribes")
        (report,) = site.reports
        assert report["kind"] == "subscribed", report
        yield report["token"]
    finally:
        browser.close()


@pytest.fixture(scope="module")
def suite(site: FirefoxPush, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """`onward up`, with Web Push set up."""
    settings = QUICK | {
        "ONWARD_WEBPUSH_VAPID_KEY": pem(KEY),
        "ONWARD_WEBPUSH_SUBJECT": VAPID.subject,
        "ONWARD_NOTIFIER_ALLOW_PRIVATE_ADDRESSES": "true",
        "ONWARD_PRESENCE_COLLAPSE_S": "0",
    }
    up = Suite(tmp_path_factory.mktemp("data"), settings)
    with ended(up):
        up.wait_ready()
        yield up


def away(suite: Suite, state: Path, subject: str, token: str) -> None:
    """Ann was here, left this endpoint, and is gone."""
    ann = Subscriber(suite, state, subject, "--user", "ann", "--external-token", token)
    with ended(ann):
        ann.wait_event("connected")
        ann.wait_event("subscribed")
        assert ann.end() == 0


def wait_story(suite: Suite, subject: str, seq: int, state: str) -> dict[str, Any]:
    """What is told of a message to Ann, once it is in that state; if never, what is told fails."""
    story: dict[str, Any] = {}

    def is_there() -> bool:
        story.update(suite.explain("ann", subject, seq))
        return bool(story["state"] == state)

    try:
        wait_for(is_there, 30, state)
    except AssertionError:
        raise AssertionError(story) from None
    return story


def test_what_ann_missed_is_shown_by_her_service_worker_while_the_page_is_closed(
    site: FirefoxPush, token: str, suite: Suite, tmp_path: Path
) -> None:
    subject = "/chat/push"
    away(suite, tmp_path, subject, token)
    suite.publish(subject, "Grüße 👋, are you there?")
    push = wait_for(lambda: site.reported("push"), 40, "the push") or {}
    assert push["pages"] == 0, "the page is closed"
    assert "Grüße 👋, are you there?" in push["said"]["body"]
    assert push["said"]["subject"] == subject
    (shown,) = push["shown"]
    assert (shown["body"], shown["tag"]) == (push["said"]["body"], push["said"]["tag"])
    wait_story(suite, subject, 1, "NOTIFIED")


def test_a_subscription_that_is_gone_is_removed(
    site: FirefoxPush, token: str, suite: Suite, tmp_path: Path
) -> None:
    subject = "/chat/gone"
    away(suite, tmp_path, subject, token)
    url = json.loads(decoded(token.removeprefix("webpush:")))["endpoint"]
    site.unsubscribe(url.rpartition("/")[2])
    suite.publish(subject, "anybody there?")
    wait_story(suite, subject, 1, "FAILED")
    asked = len(site.requests)
    suite.publish(subject, "nobody")
    assert wait_story(suite, subject, 2, "SUPPRESSED")["reason"] == "NO_ENDPOINT"
    assert len(site.requests) == asked
