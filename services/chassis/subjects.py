"""What a subject may be, and which partition a key falls in. Pure."""

from hashlib import blake2b

SUBJECT_BYTES_MAX = 255
NAME_BYTES_MAX = 128  # of a user, a client id, a publication id


def partition_of(key: str, partitions: int) -> int:
    """The partition of a subject or user: blake2b(key, 8 bytes), big endian, mod `partitions`."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def subject_fault(subject: str) -> str | None:
    """Why `subject` is none, in one sentence; None if it is one.

    A subject is `/` and non-empty segments parted by `/`, at most 255 bytes of UTF-8, without
    control characters (they would reach terminals and e-mail headers).
    """
    if not subject.startswith("/"):
        return "A subject starts with '/'."
    if len(subject.encode("utf-8", "replace")) > SUBJECT_BYTES_MAX:
        return f"A subject has at most {SUBJECT_BYTES_MAX} bytes."
    if "//" in subject or subject.endswith("/"):
        return "A subject has no empty segment and no '/' at its end."
    if not subject.isprintable():
        return "A subject has no control characters."
    return None


def name_fault(name: str) -> str | None:
    """Why `name` cannot be a user, client id or publication id; None if it can."""
    if not name:
        return "It is empty."
    if len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        return f"It has more than {NAME_BYTES_MAX} bytes."
    if not name.isprintable():
        return "It has control characters."
    return None
