import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.chassis.errors import SettingError
from services.chassis.settings import variables
from services.cli import up_plan
from services.cli.up_plan import SERVICES, Child, Plan, Ports, Sizes

PORTS = Ports((8080,), (1001,), (1002,), (1003,), (1004,), (1005,), (1006,))
STORE = "postgresql://user@127.0.0.1/onward"
CLUSTER = Sizes(coordinator=2, presence=2, edge=3, etcd=3)
CLUSTER_PORTS = Ports(
    (8080, 8081, 8082), (1, 2, 3), (11, 12), (21, 22), (31,), (41, 42, 43), (51, 52, 53)
)


def children(environ: Mapping[str, str]) -> dict[str, Child]:
    plan = Plan(Path("/data"), PORTS, "s" * 32, 3, "python", "/bin/etcd", 77, environ)
    return {child.name: child for child in up_plan.children(plan)}


def cluster() -> dict[str, Child]:
    plan = Plan(Path("/data"), CLUSTER_PORTS, "s" * 32, 3, "python", "/bin/etcd", 77, {}, CLUSTER,
                STORE)  # fmt: skip
    return {child.name: child for child in up_plan.children(plan)}


def ours(child: Child) -> dict[str, str]:
    return {k: v for k, v in child.environ.items() if k.startswith("ONWARD_")}


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_given_to_a_service_is_a_setting_of_it(service: str) -> None:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    known = {variable.name for variable in variables(settings, service)}
    name = service if service == "notifier" else f"{service}-2"
    given = ours(children({})[service]).keys() | ours(cluster()[name]).keys()
    of_the_process = {"ONWARD_DIE_WITH_PARENT", "ONWARD_PARENT_PID", up_plan.NAME_VARIABLE}
    assert given - of_the_process <= known


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
    for child in [*children({}).values(), *cluster().values()]:
        for text in (*child.command, *ours(child).values()):
            assert "0.0.0.0" not in text
            assert "://" not in text or "://127.0.0.1:" in text or text == STORE


def test_a_cluster_is_as_many_of_each_with_names_ports_and_folders_of_their_own() -> None:
    made = cluster()
    assert list(made) == [
        "etcd-1", "etcd-2", "etcd-3", "coordinator-1", "coordinator-2", "presence-1",
        "presence-2", "notifier", "edge-1", "edge-2", "edge-3",
    ]  # fmt: skip
    second = ours(made["coordinator-2"])
    assert second["ONWARD_COORDINATOR_NAME"] == "coordinator-2"
    assert second["ONWARD_COORDINATOR_LISTEN"] == "127.0.0.1:12"
    assert second["ONWARD_COORDINATOR_DATA_DIR"] == "/data/coordinator-2"
    assert second["ONWARD_COORDINATOR_STORE"] == STORE
    assert second["ONWARD_ETCD"] == "127.0.0.1:41,127.0.0.1:42,127.0.0.1:43"
    assert second[up_plan.NAME_VARIABLE] == "coordinator-2"
    assert ours(made["coordinator-1"])["ONWARD_COORDINATOR_DATA_DIR"] == "/data/coordinator"
    assert ours(made["presence-2"])["ONWARD_PRESENCE_STORE"] == STORE
    assert ours(made["edge-3"])["ONWARD_EDGE_ADDRESS"] == "127.0.0.1:8082"
    assert (made["edge-3"].http_port, made["edge-3"].grpc_port) == (8082, 3)
    assert made["coordinator-2"].needs == ("etcd-1", "etcd-2", "etcd-3")
    # The store's address may hold a password: nobody else is given it, and no command line.
    holders = {name for name, child in made.items() if STORE in child.environ.values()}
    assert holders == {"coordinator-1", "coordinator-2", "presence-1", "presence-2"}
    assert not any(STORE in word for child in made.values() for word in child.command)


def test_the_members_of_an_etcd_know_one_another() -> None:
    made = cluster()
    whole = "onward-1=http://127.0.0.1:51,onward-2=http://127.0.0.1:52,onward-3=http://127.0.0.1:53"
    for number in (1, 2, 3):
        command = made[f"etcd-{number}"].command
        assert f"--initial-cluster={whole}" in command
        assert f"--name=onward-{number}" in command
        assert f"--data-dir=/data/etcd-{number}-of-3" in command


@pytest.mark.parametrize(
    ("sizes", "store", "words"),
    [
        (Sizes(coordinator=2), "", "--coordinators 2 needs a store .* --store postgresql://"),
        (Sizes(presence=3), "", "--presence 3 needs a store .* SQLite is for one"),
        (Sizes(), "mysql://there", "--store is no PostgreSQL"),
        (Sizes(etcd=2), "", "--etcd 2 .* odd number"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(sizes: Sizes, store: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        up_plan.check({}, sizes, store)


def test_several_edges_or_etcds_need_no_store() -> None:
    up_plan.check({}, Sizes(edge=3, etcd=3))


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
            "ONWARD_TWILIO_AUTH_TOKEN": "token",
            "ONWARD_WEBHOOK_SECRETS": "whsec_",
            "ETCD_NAME": "other",
        }
    )
    assert ours(made["presence"])["ONWARD_PRESENCE_GRACE_S"] == "1"
    assert ours(made["presence"])["ONWARD_PRESENCE_PLUGINS"] == "127.0.0.1:9,127.0.0.1:1004"
    assert ours(made["edge"])["ONWARD_EDGE_ANONYMOUS"] == "false"
    assert ours(made["notifier"])["ONWARD_SMTP_URL"] == "smtp://127.0.0.1"
    assert all(ours(made[name])["ONWARD_LEASE_TTL_S"] == "3" for name in SERVICES)
    assert made["etcd"].environ == {"PATH": "/bin", up_plan.NAME_VARIABLE: "etcd"}
    # What has a password goes nowhere else.
    holders = [name for name, child in made.items() if "hidden" in child.environ.values()]
    assert holders == ["edge"]
    secrets = ("ONWARD_SMTP_URL", "ONWARD_TWILIO_AUTH_TOKEN", "ONWARD_WEBHOOK_SECRETS")
    holders = [name for name, child in made.items() if set(secrets) & set(child.environ)]
    assert holders == ["notifier"]


def test_a_variable_that_would_mean_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="ONWARD_EDGE_ADDRESS is set, but"):
        up_plan.check({"ONWARD_EDGE_ADDRESS": "0.0.0.0:80"})
    with pytest.raises(SettingError, match=r"ONWARD_COORDINATOR_STORE .* --store"):
        up_plan.check({"ONWARD_COORDINATOR_STORE": STORE})
    with pytest.raises(SettingError, match="ONWARD_EDGE_TLS_CA_FILE is set, but"):
        up_plan.check({"ONWARD_EDGE_TLS_CA_FILE": "ca.pem"})
    with pytest.raises(SettingError, match="ONWARD_COORDINATOR_METRICS_PORT is one port"):
        up_plan.check({"ONWARD_COORDINATOR_METRICS_PORT": "9000"}, CLUSTER, STORE)
    up_plan.check({"ONWARD_EDGE_PAGE": "false", "ONWARD_ETCD": ""})


def test_anonymous_access_is_on_unless_it_is_set_off() -> None:
    assert up_plan.anonymous({})
    assert up_plan.anonymous({"ONWARD_EDGE_ANONYMOUS": "yes"})
    assert not up_plan.anonymous({"ONWARD_EDGE_ANONYMOUS": "false"})


def test_the_shares_of_a_stop_are_below_its_limit() -> None:
    assert sum(up_plan.STOP_SHARES.values()) < 5
    assert set(up_plan.STOP_SHARES) == {"etcd", *SERVICES}
    stopped = list(up_plan.stop_shares(list(cluster().values())))
    assert stopped[0] == ("edge-1", "edge-2", "edge-3")
    assert sum(map(len, stopped)) == len(cluster())
