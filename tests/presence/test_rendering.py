"""Words of deliveries on their way to a real plugin: usual ones, those of templates, and none."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import presence_pb2

from services.presence import calls, claims, dispatch, render_worker
from services.presence.notifications import Delivery
from services.presence.plan import DEFAULT_PLAN, Plan, Priority
from services.presence.profile import NO_PROFILE, Profile
from services.presence.render_worker import Failure
from services.presence.rendering import FAILING_TOLD_S, Asked, Rendering
from services.presence.templates import parse_templates
from services.presence.wording import Telling, Told, Words
from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.waiting import until

R = notifier_pb2.Result
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TEMPLATES = parse_templates(
    {
        "chat": {
            "title": "{{ newest.publisher }} in {{ subject }}",
            "body": "{{ count }}: {{ newest.text }}",
            "url": "https://chat.example{{ subject }}",
            "channels": {"mailto": {"html": "<p>{{ newest.text }}</p><a href={{ mute_url }}>"}},
            "locales": {"de": {"title": "{{ newest.publisher }} schreibt\nin {{ subject }}"}},
        },
        "hidden": {"title": "{{ count }} new", "channels": {"tel": {"title": "SMS"}}},
        "loop": {"title": LOOP},
        "strict": {"title": "{{ newest.headers.title }}"},
        "blank": {"title": "{{ newest.headers.title | default(' ') }}"},
    }
)
Planned = Callable[[Delivery], tuple[Plan, Profile]]


@pytest.fixture
def plan(monkeypatch) -> Callable[[Planned], None]:
    """Has every claimed delivery planned so."""

    def set_plan(planned: Planned) -> None:
        def claim(*given, **named):
            found = claims.claim_deliveries(*given, **named)
            return [
                replace(one, plan=plan, profile=profile)
                for one in found
                for plan, profile in (planned(one.delivery),)
            ]

        monkeypatch.setattr(dispatch, "claim_deliveries", claim)

    return set_plan


def templated(name: str, profile: Profile = NO_PROFILE, **fields) -> Planned:
    return lambda _: (Plan(template=name, **fields), profile)


async def away(stage: Stage, *users: str, channel: str = "mailto", subject: str = "/a") -> None:
    for user in users:
        one = Client(stage.log, user)
        one.connect(subject, endpoints=[f"{channel}:{user}"])
        one.disconnect()
    await stage.report()


async def states(stage: Stage) -> dict[str, tuple[str, str]]:
    rows = await stage.store.read(
        lambda tx: tx.db.rows("SELECT user, state, reason FROM deliveries", ())
    )
    return {user: (state, reason) for user, state, reason in rows}


def ended(stage: Stage, **expected: str):
    async def reached() -> bool:
        return {user: state for user, (state, _) in (await states(stage)).items()} == expected

    return reached


async def alarms(stage: Stage) -> dict[str, str]:
    said = await stage.query.GetStatus(presence_pb2.GetStatusRequest(), timeout=20)
    return {alarm.name: alarm.text for alarm in said.alarms}


def test_without_a_template_words_are_the_usual_ones_and_no_process_is_started(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            stage.workers._rendering.use(TEMPLATES)
            await away(stage, "ann")
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(ended(stage, ann="accepted"))
            [sent] = plugin.deliveries
            assert (sent.title, sent.body, sent.html, sent.url) == ("bob", "hello", "", "")
            assert (sent.category, sent.locale, sent.mute_url) == ("", "", "")
            assert sent.priority == notifier_pb2.Delivery.NORMAL
            assert stage.workers._rendering._worker.pid is None

    run(claim())


def test_a_template_gives_its_words_in_the_user_s_language_and_for_the_channel(run, tmp_path, plan):
    async def claim():
        mail, push = FakePlugin(), FakePlugin("push", fcm=True)
        german = Profile(locale="de-AT")
        plan(templated("chat", german, category="talk", priority=Priority.URGENT))
        async with staged(tmp_path, mail, push) as stage:
            stage.workers._rendering.use(TEMPLATES)
            mute = "https://example.org/mute?a&b"
            stage.workers._dispatcher._caller._mute_url = lambda delivery: mute
            await away(stage, "ann")
            await away(stage, "ben", channel="fcm")
            stage.log.publish("/a", "<hi>")
            await stage.report()
            await until(ended(stage, ann="accepted", ben="accepted"))
            [mailed], [pushed] = mail.deliveries, push.deliveries
            assert mailed.title == pushed.title == "bob schreibt in /a"
            assert mailed.body == pushed.body == "1: <hi>"
            assert mailed.url == pushed.url == "https://chat.example/a"
            escaped = "https://example.org/mute?a&amp;b"
            assert mailed.html == f"<p>&lt;hi&gt;</p><a href={escaped}>"
            assert pushed.html == ""
            assert (mailed.category, mailed.locale, mailed.mute_url) == ("talk", "de-AT", mute)
            assert mailed.priority == notifier_pb2.Delivery.URGENT

    run(claim())


def test_a_template_that_fails_ends_its_delivery_alone_and_no_other_words_are_sent(
    run, tmp_path, plan
):
    by_user = {"ann": "chat", "ben": "loop", "carl": "strict", "dora": "gone", "eve": "blank"}

    async def claim():
        plugin = FakePlugin()
        plan(lambda delivery: (Plan(template=by_user.get(delivery.user, "")), NO_PROFILE))
        async with staged(tmp_path, plugin) as stage:
            stage.workers._rendering.use(TEMPLATES)
            await away(stage, *by_user, "fay")
            stage.log.publish("/a", "hello")
            await stage.report()
            dead = dict.fromkeys(("ben", "carl", "dora", "eve"), "dead")
            await until(ended(stage, ann="accepted", fay="accepted", **dead), 20)
            assert {sent.user for sent in plugin.deliveries} == {"ann", "fay"}
            assert (await states(stage))["ben"] == ("dead", "TEMPLATE_FAILED")
            told = (await alarms(stage))["TEMPLATE_FAILED"]
            assert "blank, gone, loop, strict;" in told
            assert "hello" not in told
            [outcome] = (await stage.explain("ben", "/a")).outcomes
            assert outcome.state == presence_pb2.Outcome.FAILED
            assert "TEMPLATE_FAILED" in outcome.text
            [attempt] = outcome.deliveries[0].attempts
            assert (attempt.outcome, attempt.detail) == ("TEMPLATE_FAILED", "the template loop")

    run(claim())


def test_what_a_template_does_not_say_is_not_said_but_the_address(run, tmp_path, plan):
    async def claim():
        plugin = FakePlugin()
        plan(templated("hidden"))
        async with staged(tmp_path, plugin) as stage:
            stage.workers._rendering.use(TEMPLATES)
            await away(stage, "ann")
            stage.log.publish("/a", "a secret")
            message = stage.log.subjects["/a"][0][1]
            message.content.headers["url"] = "https://example.org/1"
            await stage.report()
            await until(ended(stage, ann="accepted"))
            [sent] = plugin.deliveries
            assert (sent.title, sent.body, sent.html) == ("1 new", "", "")
            assert sent.url == "https://example.org/1"

    run(claim())


def test_where_the_process_cannot_be_started_deliveries_wait_and_are_not_given_up(
    run, tmp_path, plan, monkeypatch
):
    async def claim():
        plugin = FakePlugin()
        plan(templated("chat"))
        python = render_worker.sys.executable
        async with staged(tmp_path, plugin, retry_tries_max=1) as stage:
            monkeypatch.setattr(render_worker.sys, "executable", "/nowhere/python")
            stage.workers._rendering.use(TEMPLATES)
            await away(stage, "ann")
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(lambda: _tried(stage, 3))
            assert plugin.calls == []
            monkeypatch.setattr(render_worker.sys, "executable", python)
            await until(ended(stage, ann="accepted"))
            assert "TEMPLATE_FAILED" not in await alarms(stage)
            [sent] = plugin.deliveries
            assert sent.title == "bob in /a"

    run(claim())


async def _tried(stage: Stage, times: int) -> bool:
    [outcome] = (await stage.explain("ann", "/a")).outcomes
    tried = [one.outcome for delivery in outcome.deliveries for one in delivery.attempts]
    return tried.count("NOT_RENDERED") >= times


def test_a_probe_whose_delivery_gets_no_words_leaves_the_breaker_as_it_is(run, tmp_path, plan):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.MISCONFIGURED]
        name = {"ann": "", "ben": "loop"}
        plan(lambda delivery: (Plan(template=name[delivery.user]), NO_PROFILE))
        async with staged(tmp_path, plugin, breaker_first_s=0.3, breaker_longest_s=0.3) as stage:
            stage.workers._rendering.use(TEMPLATES)
            await away(stage, "ann")
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(lambda: plugin.calls)
            await away(stage, "ben", subject="/b")
            stage.log.publish("/b", "hello")
            await stage.report()
            await until(ended(stage, ann="accepted", ben="dead"), 20)
            assert {sent.user for sent in plugin.deliveries} == {"ann"}

    run(claim())


def telling(**fields) -> Telling:
    return Telling("ann", "/a", 1, [Told(1, "bob", 0.0, text="hello")], **fields)


def test_an_alarm_ends_after_a_while_or_with_other_templates(run) -> None:
    async def body() -> None:
        now = [0.0]
        rendering = Rendering(clock=lambda: now[0])
        gone = Asked("gone", "mailto", telling())
        assert await rendering.words([gone]) == [Failure.TEMPLATE]
        now[0] = FAILING_TOLD_S - 1
        assert rendering.failing() == ["gone"]
        now[0] = FAILING_TOLD_S
        assert rendering.failing() == []
        assert await rendering.words([gone]) == [Failure.TEMPLATE]
        rendering.use(rendering.templates)
        assert rendering.failing() == ["gone"], "the file was read again, and is the same"
        rendering.use(TEMPLATES)
        assert rendering.failing() == []

    asyncio.run(body())


def test_words_of_templates_are_within_the_bounds_of_all_words(run) -> None:
    async def body() -> None:
        rendering = Rendering()
        rendering.use(
            parse_templates(
                {
                    "long": {
                        "title": "a\n{{ 'b' * 9999 }}",
                        "body": "{{ 'c\n' * 9999 }}",
                        "html": "{{ 'd' * 200000 }}",
                        "url": "javascript:alert(1)",
                    }
                }
            )
        )
        try:
            [words] = await rendering.words([Asked("long", "mailto", telling())])
        finally:
            await rendering.close()
        assert isinstance(words, Words)
        assert (len(words.title), len(words.body)) == (200, 4_000)
        assert words.title.startswith("a bbb")
        assert (words.html, words.url) == ("", "")

    asyncio.run(body())


def test_a_plan_without_a_template_is_the_default() -> None:
    assert DEFAULT_PLAN.template == ""


def test_what_is_too_much_for_one_request_goes_in_several_until_one_fails(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(calls, "_REQUEST_BYTES_MAX", 1)

    async def broken(request, context):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.ACCEPTED, broken]
        async with staged(tmp_path, plugin) as stage:
            # All are found due by one look, and claimed together.
            stage.workers._plugins.list[0].connected.clear()
            await away(stage, "ann", "ben", "carl")
            stage.log.publish("/a", "hello")
            await stage.report()
            stage.workers._plugins.list[0].connected.set()
            stage.workers._dispatcher.wake()
            await until(ended(stage, ann="accepted", ben="accepted", carl="accepted"))
            assert [len(call.deliveries) for call in plugin.calls][:2] == [1, 1]
            outcomes = []
            for user in ("ann", "ben", "carl"):
                [outcome] = (await stage.explain(user, "/a")).outcomes
                outcomes.append([one.outcome for one in outcome.deliveries[0].attempts])
            assert sorted(outcomes) == [
                ["ACCEPTED"],
                ["CALL_BROKEN", "ACCEPTED"],
                ["CALL_REFUSED", "ACCEPTED"],
            ]

    run(claim())


def test_a_routing_file_gives_words_and_a_changed_one_others(run, tmp_path):
    path = tmp_path / "routing.yaml"
    text = 'templates: {t: {title: "%s {{ newest.text }}"}}\nroutes: [{subject: /a, template: t}]\n'
    path.write_text(text % "one")

    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, routing=str(path), collapse_s=0) as stage:
            await away(stage, "ann")
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(lambda: [sent.title for sent in plugin.deliveries] == ["one hello"])
            path.write_text(text % "two")
            await until(lambda: "two" in str(stage.workers._rendering.templates))
            stage.log.publish("/a", "again")
            await stage.report()
            await until(lambda: [sent.title for sent in plugin.deliveries][1:] == ["two again"])

    run(claim())
