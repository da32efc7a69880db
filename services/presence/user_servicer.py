"""The gRPC face of presence for backends, and for users themselves: `UserService`.

Knows the contract, checks what is asked for, and maps what goes wrong to statuses; the work is done
by `users`, and what a profile may say is known to `wishes`.
"""

import re
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from onward.presence.v1 import users_pb2, users_pb2_grpc

from services.chassis.errors import Fault, StoreFull
from services.chassis.subjects import name_fault, subject_fault
from services.presence import metrics, wishes
from services.presence.patterns import pattern_fault
from services.presence.profile import NO_PROFILE, Profile
from services.presence.servicer import abort
from services.presence.state import BACKEND, SELF
from services.presence.store import Store, Transaction
from services.presence.user_data import Followed
from services.presence.users import Users
from services.presence.wishes import Categories, TooMany, Unacceptable

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]

_USERS_MAX, _SUBJECTS_MAX = 1_000, 100
_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1_000
# A user has far fewer clients that follow one subject.
_CLIENTS_MAX = 10_000
_URI_BYTES_MAX = 4_096
# Which forms are good for which scheme is for edges and plugins to know.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")


class UserServicer(users_pb2_grpc.UserServiceServicer):
    """Serves users' data. `categories()` tells those of the routing file."""

    def __init__(self, store: Store, users: Users, categories: Categories = lambda: ()) -> None:
        self._store = store
        self._users = users
        self._categories = categories

    # -- follows ------------------------------------------------------------------------------

    async def ListFollows(
        self, request: users_pb2.ListFollowsRequest, context: Context
    ) -> users_pb2.ListFollowsResponse:
        limit = min(request.limit or _LIMIT_DEFAULT, _LIMIT_MAX)

        def read(tx: Transaction) -> tuple[Sequence[Followed], str, Profile, float]:
            rows, behind = _page(tx, request.user, request.after_subject, limit)
            profile = tx.profiles([request.user]).get(request.user, NO_PROFILE)
            return rows, behind, profile, tx.now()

        async def answer() -> users_pb2.ListFollowsResponse:
            _check_user(request.user)
            if request.after_subject:
                _check_subject(request.after_subject)
            rows, behind, profile, now = await self._store.read(read)
            return users_pb2.ListFollowsResponse(
                follows=[
                    users_pb2.FollowedSubject(
                        subject=row.subject,
                        client_id="" if row.client_id in (BACKEND, SELF) else row.client_id,
                        base=row.base,
                        muted_until=wishes.muted_until(profile, row.subject, now),
                    )
                    for row in rows
                ],
                next_after_subject=behind,
            )

        return await _answered(answer(), context)

    async def AddFollows(
        self, request: users_pb2.AddFollowsRequest, context: Context
    ) -> users_pb2.AddFollowsResponse:
        async def answer() -> users_pb2.AddFollowsResponse:
            users, subjects = _users_and_subjects(request.users, request.subjects)
            if request.own and len(users) > 1:
                raise Unacceptable("Each user adds their own follows alone.")
            added = await self._users.follow(users, subjects, SELF if request.own else BACKEND)
            return users_pb2.AddFollowsResponse(added=added)

        return await _answered(answer(), context)

    async def RemoveFollows(
        self, request: users_pb2.RemoveFollowsRequest, context: Context
    ) -> users_pb2.RemoveFollowsResponse:
        async def answer() -> users_pb2.RemoveFollowsResponse:
            users, subjects = _users_and_subjects(request.users, request.subjects)
            removed = await self._users.unfollow(users, subjects, request.everywhere)
            return users_pb2.RemoveFollowsResponse(removed=removed)

        return await _answered(answer(), context)

    # -- endpoints ----------------------------------------------------------------------------

    async def ListEndpoints(
        self, request: users_pb2.ListEndpointsRequest, context: Context
    ) -> users_pb2.ListEndpointsResponse:
        user = request.user

        async def answer() -> users_pb2.ListEndpointsResponse:
            _check_user(user)
            state, refused = await self._store.read(
                lambda tx: (tx.load_user(user, ""), tx.uris(user))
            )
            return users_pb2.ListEndpointsResponse(
                endpoints=[
                    users_pb2.UserEndpoint(
                        uri=uri,
                        client_ids=[one for one in row.clients if one != BACKEND],
                        registered_at=wishes.timestamp(row.registered_at),
                        opted_out=refused.get(uri, False),
                    )
                    for uri, row in sorted(state.endpoints.items())
                ]
            )

        return await _answered(answer(), context)

    async def AddEndpoint(
        self, request: users_pb2.AddEndpointRequest, context: Context
    ) -> users_pb2.AddEndpointResponse:
        async def answer() -> users_pb2.AddEndpointResponse:
            _check_user(request.user)
            _check_uri(request.uri)
            await self._users.add_endpoint(request.user, request.uri)
            return users_pb2.AddEndpointResponse()

        return await _answered(answer(), context)

    async def RemoveEndpoint(
        self, request: users_pb2.RemoveEndpointRequest, context: Context
    ) -> users_pb2.RemoveEndpointResponse:
        async def answer() -> users_pb2.RemoveEndpointResponse:
            _check_user(request.user)
            _check_uri(request.uri)
            removed = await self._users.remove_endpoint(request.user, request.uri)
            return users_pb2.RemoveEndpointResponse(removed=removed)

        return await _answered(answer(), context)

    # -- profiles -----------------------------------------------------------------------------

    async def GetProfile(
        self, request: users_pb2.GetProfileRequest, context: Context
    ) -> users_pb2.GetProfileResponse:
        async def answer() -> users_pb2.GetProfileResponse:
            _check_user(request.user)
            profiles, now = await self._store.read(
                lambda tx: (tx.profiles([request.user]), tx.now())
            )
            return users_pb2.GetProfileResponse(
                profile=wishes.profile_message(profiles.get(request.user, NO_PROFILE), now),
                categories=[
                    users_pb2.CategoryChoice(name=name, title=title, allowed=allowed)
                    for name, title, allowed in self._categories()
                ],
            )

        return await _answered(answer(), context)

    async def UpdateProfile(
        self, request: users_pb2.UpdateProfileRequest, context: Context
    ) -> users_pb2.UpdateProfileResponse:
        categories = frozenset(name for name, *_ in self._categories())

        def change(profile: Profile, now: float) -> Profile:
            return wishes.updated(profile, request.profile, request.parts, categories, now)

        async def answer() -> users_pb2.UpdateProfileResponse:
            _check_user(request.user)
            _, after, now = await self._users.change_profile(request.user, change)
            return users_pb2.UpdateProfileResponse(profile=wishes.profile_message(after, now))

        return await _answered(answer(), context)

    async def Mute(
        self, request: users_pb2.MuteRequest, context: Context
    ) -> users_pb2.MuteResponse:
        async def answer() -> users_pb2.MuteResponse:
            _check_user(request.user)
            await self._users.change_profile(
                request.user, lambda profile, now: wishes.muted(profile, request.mute, now)
            )
            return users_pb2.MuteResponse()

        return await _answered(answer(), context)

    async def Unmute(
        self, request: users_pb2.UnmuteRequest, context: Context
    ) -> users_pb2.UnmuteResponse:
        async def answer() -> users_pb2.UnmuteResponse:
            _check_user(request.user)
            if fault := pattern_fault(request.subject):
                raise Unacceptable(f"`subject` cannot be taken. {fault}")
            before, after, _ = await self._users.change_profile(
                request.user, lambda profile, _: wishes.unmuted(profile, request.subject)
            )
            return users_pb2.UnmuteResponse(removed=after != before)

        return await _answered(answer(), context)

    # -- ends ---------------------------------------------------------------------------------

    async def Revoke(
        self, request: users_pb2.RevokeRequest, context: Context
    ) -> users_pb2.RevokeResponse:
        async def answer() -> users_pb2.RevokeResponse:
            _check_user(request.user)
            if request.subject:
                _check_subject(request.subject)
            ended = await self._users.revoke(request.user, request.subject)
            return users_pb2.RevokeResponse(ended=ended)

        return await _answered(answer(), context)

    async def EraseUser(
        self, request: users_pb2.EraseUserRequest, context: Context
    ) -> users_pb2.EraseUserResponse:
        async def answer() -> users_pb2.EraseUserResponse:
            _check_user(request.user)
            await self._users.erase(request.user)
            return users_pb2.EraseUserResponse()

        return await _answered(answer(), context)


async def _answered(answer: Awaitable[T], context: Context) -> T:
    """The answer, or the status of what is in its way."""
    try:
        return await answer
    except Unacceptable as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except TooMany as error:
        metrics.users_refused.labels(error.of).inc()
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    except StoreFull:
        # Not a bound of the user's data: another replica, or a later call, may do better.
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the presence store is full")
    except Fault as fault:
        await abort(context, fault)
    raise AssertionError("abort always raises")


def _page(tx: Transaction, user: str, after: str, limit: int) -> tuple[Sequence[Followed], str]:
    """About `limit` follows, of whole subjects, and the subject to go on behind, if there are
    more."""
    rows = tx.followed(user, after, limit + 1)
    if len(rows) <= limit:
        return rows, ""
    cut = rows[limit].subject
    whole = [row for row in rows if row.subject != cut]
    if not whole:
        whole = [row for row in tx.followed(user, after, _CLIENTS_MAX) if row.subject == cut]
    return whole, whole[-1].subject


def _check_user(user: str, name: str = "user") -> None:
    if fault := name_fault(user):
        raise Unacceptable(f"`{name}` cannot be taken. {fault}")


def _check_subject(subject: str, name: str = "subject") -> None:
    if fault := subject_fault(subject):
        raise Unacceptable(f"`{name}` cannot be taken. {fault}")


def _check_uri(uri: str) -> None:
    """The sentences do not quote it."""
    if len(uri) > _URI_BYTES_MAX:
        raise Unacceptable(f"`uri`, an external token, has at most {_URI_BYTES_MAX} bytes.")
    if not _URI.fullmatch(uri):
        raise Unacceptable("`uri`, an external token, is a scheme, a colon, and printable ASCII.")


def _users_and_subjects(
    users: Sequence[str], subjects: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Each once."""
    for name, most, given in (("users", _USERS_MAX, users), ("subjects", _SUBJECTS_MAX, subjects)):
        if not 1 <= len(given) <= most:
            raise Unacceptable(f"`{name}` has 1 to {most:,} of them.")
    for place, user in enumerate(users):
        _check_user(user, f"users[{place}]")
    for place, subject in enumerate(subjects):
        _check_subject(subject, f"subjects[{place}]")
    return list(dict.fromkeys(users)), list(dict.fromkeys(subjects))
