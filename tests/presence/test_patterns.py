"""Patterns of subjects."""

import pytest

from services.presence.patterns import covers, pattern_fault


@pytest.mark.parametrize(
    ("pattern", "subject", "is_covered"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", True),
        ("/a/*", "/a", False),
        ("/a/*", "/ab", False),
        ("/*", "/anything", True),
    ],
)
def test_a_pattern_means_one_subject_or_all_below_one(pattern, subject, is_covered):
    assert covers(pattern, subject) is is_covered


@pytest.mark.parametrize("pattern", ["/a", "/a/*", "/*"])
def test_patterns(pattern):
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize("pattern", ["", "a", "*", "/a/", "/a//*", "/a*/ b\n", "/" + "a" * 255])
def test_what_is_no_pattern(pattern):
    assert pattern_fault(pattern)
