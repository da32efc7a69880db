"""A suite that the tests of a module share."""

from collections.abc import Iterator

import pytest

from tests.hostile.scene import suite_with
from tests.path.stack import Suite

# Small enough that a test reaches each of them within seconds.
LIMITS = {
    "address_connections_max": 150,
    "half_open_max": 400,
    "request_s": 1.5,
    "slow_s": 2,
    "connect_s": 1.5,
    "message_s": 2,
    "close_s": 1,
    "write_high_bytes": 16_384,
    "send_buffer_bytes": 4_096,
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """`onward up`, ready, with limits that are soon reached."""
    with suite_with(tmp_path_factory.mktemp("data"), **LIMITS) as up:
        yield up
