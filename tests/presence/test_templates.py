"""Templates as a file gives them: what is wrong is named with its place, and what is found."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.presence.render_worker import Failure
from services.presence.rendering import Asked, Rendering
from services.presence.templates import (
    ALL_SOURCES_MAX,
    NO_TEMPLATES,
    PROBLEMS_MAX,
    SOURCE_MAX,
    TEMPLATES_MAX,
    Places,
    WrongTemplates,
    parse_templates,
)
from services.presence.wording import Telling, Told, Words

GUIDE = Path(__file__).parents[2] / "docs/templates.md"
CHAT = {
    "title": "common",
    "body": "body",
    "url": "https://example.org",
    "channels": {"mailto": {"title": "mail", "html": "<p>"}, "tel": {"body": "short"}},
    "locales": {
        "pt": {"title": "pt"},
        "pt-BR": {"body": "br", "channels": {"mailto": {"title": "br mail"}}},
    },
}


def wrong(value: object, **lines: int) -> list[str]:
    places = Places(line=lambda path: lines.get("_".join(path)))
    with pytest.raises(WrongTemplates) as raised:
        parse_templates(value, places)
    return str(raised.value).split("\n")


@pytest.mark.parametrize(
    ("channel", "locale", "title", "body", "html"),
    [
        ("fcm", "", "common", "body", None),
        ("mailto", "", "mail", "body", "<p>"),
        ("tel", "", "common", "short", None),
        ("fcm", "pt-BR", "pt", "br", None),
        ("mailto", "pt-BR", "br mail", "br", "<p>"),
        ("mailto", "PT_br", "br mail", "br", "<p>"),
        ("mailto", "pt-BR-x-old", "br mail", "br", "<p>"),
        ("mailto", "pt-PT", "pt", "body", "<p>"),
        ("mailto", "xx-Nowhere", "mail", "body", "<p>"),
        ("mailto", "p", "mail", "body", "<p>"),
        ("mailto", "-", "mail", "body", "<p>"),
    ],
)
def test_each_field_is_the_most_specific_one(channel, locale, title, body, html) -> None:
    found = parse_templates({"chat": CHAT}).find("chat", channel, locale)
    assert found is not None
    assert (found["title"], found["body"], found.get("html")) == (title, body, html)
    assert found["url"] == "https://example.org"


def test_a_template_that_is_not_there_is_none() -> None:
    assert parse_templates({"chat": CHAT}).find("other", "mailto", "") is None
    assert parse_templates(None) == parse_templates({}) == NO_TEMPLATES


def test_a_mistake_is_told_with_the_line_in_the_file_the_path_and_the_line_in_the_template() -> (
    None
):
    value = {"chat": {"title": "ok", "body": "a\n{{ usr }}"}}
    [said] = wrong(value, templates_chat_body=7)
    assert said.startswith("Line 7: `templates.chat.body`: in line 2 of the template, there is no ")


@pytest.mark.parametrize(
    ("value", "place", "part"),
    [
        ("text", "templates", "names with something below"),
        ([1], "templates", "names with something below"),
        ({"chat": "text"}, "templates.chat", "write at least title"),
        ({"chat": None}, "templates.chat", "write at least title"),
        ({"chat": {}}, "templates.chat", "needs a title for everybody"),
        ({"chat": {"channels": {"mailto": {"title": "x"}}}}, "templates.chat", "needs a title"),
        ({"a b": {"title": "x"}}, "templates.a b", "a template's name has"),
        ({7: {"title": "x"}}, "templates.7", "a template's name has"),
        ({"a\n\x1b": {"title": "x"}}, "templates.a??", "a template's name has"),
        ({"chat": {"title": 7}}, "templates.chat.title", "put it in quotes"),
        ({"chat": {"title": None}}, "templates.chat.title", "put it in quotes"),
        ({"chat": {"title": "x", "text": "y"}}, "templates.chat.text", "there are title, body"),
        ({"chat": {"title": "x" * (SOURCE_MAX + 1)}}, "templates.chat.title", "shorter"),
        ({"chat": {"title": "x", "channels": []}}, "templates.chat.channels", "names with"),
        (
            {"chat": {"title": "x", "channels": {"mail to": {}}}},
            "templates.chat.channels.mail to",
            "a channel is the scheme",
        ),
        (
            {"chat": {"title": "x", "channels": {"mailto": "x"}}},
            "templates.chat.channels.mailto",
            "a channel has fields",
        ),
        (
            {"chat": {"title": "x", "channels": {"mailto": {"locales": {}}}}},
            "templates.chat.channels.mailto.locales",
            "there is no such field",
        ),
        (
            {"chat": {"title": "x", "locales": {"german!": {"title": "x"}}}},
            "templates.chat.locales.german!",
            "a language tag",
        ),
        (
            {"chat": {"title": "x", "locales": {False: {"title": "x"}}}},
            "templates.chat.locales.False",
            'write "no" in quotes',
        ),
        (
            {"chat": {"title": "x", "locales": {"de": "x"}}},
            "templates.chat.locales.de",
            "a locale has fields",
        ),
        (
            {"chat": {"title": "x", "locales": {"de": {"channels": {"tel": {"html": "{{"}}}}}},
            "templates.chat.locales.de.channels.tel.html",
            "no valid template",
        ),
    ],
)
def test_each_mistake_is_told_with_its_place_and_its_remedy(value, place, part) -> None:
    [said] = wrong(value)
    assert said.startswith(f"`{place}`: ")
    assert part in said


def test_all_mistakes_are_told_at_once_but_not_without_end() -> None:
    assert len(wrong({"a": {"title": "{{"}, "b": {"title": "{{ x }}"}})) == 2
    many = {f"t{n}": {"title": "{{", "body": "{{", "url": "{{"} for n in range(TEMPLATES_MAX)}
    assert len(wrong(many)) == PROBLEMS_MAX


def test_a_channel_is_named_by_its_scheme() -> None:
    [said] = wrong({"chat": {"title": "t", "channels": {"email": {"title": "m"}}}})
    assert said.startswith("`templates.chat.channels.email`: ")
    assert "write `mailto`" in said


def test_there_are_bounds_for_all_together() -> None:
    many: dict[str, Any] = {f"t{n}": {"title": "x"} for n in range(TEMPLATES_MAX + 1)}
    [said] = wrong(many)
    assert f"more than {TEMPLATES_MAX} templates" in said
    long = {f"t{n}": {"title": "x" * SOURCE_MAX} for n in range(ALL_SOURCES_MAX // SOURCE_MAX + 1)}
    [said] = wrong(long)
    assert "all templates together" in said


def test_the_templates_of_the_guide_are_right_and_say_what_it_says(run) -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    templates = parse_templates(yaml.safe_load(block)["templates"])
    message = Told(7, "bob", 1_700_000_000.0, text="<hi>")
    telling = Telling("ann", "/chat/1", 2, [message], mute_url="https://m.example/")
    asked = [
        Asked("chat", "mailto", telling),
        Asked("chat", "tel", replace(telling, locale="pt-BR")),
        Asked("chat", "fcm", replace(telling, locale="de-AT")),
        Asked("discreet", "fcm", telling),
    ]

    async def words() -> list[Words | Failure]:
        rendering = Rendering()
        rendering.use(templates)
        try:
            return await rendering.words(asked)
        finally:
            await rendering.close()

    mail, sms, push, discreet = run(words())
    url = "https://chat.example.org/chat/1"
    assert mail == Words("bob in /chat/1", "2 new, the last: <hi>", mail.html, url)
    assert mail.html == (
        "<p><b>bob</b>, 2023-11-14 23:13:20+01:00<br>\n&lt;hi&gt;</p>\n"
        f'<p><a href="{url}">Answer</a> or <a href="https://m.example/">hear no more of it</a></p>'
    )
    assert sms == Words("bob em /chat/1", "2 novas", "", url)
    assert push == Words("bob schreibt in /chat/1", "2 new, the last: <hi>", "", url)
    assert discreet == Words("2 new in your account")
