"""The page behind a link to mute, as a person uses it where nobody needs a token."""

import time

from services.chassis.mute_tokens import MuteLink, mute_url
from tests.browser.chromium import Browser
from tests.path.stack import Suite


def test_a_person_mutes_by_the_button(browser: Browser, suite: Suite) -> None:
    secret = (suite.data_dir / "secret").read_text().strip()
    link = MuteLink("mia", "/chat/muted")
    page = browser.page()
    page.open(mute_url(suite.url, secret, link, time.time() + 60))
    page.wait_text("main", "Mute notifications about /chat/muted?")
    page.click("button")
    page.wait_text("main", "Notifications about /chat/muted are muted.")
    page.close()
    assert page.problems == []
    mutes = suite.get("/v1/me/mutes?user=mia")["mutes"]
    assert [mute["subject"] for mute in mutes] == ["/chat/muted"]
