"""What can go wrong for an application: one exception for each thing it may want to do about it."""

import os


class OnwardError(Exception):
    """Everything this library raises."""


class Refused(OnwardError):
    """The server understood the request and turned it down; nothing of it has happened.

    `code` is a word of `refusal.proto`, which says what it means and whether to retry;
    `retry_after_ms` is the server's advice, 0 if it gave none. Only with STALE_SESSION:
    `generation` is the one of the client's newest session. Only with SUBJECT_FORBIDDEN of a
    subscription: `subject` is its subject, empty otherwise.
    """

    def __init__(
        self,
        code: str,
        message: str,
        retry_after_ms: int = 0,
        generation: int | None = None,
        subject: str = "",
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.generation = generation
        self.subject = subject

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, int, int | None, str]:
        return (self.code, self.message, self.retry_after_ms, self.generation, self.subject)


class Unreachable(OnwardError):
    """No edge could be reached, or what answered is none. The message names where and why."""


class OutcomeUnknown(OnwardError):
    """A publish was not answered in time; it may or may not have been accepted."""


class QueueFull(OnwardError):
    """More requests wait for a connection than `Options.pending_max`; this one was not taken."""


class Closed(OnwardError):
    """The client was closed before the request was answered."""


def words_of(error: BaseException) -> str:
    """Why something on the network failed, in the system's words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    return (os.strerror(number) if number and number > 0 else str(inner)) or type(error).__name__
