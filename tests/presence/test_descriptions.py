"""What plugins say of themselves, and who gets which channel."""

from collections.abc import Sequence

from onward.notifier.v1 import notifier_pb2

from services.presence.descriptions import (
    Description,
    description_of,
    lane_calls_max,
    route,
    shadowed,
)


def plugin(*schemes: str) -> Description:
    return Description("p", dict.fromkeys(schemes, True), 100, 4)


def routed(scheme: str, plugins: Sequence[Description | None], ready: str = ""):
    """`ready`: a plus for each that is; all are, where nothing is said."""
    return route(scheme, plugins, [one == "+" for one in ready or "+" * len(plugins)])


def test_an_exact_channel_wins_over_any():
    assert routed("mailto", [plugin("*"), plugin("mailto")]) == (1, "mailto")


def test_any_takes_what_nobody_names():
    assert routed("tel", [plugin("mailto"), plugin("*")]) == (1, "*")


def test_of_equals_the_first_wins():
    assert routed("mailto", [plugin("mailto"), plugin("mailto")]) == (0, "mailto")
    assert routed("tel", [plugin("*"), plugin("*")]) == (0, "*")


def test_of_equals_the_first_that_is_ready_wins():
    three = [plugin("mailto"), plugin("mailto"), plugin("mailto")]
    assert routed("mailto", three, "-++") == (1, "mailto")
    assert routed("mailto", three, "--+") == (2, "mailto")
    assert routed("mailto", three, "---") == (0, "mailto")
    assert routed("tel", [plugin("*"), plugin("*")], "-+") == (1, "*")


def test_a_channel_that_is_named_never_falls_to_a_plugin_for_any():
    assert routed("mailto", [plugin("mailto"), plugin("*")], "-+") == (0, "mailto")


def test_a_plugin_that_has_said_nothing_serves_nothing():
    assert routed("mailto", [None, plugin("*")]) == (1, "*")
    assert routed("mailto", [None]) is None


def test_missing_numbers_become_defaults_and_wild_ones_the_bounds():
    plain = description_of(notifier_pb2.DescribeResponse(name="x"), "host:1")
    assert (plain.batch_max, plain.concurrency_max) == (100, 4)
    wild = notifier_pb2.DescribeResponse(batch_max=10**6, concurrency_max=10**6)
    bounded = description_of(wild, "host:1")
    assert (bounded.name, bounded.batch_max, bounded.concurrency_max) == ("host:1", 1_000, 64)


def test_a_channel_repeats_as_its_own_entry_says_before_that_of_any():
    both = Description("p", {"*": True, "tel": False}, 1, 1)
    assert both.repeats_unknown("mailto")
    assert not both.repeats_unknown("tel")


def test_what_is_no_scheme_is_passed_over_and_the_first_of_many_are_kept():
    schemes = ["mailto", "No scheme\n", "", "tel:", "FCM", *(f"x{n}" for n in range(100))]
    response = notifier_pb2.DescribeResponse(
        channels=[notifier_pb2.Channel(scheme=scheme) for scheme in schemes]
    )
    served = set(description_of(response, "host:1").channels)
    assert served == {"mailto", "fcm", *(f"x{n}" for n in range(30))}


def test_a_channel_by_the_name_of_another_is_passed_over_and_told():
    schemes = ["SMS", "http", "tel", "*", "firebase"]
    response = notifier_pb2.DescribeResponse(
        channels=[notifier_pb2.Channel(scheme=scheme) for scheme in schemes]
    )
    found = description_of(response, "host:1")
    assert (set(found.channels), found.served) == ({"tel", "*"}, ("*", "tel"))
    assert found.misnamed == ("firebase", "http", "sms")
    assert not description_of(response, "host:1", ("sms",)).channels


def test_a_lane_leaves_a_call_to_each_other_lane_of_its_plugin():
    assert [lane_calls_max(16, lanes) for lanes in (1, 2, 7, 15)] == [16, 15, 10, 2]
    assert [lane_calls_max(4, lanes) for lanes in (1, 2, 3)] == [4, 3, 2]


def test_a_lane_may_have_two_calls_as_long_as_that_leaves_one() -> None:
    assert [lane_calls_max(4, lanes) for lanes in (4, 9)] == [2, 2]
    assert [lane_calls_max(calls_max, 5) for calls_max in (1, 2, 3)] == [1, 1, 2]


def test_a_plugin_is_used_for_some_of_its_channels_only():
    response = notifier_pb2.DescribeResponse(
        channels=[
            notifier_pb2.Channel(scheme="mailto", repeats_unknown=True),
            notifier_pb2.Channel(scheme="tel"),
        ]
    )
    some = description_of(response, "host:1", ("tel", "fcm"))
    assert (some.channels, some.served) == ({"tel": False}, ("mailto", "tel"))


def test_a_plugin_for_any_channel_can_be_used_for_some_by_name():
    response = notifier_pb2.DescribeResponse(
        channels=[
            notifier_pb2.Channel(scheme="*", repeats_unknown=True),
            notifier_pb2.Channel(scheme="tel"),
        ]
    )
    some = description_of(response, "host:1", ("tel", "fcm"))
    assert some.channels == {"tel": False, "fcm": True}
    assert routed("mailto", [some]) is None


def test_a_channel_is_shadowed_by_the_one_that_is_given_it() -> None:
    given = [plugin("mailto", "tel"), None, plugin("*"), plugin("tel", "fcm"), plugin("*", "tel")]
    for ready, expected in (
        ("+++++", [{}, {}, {}, {"tel": 0}, {"*": 2, "tel": 0}]),
        ("-----", [{}, {}, {}, {"tel": 0}, {"*": 2, "tel": 0}]),
        ("-++++", [{"tel": 3}, {}, {}, {}, {"*": 2, "tel": 3}]),
        ("-+--+", [{"tel": 4}, {}, {"*": 4}, {"tel": 4}, {}]),
    ):
        found = shadowed(given, [one == "+" for one in ready])
        assert found == expected
        for place, hidden in enumerate(found):
            for channel, by in hidden.items():
                assert routed(channel, given, ready) == (by, channel) != (place, channel)
