"""Patterns of subjects."""

import pytest

from services.presence.patterns import covers, pattern_fault, star_fault


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


@pytest.mark.parametrize("pattern", ["/a*", "/*/b", "/a/*/c/*", "/a/b*c", "/**"])
def test_a_star_before_the_end_is_a_subjects_name_and_no_pattern_of_a_file(pattern):
    assert pattern_fault(pattern) is None
    assert "only at the end" in (star_fault(pattern) or "")


@pytest.mark.parametrize("pattern", ["/a", "/a/*", "/*"])
def test_a_file_has_patterns_with_a_star_at_the_end(pattern):
    assert star_fault(pattern) is None


def test_what_is_no_pattern_is_none_of_a_file():
    assert star_fault("a/*") == pattern_fault("a/*")
