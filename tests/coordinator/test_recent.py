"""The newest entries in memory: contiguous, bounded."""

from onward.types.v1 import entry_pb2

from services.coordinator.recent import Recent


def entry(pos: int, partition: int = 0, size: int = 0) -> entry_pb2.Entry:
    it = entry_pb2.Entry(partition=partition, pos=pos)
    if size:
        it.message.content.data = b"x" * size
    return it


def after(recent: Recent, pos: int, limit: int = 10, bytes_max: int = 10_000) -> list[int] | None:
    found = recent.after(0, pos, limit, bytes_max)
    return [it.pos for it in found] if found is not None else None


def add(recent: Recent, it: entry_pb2.Entry) -> None:
    recent.add(it, it.ByteSize())


def test_entries_follow_a_position() -> None:
    recent = Recent(10_000)
    assert after(recent, 0) is None
    for pos in (5, 6, 7):
        add(recent, entry(pos))
    assert after(recent, 4) == [5, 6, 7]
    assert after(recent, 5, limit=1) == [6]
    assert after(recent, 7) is None
    assert after(recent, 3) is None, "what lies between must come from the store"


def test_one_entry_is_given_however_large() -> None:
    recent = Recent(10_000)
    add(recent, entry(1, size=500))
    add(recent, entry(2, size=500))
    assert after(recent, 0, bytes_max=10) == [1]


def test_what_was_passed_over_is_forgotten() -> None:
    recent = Recent(10_000)
    for pos in (1, 2, 3):
        add(recent, entry(pos))
    recent.pass_over(0, 2)
    assert after(recent, 2) == [3]
    recent.pass_over(0, 9)
    assert recent.bytes == 0 and after(recent, 2) is None


def test_a_partition_starts_over_when_memory_is_full_or_an_entry_is_missing() -> None:
    recent = Recent(300)
    add(recent, entry(1, partition=1, size=100))
    add(recent, entry(1, size=100))
    add(recent, entry(2, size=100))
    assert after(recent, 0) is None and after(recent, 1) == [2]
    assert recent.after(1, 0, 9, 999) is not None
    add(recent, entry(9, size=10))
    assert after(recent, 8) == [9]
    add(recent, entry(10, size=1_000))
    assert after(recent, 9) is None
    assert recent.bytes <= 300
