"""How a session and its subscriptions come to be: watch, read, decide, append, begin. Pure.

The part of the session core that connect and subscribe frames go through; `session` drives it
and states the rules. Each function takes the session's state, changes it, and returns effects.
"""

from collections.abc import Callable, Iterable, Sequence
from sys import intern

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import subject_fault
from services.edge.admission import (
    connect_refusal,
    external_token_refusal,
    subscriptions_refusal,
)
from services.edge.channel import Subscription
from services.edge.effects import Answer, AskGone, Effect, Leave, ReadClient, Watch
from services.edge.identity import Identity
from services.edge.job import Job
from services.edge.recovery import Forming, Read
from services.edge.session_state import Phase, SessionState
from services.edge.socket import CLOSE_BAD_TOKEN, CLOSE_TOKEN_EXPIRED

ServerFrame = client_pb2.ServerFrame


def connect(
    state: SessionState,
    frame_id: str,
    frame: client_pb2.Connect,
    identify: Callable[[str, str], Identity | Refusal],
) -> list[Effect]:
    """Starts on a connect frame."""
    client_id = frame.client_id or f"c-{state.session_id}"
    if refusal := connect_refusal(frame, client_id, state.limits):
        return state.refuse(frame_id, refusal)
    identity = identify(frame.token, client_id)
    if isinstance(identity, Refusal):
        if identity.code == Code.CLIENT_ID_INVALID:
            return state.refuse(frame_id, identity)
        expired = identity.code == Code.TOKEN_EXPIRED
        code = CLOSE_TOKEN_EXPIRED if expired else CLOSE_BAD_TOKEN
        return [*state.refuse(frame_id, identity), *state.close(code, "No valid token.")]
    for token in frame.external_tokens:
        if refusal := external_token_refusal(token.uri, identity):
            return state.refuse(frame_id, refusal)
    wanted = frame.subscriptions.list
    refusal = subscriptions_refusal(wanted, (), identity, state.limits)
    if refusal := refusal or _room_refusal(state, wanted):
        return state.refuse(frame_id, refusal)
    state.phase = Phase.CONNECTING
    state.client_id = client_id
    state.edge_id = state.place.edge_id
    state.log_id = state.place.log_id
    state.identity = identity
    state.acknowledges = frame.acknowledges or client_pb2.Connect.PONG
    state.job = Job(frame_id, frame)
    if state.observes:
        state.job.gone = ()
        return _form(state, wanted)
    ask = AskGone(identity.user, client_id)
    if frame.HasField("subscriptions"):
        state.job.replaces_follows = True
        return [ask, *_form(state, wanted)]
    return [ask, ReadClient(identity.user, client_id)]


def subscribe(
    state: SessionState, frame_id: str, wanted: Sequence[client_pb2.Subscription]
) -> list[Effect]:
    """Starts on a subscribe frame."""
    assert state.identity is not None
    refusal = subscriptions_refusal(wanted, state.subscriptions, state.identity, state.limits)
    if not wanted:
        refusal = refuse(Code.ARGUMENT_INVALID, "`subscriptions` is empty.")
    if refusal := refusal or _room_refusal(state, wanted):
        return state.refuse(frame_id, refusal)
    state.job = Job(frame_id)
    return _form(state, wanted)


def on_client(state: SessionState, follows: Sequence[str]) -> list[Effect]:
    """What the client follows, as asked by `ReadClient`."""
    job = state.job
    if state.phase is not Phase.CONNECTING or job is None or job.forming is not None:
        return []
    assert state.identity is not None
    allowed = [
        subject
        for subject in follows
        if subject_fault(subject) is None and state.identity.may_subscribe(subject)
    ]
    job.restores = True
    # What the token no longer grants is no longer followed.
    job.replaces_follows = len(allowed) < len(follows)
    wanted = [client_pb2.Subscription(subject=subject) for subject in allowed]
    if refusal := _room_refusal(state, wanted):
        return give_up(state, refusal)
    return _form(state, wanted)


def on_gone(state: SessionState, uris: Sequence[str]) -> list[Effect]:
    """Endpoints that providers reported gone, as asked by `AskGone`."""
    job = state.job
    if job is None or job.connect is None or job.gone is not None:
        return []
    job.gone = tuple(uris)
    return _settle(state)


def _room_refusal(state: SessionState, wanted: Sequence[client_pb2.Subscription]) -> Refusal | None:
    if wanted and state.place.full:
        return refuse(Code.OVERLOADED, "This edge has no room for subscriptions.", 1000)
    return None


def _form(state: SessionState, wanted: Iterable[client_pb2.Subscription]) -> list[Effect]:
    job = state.job
    assert job is not None
    same_log = job.connect is None or job.connect.log_id in ("", state.place.log_id)
    # All sessions that subscribe to a subject keep one string of it.
    job.forming = {intern(one.subject): Forming(one, same_log, state.limits) for one in wanted}
    return [Watch(subject) for subject in job.forming] or _settle(state)


def on_watched(
    state: SessionState, subscription: Subscription, head: int, floor: int
) -> list[Effect]:
    """A subject is watched, as asked by `Watch`."""
    subject = subscription.channel.subject
    job = state.job
    forming = job.forming.get(subject) if job and job.forming else None
    if forming is None or forming.head >= 0:
        return []
    state.subscriptions[subject] = subscription
    if read := forming.watched(head, floor):
        return [read]
    return _settle(state)


def on_history(state: SessionState, subject: str, read: Read | None) -> list[Effect]:
    """A part of a subject's log, or its retained message, as asked for; None: nobody could read."""
    job = state.job
    forming = job.forming.get(subject) if job and job.forming else None
    if forming is None or forming.head < 0 or forming.settled:
        return []
    if read is None:
        refusal = refuse(Code.UNAVAILABLE, "The log cannot be read now.", 1000)
        return give_up(state, refusal)
    assert job is not None
    room = max(state.limits.recoveries_bytes_max - job.backlog_bytes, 0)
    forming.bytes_max = min(forming.bytes_max, room)
    before = forming.held_bytes
    more = forming.read(read)
    job.held_bytes += forming.held_bytes - before
    if more:
        return [more]
    job.backlog_bytes += forming.held_bytes
    return _settle(state)


def _settle(state: SessionState) -> list[Effect]:
    """Forms the event, if everything about the subscriptions is known."""
    job = state.job
    assert job is not None
    if not job.settled:
        return []
    for one in job.formed:
        subscription = state.subscriptions[one.subject]
        if not subscription.begun:
            subscription.acked = one.start
        subscription.round = state.place.round
    if state.observes:
        return begin(state)
    event = entry_pb2.PresenceEvent(round=state.place.round)
    job.fill(event)
    return [state.append(event)]


def begin(state: SessionState) -> list[Effect]:
    """The session, or its further subscriptions, are durable: answers, and lets messages come."""
    job, state.job = state.job, None
    assert job is not None
    begins: list[Effect] = []
    states = []
    for one in job.formed:
        subscription = state.subscriptions[one.subject]
        subscription.acked = max(subscription.acked, one.start)
        assert one.begin is not None and one.state is not None and state.identity is not None
        if state.may_have(one.subject):  # else it was ended meanwhile
            begins.append(one.begin)
        states.append(one.state)
    if job.connect is not None:
        state.phase = Phase.OPEN
    if state.closing:
        return []
    if job.connect is None:
        subscribed = client_pb2.Subscribed(subscriptions=states)
        return [*state.answer(job.frame_id, subscribed=subscribed), *begins]
    limits = client_pb2.Limits(
        content_bytes_max=state.limits.content_bytes_max,
        dedupe_window_ms=state.limits.dedupe_window_ms,
        frame_bytes_max=state.limits.frame_bytes_max,
        headers_bytes_max=state.limits.headers_bytes_max,
        subscriptions_max=state.limits.subscriptions_max,
        publishes_per_s=round(state.limits.publishes_per_s),
    )
    connected = client_pb2.Connected(
        session_id=state.session_id,
        generation=state.generation,
        log_id=state.place.log_id,
        edge_id=str(state.edge_id),
        user=state.user,
        client_id=state.client_id,
        ping_interval_ms=state.limits.ping_interval_ms,
        limits=limits,
        endpoints_gone=job.gone,
        subscriptions=states,
    )
    return [Answer(ServerFrame(id=job.frame_id, connected=connected)), *begins]


def give_up(state: SessionState, refusal: Refusal) -> list[Effect]:
    """The job cannot be done: what it attached leaves, and the client is told."""
    job, state.job = state.job, None
    assert job is not None
    new = tuple(
        subject
        for subject in job.subjects
        if subject not in state.subscriptions or not state.subscriptions[subject].begun
    )
    for subject in new:
        state.subscriptions.pop(subject, None)
    leave: list[Effect] = [Leave(new)] if new else []
    if job.connect is not None:
        state.phase = Phase.NEW
    return [*leave, *state.refuse(job.frame_id, refusal)]
