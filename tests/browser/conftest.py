"""A browser, a mailbox and a suite that all tests of browsers share."""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import Browser, found
from tests.path.mailbox import Mailbox
from tests.path.stack import QUICK, Suite, ended

# Quiet sessions are pinged each 1.2 s, and one without a pong is closed a second later.
PINGED = {"ONWARD_EDGE_ROUND_S": "0.1", "ONWARD_EDGE_PONG_S": "1"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real Chromium."""
    if found() is None:
        pytest.skip("no Chromium on this machine")
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def mailbox(browser: Browser) -> Iterator[Mailbox]:
    """A real SMTP server. It needs the browser, so that without one nothing is started."""
    with Mailbox() as box:
        yield box


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[Suite]:
    """`onward up`, ready, with quick graces, frequent pings, and e-mail."""
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | PINGED | mailbox.settings)
    with ended(up):
        up.wait_ready()
        yield up
