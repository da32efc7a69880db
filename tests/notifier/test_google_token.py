"""When an access token is fetched, kept and renewed."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from services.notifier.google_credentials import read_service_account
from services.notifier.google_token import RENEWED_BEFORE_S, GoogleTokens, NoToken
from services.notifier.http_call import Timeouts
from tests.notifier.fake_fcm import FakeFcm

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def tokens_at(fake: FakeFcm, folder: Path, *ages_s: float) -> list[str]:
    """The token that is given at each age, in seconds since the start."""
    clock = Clock()
    account = read_service_account(str(fake.credentials(folder)), "X")
    async with httpx.AsyncClient() as client:
        tokens = GoogleTokens(account, SCOPE, client, Timeouts(), clock=clock)
        given = []
        for age_s in ages_s:
            clock.now = 1000.0 + age_s
            given.append(await tokens.token())
        await tokens.close()
        return given


def test_a_token_is_kept_and_renewed_some_minutes_before_its_end(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake:
        end = 3600 - RENEWED_BEFORE_S
        given = run(tokens_at(fake, tmp_path, 0, 1, end - 1, end, end + 1))
        assert given == ["ya29.1", "ya29.1", "ya29.1", "ya29.2", "ya29.2"]


def test_a_token_that_ends_soon_is_used_for_half_of_its_life(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake:
        fake.token_lasts_s = 60
        assert run(tokens_at(fake, tmp_path, 0, 29, 30)) == ["ya29.1", "ya29.1", "ya29.2"]


def test_only_the_token_that_was_refused_is_dropped(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        account = read_service_account(str(fake.credentials(tmp_path)), "X")
        async with httpx.AsyncClient() as client:
            tokens = GoogleTokens(account, SCOPE, client, Timeouts())
            first = await tokens.token()
            tokens.drop(first)
            second = await tokens.token()
            tokens.drop(first)  # said late, by another send
            assert await tokens.token() == second
            assert fake.exchanges == 2

    with FakeFcm() as fake:
        run(body())


def test_a_refusal_is_told_for_a_moment_and_then_asked_about_again(
    run: Any, tmp_path: Path
) -> None:
    async def body() -> None:
        clock = Clock()
        account = read_service_account(str(fake.credentials(tmp_path)), "X")
        async with httpx.AsyncClient() as client:
            tokens = GoogleTokens(account, SCOPE, client, Timeouts(), clock=clock)
            for _ in range(2):
                with pytest.raises(NoToken) as raised:
                    await tokens.token()
                assert (raised.value.detail, raised.value.misconfigured) == (
                    "the token service answered 503",
                    False,
                )
            assert fake.exchanges == 1
            clock.now += 1.1
            assert await tokens.token() == "ya29.2"

    with FakeFcm() as fake:
        fake.token_answer(503)
        run(body())
