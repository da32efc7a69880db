"""A suite per module, and a mailbox."""

from collections.abc import Iterator

import pytest

from tests.path.mailbox import SOON_AGAIN, Mailbox
from tests.path.stack import QUICK, Suite, ended


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    """A real SMTP server for the module's suite."""
    with Mailbox() as box:
        yield box


@pytest.fixture(scope="module")
def suite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox
) -> Iterator[Suite]:
    """`onward up`, ready, with quick graces, e-mail, and the module's own `SETTINGS`."""
    settings = QUICK | getattr(request.module, "SETTINGS", {}) | mailbox.settings | SOON_AGAIN
    up = Suite(tmp_path_factory.mktemp("data"), settings)
    with ended(up):
        up.wait_ready()
        yield up
