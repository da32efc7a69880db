"""What presence keeps of one user, as programs change it over plain HTTP: follows, external tokens,
profile, mutes.

Knows the paths and JSON below `/v1/me` and `/v1/users/{user}`; how a call is made is `Api`'s.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

Fields = Mapping[str, Any]
# Method, path, query, body.
Call = Callable[[str, str, Mapping[str, str], Mapping[str, Any] | None], Awaitable[Fields]]


def path_of(user: str) -> str:
    """Where the data of `user` is; empty: of whoever asks."""
    return f"/v1/users/{quote(user, safe='')}" if user else "/v1/me"


class UserData:
    """Data of one user. All calls may be repeated, and raise Refused or Unreachable.

    A user may follow what the token lets subscribe to, and add external tokens that it lets
    register; an administrator what there is.
    """

    def __init__(self, call: Call, user: str) -> None:
        self._call = call
        self._path = path_of(user)

    async def follows(self) -> AsyncIterator[Fields]:
        """All that the user follows, by subject (`FollowedSubject` as JSON)."""
        after = ""
        while True:
            query = {"after": after, "limit": "1000"}
            page = await self._call("GET", f"{self._path}/follows", query, None)
            for one in page.get("follows") or ():
                yield one
            after = str(page.get("nextAfterSubject") or "")
            if not after:
                return

    async def follow(self, subjects: Sequence[str]) -> int:
        """Has the user follow the subjects from now on; how many follows are new."""
        body = {"subjects": list(subjects)}
        return int((await self._call("POST", f"{self._path}/follows", {}, body)).get("added", 0))

    async def unfollow(self, subjects: Sequence[str], everywhere: bool = False) -> int:
        """Ends what backends have added, or with `everywhere` the follows of all clients too; of
        whoever asks always all. How many."""
        body: dict[str, Any] = {"subjects": list(subjects)}
        if everywhere and self._path != path_of(""):
            body["everywhere"] = True
        return int(
            (await self._call("DELETE", f"{self._path}/follows", {}, body)).get("removed", 0)
        )

    async def endpoints(self) -> Sequence[Fields]:
        """The user's external tokens (`UserEndpoint` as JSON)."""
        answer = await self._call("GET", f"{self._path}/endpoints", {}, None)
        return list(answer.get("endpoints") or ())

    async def add_endpoint(self, uri: str) -> None:
        """Adds an external token that no client registers."""
        await self._call("POST", f"{self._path}/endpoints", {}, {"uri": uri})

    async def remove_endpoint(self, uri: str) -> bool:
        """Removes an external token, whoever registered it; whether it was there."""
        answer = await self._call("DELETE", f"{self._path}/endpoints", {}, {"uri": uri})
        return bool(answer.get("removed"))

    async def profile(self) -> Fields:
        """What the user wants, and the categories that there are (`GetProfileResponse` as JSON)."""
        return await self._call("GET", f"{self._path}/profile", {}, None)

    async def update_profile(self, parts: Fields) -> Fields:
        """Replaces these parts of the profile (`UserProfile` as JSON): `locale`, `timeZone`,
        `quietHours`, `preferences`, `mutes`; None takes one away. Returns the profile."""
        answer = await self._call("PATCH", f"{self._path}/profile", {}, parts)
        profile: Fields = answer.get("profile") or {}
        return profile

    async def mute(self, subject: str, until: datetime | None = None) -> None:
        """Nothing of the subject, or below `/chat/*`, is notified; None: until it is ended."""
        body = {"subject": subject}
        if until is not None:
            body["until"] = until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await self._call("POST", f"{self._path}/mutes", {}, body)

    async def unmute(self, subject: str) -> bool:
        """Ends a mute; whether there was one of that name."""
        answer = await self._call("DELETE", f"{self._path}/mutes", {}, {"subject": subject})
        return bool(answer.get("removed"))

    async def revoke(self, subject: str = "") -> int:
        """Ends the user's follows of a subject, or of all, and cancels what was to be sent of it;
        how many. For administrators."""
        body = {"subject": subject} if subject else {}
        return int((await self._call("POST", f"{self._path}/revoke", {}, body)).get("ended", 0))

    async def erase(self) -> None:
        """Forgets the user. For administrators."""
        await self._call("DELETE", self._path, {}, None)
