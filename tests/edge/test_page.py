"""The page to try things out: its files need nothing from elsewhere, and no weaker policy."""

import re
from pathlib import Path

import aiohttp
import pytest

from services.edge.http_page import POLICY
from tests.edge.door import open_door, run_on_uvloop

FOLDER = Path(__file__).parents[2] / "services" / "edge" / "page"
FILES = sorted(FOLDER.iterdir())
INDEX = (FOLDER / "index.html").read_text("utf-8")
LINES_MAX = 300


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_file_is_served_under_the_policy(file: Path) -> None:
    body = file.read_bytes()

    async def main() -> None:
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        async with (
            open_door(page=True) as door,
            aiohttp.ClientSession() as session,
            session.get(door.url + path) as response,
        ):
            assert response.status == 200
            assert await response.read() == body
            assert response.headers["Content-Security-Policy"] == POLICY
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            kinds = {".html": "html", ".css": "css", ".js": "javascript", ".svg": "svg+xml"}
            assert response.content_type.endswith(kinds[file.suffix])

    run_on_uvloop(main())


def test_the_policy_lets_nothing_in_from_elsewhere_and_nothing_inline() -> None:
    assert POLICY.startswith("default-src 'none'; ")
    sources = set(re.findall(r"'[^']*'|https?:\S*|\*", POLICY))
    assert sources == {"'none'", "'self'"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_small_and_has_nothing_that_runs_what_somebody_wrote(file: Path) -> None:
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= LINES_MAX
    for unsafe in ("eval(", "innerHTML", "outerHTML", "insertAdjacentHTML", "new Function",
                   "document.write", "setAttribute(\"style\"", ".style."):  # fmt: skip
        assert unsafe not in text


def test_everything_that_is_named_is_a_file_of_the_page() -> None:
    named = set(re.findall(r"""(?:src|href)="([^"]+)\"""", INDEX))
    for file in FILES:
        if file.suffix == ".js":
            text = file.read_text("utf-8")
            named |= {f"/page/{name}" for name in re.findall(r"""from "\./([^"]+)\"""", text)}
            named |= set(re.findall(r"""new Worker\("([^"]+)\"""", text))
    assert named == {f"/page/{file.name}" for file in FILES if file.name != "index.html"}


def test_nothing_in_the_page_is_inline() -> None:
    assert not re.findall(r"""\s(?:on[a-z]+|style)=["']""", INDEX)
    assert not re.findall(r"<(?:script|style)[^>]*>\s*[^<\s]", INDEX)
