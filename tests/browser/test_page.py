"""The page at `/`, as a person uses it, by mouse and by keyboard, without a complaint."""

import json
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Browser, Page
from tests.path.mailbox import Mailbox
from tests.path.stack import Suite
from tests.waiting import wait_for

STEPS = ["write", "leave", "miss", "notified", "back"]


@pytest.fixture
def page(browser: Browser, suite: Suite) -> Iterator[Page]:
    """The page, with Ann connected. In the end it must not have had anything to complain about."""
    opened = browser.page()
    opened.open(f"{suite.url}/")
    opened.wait_text("#ann-pill", "online")
    opened.wait("!document.querySelector('#ann-cut').disabled")
    yield opened
    opened.close()
    assert opened.problems == []


def say(page: Page, text: str) -> None:
    """Writes as Bob, by mouse and keyboard."""
    page.click("#bob-text")
    page.type(text)
    page.click("#bob-form button")


def way(page: Page, number: int) -> list[str]:
    """The steps that the page shows of the message at this place, from 0."""
    read = "li => [...li.querySelectorAll('.way li')].map(step => step.innerText)"
    rows: list[list[str]] = page.run(
        f"[...document.querySelectorAll('#bob-talk > li')].map({read})"
    )
    return rows[number] if number < len(rows) else []


def done(page: Page) -> list[str]:
    """The steps to try that are ticked."""
    return list(page.run("[...document.querySelectorAll('#steps .done')].map(e => e.dataset.step)"))


def kept(page: Page) -> dict[str, str]:
    """Who takes part in this tab."""
    return dict(json.loads(page.run("sessionStorage.getItem('onward.page')")))


def test_a_person_sees_the_handover_from_online_to_offline_and_back(
    page: Page, mailbox: Mailbox
) -> None:
    say(page, "are you there?")
    page.wait_text("#ann-talk", "#1, acknowledged")
    wait_for(lambda: way(page, 0)[-1:] == ["acknowledged by Ann"], 20, "the record of it")
    assert way(page, 0)[0] == "accepted"

    page.click("#ann-cut")
    page.wait_text("#ann-pill", "in her grace")
    say(page, "the train leaves at eight")
    wait_for(lambda: way(page, 1)[1:2] and way(page, 1)[1].startswith("grace"), 10, "grace")
    wait_for(lambda: way(page, 1)[-1:] == ["notified by mailto"], 20, "the notification")
    page.wait_text("#notes", "One notification for 1 message")
    page.wait_text("#notes", "#2, by e-mail")
    assert page.text("#ann-pill") == "offline"
    who = f"{kept(page)['ann']}@example.org"
    [mail] = [mail for mail in mailbox.mails if mail["X-Rcpt-To"] == who]
    assert "the train leaves at eight" in str(mail.get_content())
    assert "the train" not in page.text("#ann-talk")

    page.click("#ann-back")
    page.wait_text("#ann-talk", "#2, recovered")
    page.wait_text("#ann-tally", "Seen 2 of 2, none twice.")
    assert page.text("#ann-talk").count("the train leaves at eight") == 1
    page.wait_text("#ann-pill", "online")
    assert done(page) == STEPS
    assert len([mail for mail in mailbox.mails if mail["X-Rcpt-To"] == who]) == 1


def test_everything_can_be_done_by_keyboard(page: Page) -> None:
    def tab_to(name: str) -> None:
        for _ in range(30):
            if page.focused() == name:
                return
            page.press("Tab")
        raise AssertionError(f"{name} is not reached by Tab")

    tab_to("bob-text")
    page.type("typed without a mouse")
    page.press("Enter")
    page.wait_text("#ann-talk", "typed without a mouse")
    tab_to("ann-close")
    page.press("Enter")
    assert page.focused() == "ann-back", "the focus is where one goes on"
    page.wait_text("#ann-pill", "offline")
    page.press("Enter")
    page.wait_text("#ann-pill", "online")
    assert page.focused() == "bob-text"


def test_who_left_no_address_is_not_notified_and_the_page_says_so(page: Page) -> None:
    page.click("#ann-reachable")
    page.click("#ann-close")
    say(page, "nobody hears this")
    wait_for(lambda: way(page, 0)[-1:] == ["not sent: she left no address"], 20, "the suppression")
    assert page.run("document.querySelector('#notes').hidden")


def test_what_others_write_is_shown_as_text_and_nothing_of_it_runs(
    page: Page, suite: Suite
) -> None:
    text = "<img src=x onerror='document.title=1'><script>document.title=1</script>"
    suite.publish(str(kept(page)["subject"]), text, user="<b>eve</b>")
    page.wait("document.querySelector('#ann-talk').innerText.includes('<img')")
    page.wait("document.querySelector('#bob-talk').innerText.includes('<script>')")
    assert "<b>eve</b>:" in page.text("#ann-talk")
    assert page.run("document.querySelectorAll('main img, main script, main b').length") == 0
    assert page.run("document.title").startswith("Onward")


def test_a_reload_keeps_ann_and_shows_each_message_once(page: Page, suite: Suite) -> None:
    say(page, "before the reload")
    page.wait_text("#ann-talk", "#1, acknowledged")
    before = kept(page)
    page.open(f"{suite.url}/?again")
    page.wait_text("#ann-talk", "#1 earlier")
    page.wait_text("#ann-pill", "online")
    assert {k: kept(page)[k] for k in ("ann", "subject")} == {
        k: before[k] for k in ("ann", "subject")
    }
    say(page, "after the reload")
    page.wait_text("#ann-talk", "after the reload")
    assert page.text("#ann-talk").count("before the reload") == 1
    page.wait_text("#ann-tally", "Seen 2 of 2, none twice.")


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_small_screen(browser: Browser, suite: Suite, dark: bool) -> None:
    small = browser.page(360, 640, dark=dark)
    small.open(f"{suite.url}/")
    small.wait_text("#ann-pill", "online")
    assert small.run("document.documentElement.scrollWidth") == 360
    small.close()
    assert small.problems == []


def test_the_browser_runs_nothing_inline_and_complains_of_it(
    browser: Browser, suite: Suite
) -> None:
    page = browser.page()
    page.open(f"{suite.url}/")
    page.run(
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'document.title = 1'}))"
    )
    wait_for(lambda: page.run("1") and page.problems, 10, "a complaint")
    assert "Content Security Policy" in page.problems[0]
    assert page.run("document.title").startswith("Onward")


def test_the_script_that_the_page_shows_is_a_client_that_acknowledges(
    browser: Browser, page: Page, suite: Suite
) -> None:
    other = browser.page()
    other.open(f"{suite.url}/healthz")
    other.run(page.text("#code-js") + "; true")
    page.click("#ann-close")
    page.wait_text("#ann-pill", "offline")
    other.wait("s.readyState === WebSocket.OPEN")
    say(page, "to the laptop")
    wait_for(lambda: way(page, 0)[-1:] == ["acknowledged by Ann"], 20, "the record of it")
    story = suite.get(f"/v1/explain?user={kept(page)['ann']}&subject={kept(page)['subject']}")
    assert "laptop" in story["outcomes"][0]["text"]
    other.close()
