"""The import rules of the repository, read from the source itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ["edge", "coordinator", "presence", "notifier", "cli"]
# A library whose use is kept to one place, and that place.
ONLY_IN = {
    "aetcd": ["services/chassis/etcd"],
    "aiosmtplib": ["services/notifier/"],
    "twilio": ["services/notifier/"],
    "jinja2": ["services/presence/sandbox.py", "services/presence/render_process.py"],
    "jwt": ["services/edge/tokens.py", "services/notifier/"],
    "sqlite3": ["services/coordinator/", "services/presence/"],
    "psycopg": [
        "services/chassis/postgres.py",
        "services/coordinator/",
        "services/presence/",
        "services/cli/",
    ],
    "typer": ["services/cli/"],
    "rich": ["services/cli/"],
}


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} holds no Python file"
    return found


def imported(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def foreign_imports(service: str, names: set[str]) -> set[str]:
    """Names of `names` that reach into another service than `service`."""
    others = [other for other in SERVICES if other != service]
    return {n for n in names if any(f"{n}.".startswith(f"services.{o}.") for o in others)}


@pytest.mark.parametrize("service", [*SERVICES, "chassis"])
def test_no_service_imports_another(service: str) -> None:
    for path in sources(f"services/{service}"):
        assert not foreign_imports(service, imported(path)), path


def test_the_rule_sees_an_import_of_another_service() -> None:
    assert foreign_imports("edge", {"services.presence.state.Follow"})
    assert foreign_imports("chassis", {"services.edge"})
    assert not foreign_imports("edge", {"services.edge.hub", "services.chassis.logs.get"})


def test_the_sdk_imports_no_service() -> None:
    for path in sources("sdk/python"):
        assert not {n for n in imported(path) if n.split(".")[0] == "services"}, path


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_place(library: str) -> None:
    for path in sources("services"):
        name = str(path.relative_to(ROOT))
        if not any(name.startswith(place) for place in ONLY_IN[library]):
            assert not {n for n in imported(path) if n.split(".")[0] == library}, path


def test_the_http_server_of_aiohttp_stays_in_the_edge() -> None:
    for path in sources("services"):
        if "services/edge/" not in str(path):
            assert not {n for n in imported(path) if n.startswith("aiohttp.web")}, path


# The cores: they decide, and do nothing else. A new one belongs on this list.
CORES = {
    "services/chassis": ["rendezvous", "channel_names", "times"],
    "services/edge": ["websocket", "session", "entitlement", "external_token", "acks", "marks",
                      "recovery", "hub", "fan_outs", "holding", "holes", "rings", "outbox", "codec",
                      "channel", "activity", "cluster_status", "meter", "addresses",
                      "request_head", "departures", "naming",
                      "crew"],
    "services/coordinator": ["partition", "registers", "effects", "early_requests"],
    "services/presence": ["state", "events", "handover", "sending", "cover", "change", "decision",
                          "notifications", "breaker", "alarms", "wording", "sandbox", "templates",
                          "receipts", "happenings", "telling", "backend", "plan", "profile",
                          "patterns", "routing", "placing", "escalation", "yaml_lines",
                          "routing_file", "routing_whole", "plan_times"],
    "services/notifier": ["email_rendering", "email_address", "smtp_verdicts", "wording",
                          "http_answers", "apns_verdicts", "sms_verdicts",
                          "retry_after", "fcm_verdicts", "fcm_rendering",
                          "webpush_endpoint", "webpush_rendering", "webpush_verdicts"],
    "services/cli": ["supervision", "up_plan", "status_facts"],
    "sdk/python/onward_sdk": ["state", "positions", "pending", "subscriptions", "introduction",
                              "outgoing", "retries", "edges"],
}  # fmt: skip
IMPURE = {"asyncio", "os", "random", "secrets", "socket", "sqlite3", "time", "grpc", "aiohttp",
          "subprocess", "uuid", "threading", "uvloop"}  # fmt: skip


@pytest.mark.parametrize(
    "core", [f"{folder}/{name}.py" for folder, names in CORES.items() for name in names]
)
def test_a_core_imports_no_io_clock_randomness_or_environment(core: str) -> None:
    assert not {name.split(".")[0] for name in imported(ROOT / core)} & IMPURE
