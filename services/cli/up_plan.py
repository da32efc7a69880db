"""What `onward up` starts: each child's command, environment and health check. Pure.

It knows the names of the services' settings, their ports and folders; it starts nothing. Every
variable `ONWARD_…` that the user gave reaches the services it is for, save those that must be
decided here: naming one of them is an error, because it would silently mean nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.chassis.errors import SettingError

SERVICES = ("coordinator", "presence", "notifier", "edge")
# In the order in which they stop, with the seconds that each may take: below 5 s in all.
STOP_SHARES: Mapping[str, float] = {
    "edge": 2.0,
    "coordinator": 1.1,
    "presence": 0.8,
    "notifier": 0.5,
    "etcd": 0.4,
}
# Shorter than the services' own, to fit the shares.
_DRAIN_S = {"edge": "1.2", "coordinator": "0.8", "presence": "0.5", "notifier": "0.3"}
_DECIDED_HERE = frozenset(
    {"ONWARD_ETCD", "ONWARD_SECRET", "ONWARD_EDGE_ADDRESS", "ONWARD_EDGE_GRPC_ADDRESS",
     "ONWARD_COORDINATOR_LISTEN", "ONWARD_COORDINATOR_ADVERTISE", "ONWARD_COORDINATOR_NAME",
     "ONWARD_COORDINATOR_DATA_DIR", "ONWARD_COORDINATOR_ERA", "ONWARD_PRESENCE_LISTEN",
     "ONWARD_PRESENCE_NAME", "ONWARD_PRESENCE_DATA_DIR", "ONWARD_PRESENCE_ERA",
     "ONWARD_NOTIFIER_LISTEN"}
)  # fmt: skip
# Variables with passwords, and the one service that needs each.
_ONLY_FOR = {"ONWARD_SMTP_URL": "notifier", "ONWARD_SMTP_FROM": "notifier"}
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """On loopback. All but `http` are drawn."""

    http: int
    edge: int
    coordinator: int
    presence: int
    notifier: int
    etcd: int
    etcd_peer: int


@dataclass(frozen=True, slots=True)
class Child:
    """A process to start, and how to ask whether it can do its work."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    needs: tuple[str, ...] = ()  # names of children it cannot work without
    grpc_port: int = 0  # grpc.health.v1 is asked there; 0: not
    http_port: int = 0  # `http_path` is asked there; 0: not
    http_path: str = ""
    shown: bool = False  # its standard output is for the terminal, not for its log


@dataclass(frozen=True, slots=True)
class Plan:
    """The facts that the children are made of."""

    directory: Path
    ports: Ports
    secret: str
    era: int
    python: str
    etcd: str  # path of the binary
    parent: int  # pid that the children die with
    environ: Mapping[str, str]  # the user's


def check(environ: Mapping[str, str]) -> None:
    """Raises SettingError for a variable that `onward up` decides itself."""
    for name in sorted(name for name in _DECIDED_HERE if environ.get(name)):
        raise SettingError(
            f"{name} is set, but onward up decides it itself; unset it, or start the services "
            "one by one"
        )


def children(plan: Plan) -> list[Child]:
    """All children, in the order in which they start."""
    ports = plan.ports
    return [
        Child("etcd", etcd_command(plan), system_environ(plan), http_port=ports.etcd,
              http_path="/health"),
        _service(plan, "coordinator", ports.coordinator),
        _service(plan, "presence", ports.presence),
        _service(plan, "notifier", ports.notifier, shown=True),
        _service(plan, "edge", ports.edge, http_port=ports.http, http_path="/readyz"),
    ]  # fmt: skip


def etcd_command(plan: Plan) -> tuple[str, ...]:
    """One member on loopback. The intervals suit that: it elects itself in a third of a second."""
    client, peer = f"http://{HOST}:{plan.ports.etcd}", f"http://{HOST}:{plan.ports.etcd_peer}"
    options = {
        "name": "onward",
        "data-dir": str(plan.directory / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"onward={peer}",
        "heartbeat-interval": "25",
        "election-timeout": "250",
        # Watches resume from memory or list again, so old revisions are of no use.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        # Fewer entries to replay at a start than by default.
        "snapshot-count": "5000",
        "log-level": "warn",
    }
    become = (plan.python, "-I", "-S", str(Path(__file__).with_name("up_exec.py")))
    arguments = (f"--{name}={value}" for name, value in options.items())
    return (*become, str(plan.parent), plan.etcd, *arguments)


def service_environ(plan: Plan, service: str) -> dict[str, str]:
    """The environment of one service: the user's variables for it, and what is decided here."""
    others = tuple(f"ONWARD_{other.upper()}_" for other in SERVICES if other != service)
    given = {
        name: value
        for name, value in plan.environ.items()
        if not name.startswith(others) and _ONLY_FOR.get(name, service) == service
    }
    return _defaults(service) | given | _decided(plan, service)


def anonymous(environ: Mapping[str, str]) -> bool:
    """Whether the edge will let in clients without a token."""
    given = environ.get("ONWARD_EDGE_ANONYMOUS") or _defaults("edge")["ONWARD_EDGE_ANONYMOUS"]
    return given.lower() in ("1", "true", "yes", "on")


def system_environ(plan: Plan) -> dict[str, str]:
    """The user's environment without our variables, nor etcd's own: it reads ETCD_… itself."""
    return {k: v for k, v in plan.environ.items() if not k.startswith(("ONWARD_", "ETCD_"))}


def _service(plan: Plan, name: str, grpc_port: int, **health: object) -> Child:
    # -P: a folder named `services` where the user stands must not be taken for ours.
    command = (plan.python, "-P", "-m", f"services.{name}")
    needs = ("etcd",) if name != "notifier" else ()
    return Child(
        name, command, service_environ(plan, name), needs, grpc_port, **health  # type: ignore[arg-type]
    )  # fmt: skip


def _defaults(service: str) -> dict[str, str]:
    """What suits one machine and the user may change."""
    made = {f"ONWARD_{service.upper()}_DRAIN_S": _DRAIN_S[service]}
    if service == "edge":
        made |= {"ONWARD_EDGE_ANONYMOUS": "true", "ONWARD_EDGE_PAGE": "true"}
    return made


def _decided(plan: Plan, service: str) -> dict[str, str]:
    ports, directory = plan.ports, plan.directory
    notifier = f"{HOST}:{ports.notifier}"
    plugins = plan.environ.get("ONWARD_PRESENCE_PLUGINS", "")
    own = {
        "edge": {
            "ADDRESS": f"{HOST}:{ports.http}",
            "GRPC_ADDRESS": f"{HOST}:{ports.edge}",
        },
        "coordinator": {
            "LISTEN": f"{HOST}:{ports.coordinator}",
            "NAME": "coordinator-1",
            "DATA_DIR": str(directory / "coordinator"),
            "ERA": str(plan.era),
        },
        "presence": {
            "LISTEN": f"{HOST}:{ports.presence}",
            "NAME": "presence-1",
            "DATA_DIR": str(directory / "presence"),
            "ERA": str(plan.era),
            # The first plugin of a channel serves it, so the user's own come before ours.
            "PLUGINS": f"{plugins},{notifier}" if plugins else notifier,
        },
        "notifier": {"LISTEN": notifier},
    }[service]
    return {f"ONWARD_{service.upper()}_{name}": value for name, value in own.items()} | {
        "ONWARD_ETCD": f"{HOST}:{ports.etcd}",
        "ONWARD_SECRET": plan.secret,
        "ONWARD_DIE_WITH_PARENT": "1",
        "ONWARD_PARENT_PID": str(plan.parent),
    }
