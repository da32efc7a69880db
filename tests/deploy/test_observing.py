"""What alerts, the dashboard and Prometheus ask for exists, under the names that they use."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ROW = r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|"
METRICS = (ROOT / "docs/metrics.md").read_text()
DOCUMENTED = {
    name: (kind, set(re.findall(r"`(\w+)`", labels)))
    for name, kind, labels in re.findall(ROW, METRICS, re.MULTILINE)
}  # fmt: skip
ALARMS = set(
    re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
)
# Of Python's client library, of etcd, and of Prometheus itself.
OTHERS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "up",
          "etcd_server_has_leader"}  # fmt: skip
ADDED = {"instance", "job", "le"}  # labels that Prometheus and histograms add


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/onward.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def metric_names(expression: str) -> set[str]:
    """Names of metrics that an expression asks for: those before `{`, `[`, or alone."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(by|on|without) *\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    return set(re.findall(r"\b(?:onward|etcd|process)_\w+|\bup\b", bare))


def fault(expression: str) -> str:
    """What an expression asks for that is not there; empty: nothing."""
    for name in metric_names(expression):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        if name in OTHERS:
            continue
        if family not in DOCUMENTED:
            return f"no metric {name}"
        kind, labels = DOCUMENTED[family]
        if (kind == "histogram") != (family != name):
            return f"{name} is a {kind}"
        for used in re.findall(rf"{name}{{([^}}]*)}}", expression):
            unknown = set(re.findall(r"(\w+) *(?:=|!)", used)) - labels - ADDED
            if unknown:
                return f"{name} has no label {unknown}"
    return ""


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    assert metric_names(expression)
    assert not fault(expression)
    for alarm in re.findall(r'_alarm\{name="(\w+)"', expression):
        assert alarm in ALARMS


def test_a_wrong_name_is_found() -> None:
    assert fault("rate(onward_edge_sokets[1m])")
    assert fault("sum(onward_edge_publish_seconds)")
    assert fault('onward_presence_deliveries{status="dead"}')
    assert fault("sum(onward_edge_sockets_bucket)")


def test_every_alert_says_how_bad_it_is_what_it_means_and_what_helps() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names)) > 10
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "remedy"}


def test_prometheus_asks_every_instance_of_the_compose_file() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]
    asked = {
        target.partition(":")[0]: target.partition(":")[2]
        for job in config["scrape_configs"]
        for targets in job["static_configs"]
        for target in targets["targets"]
    }
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = {name for name in services if re.match("edge|coordinator|presence|notifier|etcd", name)}
    assert set(asked) == ours
    for name, port in asked.items():
        given = services[name]["environment"]
        metrics = [str(value) for key, value in given.items() if key.endswith("METRICS_PORT")]
        assert port == (metrics[0] if metrics else "8080" if "edge" in name else "2379")


def test_the_dashboard_is_provisioned_with_its_datasource() -> None:
    folder = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards/onward.yaml").read_text())["providers"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    assert len(panels()) > 20
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}


def test_prometheus_own_tool_finds_no_fault() -> None:
    """Where promtool is not installed the other tests must do."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return
    command = [promtool, "check", "config", str(DEPLOY / "prometheus/prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
