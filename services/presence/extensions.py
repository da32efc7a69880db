"""A registered extension: what is known of it, the connection to it, and how it has failed.

Registrations are keys of etcd, `extensions/<name>`, that every replica follows; their value is the
JSON object that `registered_value` makes. Knows the contract of extensions. Must not know
happenings' rows, or what is told when.

To drive it: `Extension(registration, …)`, let `run(changed)` run; ask `may_call` before `call`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from onward.extension.v1 import extension_pb2, extension_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.tls import Trust
from services.presence import metrics
from services.presence.breaker import Breaker, BreakerLimits
from services.presence.patterns import pattern_fault
from services.presence.registry import address_fault, name_fault
from services.presence.telling import Call, Gap, Messages, Presences

log = logs.get(__name__)

# The kind of key in etcd.
EXTENSIONS = "extensions"
SUBJECTS_MAX = 100
# Statuses that say nothing of what was told: the extension as a whole cannot be called.
_WHOLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
_READY = grpc.ChannelConnectivity.READY


@dataclass(frozen=True, slots=True)
class Registration:
    """Where an extension is, and what it wants."""

    name: str
    address: str
    # Without TLS whatever the services have.
    plain: bool = False
    # The name in its certificate, where that is not its host.
    server_name: str = ""
    subjects: tuple[str, ...] = ()

    def fault(self) -> str | None:
        """What is wrong with it, as one sentence; None: nothing."""
        if wrong := name_fault(self.name) or address_fault(self.address, self.server_name):
            return wrong
        if len(self.subjects) > SUBJECTS_MAX:
            return f"There are at most {SUBJECTS_MAX} patterns of subjects."
        for pattern in self.subjects:
            if pattern_wrong := pattern_fault(pattern):
                return f"A pattern of subjects cannot be taken. {pattern_wrong}"
        return None


def registered_value(registration: Registration) -> dict[str, Any]:
    """What the key in etcd holds."""
    return {
        "address": registration.address,
        "plain": registration.plain,
        "server_name": registration.server_name,
        "subjects": list(registration.subjects),
    }


def registration_of(name: str, value: Mapping[str, Any]) -> Registration | None:
    """What a key in etcd says; None: nothing that can be used."""
    subjects = value.get("subjects") or []
    if not isinstance(subjects, list):
        return None
    registration = Registration(
        name,
        str(value.get("address") or ""),
        value.get("plain") is True,
        str(value.get("server_name") or ""),
        tuple(str(subject) for subject in subjects),
    )
    return None if registration.fault() else registration


def shown_to(registration: Registration, trust: Trust | str) -> Trust | str | None:
    """What is shown to an extension; None: nothing can be, as it is without TLS and there is no
    secret to be shown."""
    if isinstance(trust, str):
        return trust
    return (trust.secret or None) if registration.plain else trust


class Extension:
    """The connection to one extension."""

    def __init__(
        self, registration: Registration, trust: Trust | str, limits: BreakerLimits
    ) -> None:
        self.registration = registration
        self.breaker = Breaker(limits)
        self.connected = asyncio.Event()
        # What a call failed with last; empty: nothing since it last took something.
        self._failed = ""
        self._away = "not connected yet"
        # Since when (time.monotonic) something is wrong; None: nothing is.
        self._failing_since: float | None = time.monotonic()
        self._limits = limits
        self._shown = shown_to(registration, trust)
        if self._shown is None:
            self._away = "it is called without TLS, and ONWARD_SECRET is not set"

    @property
    def name(self) -> str:
        """Under which it is registered."""
        return self.registration.name

    @property
    def fault(self) -> str:
        """What is wrong with it; empty: nothing."""
        return self._failed if self.connected.is_set() else self._away

    @property
    def failing_s(self) -> float:
        """For how many seconds something has been wrong with it; 0: nothing is."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def may_call(self, now: float) -> bool:
        """Whether a call may begin."""
        return self.connected.is_set() and self.breaker.may_call(now)

    def succeeded(self) -> None:
        """It took something."""
        self.breaker = self.breaker.succeed()
        self._failed = ""
        self._failing_since = None

    def failed(self, error: grpc.aio.AioRpcError, now: float, chance: float) -> bool:
        """A call failed; True: the extension as a whole did, and is left alone for a while."""
        whole = error.code() in _WHOLE
        if whole:
            self.breaker = self.breaker.fail(now, chance)
        else:
            self.breaker = self.breaker.release()
        self._failing_since = self._failing_since or time.monotonic()
        self._failed = f"a call ended with {error.code().name}"
        return whole

    async def call(self, call: Call, deadline_s: float) -> None:
        """Tell it, while connected. Raises grpc.aio.AioRpcError."""
        match call:
            case Presences(events):
                presences = extension_pb2.OnUserPresenceRequest(events=events)
                await self._stub.OnUserPresence(presences, timeout=deadline_s)
            case Messages(messages):
                told = extension_pb2.OnClusterMessageRequest(messages=messages)
                await self._stub.OnClusterMessage(told, timeout=deadline_s)
            case Gap(partition, first, last):
                gap = extension_pb2.OnGapRequest(
                    partition=partition, from_number=first, to_number=last
                )
                await self._stub.OnGap(gap, timeout=deadline_s)

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the connection; `changed()` when it is made. May run again. Cancel to stop."""
        if self._shown is None:
            log.warning("extension_cannot_be_called", extension=self.name)
            return
        registration = self.registration
        channel = open_channel(registration.address, self._shown, registration.server_name)
        self._stub: extension_pb2_grpc.PresenceExtensionServiceAsyncStub = (
            extension_pb2_grpc.PresenceExtensionServiceStub(channel)
        )
        connected = metrics.extension_connected.labels(self.name)
        try:
            while True:
                while (now := channel.get_state(try_to_connect=True)) is not _READY:
                    await channel.wait_for_state_change(now)
                # It may be another process, which is not to wait for what the former one did.
                self.breaker = Breaker(self._limits)
                self.connected.set()
                self._failing_since = self._failing_since if self._failed else None
                connected.set(1)
                log.info("extension_connected", extension=self.name)
                changed()
                while channel.get_state() is _READY:
                    await channel.wait_for_state_change(_READY)
                self.connected.clear()
                connected.set(0)
                self._away = "the connection was lost"
                self._failing_since = self._failing_since or time.monotonic()
                log.warning("extension_lost", extension=self.name)
        finally:
            self.connected.clear()
            connected.set(0)
            await channel.close()
