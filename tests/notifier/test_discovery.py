"""The checker of requests to Google is shown what it must find."""

from typing import Any

import pytest

from tests.notifier.discovery import Schema

FCM = Schema.of("fcm")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"tokn": "x"}, "Message has no field tokn"),
        ({"token": 1}, "Message.token is no string"),
        ({"data": {"seq": 1}}, "Message.data.seq is no string"),
        ({"data": []}, "Message.data is no object"),
        ({"notification": {"titel": "x"}}, "Message.notification has no field titel"),
        ({"android": {"priority": "high"}}, "Message.android.priority is none of its words"),
        ({"android": {"ttl": "60"}}, "Message.android.ttl is no duration"),
        ({"android": {"ttl": 60}}, "Message.android.ttl is no string"),
        ({"android": {"directBootOk": "yes"}}, "Message.android.directBootOk is no boolean"),
        (
            {"android": {"notification": {"notificationCount": True}}},
            "Message.android.notification.notificationCount is no integer",
        ),
        (
            {"android": {"notification": {"titleLocArgs": "x"}}},
            "Message.android.notification.titleLocArgs is no array",
        ),
        (
            {"android": {"notification": {"titleLocArgs": ["x", 1]}}},
            "Message.android.notification.titleLocArgs[1] is no string",
        ),
        (
            {"apns": {"headers": {"apns-priority": 5}}},
            "Message.apns.headers.apns-priority is no string",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_found_and_named(message: Any, fault: str) -> None:
    assert FCM.faults(message, "Message") == [fault]


def test_what_is_right_has_no_fault() -> None:
    message = {
        "token": "x",
        "data": {"a": "b"},
        "android": {"ttl": "3.5s", "priority": "HIGH", "notification": {"titleLocArgs": ["x"]}},
        "apns": {"payload": {"aps": {"badge": 1}}},
    }
    assert FCM.faults(message, "Message") == []
