"""The Helm chart, rendered by helm and read by Kubernetes' own schemas.

`deploy/helm/tools.sh` makes helm and the schemas, in `build/tools`, or where DEPLOY_TOOLS says.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import TOOLS
from tests.deploy.dockerfile import SERVICES
from tests.deploy.settings_check import foreign, settings_of

CHART = Path(__file__).parents[2] / "deploy/helm/onward"
HELM, VALIDATE = TOOLS / "bin/helm", TOOLS / "venv/bin/kubernetes-validate"
# What a Secret would give.
SECRETS = {"secret": "0123456789abcdef" * 2, "jwt": "a key that tokens are signed with",
           "store": "postgresql://onward:o@db/onward", "smtp-url": "smtp://mail:25"}  # fmt: skip
LEAST: dict[str, Any] = {"etcd": {"endpoints": ["etcd-0:2379", "etcd-1:2379"]}}
ALL: dict[str, Any] = {
    "image": {"repository": "registry.example/onward", "pullSecrets": ["pull"]},
    "etcd": LEAST["etcd"] | {"tlsSecret": "etcd", "user": "onward", "passwordSecret": "etcd-user"},
    "tls": {"secret": "peers"},
    "settings": {"ONWARD_LOG_LEVEL": "debug"},
    "edge": {
        "settings": {"ONWARD_EDGE_SOCKETS_MAX": 20000, "ONWARD_EDGE_PAGE": False},
        "ingress": {"enabled": True, "host": "onward.example", "tlsSecret": "web",
                    "className": "nginx", "annotations": {"a/b": "3600"}},
        "autoscaling": {"enabled": True},
        "nodeSelector": {"pool": "edges"},
        "tolerations": [{"key": "edges", "operator": "Exists"}],
    },
    "presence": {"plugins": ["fcm.push.svc:7500"]},
    "networkPolicy": {"clientsFrom": [{"namespaceSelector": {"matchLabels": {"web": "yes"}}}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}  # fmt: skip
TRIAL: dict[str, Any] = LEAST | {
    "coordinator": {"replicas": 1}, "networkPolicy": {"enabled": False},
    "notifier": {"replicas": 1, "console": True},
}  # fmt: skip
NO_NOTIFIER: dict[str, Any] = LEAST | {
    "notifier": {"replicas": 0}, "presence": {"plugins": ["a:1", "b:2"]},
}  # fmt: skip
CHANNELS: dict[str, Any] = LEAST | {
    "notifier": {
        "secretName": "channels",
        "settings": {"ONWARD_FCM_CREDENTIALS": "/etc/onward/channels/firebase.json",
                     "ONWARD_TWILIO_FROM": "+15005550006"},
    },
}  # fmt: skip
CASES = {"least": LEAST, "all": ALL, "trial": TRIAL, "no notifier": NO_NOTIFIER,
         "channels": CHANNELS}  # fmt: skip


def helm(tmp_path: Path, values: dict[str, Any], *words: str) -> "subprocess.CompletedProcess[str]":
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    command = [str(HELM), *words, "-f", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(tmp_path: Path, values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) → object."""
    words = ["template", "r", str(CHART), "-n", "chat", "--kube-version", "1.30.0"]
    done = helm(tmp_path, values, *words)
    assert done.returncode == 0, done.stderr
    (tmp_path / "rendered.yaml").write_text(done.stdout)
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects), "two objects have one name"
    return found


def workloads(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Service → its Deployment or StatefulSet."""
    kinds = ("Deployment", "StatefulSet")
    return {name.removeprefix("r-"): one for (kind, name), one in objects.items() if kind in kinds}


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (one,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(one)


def environ(workload: dict[str, Any]) -> dict[str, str]:
    """What the container's process would have, as Kubernetes puts it together."""
    given = {"POD_NAME": "r-x-0", "POD_IP": "10.0.0.7"}
    result: dict[str, str] = {}
    for variable in container(workload)["env"]:
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = SECRETS[source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            value = given[variable["name"]]
        else:
            assert isinstance(variable["value"], str), variable
            value = re.sub(r"\$\((\w+)\)", lambda match: given[match[1]], variable["value"])
        result[variable["name"]] = value
    return result


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_what_the_chart_makes_is_what_kubernetes_takes(
    values: dict[str, Any], tmp_path: Path
) -> None:
    linted = helm(tmp_path, values, "lint", str(CHART), "--strict", "--kube-version", "1.30.0")
    assert linted.returncode == 0, linted.stdout
    objects = rendered(tmp_path, values)
    rest = [
        one for (kind, _), one in objects.items() if kind != "PodMonitor"
    ]  # not Kubernetes' own
    (tmp_path / "own.yaml").write_text(yaml.safe_dump_all(rest))
    command = [str(VALIDATE), "--strict", "-k", "1.30", str(tmp_path / "own.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed ") == len(rest)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_every_service_takes_the_settings_it_is_given(
    values: dict[str, Any], tmp_path: Path
) -> None:
    found = workloads(rendered(tmp_path, values))
    assert set(found) == set(SERVICES) - ({"notifier"} if values is NO_NOTIFIER else set())
    for service, workload in found.items():
        given = environ(workload)
        assert not foreign(service, given)
        settings = settings_of(service, given)
        grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert settings.drain_s + 10 <= grace
        ports = {port["name"]: port["containerPort"] for port in container(workload)["ports"]}
        listen = settings.grpc_address if service == "edge" else settings.listen
        assert listen.rpartition(":")[2] == str(ports["grpc"])
        assert ports["metrics"] == 9100
        if service in ("coordinator", "presence"):
            assert workload["kind"] == "StatefulSet"
            assert settings.name == "r-x-0"
            assert settings.advertise == f"r-x-0.r-{service}.chat.svc:{ports['grpc']}"
            assert settings.store == SECRETS["store"]


def test_plugins_of_the_operator_come_before_the_charts_notifier(tmp_path: Path) -> None:
    given = environ(workloads(rendered(tmp_path, ALL))["presence"])
    wanted = "fcm.push.svc:7500,r-notifier.chat.svc:7300"
    assert given["ONWARD_PRESENCE_PLUGINS"] == wanted


def test_what_channels_need_reaches_the_notifier_alone_as_variables_and_as_files(
    tmp_path: Path,
) -> None:
    for service, workload in workloads(rendered(tmp_path, CHANNELS)).items():
        one, pod = container(workload), workload["spec"]["template"]["spec"]
        mounts = {mount["name"]: mount for mount in one["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        if service != "notifier":
            assert "channels" not in mounts and "channels" not in volumes
            assert "envFrom" not in one
            continue
        assert one["envFrom"] == [{"secretRef": {"name": "channels"}}]
        assert mounts["channels"]["mountPath"] == "/etc/onward/channels"
        assert mounts["channels"]["readOnly"] is True
        # Its group alone, which is the container's, reads it.
        assert volumes["channels"]["secret"] == {"secretName": "channels", "defaultMode": 0o440}
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
        named = environ(workload)["ONWARD_FCM_CREDENTIALS"]
        assert named.startswith(mounts["channels"]["mountPath"] + "/")


def test_only_who_has_another_channel_may_leave_the_mail_server_out(tmp_path: Path) -> None:
    for values, optional in ((LEAST, False), (TRIAL, True), (CHANNELS, True)):
        variables = container(workloads(rendered(tmp_path, values))["notifier"])["env"]
        (smtp,) = [one for one in variables if one["name"] == "ONWARD_SMTP_URL"]
        assert smtp["valueFrom"]["secretKeyRef"]["optional"] is optional


def test_no_pod_is_root_writes_its_image_or_is_given_more_than_it_needs(tmp_path: Path) -> None:
    for workload in workloads(rendered(tmp_path, ALL)).values():
        pod, one = workload["spec"]["template"]["spec"], container(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        # The variables that it makes by default look like settings, and a start refuses those.
        assert pod["enableServiceLinks"] is False
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(one)
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes


def test_every_service_has_a_budget_and_a_wall_with_the_right_doors(tmp_path: Path) -> None:
    objects = rendered(tmp_path, ALL)
    callers = {}
    for service in SERVICES:
        assert ("PodDisruptionBudget", f"r-{service}") in objects
        wall = objects["NetworkPolicy", f"r-{service}"]["spec"]
        selected = wall["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        assert selected == service
        (door,) = [rule for rule in wall["ingress"] if rule["ports"] == [{"port": "grpc"}]]
        callers[service] = [
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for peer in door["from"]
        ]
    assert callers == {"edge": ["edge"], "coordinator": ["edge", "presence"],
                       "presence": ["edge", "coordinator"], "notifier": ["presence"]}  # fmt: skip


def test_edges_are_as_many_as_their_clients_need(tmp_path: Path) -> None:
    objects = rendered(tmp_path, ALL)
    scaler = objects["HorizontalPodAutoscaler", "r-edge"]["spec"]
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == "onward_edge_sockets"
    assert metric["pods"]["target"]["averageValue"] == "10000"
    assert "replicas" not in objects["Deployment", "r-edge"]["spec"]
    assert ("HorizontalPodAutoscaler", "r-edge") not in rendered(tmp_path, LEAST)


WRONG: dict[str, dict[str, Any]] = {
    "no etcd": {},
    "a misspelt value": LEAST | {"cordinator": {"replicas": 3}},
    "a URL for an address": {"etcd": {"endpoints": ["http://etcd:2379"]}},
    "another service's setting": LEAST | {"edge": {"settings": {"RETAIN_S": "1"}}},
    "a service's setting for all": LEAST | {"settings": {"ONWARD_EDGE_PAGE": "true"}},
    "a Secret that is no name": LEAST | {"notifier": {"secretName": ["channels"]}},
    "a user without a password": {"etcd": LEAST["etcd"] | {"user": "onward"}},
    "an ingress for no host": LEAST | {"edge": {"ingress": {"enabled": True}}},
}


@pytest.mark.parametrize("values", WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    words = ["template", "r", str(CHART), "--kube-version", "1.30.0"]
    done = helm(tmp_path, values, *words)
    assert done.returncode != 0, done.stdout
    assert "rror" in done.stderr
