"""How a client behaves, where an application may want it otherwise. Times in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How a client behaves."""

    ack_delay_s: float = 1.0  # longest wait of an acknowledgement for a frame to ride on
    pending_max: int = 1_000  # requests without an answer; beyond it `QueueFull`
    publish_age_max_s: float = 3_600.0  # until the server told how long it remembers ids
    token_notice_s: float = 30.0  # how long before its expiry a newer token is asked for
    info: Mapping[str, str] | None = None  # facts about the program
