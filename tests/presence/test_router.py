"""The routing file as it is read at the start, and anew when it changes."""

import asyncio

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


@pytest.mark.parametrize(
    "place", ["routes: [{subject: /a, template: x}]", "defaults: {template: x}"]
)
def test_a_template_that_a_route_names_must_be_there(tmp_path, place):
    path = tmp_path / "routing.yaml"
    path.write_text(f"templates: {{chat: {{title: t}}}}\n{place}\n")
    with pytest.raises(StartError, match="Line 2: there is no template `x`; write it under"):
        Router(str(path))
