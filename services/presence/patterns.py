"""Patterns of subjects: one subject, or all below one, as in `/chat/*`. Pure."""

from services.chassis.subjects import subject_fault

_BELOW = "/*"


def covers(pattern: str, subject: str) -> bool:
    """Whether the pattern means the subject. As in a token's grants, `/chat/*` means all below
    `/chat`, but not itself; `/*` means all."""
    return subject.startswith(pattern[:-1]) if pattern.endswith(_BELOW) else pattern == subject


def pattern_fault(pattern: str) -> str | None:
    """What is wrong with a pattern, as one sentence; None: nothing."""
    stem = pattern.removesuffix(_BELOW)
    return None if pattern == _BELOW else subject_fault(stem)
