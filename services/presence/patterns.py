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


def star_fault(pattern: str) -> str | None:
    """Why a file may not have this pattern, as one sentence with the remedy; None: it may. A `*`
    before the end is part of a subject's name, and whoever writes one means more than that."""
    if fault := pattern_fault(pattern):
        return fault
    if "*" in pattern.removesuffix(_BELOW):
        return "`*` stands only at the end, for all below, as in `/chat/*`; write it so."
    return None
