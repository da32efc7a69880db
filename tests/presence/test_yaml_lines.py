"""YAML as plain values, each with its line, and all that is wrong at once."""

import pytest

from services.presence.yaml_lines import BYTES_MAX, Read, read

TEXT = """
a: 1
b:
  - x
  - {c: "y", d: 2.5}
on: off
"""


def told(text: str) -> list[str]:
    return [str(one) for one in read(text).problems]


def test_values_are_those_of_yaml_with_their_lines():
    found = read(TEXT)
    assert found.value == {"a": 1, "b": ["x", {"c": "y", "d": 2.5}], True: False}
    assert found.problems == ()
    assert [found.line(path) for path in (("a",), ("b", 0), ("b", 1, "d"))] == [2, 4, 5]


def test_what_is_missing_would_be_where_its_whole_is():
    found = read(TEXT)
    assert found.line(("b", 1, "e", "f")) == 5
    assert found.line(("z",)) == 2
    assert Read().line(("z",)) == 1


def test_a_name_that_is_no_text_is_found_by_its_text_too():
    assert read("a:\n  no: 1\n").line(("a", "False")) == 2


@pytest.mark.parametrize("text", ["", "# only words", "null"])
def test_nothing_is_none(text):
    assert (read(text).value, read(text).problems, read(text).whole) == (None, (), True)


@pytest.mark.parametrize(
    "text", ["a: [", "a: 1\n b: 2", "\tx: 1", "a: 'x", "a: \x00", "- " * 5_000, "a: 1\n---\nb: 1"]
)
def test_what_is_no_yaml_is_told_in_one_line_with_a_remedy(text):
    found = read(text)
    assert not found.whole
    [said] = told(text)
    assert said.startswith("Line ")
    assert said.isprintable()
    assert any(word in said for word in ("mend it", "remove it", "write it flatter"))


def test_what_is_too_long_is_not_read():
    [said] = told("x" * (BYTES_MAX + 1))
    assert said == "Line 1: the file has more than 1,048,576 bytes; remove some."


def test_aliases_cost_nothing_whatever_they_stand_for():
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    found = read(bomb)
    assert (found.value, len(found.problems)) == (None, 29 * 9)


@pytest.mark.parametrize(
    "value", ["2026-99-99", "!!int x", "!own x", "!!python/object:os.system x", "!!binary ü"]
)
def test_a_value_that_is_none_to_yaml_is_told_with_its_line_and_the_rest_is_read(value):
    found = read(f"a: 1\nb: {value}\nc: 3\n")
    assert [one.line for one in found.problems] == [2]
    assert "put it in quotes" in found.problems[0].text
    assert (found.value["a"], found.value["c"]) == (1, 3)


def test_a_name_that_stands_there_twice_is_told_where_it_does_so_again():
    assert [one.line for one in read("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n").problems] == [3, 4]
