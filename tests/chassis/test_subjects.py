"""Subjects and partitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.subjects import SUBJECT_BYTES_MAX, name_fault, partition_of, subject_fault


@pytest.mark.parametrize(
    "subject",
    ["", "chat", "chat/1", "/", "//", "/chat/", "/chat//1", "/a\nb", "/a\x00", "/" + "a" * 255,
     "/" + "é" * 128, "/\udc80"],
)  # fmt: skip
def test_what_is_no_subject_is_told_why(subject: str) -> None:
    assert subject_fault(subject)


@pytest.mark.parametrize("subject", ["/a", "/chat/42", "/räume/1 2", "/" + "a" * 254, "/日本/語"])
def test_a_subject_is_one(subject: str) -> None:
    assert subject_fault(subject) is None
    assert len(subject.encode()) <= SUBJECT_BYTES_MAX


@pytest.mark.parametrize("name", ["", "a" * 129, "a\r\nb", "\x7f"])
def test_what_is_no_name_is_told_why(name: str) -> None:
    assert name_fault(name)


def test_partitions_never_move_between_versions() -> None:
    assert [partition_of(key, 256) for key in ("/chat/1", "/chat/2", "ann")] == [241, 189, 165]


@given(st.text(), st.integers(1, 1024))
def test_a_partition_is_in_range(key: str, partitions: int) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    assert 0 <= partition_of(key, partitions) < partitions
