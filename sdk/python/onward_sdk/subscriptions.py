"""All subscriptions of a client, and the log their positions belong to. Pure.

Knows tracks (`positions`) and what the server says about them; must not know requests, sessions
or acknowledgement times. What it returns is to be told to the application; where it returns a
Subscription instead, messages are missing: subscribe to it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onward_sdk.effects import Effect, Emit
from onward_sdk.events import Event, Message, Resynced, Subscribed, Synced
from onward_sdk.positions import Track, Verdict
from onward_sdk.protocol import Subscription, SubscriptionState


class Subscriptions:
    """Subjects with their tracks; and positions of subjects that are not subscribed now."""

    def __init__(self, log_id: str, positions: Mapping[str, int]) -> None:
        self.log_id = log_id
        self._tracks: dict[str, Track] = {}
        self._known = dict(positions)
        self._touched = False  # the application has said what it wants
        self._adopts = False  # the last connect left it to the server what is subscribed

    def add(self, subscription: Subscription) -> Subscription:
        """Adds a subject, or starts it anew; returns how to ask for it.

        Without a start of its own it goes on after the position that is known.
        """
        self._touched = True
        subject = subscription.subject
        starts = subscription.after_seq is not None or subscription.history or subscription.snapshot
        if starts or subject not in self._tracks:
            if not starts and subject in self._known:
                subscription = Subscription(subject, after_seq=self._known[subject])
            self._known.pop(subject, None)
            self._tracks[subject] = Track(subscription)
        return self._tracks[subject].subscription()

    def remove(self, subjects: Iterable[str]) -> None:
        """Ends subscriptions and forgets their positions."""
        self._touched = True
        for subject in subjects:
            self.refused(subject)

    def refused(self, subject: str) -> None:
        """The server does not let the client have the subject."""
        self._tracks.pop(subject, None)
        self._known.pop(subject, None)

    def has_been_granted(self, subject: str) -> bool:
        """Whether the server has let the client have it before."""
        track = self._tracks.get(subject)
        return track is not None and track.granted

    def still_missing(self, subject: str) -> None:
        """The server could not say what a hole held: the next message will show it again."""
        if (track := self._tracks.get(subject)) is not None:
            track.may_ask()

    def clear(self) -> None:
        """Ends everything and forgets every position."""
        self._touched = True
        self._tracks.clear()
        self._known.clear()

    def wanted(self) -> list[Subscription] | None:
        """The list for `connect`; None if the application has not said what it wants."""
        self._adopts = not self._touched
        return None if self._adopts else [track.subscription() for track in self._tracks.values()]

    def positions(self) -> dict[str, int]:
        """Per subject, the last seq that the application is done with."""
        held = {
            subject: track.handled
            for subject, track in self._tracks.items()
            if track.handled is not None
        }
        return self._known | held

    def unacked(self) -> dict[str, int]:
        """What is handled and was not acknowledged."""
        return {
            subject: track.handled
            for subject, track in self._tracks.items()
            if track.handled is not None and track.handled > track.acked
        }

    def acknowledged(self, positions: Mapping[str, int]) -> None:
        """These have been told to the server."""
        for subject, seq in positions.items():
            self._tracks[subject].acked = seq

    @property
    def has_unacked(self) -> bool:
        """True if an acknowledgement is due."""
        return any((track.handled or 0) > track.acked for track in self._tracks.values())

    def lost_connection(self) -> None:
        """A new connection begins; what was asked for on the last one is void."""
        for track in self._tracks.values():
            track.lost_connection()

    def use_log(self, log_id: str) -> bool:
        """The server's log; returns whether it replaces another one."""
        replaced = self.log_id not in ("", log_id)
        if replaced:
            self._known.clear()
        self.log_id = log_id
        return replaced

    def answered(self, states: Sequence[SubscriptionState]) -> list[Effect]:
        """Takes where subscriptions stand, from `connected` or `subscribed`."""
        effects: list[Effect] = []
        for state in states:
            if state.subject not in self._tracks:
                if not self._adopts:
                    continue
                self.add(Subscription(state.subject))
            lost = self._tracks[state.subject].answered(state)
            effects.append(Emit(Subscribed(state.subject, state.seq, state.recovered)))
            if lost is not None:
                reason = state.reason or "TRIMMED"
                effects.append(self._resynced(state.subject, state.seq, reason, lost))
        return effects

    def message(self, message: Message) -> list[Effect] | Subscription:
        """Judges a message."""
        track = self._tracks.get(message.subject)
        if track is None:
            return []
        verdict = track.take(message.kind, message.seq)
        if verdict is Verdict.ASK_AGAIN:
            return track.subscription()
        return [Emit(message)] if verdict is Verdict.HAND_OVER else []

    def synced(self, frame: Mapping[str, Any]) -> list[Effect] | Subscription:
        """Recovery of a subject is said to be complete; is it?"""
        subject, seq = str(frame.get("subject", "")), int(frame.get("seq", 0))
        track = self._tracks.get(subject)
        if track is None:
            return []
        if track.received is not None and track.received < seq:
            return track.subscription() if track.missing() is Verdict.ASK_AGAIN else []
        recovered, track.recovered = track.recovered, 0
        return [Emit(Synced(subject, seq, recovered))]

    def gap(self, frame: Mapping[str, Any]) -> list[Effect]:
        """The server tells of messages that will not come."""
        subject, to_seq = str(frame.get("subject", "")), int(frame.get("toSeq", 0))
        track = self._tracks.get(subject)
        lost = track.skip(to_seq) if track is not None else None
        if lost is None:
            return []
        return [self._resynced(subject, to_seq, str(frame.get("reason", "TRIMMED")), lost)]

    def done_with(self, events: Sequence[Event]) -> bool:
        """The application has handled these; returns whether a position moved.

        Events of a log that was replaced since, and of ended subscriptions, move nothing.
        """
        moved = False
        for event in events:
            if not isinstance(event, Message | Resynced) or event.log_id != self.log_id:
                continue
            track = self._tracks.get(event.subject)
            if track is not None:
                before = track.handled
                track.done_with(event.seq)
                moved = moved or track.handled != before
        return moved

    def _resynced(self, subject: str, seq: int, reason: str, lost: tuple[int, int]) -> Emit:
        return Emit(Resynced(subject, seq, reason, lost[0], lost[1], self.log_id))
