"""Whether what a frame asks for may be had: shape, limits and permission. Pure.

Each function returns the refusal, or None. Knows frames' fields and what an `Identity` may;
must not know the state of a session.
"""

from collections.abc import Collection, Sequence
from typing import Final

from onward.client.v1 import client_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import name_fault, subject_fault
from services.edge.external_token import external_token_fault
from services.edge.identity import Identity
from services.edge.limits import Limits
from services.edge.publishing import info_refusal

# Presence names what stands in a client's place so, as for follows that a backend has added.
_RESERVED: Final = "@"


def connect_refusal(connect: client_pb2.Connect, client_id: str, limits: Limits) -> Refusal | None:
    """What can be said of a connect frame before anybody knows who sent it."""
    if connect.acknowledges not in client_pb2.Connect.Acknowledges.values():
        return refuse(Code.FRAME_MALFORMED, "`acknowledges` is EXPLICIT, PONG or NONE.")
    fault = name_fault(client_id)
    if client_id.startswith(_RESERVED):
        fault = f"Names that begin with `{_RESERVED}` are not for clients."
    if fault:
        return refuse(Code.CLIENT_ID_INVALID, f"The clientId cannot be taken. {fault}")
    if connect.acknowledges == client_pb2.Connect.NONE and connect.external_tokens:
        return refuse(Code.UNSUPPORTED, "An observer has no external tokens.")
    if len(connect.external_tokens) > limits.external_tokens_max:
        return refuse(
            Code.TOO_MANY_EXTERNAL_TOKENS,
            f"A user has at most {limits.external_tokens_max} external tokens.",
        )
    return info_refusal(connect.info, limits)


def external_token_refusal(uri: str, identity: Identity) -> Refusal | None:
    """For a token to be registered."""
    if fault := external_token_fault(uri):
        return refuse(Code.EXTERNAL_TOKEN_INVALID, fault)
    if not identity.may_register(uri):
        return refuse(
            Code.EXTERNAL_TOKEN_FORBIDDEN, "This user may not register this external token."
        )
    return None


def subscriptions_refusal(
    wanted: Sequence[client_pb2.Subscription],
    held: Collection[str],
    identity: Identity,
    limits: Limits,
) -> Refusal | None:
    """For subscriptions asked for by a session that holds those of `held`."""
    subjects = {one.subject for one in wanted}
    if len(subjects) < len(wanted):
        return refuse(Code.ARGUMENT_INVALID, "A subject is named twice.")
    if len(subjects.union(held)) > limits.subscriptions_max:
        return refuse(
            Code.TOO_MANY_SUBSCRIPTIONS,
            f"A session has at most {limits.subscriptions_max} subscriptions.",
        )
    for one in wanted:
        if fault := subject_fault(one.subject):
            return refuse(Code.SUBJECT_INVALID, fault)
        if not identity.may_subscribe(one.subject):
            return refuse(
                Code.SUBJECT_FORBIDDEN,
                f"The subject {one.subject} may not be subscribed to.",
                subject=one.subject,
            )
        if one.HasField("history") and not 1 <= one.history <= limits.history_max:
            return refuse(Code.ARGUMENT_INVALID, f"`history` is 1 to {limits.history_max}.")
    return None
