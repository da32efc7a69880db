"""The routing file as it is read at the start, and anew when it changes."""

import asyncio
import re

import pytest

from services.chassis.errors import StartError
from services.presence.router import Router
from services.presence.routing import Routing
from tests.waiting import until


def routes(count: int) -> str:
    return "routes:\n" + "".join(f"  - subject: /{n}\n" for n in range(count))


@pytest.mark.parametrize("text", ["routes: 5", None, b"\xff"])
def test_a_file_that_cannot_be_taken_stops_the_start(tmp_path, text):
    path = tmp_path / "routing.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StartError, match=r"routing\.yaml, which cannot be taken\. "):
        Router(str(path))


def test_all_that_is_wrong_is_told_at_the_start_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "routing.yaml"
    path.write_text(
        "templates: {t: {title: '{{ usr }}'}}\nroutes:\n  - {subject: /a, template: x}\n"
        "  - {subject: /b, policy: often}\nrates: 5\n"
    )
    with pytest.raises(StartError) as raised:
        Router(str(path))
    assert re.findall(r"Line (\d)", str(raised.value)) == ["1", "3", "4", "5"]


def test_what_is_too_much_for_the_terminal_is_left_to_the_check(tmp_path):
    path = tmp_path / "routing.yaml"
    path.write_text("routes:\n" + "  - {}\n" * 30)
    words = r"And 10 more; `onward routing check .*routing\.yaml` tells all\."
    with pytest.raises(StartError, match=words):
        Router(str(path))


def test_the_expiry_of_the_settings_counts_where_the_file_says_none(tmp_path):
    path = tmp_path / "routing.yaml"
    path.write_text("defaults: {digest_s: 60}\n")
    assert Router(str(path), 61.0).routing.default.plan.digest_s == 60.0
    with pytest.raises(StartError, match="never sent"):
        Router(str(path), 60.0)


def test_every_channel_that_the_file_names_is_known(tmp_path):
    path = tmp_path / "routing.yaml"
    path.write_text(
        "defaults: {channels: [fcm]}\nroutes: [{subject: /a, channels: [[a], [b]], "
        "escalate_s: 9}]\n"
        "categories: {news: {off_on: [c]}}\nrates: {d: {at_most: 1, per_s: 1}, "
        "'*': {at_most: 1, per_s: 1}}\ntemplates: {t: {title: t, channels: {e: {title: u}}}}\n"
    )
    assert Router(str(path)).channels == {"fcm", *"abcde"}


def test_without_a_file_there_is_the_empty_routing():
    assert Router("").routing == Routing()


def test_a_changed_file_is_read_and_a_bad_one_leaves_what_there_was(run, tmp_path):
    path = tmp_path / "routing.yaml"
    path.write_text(routes(1))
    router = Router(str(path))
    changes = []
    router.on_change(lambda: changes.append(len(router.routing.routes)))

    async def body():
        running = asyncio.create_task(router.run())
        try:
            path.write_text(routes(2))
            await until(lambda: changes == [2])
            path.write_text("routes: 5")
            await until(lambda: "Line 1: " in router.fault)
            assert len(router.routing.routes) == 2
            other = tmp_path / "other.yaml"
            other.write_text(routes(3))
            other.replace(path)
            await until(lambda: changes == [2, 3])
            assert router.fault == ""
            path.unlink()
            await until(lambda: bool(router.fault))
            assert len(router.routing.routes) == 3
        finally:
            running.cancel()

    run(body())


TEMPLATE = 'templates: {chat: {title: "%s"}}\nroutes: [{subject: /chat/*, template: %s}]\n'


def test_templates_come_with_the_file_and_change_with_it(run, tmp_path):
    path = tmp_path / "routing.yaml"
    path.write_text(TEMPLATE % ("one", "chat"))
    router = Router(str(path))
    assert router.templates.find("chat", "mailto", "") == {"title": "one"}
    changes = []
    router.on_change(lambda: changes.append(router.templates.find("chat", "mailto", "")))

    async def body():
        running = asyncio.create_task(router.run())
        try:
            path.write_text(TEMPLATE % ("two", "chat"))
            await until(lambda: changes == [{"title": "two"}])
            path.write_text(TEMPLATE % ("{{ usr }}", "chat"))
            await until(lambda: "no variable usr" in router.fault)
            assert "Line 1: `templates.chat.title`: " in router.fault
            assert router.templates.find("chat", "mailto", "") == {"title": "two"}
        finally:
            running.cancel()

    run(body())


def test_what_a_thread_has_read_counts_at_once_for_plans_and_for_words(run, tmp_path, monkeypatch):
    path = tmp_path / "routing.yaml"
    path.write_text(routes(1))
    router = Router(str(path))
    once_read, changes = [], []
    router.on_change(lambda: changes.append(len(router.routing.routes)))
    in_thread = asyncio.to_thread

    async def watched(function, *args):
        found = await in_thread(function, *args)
        once_read.append((len(router.routing.routes), list(changes)))
        return found

    monkeypatch.setattr(asyncio, "to_thread", watched)

    async def body():
        running = asyncio.create_task(router.run())
        try:
            path.write_text(routes(2))
            await until(lambda: len(router.routing.routes) == 2)
            assert (once_read, changes) == ([(1, [])], [2])
        finally:
            running.cancel()

    run(body())


@pytest.mark.parametrize(
    "place", ["routes: [{subject: /a, template: x}]", "defaults: {template: x}"]
)
def test_a_template_that_a_route_names_must_be_there(tmp_path, place):
    path = tmp_path / "routing.yaml"
    path.write_text(f"templates: {{chat: {{title: t}}}}\n{place}\n")
    with pytest.raises(StartError, match="Line 2: there is no template `x`; write it under"):
        Router(str(path))
