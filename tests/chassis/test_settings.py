"""Settings: every wrong variable stops the start with a sentence that names it."""

from dataclasses import dataclass

import pytest

from services.chassis.errors import SettingError
from services.chassis.etcd_access import Access
from services.chassis.settings import load, setting, variables
from services.chassis.shared_settings import SharedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(SharedSettings):
    """Settings of a service that exists here only."""

    place: str = setting(doc="where it is")
    grace_s: float = setting(10.0, doc="seconds", least=0, most=60)
    plugins: tuple[str, ...] = setting((), doc="host:port, comma-separated")
    anonymous: bool = setting(False, doc="whether anybody may connect")


SECRET = {"ONWARD_SECRET": "0123456789abcdef", "ONWARD_EXAMPLE_PLACE": "here"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "ONWARD_EXAMPLE_PLACE is not set; set it to: where it is"),
        (SECRET | {"ONWARD_EXAMPLE_GRACE_S": "soon"}, "ONWARD_EXAMPLE_GRACE_S is 'soon'"),
        (SECRET | {"ONWARD_EXAMPLE_GRACE_S": "61"}, "60 or less"),
        (SECRET | {"ONWARD_EXAMPLE_GRACE_S": "-1"}, "0 or more"),
        (SECRET | {"ONWARD_EXAMPLE_ANONYMOUS": "maybe"}, "true or false"),
        (SECRET | {"ONWARD_EXAMPLE_GRACE_S": "nan"}, "ONWARD_EXAMPLE_GRACE_S is 'nan'"),
        (SECRET | {"ONWARD_EXAMPLE_GRACE_S": "inf"}, "ONWARD_EXAMPLE_GRACE_S is 'inf'"),
        (SECRET | {"ONWARD_SECRET": "0123456789abcde"}, "ONWARD_SECRET is too short"),
        (SECRET | {"ONWARD_LEASE_TTL_S": "2.5"}, "a whole number"),
        (SECRET | {"ONWARD_EXAMPLE_GRACES": "1"}, "ONWARD_EXAMPLE_GRACES is not a setting"),
    ],
)
def test_a_wrong_variable_is_named_with_its_remedy(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        load(Example, "example", environ)


def test_variables_fill_the_fields_and_defaults_the_rest() -> None:
    environ = SECRET | {
        "ONWARD_EXAMPLE_GRACE_S": "0.5",
        "ONWARD_EXAMPLE_PLUGINS": "127.0.0.1:1, 127.0.0.1:2",
        "ONWARD_EXAMPLE_ANONYMOUS": "on",
        "ONWARD_EDGE_UNRELATED": "x",
    }
    loaded = load(Example, "example", environ)
    assert loaded == Example(
        place="here",
        secret="0123456789abcdef",
        grace_s=0.5,
        plugins=("127.0.0.1:1", "127.0.0.1:2"),
        anonymous=True,
    )


def test_a_shared_variable_has_no_service_in_its_name() -> None:
    names = [variable.name for variable in variables(Example, "example")]
    assert {"ONWARD_ETCD", "ONWARD_SECRET"} <= set(names)
    assert names[-1] == "ONWARD_EXAMPLE_ANONYMOUS"


def test_a_shared_variable_can_be_given_for_one_service_alone() -> None:
    environ = SECRET | {"ONWARD_ETCD": "a:1", "ONWARD_EXAMPLE_ETCD": "b:1,c:1"}
    assert load(Example, "example", environ).etcd == "b:1,c:1"
    with pytest.raises(SettingError, match="ONWARD_EXAMPLE_LEASE_TTL_S is 'x'"):
        load(Example, "example", environ | {"ONWARD_EXAMPLE_LEASE_TTL_S": "x"})


def test_how_to_get_into_etcd_is_set_by_files_and_a_user() -> None:
    files = {name: f"/{name.lower()}" for name in ("CA_FILE", "CERT_FILE", "KEY_FILE")}
    environ = {f"ONWARD_ETCD_{name}": path for name, path in files.items()}
    environ |= {"ONWARD_ETCD_USER": "onward", "ONWARD_EXAMPLE_ETCD_PASSWORD_FILE": "/password"}
    access = load(Example, "example", SECRET | environ).etcd_access()
    assert access == Access("/ca_file", "/cert_file", "/key_file", "onward", "/password")
