"""The page to try things out: one file that needs nothing from elsewhere and runs nothing else."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "services" / "edge" / "page.html").read_text("utf-8")


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_policy_allows_exactly_what_the_page_holds(tag: str) -> None:
    bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    assert len(bodies) == 1
    digest = base64.b64encode(hashlib.sha256(bodies[0].encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}'" in PAGE, "after a change, write the new hash there"


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", PAGE)
    assert "default-src 'none'" in PAGE


def test_nothing_in_the_page_needs_a_weaker_policy() -> None:
    assert not re.findall(r"""\s(?:on[a-z]+|style)=["']""", PAGE)
    for unsafe in ("eval(", "innerHTML", "new Function", "document.write", "unsafe-inline"):
        assert unsafe not in PAGE
