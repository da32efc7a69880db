"""The page to try things out: a few files, served as they are, that need nothing from elsewhere.

Knows which files there are and the policy that browsers hold them to; must not know what they do.
"""

from pathlib import Path
from typing import Final

from aiohttp import web

_FOLDER: Final = Path(__file__).with_name("page")
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# Scripts, styles and answers from here and from nowhere else, and nothing that is written inline.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page_routes() -> list[web.RouteDef]:
    """`/`, and a path below `/page/` for each file that the page is made of."""
    files = {file.name: _Served(file) for file in sorted(_FOLDER.iterdir())}
    index = files.pop("index.html")
    return [
        web.get("/", index.answer),
        *(web.get(f"/page/{name}", file.answer) for name, file in files.items()),
    ]


class _Served:
    """A file, read once."""

    def __init__(self, file: Path) -> None:
        self._body = file.read_bytes()
        self._type = _TYPES[file.suffix]

    async def answer(self, _: web.Request) -> web.StreamResponse:
        return web.Response(
            body=self._body, content_type=self._type, charset="utf-8", headers=_HEADERS
        )
