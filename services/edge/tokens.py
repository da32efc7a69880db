"""Says who a client is: by a signed token, or by its own word where anonymous access is on.

Knows JSON Web Tokens (RFC 7519), signed with one shared key (HS256), and which claims they must
have: `sub`, `exp`, and what `entitlement` reads from `onward`. Must not know sockets or HTTP. A
token never gets into a refusal or a log line.
"""

from dataclasses import dataclass
from typing import Final

import jwt

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import name_fault
from services.edge.entitlement import Grants, anonymous_grants, claimed_grants

_ANON: Final = "anon:"
_EXPIRES_AT_MAX: Final = 1 << 53  # beyond it a float is no exact number of seconds
TOKEN_BYTES_MAX: Final = 16 * 1024
# The list is ours, never the token's: an `alg` of the sender's choice would let anybody sign.
_ALGORITHMS: Final = ["HS256"]
_REQUIRED: Final = ["sub", "exp"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, what they may do, and until when. An `identity.Identity`."""

    grants: Grants
    expires_at: float | None  # seconds since 1970; None: never

    @property
    def user(self) -> str:
        return self.grants.user

    def may_subscribe(self, subject: str) -> bool:
        return self.grants.may_subscribe(subject)

    def may_publish(self, subject: str) -> bool:
        return self.grants.may_publish(subject)

    def may_register(self, uri: str) -> bool:
        return self.grants.may_register(uri)


class Authenticator:
    """Checks tokens with `secret` (empty: no token is good), and knows if it must.

    `anonymous`: without a token a client is who it says it is, and may do everything.
    """

    def __init__(self, secret: str, *, anonymous: bool) -> None:
        self._secret = secret
        self._anonymous = anonymous

    def identify(self, token: str, user: str, client_id: str) -> Caller | Refusal:
        """Who sent `token`; without one, `user`, else `anon:<client_id>`, if that is allowed.

        Refusals: TOKEN_INVALID, TOKEN_EXPIRED; CLIENT_ID_INVALID if it makes no name.
        """
        if token:
            return self._check(token)
        if not self._anonymous:
            return refuse(Code.TOKEN_INVALID, "A token is required.")
        name = user or f"{_ANON}{client_id}"
        if fault := name_fault(name):
            if not user:  # a client id that is good by itself can make a name that is too long
                return refuse(Code.CLIENT_ID_INVALID, f"`{_ANON}` and the clientId: {fault}")
            return refuse(Code.TOKEN_INVALID, f"The user cannot be taken. {fault}")
        return Caller(anonymous_grants(name), None)

    def _check(self, token: str) -> Caller | Refusal:
        if not self._secret:
            return refuse(Code.TOKEN_INVALID, "No key is set here to check a token with.")
        if len(token) > TOKEN_BYTES_MAX:
            return refuse(Code.TOKEN_INVALID, f"A token has at most {TOKEN_BYTES_MAX} bytes.")
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=_ALGORITHMS, options={"require": _REQUIRED}
            )
        except jwt.ExpiredSignatureError:
            return refuse(Code.TOKEN_EXPIRED, "The token has expired.")
        except jwt.MissingRequiredClaimError as missing:
            return refuse(Code.TOKEN_INVALID, f"The token lacks the claim `{missing.claim}`.")
        except (jwt.InvalidTokenError, ValueError, OverflowError):
            # Its words may quote the token. Numbers out of range raise the other two.
            return refuse(Code.TOKEN_INVALID, "The token is not one signed for this server.")
        expires_at = claims["exp"]
        if type(expires_at) not in (int, float) or expires_at > _EXPIRES_AT_MAX:
            return refuse(Code.TOKEN_INVALID, "The claim `exp` is no time.")
        user = claims["sub"]
        if not isinstance(user, str) or name_fault(user):
            return refuse(Code.TOKEN_INVALID, "The claim `sub` is no user name.")
        grants = claimed_grants(user, claims.get("onward"))
        if grants is None:
            return refuse(Code.TOKEN_INVALID, "The claim `onward` is not of the agreed shape.")
        return Caller(grants, float(expires_at))
