"""The process that runs templates, really looping, really out of memory, really killed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from services.presence import render_worker
from services.presence.render_process import STRIKES_MAX
from services.presence.render_worker import Failure, Job, Rendered, RenderWorker
from services.presence.strikes import KEPT_S
from tests.log_scan import CANARY
from tests.processes import alive
from tests.waiting import until

FAILED = Failure.TEMPLATE
LOOP = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% if a > b %}{% endif %}"
    "{% endfor %}{% endfor %}"
)
MEMORY = "{{ 'a' * 10**9 }}"
FILTER_BOMB = "{{ user | center(10**9) }}"
# One step of the interpreter, which no alarm interrupts: two lists of 2 ** 40 parts are compared.
ENDLESS_STEP = (
    "{% set n = namespace(x=[1], y=[1]) %}"
    "{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
    "{{ n.x == n.y }}"
)
DOUBLING = (
    "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}"
)
GOOD = "{{ user }}: {{ newest.text }}"


def job(source: str, template: str = "t", user: str = "ann", **fields: str) -> Job:
    message = {"text": "hi", "publisher": "bob", "headers": {}, "seq": 1, "accepted_at": 0.0}
    values = {"user": user, "messages": [message], "expires_at": 9.5, "title": "usual", "url": ""}
    return Job(template, {"title": source, **fields}, values)


def good(number: int) -> Job:
    return job(GOOD, "good", str(number))


def rendered(run, *jobs: Job, deadline_s: float = 2.0, budget_s: float = 0.25) -> list[Rendered]:
    async def body() -> list[Rendered]:
        worker = RenderWorker(deadline_s, budget_s)
        try:
            return await worker.render(jobs)
        finally:
            await worker.close()

    return run(body())


def test_fields_are_rendered_in_the_order_of_the_jobs(run) -> None:
    page = "<p>{{ user }}</p>"
    made = rendered(run, job(GOOD, user="a<b", html=page, body="{{ title }}"), job("{{ count }}"))
    assert made == [{"title": "a<b: hi", "html": "<p>a&lt;b</p>", "body": "usual"}, FAILED]


def test_other_fields_link_to_the_address_that_the_template_gives_if_it_is_one(run) -> None:
    made = rendered(
        run,
        job("{{ url }}", html="<a href='{{ url }}'>", url="{{ url }}https://h/?a&b"),
        job("{{ url }}", html="<a href='{{ url }}'>", url="javascript:{{ 1 }}"),
    )
    assert made == [
        {
            "title": "https://h/?a&b",
            "html": "<a href='https://h/?a&amp;b'>",
            "url": "https://h/?a&b",
        },
        {"title": "", "html": "<a href=''>", "url": "javascript:1"},
    ]


def test_times_are_times_and_a_delivery_without_messages_has_an_empty_newest_one(run) -> None:
    times = job("{{ newest.accepted_at.strftime('%Y') }} {{ expires_at | in_zone('Asia/Tokyo') }}")
    empty = job("{{ newest.publisher or 'nobody' }} {{ messages | length }}")
    empty = Job("t", empty.fields, {**empty.values, "messages": []})
    assert rendered(run, times, empty) == [
        {"title": "1970 1970-01-01 09:00:09.500000+09:00"},
        {"title": "nobody 0"},
    ]


@pytest.mark.parametrize(
    "source",
    [
        "{{ newest.headers.title }}",
        "{{ 1 / 0 }}",
        "{{ user.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 'x'.format.__globals__ }}",
        "{{ newest.accepted_at | in_zone('No/Where') }}",
        "{{ messages | map(attribute='__class__') | first }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        LOOP,
        MEMORY,
        FILTER_BOMB,
        "{{ '%1000000000d' % 1 }}",
        DOUBLING,
        ENDLESS_STEP,
    ],
)
def test_whatever_a_template_does_fails_it_alone(run, source: str) -> None:
    made = rendered(run, good(1), job(source), good(2), deadline_s=1.0)
    assert made == [{"title": "1: hi"}, FAILED, {"title": "2: hi"}]


def test_a_template_that_ends_the_process_is_not_run_for_a_whole_batch(run) -> None:
    async def body() -> None:
        worker = RenderWorker(0.5, 0.1)
        begun = 0
        start = worker._start

        async def counted():
            nonlocal begun
            begun += 1
            return await start()

        worker._start = counted
        bombs = [job(ENDLESS_STEP, "bomb") for _ in range(20)]
        loops = [job(LOOP, "loop") for _ in range(250)]
        try:
            made = await worker.render([*bombs, good(1), *loops, good(2)])
        finally:
            await worker.close()
        assert made[:20] == [FAILED] * 20
        assert made[20] == {"title": "1: hi"}
        assert made[21:-1] == [FAILED] * 250
        assert made[-1] == {"title": "2: hi"}
        # For the batch, for each strike, and to go on; a busy machine may be late with a few more.
        assert begun <= 2 + STRIKES_MAX + 5

    run(body())


def test_one_that_is_struck_out_is_not_run_again_and_waits_for_nobody(run) -> None:
    async def body() -> None:
        now = [0.0]
        worker = RenderWorker(0.5, 0.1, lambda: now[0])
        asked: list[Job] = []
        ask = worker._ask

        async def noted(jobs, *more, **named):
            asked.extend(jobs)
            return await ask(jobs, *more, **named)

        worker._ask = noted
        loop, other = job(LOOP, "loop"), job(LOOP + "{{ user }}", "loop")
        try:
            for _ in range(STRIKES_MAX):
                assert await worker.render([loop]) == [FAILED]
            assert loop in asked
            asked.clear()
            async with worker._one_at_a_time:
                assert await worker.render([loop, loop]) == [FAILED] * 2
            assert await worker.render([loop, good(1)]) == [FAILED, {"title": "1: hi"}]
            assert loop not in asked
            assert await worker.render([other]) == [FAILED]
            assert other in asked, "another text of that name has not failed yet"
            now[0] += KEPT_S
            assert await worker.render([loop]) == [FAILED]
            assert loop in asked
        finally:
            await worker.close()

    run(body())


def test_who_has_waited_learns_of_the_strikes_meanwhile(run) -> None:
    async def body() -> None:
        worker = RenderWorker(2.0, 0.1)
        loops = [job(LOOP, "loop")] * 5
        try:
            first = asyncio.create_task(worker.render(loops))
            await until(worker._one_at_a_time.locked)
            second = asyncio.create_task(worker.render(loops))
            assert await first == [FAILED] * 5

            async def never(*_, **__):
                raise AssertionError

            worker._ask = never
            assert await second == [FAILED] * 5
        finally:
            await worker.close()

    run(body())


def test_a_template_that_takes_all_memory_each_time_is_not_run_for_a_whole_batch(run) -> None:
    made = rendered(run, *[job(MEMORY, "bomb")] * 40, good(1))
    assert made == [FAILED] * 40 + [{"title": "1: hi"}]


def test_failures_that_cost_nothing_do_not_keep_others_of_the_template_from_being_run(run) -> None:
    source = "{{ 1 / (user | int) }}"
    made = rendered(run, *[job(source, user="0")] * 10, job(source, user="1"))
    assert made == [FAILED] * 10 + [{"title": "1.0"}]


def test_a_process_that_is_killed_meanwhile_is_started_anew(run) -> None:
    async def body() -> None:
        worker = RenderWorker(2.0, 0.25)
        try:
            assert worker.pid is None, "nothing runs before there is something to render"
            assert await worker.render([good(1)]) == [{"title": "1: hi"}]
            first = worker.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: not alive(first))
            assert await worker.render([good(2)]) == [{"title": "2: hi"}]
            assert worker.pid != first
        finally:
            await worker.close()
        assert worker.pid is None

    run(body())


def test_a_process_that_got_no_processor_has_not_failed(run, monkeypatch) -> None:
    monkeypatch.setattr(render_worker, "_ALONE_S", 0.5)

    async def body() -> None:
        worker = RenderWorker(0.4, 0.25)
        try:
            await worker.render([good(1)])
            start = worker._start

            async def stopped():
                process = await start()
                os.kill(process.pid, signal.SIGSTOP)
                return process

            worker._start = stopped
            os.kill(worker.pid, signal.SIGSTOP)
            assert await worker.render([good(2), good(3)]) == [Failure.MACHINE] * 2
            worker._start = start
            monkeypatch.setattr(render_worker, "_ALONE_S", 15.0)
            assert await worker.render([good(3)]) == [{"title": "3: hi"}]
        finally:
            await worker.close()

    run(body())


def test_a_process_that_does_not_start_fails_nothing(run, monkeypatch) -> None:
    monkeypatch.setattr(render_worker.sys, "executable", "/nowhere/python")
    assert rendered(run, good(1), good(2)) == [Failure.MACHINE, Failure.MACHINE]


def test_who_is_cancelled_meanwhile_leaves_no_answer_behind(run) -> None:
    async def body() -> None:
        worker = RenderWorker(5.0, 5.0)
        try:
            await worker.render([good(1)])
            first = worker.pid
            task = asyncio.create_task(worker.render([job(LOOP)]))
            await until(lambda: render_worker._processor_s(first) > 0.2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await worker.render([good(2)]) == [{"title": "2: hi"}]
        finally:
            await worker.close()

    run(body())


def test_it_has_no_secret_and_ends_with_the_one_that_started_it(run, monkeypatch) -> None:
    monkeypatch.setenv("ONWARD_SECRET", CANARY)

    async def body() -> None:
        worker = RenderWorker(2.0, 0.25)
        await worker.render([good(1)])
        pid = worker.pid
        environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
        assert CANARY.encode() not in environment
        assert b"ONWARD_SECRET" not in environment
        worker._process.stdin.close()  # As when the process at this end is gone.
        async with asyncio.timeout(10):
            assert await worker._process.wait() == 0

    run(body())


def test_no_word_of_a_message_or_an_exception_is_logged(run, log_folder) -> None:
    raising = [
        "{{ newest.headers[user] }}",
        "{{ user | int(base=user) }}",
        "{{ {}[user].x }}",
        "{{ user.nothing }}",
    ]
    made = rendered(run, *[job(source, user=CANARY) for source in raising])
    assert FAILED in made
    logged = "".join(path.read_text() for path in log_folder.glob("*.log"))
    assert "template_failed" in logged
    assert CANARY not in logged


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"results": []},
        {"results": "x"},
        {"results": [{"words": {"title": 7}}], "ends": False},
        {"results": [{"words": {"body": "x"}}], "ends": False},
        {"results": [{"words": {"title": "x"}}] * 2, "ends": False},
        {"results": [{}], "ends": False},
    ],
)
def test_an_answer_that_makes_no_sense_is_nobodys_words(run, monkeypatch, said) -> None:
    async def nonsense(process, request):
        return said

    monkeypatch.setattr(render_worker, "_exchange", nonsense)
    assert rendered(run, good(1)) == [FAILED]
