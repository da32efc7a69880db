"""Where plugins are: what can be registered, and how it stands in etcd."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.errors import SettingError
from services.chassis.tls import Certificates, Trust
from services.presence.registry import (
    Registration,
    decode,
    encode,
    fault_of,
    misnamed,
    of_setting,
    shown_to,
)
from tests.certificates import Authority

SECRET = "a secret of sixteen or more"
GOOD = Registration("mailer", "mailer.example.org:4500", True, "mail", ("mailto", "tel"))


def test_a_channel_by_another_name_is_refused_when_it_is_added_and_read_where_it_stands() -> None:
    wrong = replace(GOOD, channels=("mailto", "sms"))
    assert misnamed(wrong) == "The tokens of sms start with `tel:`; name that."
    assert misnamed(GOOD) == ""
    assert decode("mailer", json.loads(encode(wrong))) == wrong


def test_a_plugin_without_tls_is_shown_the_secret_alone(tmp_path: Path) -> None:
    certificates = Certificates(Authority(tmp_path).sign().environ("presence"))
    both = Trust(SECRET, certificates)
    like_ours, plain = of_setting("127.0.0.1:1"), of_setting("grpc://127.0.0.1:1")
    assert like_ours.address == plain.address == plain.name == "127.0.0.1:1"
    assert shown_to(like_ours, both) == both
    assert shown_to(plain, both) == SECRET
    assert shown_to(like_ours, SECRET) == SECRET
    with pytest.raises(SettingError, match=r"grpc://127\.0\.0\.1:1, which is called without TLS"):
        shown_to(plain, Trust("", certificates))
    with pytest.raises(SettingError, match="the notifier mailer is called without TLS"):
        shown_to(GOOD, Trust("", certificates))


def test_what_was_written_is_read() -> None:
    assert fault_of(GOOD) == ""
    assert decode("mailer", json.loads(encode(GOOD))) == GOOD


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"address": "nowhere"},
        {"address": 7},
        {"address": "a:1", "channels": "mailto"},
        {"address": "a:1", "channels": [None]},
        {"address": "a:1", "channels": ["no scheme"]},
    ],
)
def test_what_is_damaged_is_not_read(value) -> None:
    assert decode("mailer", value) is None


@pytest.mark.parametrize(
    "address",
    ["a:1", "10.0.0.1:65535", "[::1]:4500", "mailer_2.example.org:4500", "localhost:1"],
)
def test_addresses_that_can_be_called(address) -> None:
    assert fault_of(replace(GOOD, address=address)) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "Mailer"},
        {"name": "a/b"},
        {"name": "x" * 41},
        {"address": ""},
        {"address": "mailer"},
        {"address": "mailer:"},
        {"address": "mailer:0"},
        {"address": "mailer:65536"},
        {"address": "mailer:１"},
        {"address": ":4500"},
        {"address": "::1:4500"},
        {"address": "grpc://mailer:4500"},
        {"address": "unix:/tmp/socket:1"},
        {"address": "dns:///mailer:4500"},
        {"address": "user@mailer:4500"},
        {"address": "x" * 300 + ":1"},
        {"server_name": "a b"},
        {"server_name": "x" * 300},
        {"channels": ("MAILTO",)},
        {"channels": ("",)},
        {"channels": tuple(f"x{n}" for n in range(33))},
    ],
)
def test_what_cannot_be_registered_is_refused_with_a_sentence(change) -> None:
    assert fault_of(replace(GOOD, **change)).endswith(".")
