"""A task that should last does not end in silence."""

import asyncio

import pytest

from services.chassis.tasks import EndedFromInside, lasting


async def cancelled_by_a_library() -> None:
    raise asyncio.CancelledError


async def never() -> None:
    await asyncio.Event().wait()


def test_a_cancellation_that_nobody_asked_for_fails_the_group(run) -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lasting(never()))
            group.create_task(lasting(cancelled_by_a_library()))

    with pytest.raises(ExceptionGroup) as raised:
        run(scenario())
    assert raised.group_contains(EndedFromInside, match="cancelled_by_a_library")


def test_without_it_the_group_goes_on_as_if_nothing_were(run) -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(cancelled_by_a_library())

    run(scenario())


def test_a_task_may_be_cancelled_and_may_time_out_inside(run) -> None:
    async def inside() -> None:
        try:
            async with asyncio.timeout(0.01):
                await never()
        except TimeoutError:
            pass
        await never()

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lasting(inside()))
            await asyncio.sleep(0.05)
            task.cancel()
        assert task.cancelled()

    run(scenario())
