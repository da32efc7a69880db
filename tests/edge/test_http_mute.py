"""Muting by the link in a notification: looking changes nothing, and no other link is good."""

import re
import time
from base64 import b64encode
from hashlib import sha256
from html import unescape
from urllib.parse import urljoin

import aiohttp
import pytest
from onward.presence.v1 import users_pb2 as pb

from services.chassis.mute_tokens import MuteLink, mute_url
from services.chassis.refusals import Code, refuse
from tests.edge.door import LINK_KEY, Door, open_door, run_on_uvloop

LINK = MuteLink("ann", "/chat/<b>&1")


def url(door: Door, key: str = LINK_KEY, expires_in_s: float = 60.0) -> str:
    return mute_url(door.url, key, LINK, time.time() + expires_in_s)


async def ask(method: str, address: str, **options: object) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, address, **options) as response,  # type: ignore[arg-type]
    ):
        policy = response.headers["Content-Security-Policy"]
        assert response.content_type == "text/html"
        return response.status, await response.text(), policy


def test_a_look_shows_a_button_and_changes_nothing() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            for method in ("GET", "HEAD"):
                status, text, policy = await ask(method, url(door))
                assert status == 200
                assert "default-src 'none'" in policy
            status, text, _ = await ask("GET", url(door))
            assert "<button>Mute</button>" in text
            assert "/chat/&lt;b&gt;&amp;1" in text
            assert not door.backend.asked_users
            style = text.partition("<style>")[2].partition("</style>")[0]
            told = b64encode(sha256(style.encode()).digest()).decode()
            assert f"style-src 'sha256-{told}'" in policy, "else browsers pass it over"

    run_on_uvloop(main())


@pytest.mark.parametrize("data", [None, {"List-Unsubscribe": "One-Click"}])
def test_a_post_mutes_the_subject_by_the_button_or_by_a_mail_program(data: object) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, text, _ = await ask("POST", url(door), data=data)
            assert status == 200
            assert "muted" in text
            mute = pb.SubjectMute(subject=LINK.subject)
            assert door.backend.asked_users == [
                ("Mute", "ann", pb.MuteRequest(user="ann", mute=mute))
            ]

    run_on_uvloop(main())


async def press(door: Door, text: str) -> tuple[int, str, str]:
    """Does what a browser does when the one button of the page is pressed."""
    [action] = re.findall(r'<form method="post" action="([^"]*)"><button>', text)
    return await ask("POST", urljoin(url(door), unescape(action)))


def test_the_page_offers_to_undo_it_and_to_mute_again() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            _, text, _ = await ask("GET", url(door))
            _, text, policy = await press(door, text)
            assert "<button>Undo</button>" in text
            assert "form-action 'self'" in policy
            assert [method for method, *_ in door.backend.asked_users] == ["Mute"]
            status, text, _ = await press(door, text)
            assert (status, "are not muted any more" in text) == (200, True)
            assert "/chat/&lt;b&gt;&amp;1" in text
            asked = pb.UnmuteRequest(user="ann", subject=LINK.subject)
            assert door.backend.asked_users[1:] == [("Unmute", "ann", asked)]
            _, text, _ = await press(door, text)
            assert "are muted" in text
            assert [method for method, *_ in door.backend.asked_users][2:] == ["Mute"]

    run_on_uvloop(main())


def test_looking_undoes_nothing_and_neither_does_a_link_that_is_not_good() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, text, _ = await ask("GET", url(door) + "&undo=1")
            assert (status, "<button>Mute</button>" in text) == (200, True)
            for address in (url(door, "another key of sixteen"), url(door, expires_in_s=-1)):
                status, _, _ = await ask("POST", f"{address}&undo=1")
                assert status == 404
            assert not door.backend.asked_users
            door.backend.refusal = refuse(Code.UNAVAILABLE, "Nobody.", 1_000)
            status, text, _ = await ask("POST", url(door) + "&undo=1")
            assert (status, "later" in text, "<button" in text) == (503, True, False)

    run_on_uvloop(main())


@pytest.mark.parametrize("origin", ["null", "https://mail.example.org"])
def test_the_button_works_where_no_other_page_may_ask(origin: str) -> None:
    """A page without a referrer has, for a browser, no origin either."""

    async def main() -> None:
        async with open_door(anonymous=True) as door:
            headers = {"Origin": origin}
            status, text, _ = await ask("POST", url(door), headers=headers)
            assert (status, "muted" in text) == (200, True)
            assert len(door.backend.asked_users) == 1
            status, _, _ = await ask("POST", url(door, key="x" * 32), headers=headers)
            assert status == 404
            assert len(door.backend.asked_users) == 1

    run_on_uvloop(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_of_another_key_or_that_has_expired_or_is_none_is_not_good(method: str) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            for address in (
                url(door, "another key of sixteen"),
                url(door, expires_in_s=-1),
                f"{door.url}/v1/mute",
                f"{door.url}/v1/mute?t=a.b",
            ):
                status, text, _ = await ask(method, address)
                assert (status, "not valid" in text) == (404, True)
            assert not door.backend.asked_users

    run_on_uvloop(main())


def test_what_presence_refuses_is_said() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.refusal = refuse(Code.UNAVAILABLE, "Nobody.", 1_000)
            status, text, _ = await ask("POST", url(door))
            assert (status, "later" in text) == (503, True)
            door.backend.refusal = refuse(Code.ARGUMENT_INVALID, "At most 500 <subjects>.")
            status, text, _ = await ask("POST", url(door))
            assert (status, "At most 500 &lt;subjects&gt;." in text) == (400, True)

    run_on_uvloop(main())
