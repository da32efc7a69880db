"""Alarms last as long as their cause, and remember its beginning."""

from services.chassis.alarms import Alarms


def told(alarms: Alarms) -> list[tuple[str, str, float]]:
    return [
        (one.name, one.text, one.since.seconds + one.since.nanos / 1e9) for one in alarms.present
    ]


def test_an_alarm_is_since_its_first_telling_and_says_the_newest_sentence() -> None:
    alarms = Alarms()
    assert alarms.tell({"NO_OWNER": "8 partitions"}, 100.25) == ["NO_OWNER"]
    assert alarms.tell({"NO_OWNER": "3 partitions", "NO_LEASE": "no lease"}, 101.0) == ["NO_LEASE"]
    assert told(alarms) == [("NO_OWNER", "3 partitions", 100.25), ("NO_LEASE", "no lease", 101.0)]


def test_an_alarm_that_came_back_is_a_new_one() -> None:
    alarms = Alarms()
    alarms.tell({"NO_LEASE": "no lease"}, 100.0)
    assert alarms.tell({}, 101.0) == []
    assert alarms.present == []
    assert alarms.tell({"NO_LEASE": "no lease"}, 102.0) == ["NO_LEASE"]
    assert told(alarms) == [("NO_LEASE", "no lease", 102.0)]
