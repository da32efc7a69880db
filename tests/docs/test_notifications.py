"""What docs/notifications.md says of the routing file, and of what explain tells, is so."""

import re
from pathlib import Path

import pytest

from services.presence import decision
from services.presence.explain import _SUPPRESSED
from services.presence.plan import Policy, Priority
from services.presence.routing_file import _ROUTE_KEYS, parse

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_routing_file_of_the_page_is_taken() -> None:
    [text] = YAML
    routing, _, _ = parse(text)
    mention = routing.plan("/chat/1", {"kind": "mention"})
    assert mention.policy is Policy.ENDPOINT
    assert mention.step_of("tel") == 2
    assert routing.plan("/alarms/fire").priority is Priority.URGENT
    assert not routing.plan("/news/today").allowed


@pytest.mark.parametrize("key", ["subject", "headers", *_ROUTE_KEYS])
def test_every_key_of_a_route_is_explained(key: str) -> None:
    assert f"| `{key}` |" in PAGE


def test_every_reason_of_a_decision_is_named() -> None:
    reasons = {value for name, value in vars(decision).items() if value == name}
    assert len(reasons) >= 9
    for reason in reasons:
        assert f"`{reason}`" in PAGE
        assert reason in _SUPPRESSED
