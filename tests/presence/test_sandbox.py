"""What is seen of a template without running it."""

import time

import pytest

from services.presence.sandbox import environment, problem_of


@pytest.mark.parametrize(
    "source",
    [
        "",
        "{{ newest.publisher }} in {{ subject }}",
        "{% for one in messages %}{{ loop.index }}. {{ one.text | truncate(20) }}\n{% endfor %}",
        "{% set n = namespace(x=0) %}{{ n.x }}{{ range(3) | join(',') }}",
        "{% macro line(one) %}{{ one.text }}{% endmacro %}{{ line(newest) }}",
        "{{ newest.accepted_at | in_zone('Europe/Berlin') }} {{ body | one_line }}",
        "{{ title }}{{ body }}{{ url }}{{ mute_url }}{{ user }}{{ count }}{{ category }}",
        "{{ priority }}{{ locale }}{{ expires_at }}",
    ],
)
def test_nothing_is_wrong_with_a_good_one(source: str) -> None:
    assert problem_of(source, html=False) is None
    assert problem_of(source, html=True) is None


@pytest.mark.parametrize(
    ("source", "line", "part"),
    [
        ("a\n{{ user", 2, "no valid template"),
        ("{% for x in messages %}", 1, "no valid template"),
        ("a\nb\n{{ usr }}", 3, "no variable usr"),
        ("{{ lipsum() }}", 1, "no variable lipsum"),
        ("{% include 'other' %}", 1, "cannot include"),
        ("{% extends 'other' %}", 1, "cannot include"),
        ("\n{% import 'other' as o %}", 2, "cannot include"),
        ("{% from 'other' import o %}", 1, "cannot include"),
        ("{{ user | nothing }}", 1, "no filter nothing"),
        ("{% if user %}{{ user | nothing }}{% endif %}", 1, "no filter nothing"),
        ("{{ user is nothing }}", 1, "no test nothing"),
        ("{{ newest.text | safe }}", 1, "no filter safe"),
        ("{% autoescape false %}{{ user }}{% endautoescape %}", 1, "autoescape"),
        ("{{ " + "9" * 10_000 + " }}", 1, "too long"),
        ("{{ " + "(" * 60_000 + " }}", 1, "nested too deep"),
        ("{% if user %}" * 5_000 + "{% endif %}" * 5_000, 1, "nested too deep"),
    ],
)
def test_what_can_be_seen_is_told_with_its_line(source: str, line: int, part: str) -> None:
    problem = problem_of(source, html=True)
    assert problem is not None
    assert part in problem.text
    assert problem.line == line


@pytest.mark.parametrize(
    "expression",
    [
        "'a' * 10**9",
        "'a' | center(2000000000)",
        "'%2000000000d' % 1",
        "7 ** (10 ** 9)",
        "[1] * 10**10",
        "'a'.ljust(2000000000)",
        "range(99999) | list | string | length",
        "('a' | center(2000000000)) is string",
        "{'a': 'b' | center(2000000000)}['a']",
    ],
)
def test_nothing_is_reckoned_by_looking(expression: str) -> None:
    began = time.process_time()
    assert problem_of("{{ " + expression + " }}", html=False) is None
    assert problem_of("{% if " + expression + " %}x{% endif %}", html=True) is None
    assert problem_of("{% set x = " + expression + " %}{{ x }}", html=True) is None
    assert time.process_time() - began < 1, "such a thing takes memory, or for ever"


def test_what_is_filled_into_html_is_escaped_and_into_text_is_not() -> None:
    values = {"newest": {"text": "<b>&"}}
    source = "<p>{{ newest.text }}</p>"
    assert environment(html=True).from_string(source).render(values) == "<p>&lt;b&gt;&amp;</p>"
    assert environment(html=False).from_string(source).render(values) == "<p><b>&</p>"
