"""A routing file as a whole: decisions and words, and all that is wrong with either."""

import pytest

from services.presence.routing_file import RoutingFault
from services.presence.routing_whole import Whole, read_whole


def wrong(text: str) -> list[tuple[int, str]]:
    with pytest.raises(RoutingFault) as raised:
        read_whole(text)
    return [(one.line, one.text) for one in raised.value.problems]


def test_what_is_wrong_with_words_and_with_decisions_is_told_together_in_the_order_of_lines():
    told = wrong(
        "templates:\n  t: {title: '{{ usr }}'}\n  u: 5\nroutes:\n  - {subject: a}\n"
        "  - {subject: /b, template: x}\n  - 5\n  - {subject: /c, template: y}\n"
    )
    assert [line for line, _ in told] == [2, 3, 5, 6, 7, 8]
    assert told[3][1] == "there is no template `x`; write it under `templates`."


def test_a_template_that_is_there_but_wrong_is_not_told_as_missing():
    told = wrong("templates: {t: {title: '{{'}}\nroutes: [{subject: /a, template: t}]\n")
    assert [line for line, _ in told] == [1]


def test_a_template_that_the_defaults_miss_is_told_once():
    told = wrong("defaults: {template: x}\nroutes: [{subject: /a}, {subject: /b}]\n")
    assert [line for line, _ in told] == [1]


def test_what_is_no_yaml_is_told_alone():
    assert len(wrong("routes: [")) == 1


def test_the_empty_whole_names_no_channel():
    assert Whole().channels() == frozenset()
