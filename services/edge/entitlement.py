"""Who may subscribe, publish and register what. Pure.

Knows grants, as a token's claims give them; must not know tokens (`tokens`) or sessions. Deny by
default: what no grant covers is forbidden. A grant is a subject, or ends in `/*` and then covers
every subject below it; `/*` alone covers all. Grants are a union.

External tokens (`external_tokens` of the claims): if given, it is the full list of what may be
registered. If not, only those that nobody can guess may be (`fcm:`, `apns:`, `webpush:`): whoever
knows one holds it; an address or a number is known to many, and so may be what a plugin of others
serves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.edge.external_token import UNGUESSABLE, external_token_fault, scheme_of

_BELOW: Final = "/*"


class Subjects:
    """The subjects that a list of grants covers."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, grants: Iterable[str] = ()) -> None:
        grants = frozenset(grants)
        self._exact = frozenset(grant for grant in grants if not grant.endswith(_BELOW))
        self._prefixes = tuple(grant[:-1] for grant in grants if grant.endswith(_BELOW))

    def __contains__(self, subject: object) -> bool:
        return isinstance(subject, str) and (
            subject in self._exact or subject.startswith(self._prefixes)
        )


ALL_SUBJECTS: Final = Subjects((_BELOW,))


@dataclass(frozen=True, slots=True)
class Grants:
    """What one user may do."""

    user: str
    subscribe: Subjects
    publish: Subjects
    external_tokens: frozenset[str] | None  # None: not given
    any_external_token: bool = False  # whatever form is valid
    admin: bool = False  # may see what concerns other users

    def may_subscribe(self, subject: str) -> bool:
        """Whether `subject`, a valid one, may be subscribed to, and its history be read."""
        return subject in self.subscribe

    def may_publish(self, subject: str) -> bool:
        """Whether `subject`, a valid one, may be published to."""
        return subject in self.publish

    def may_register(self, uri: str) -> bool:
        """Whether the external token `uri` may be registered; never one of no valid form."""
        if external_token_fault(uri) is not None:
            return False
        if self.any_external_token:
            return True
        if self.external_tokens is not None:
            return uri in self.external_tokens
        return scheme_of(uri) in UNGUESSABLE

    def may_explain(self, user: str) -> bool:
        """Whether the story of `user`'s messages may be read."""
        return self.admin or user == self.user


def anonymous_grants(user: str) -> Grants:
    """What `user` may do where anonymous access is on: all, also in the name of others."""
    return Grants(
        user=user,
        subscribe=ALL_SUBJECTS,
        publish=ALL_SUBJECTS,
        external_tokens=None,
        any_external_token=True,
        admin=True,
    )


def claimed_grants(user: str, claim: object) -> Grants | None:
    """What the claim `onward` of `user`'s token grants; None if it is not of the agreed shape.

    The shape: an object with, all of them optional, the lists of strings `subscribe`, `publish`
    and `external_tokens`, and the boolean `admin`. No claim grants nothing.
    """
    if claim is None:
        claim = {}
    if not isinstance(claim, dict):
        return None
    subscribe, publish = _strings(claim, "subscribe"), _strings(claim, "publish")
    external_tokens = _strings(claim, "external_tokens")
    admin = claim.get("admin", False)
    if subscribe is None or publish is None or external_tokens is None or type(admin) is not bool:
        return None
    return Grants(
        user=user,
        subscribe=Subjects(subscribe),
        publish=Subjects(publish),
        external_tokens=frozenset(external_tokens) if "external_tokens" in claim else None,
        admin=admin,
    )


def _strings(claim: dict[object, object], name: str) -> list[str] | None:
    value = claim.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value
