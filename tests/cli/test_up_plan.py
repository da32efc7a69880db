import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.chassis.errors import SettingError
from services.chassis.settings import variables
from services.cli import up_plan
from services.cli.up_plan import SERVICES, Child, Plan, Ports

PORTS = Ports(8080, 1001, 1002, 1003, 1004, 1005, 1006)


def children(environ: Mapping[str, str]) -> dict[str, Child]:
    plan = Plan(Path("/data"), PORTS, "s" * 32, 3, "python", "/bin/etcd", 77, environ)
    return {child.name: child for child in up_plan.children(plan)}


def ours(child: Child) -> dict[str, str]:
    return {k: v for k, v in child.environ.items() if k.startswith("ONWARD_")}


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_given_to_a_service_is_a_setting_of_it(service: str) -> None:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    known = {variable.name for variable in variables(settings, service)}
    given = ours(children({})[service]).keys()
    assert given - {"ONWARD_DIE_WITH_PARENT", "ONWARD_PARENT_PID"} <= known


def test_the_services_meet_at_the_drawn_ports() -> None:
    made = children({})
    assert ours(made["edge"])["ONWARD_EDGE_ADDRESS"] == "127.0.0.1:8080"
    assert ours(made["coordinator"])["ONWARD_COORDINATOR_LISTEN"] == "127.0.0.1:1002"
    assert ours(made["coordinator"])["ONWARD_COORDINATOR_ERA"] == "3"
    assert ours(made["coordinator"])["ONWARD_COORDINATOR_DATA_DIR"] == "/data/coordinator"
    assert ours(made["presence"])["ONWARD_PRESENCE_PLUGINS"] == "127.0.0.1:1004"
    assert {ours(made[name])["ONWARD_ETCD"] for name in SERVICES} == {"127.0.0.1:1005"}
    assert made["etcd"].http_port == 1005
    assert all(made[name].grpc_port for name in SERVICES)


def test_everything_listens_on_loopback_only() -> None:
    for child in children({}).values():
        for text in (*child.command, *ours(child).values()):
            assert "0.0.0.0" not in text
            assert "://" not in text or "://127.0.0.1:" in text


def test_the_users_variables_reach_the_service_they_are_for() -> None:
    made = children(
        {
            "PATH": "/bin",
            "ONWARD_LEASE_TTL_S": "3",
            "ONWARD_PRESENCE_GRACE_S": "1",
            "ONWARD_PRESENCE_PLUGINS": "127.0.0.1:9",
            "ONWARD_EDGE_ANONYMOUS": "false",
            "ONWARD_EDGE_JWT_HS256_SECRET": "hidden",
            "ONWARD_SMTP_URL": "smtp://127.0.0.1",
            "ETCD_NAME": "other",
        }
    )
    assert ours(made["presence"])["ONWARD_PRESENCE_GRACE_S"] == "1"
    assert ours(made["presence"])["ONWARD_PRESENCE_PLUGINS"] == "127.0.0.1:9,127.0.0.1:1004"
    assert ours(made["edge"])["ONWARD_EDGE_ANONYMOUS"] == "false"
    assert ours(made["notifier"])["ONWARD_SMTP_URL"] == "smtp://127.0.0.1"
    assert all(ours(made[name])["ONWARD_LEASE_TTL_S"] == "3" for name in SERVICES)
    assert made["etcd"].environ == {"PATH": "/bin"}
    # What has a password goes nowhere else.
    holders = [name for name, child in made.items() if "hidden" in child.environ.values()]
    assert holders == ["edge"]
    holders = [name for name, child in made.items() if "ONWARD_SMTP_URL" in child.environ]
    assert holders == ["notifier"]


def test_a_variable_that_would_mean_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="ONWARD_EDGE_ADDRESS is set, but"):
        up_plan.check({"ONWARD_EDGE_ADDRESS": "0.0.0.0:80"})
    up_plan.check({"ONWARD_EDGE_PAGE": "false", "ONWARD_ETCD": ""})


def test_anonymous_access_is_on_unless_it_is_set_off() -> None:
    assert up_plan.anonymous({})
    assert up_plan.anonymous({"ONWARD_EDGE_ANONYMOUS": "yes"})
    assert not up_plan.anonymous({"ONWARD_EDGE_ANONYMOUS": "false"})


def test_the_shares_of_a_stop_are_below_its_limit() -> None:
    assert sum(up_plan.STOP_SHARES.values()) < 5
    assert set(up_plan.STOP_SHARES) == {"etcd", *SERVICES}
