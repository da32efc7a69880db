"""What an event says once its positions are those of a log that was replaced."""

from typing import Any

import pytest
from google.protobuf import json_format
from onward.types.v1 import entry_pb2

from services.edge.former_log import forget_positions

START = [{"subject": "/a", "start": "5"}]
ACKED = [{"subject": "/a", "seq": "5"}, {"subject": "/b", "seq": "7"}]
NOTHING = [{"subject": "/a"}, {"subject": "/b"}]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (
            {"connected": {"replacesFollows": True, "follows": START, "endpoints": ["mailto:a"],
                           "lastGeneration": "3"}},
            {"connected": {"endpoints": ["mailto:a"], "lastGeneration": "3"}},
        ),
        ({"followed": {"follows": START}}, {"followed": {}}),
        ({"disconnected": {"clean": True, "acked": ACKED}},
         {"disconnected": {"clean": True, "acked": NOTHING}}),
        ({"unfollowed": {"acked": ACKED}}, {"unfollowed": {"acked": NOTHING}}),
        ({"loggedOut": {"acked": ACKED}}, {"loggedOut": {"acked": NOTHING}}),
        ({"endpointAdded": {"uri": "mailto:a"}}, {"endpointAdded": {"uri": "mailto:a"}}),
        ({"activityChanged": {"active": True}}, {"activityChanged": {"active": True}}),
    ],
    ids=lambda one: next(iter(one)),
)  # fmt: skip
def test_it_says_who_and_what_but_no_position(said: dict[str, Any], left: dict[str, Any]) -> None:
    event = json_format.ParseDict({"user": "ann"} | said, entry_pb2.PresenceEvent())
    forget_positions(event)
    assert json_format.MessageToDict(event) == {"user": "ann"} | left
