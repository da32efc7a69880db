from hypothesis import given
from hypothesis import strategies as st

from services.cli.supervision import (
    End,
    Kill,
    Limits,
    Ready,
    Report,
    ShowRefusal,
    Start,
    Supervision,
    Terminate,
)

NAMES = ("etcd", "coordinator", "edge")


def supervision(**limits: float) -> Supervision:
    """Three children; the later two need etcd; they stop in the reverse order, 1 s each."""
    return Supervision(
        {"etcd": (), "coordinator": ("etcd",), "edge": ("etcd",)},
        {("edge",): 1.0, ("coordinator",): 1.0, ("etcd",): 1.0},
        Limits(**limits),
    )


def started(**limits: float) -> Supervision:
    core = supervision(**limits)
    core.start(0)
    return core


def ready(**limits: float) -> Supervision:
    core = started(**limits)
    for name in NAMES:
        core.became_ready(name, 1)
    return core


def test_all_start_at_once() -> None:
    assert supervision().start(0) == [Start("etcd"), Start("coordinator"), Start("edge")]


def test_the_suite_is_ready_when_the_last_child_is() -> None:
    core = started()
    assert core.became_ready("edge", 0.5) == [Report("edge is ready (0.5 s)")]
    assert core.became_ready("etcd", 0.75) == [Report("etcd is ready (0.8 s)")]
    assert core.became_ready("etcd", 0.75) == []
    assert core.became_ready("coordinator", 1) == [Report("coordinator is ready (1.0 s)"), Ready()]


def test_a_crashed_child_starts_again_after_the_back_off() -> None:
    core = ready()
    assert core.exited("edge", -9, 5) == [
        Report("edge ended by SIGKILL; starting it again in 0.2 s")
    ]
    assert core.next_deadline() == 5.2
    assert core.tick(5.1) == []
    assert core.tick(5.2) == [Start("edge")]
    assert core.next_deadline() is None
    assert core.became_ready("edge", 6.2) == [Report("edge is ready again (1.0 s)")]


def test_the_back_off_doubles_up_to_its_longest_and_is_forgotten_in_time() -> None:
    core = ready(backoff_first_s=1, backoff_longest_s=3, settled_s=100)
    now, waits = 10.0, []
    for _ in range(4):
        core.exited("edge", 1, now)
        due = core.next_deadline()
        assert due is not None
        waits.append(due - now)
        now = due
        core.tick(now)
    assert waits == [1, 2, 3, 3]
    core.exited("edge", 1, now + 100)
    assert core.next_deadline() == now + 101


def test_a_child_that_ends_by_itself_without_error_starts_again_too() -> None:
    assert ready().exited("edge", 0, 5) == [
        Report("edge ended with code 0; starting it again in 0.2 s")
    ]


def test_a_refusal_to_start_ends_everything_with_its_code() -> None:
    core = started()
    core.became_ready("etcd", 0.3)
    assert core.exited("coordinator", 2, 0.5) == [ShowRefusal("coordinator"), Terminate("edge")]
    assert core.exited("edge", 0, 0.6) == [Terminate("etcd")]
    assert core.exited("etcd", 0, 0.7) == [End(2)]


def test_a_refusal_of_a_child_that_lacks_what_it_needs_is_not_believed() -> None:
    core = started()
    assert isinstance(core.exited("coordinator", 2, 0.1)[0], Report)
    assert core.next_deadline() is not None


def test_a_refusal_after_the_first_readiness_ends_nothing_else() -> None:
    core = ready()
    assert isinstance(core.exited("coordinator", 2, 5)[0], Report)
    assert core.tick(10) == [Start("coordinator")]


def test_children_stop_one_after_the_other() -> None:
    core = ready()
    assert core.stop(10) == [Terminate("edge")]
    assert core.exited("edge", 0, 10.5) == [Terminate("coordinator")]
    assert core.exited("coordinator", 0, 11) == [Terminate("etcd")]
    assert core.exited("etcd", 0, 11.1) == [End(0)]


def test_one_that_takes_too_long_is_killed_and_the_next_ones_turn_comes() -> None:
    core = ready()
    core.stop(10)
    assert core.next_deadline() == 11
    assert core.tick(10.9) == []
    assert core.tick(11) == [
        Report("edge takes too long to stop"),
        Kill("edge"),
        Terminate("coordinator"),
    ]
    assert core.exited("edge", -9, 11.1) == []
    assert core.exited("coordinator", 0, 11.2) == [Terminate("etcd")]
    assert core.exited("etcd", 0, 11.3) == [End(0)]


def test_what_one_leaves_of_its_share_the_next_may_take() -> None:
    core = ready()
    core.stop(10)
    core.exited("edge", 0, 10.1)
    assert core.next_deadline() == 12
    core.exited("coordinator", 0, 11.9)
    assert core.next_deadline() == 13


def test_one_that_ends_out_of_turn_is_not_terminated() -> None:
    core = ready()
    core.stop(10)
    assert core.exited("etcd", -15, 10.1) == []
    assert core.exited("edge", 0, 10.2) == [Terminate("coordinator")]
    assert core.exited("coordinator", 0, 10.3) == [End(0)]


def test_those_of_a_group_stop_together_and_the_late_ones_alone_are_killed() -> None:
    core = Supervision(
        {"etcd": (), "edge-1": ("etcd",), "edge-2": ("etcd",)},
        {("edge-1", "edge-2"): 1.0, ("etcd",): 1.0},
    )
    core.start(0)
    assert core.stop(10) == [Terminate("edge-1"), Terminate("edge-2")]
    assert core.exited("edge-2", 0, 10.2) == []
    assert core.next_deadline() == 11
    assert core.tick(11) == [
        Report("edge-1 takes too long to stop"),
        Kill("edge-1"),
        Terminate("etcd"),
    ]
    assert core.exited("etcd", 0, 11.1) == []
    assert core.exited("edge-1", -9, 11.2) == [End(0)]


def test_a_second_stop_kills_all_at_once() -> None:
    core = ready()
    core.stop(10)
    assert core.stop(10.1) == [Kill("etcd"), Kill("coordinator"), Kill("edge")]
    core.exited("coordinator", -9, 10.2)
    core.exited("edge", -9, 10.2)
    assert core.exited("etcd", -9, 10.2) == [End(0)]


def test_a_stop_starts_nothing_that_waits_for_its_restart() -> None:
    core = ready()
    core.exited("edge", 1, 5)
    assert core.stop(5.1) == [Terminate("coordinator")]
    assert Start("edge") not in core.tick(7)


def test_a_stop_with_nothing_running_ends_at_once() -> None:
    core = started()
    for name in NAMES:
        core.exited(name, 1, 1)
    assert core.stop(1.1) == [End(0)]


@given(st.lists(st.tuples(st.sampled_from(["exit", "ready", "tick", "wait"]),
                          st.sampled_from(NAMES), st.integers(-9, 2)), max_size=40),
       st.booleans())  # fmt: skip
def test_whatever_happens_a_stop_ends_within_its_shares(
    events: list[tuple[str, str, int]], stubborn: bool
) -> None:
    core, now, running = supervision(), 0.0, set()

    def apply(effects: list[object]) -> bool:
        for effect in effects:
            if isinstance(effect, Start):
                assert effect.name not in running
                running.add(effect.name)
            elif isinstance(effect, End):
                assert not running
                return True
        return False

    ended = apply(list(core.start(now)))
    for kind, name, code in events:
        now += 0.3
        if ended:
            break
        if kind == "exit" and name in running:
            running.discard(name)
            ended = apply(list(core.exited(name, code, now)))
        elif kind == "ready" and name in running:
            ended = apply(list(core.became_ready(name, now)))
        elif kind == "tick":
            ended = apply(list(core.tick(now)))
    asked_at, effects = now, [] if ended else list(core.stop(now))
    while not ended:
        ended = apply(effects)
        signalled = [e.name for e in effects if isinstance(e, Kill)]
        signalled += [e.name for e in effects if isinstance(e, Terminate) and not stubborn]
        effects = []
        for name in set(signalled) & running:
            running.discard(name)
            effects += core.exited(name, -9, now)
        if not effects and not ended:
            deadline = core.next_deadline()
            assert deadline is not None
            now = max(now, deadline)
            effects = list(core.tick(now))
    assert now - asked_at <= 3.001
