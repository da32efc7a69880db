"""What `onward up` starts: each child's command, environment and health check. Pure.

It knows the names of the services' settings, their ports and folders; it starts nothing. Every
variable `ONWARD_…` that the user gave reaches the services it is for, save those that must be
decided here: naming one of them is an error, because it would silently mean nothing.

A child that is alone of its kind has the kind's name; of several, each has a number from 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis.errors import SettingError

SERVICES = ("coordinator", "presence", "notifier", "edge")
# In the order in which they stop, with the seconds that those of a kind may take, together: below
# 5 s in all.
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
     "ONWARD_COORDINATOR_DATA_DIR", "ONWARD_COORDINATOR_ERA", "ONWARD_COORDINATOR_STORE",
     "ONWARD_PRESENCE_LISTEN", "ONWARD_PRESENCE_NAME", "ONWARD_PRESENCE_DATA_DIR",
     "ONWARD_PRESENCE_ERA", "ONWARD_PRESENCE_STORE", "ONWARD_NOTIFIER_LISTEN"}
)  # fmt: skip
# Ports that several processes would want at once.
_ONE_EACH = {"coordinator": "ONWARD_COORDINATOR_METRICS_PORT",
             "presence": "ONWARD_PRESENCE_METRICS_PORT"}  # fmt: skip
# Settings of mutual TLS, in which onward up has no part.
_TLS = tuple(f"ONWARD_{service.upper()}_TLS_" for service in SERVICES)
# Variables with passwords, and the one service that needs each.
_ONLY_FOR = dict.fromkeys(
    ("ONWARD_SMTP_URL", "ONWARD_SMTP_FROM", "ONWARD_TWILIO_AUTH_TOKEN", "ONWARD_WEBHOOK_SECRETS",
     "ONWARD_WEBPUSH_VAPID_KEY"),
    "notifier",
)  # fmt: skip
_STORES = ("postgresql://", "postgres://")
HOST = "127.0.0.1"
# Tells whoever looks at the process which child it is.
NAME_VARIABLE = "ONWARD_UP_CHILD"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many processes of each kind there are; one notifier."""

    coordinator: int = 1
    presence: int = 1
    edge: int = 1
    etcd: int = 1

    def of(self, kind: str) -> int:
        """How many of a kind."""
        return 1 if kind == "notifier" else int(getattr(self, kind))


@dataclass(frozen=True, slots=True)
class Ports:
    """On loopback; as many of each as there are processes. All but `http` are drawn."""

    http: tuple[int, ...]
    edge: tuple[int, ...]
    coordinator: tuple[int, ...]
    presence: tuple[int, ...]
    notifier: tuple[int, ...]
    etcd: tuple[int, ...]
    etcd_peer: tuple[int, ...]


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
    kind: str = ""


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
    sizes: Sizes = field(default_factory=Sizes)
    store: str = ""  # postgresql://…; empty: SQLite


def check(environ: Mapping[str, str], sizes: Sizes | None = None, store: str = "") -> None:
    """Raises SettingError for what cannot be, and for a variable that would mean nothing."""
    for name in sorted(name for name in _DECIDED_HERE if environ.get(name)):
        remedy = "name the database with --store" if name.endswith("_STORE") else "unset it"
        raise SettingError(
            f"{name} is set, but onward up decides it itself; {remedy}, or start the services "
            "one by one"
        )
    for name in sorted(name for name in environ if name.startswith(_TLS) and environ[name]):
        raise SettingError(
            f"{name} is set, but within onward up services show a secret that it draws; unset it, "
            "or start the services one by one"
        )
    sizes = sizes or Sizes()
    if store and not store.startswith(_STORES):
        raise SettingError("--store is no PostgreSQL; write it as postgresql://user@host/database")
    for kind, option in (("coordinator", "--coordinators"), ("presence", "--presence")):
        if sizes.of(kind) > 1 and not store:
            raise SettingError(
                f"{option} {sizes.of(kind)} needs a store that several processes may use, and "
                f"SQLite is for one; name a PostgreSQL with --store postgresql://…, or leave "
                f"{option} at 1"
            )
        if sizes.of(kind) > 1 and environ.get(_ONE_EACH[kind], "0") != "0":
            raise SettingError(
                f"{_ONE_EACH[kind]} is one port, and there are to be {sizes.of(kind)} processes; "
                "unset it"
            )
    if sizes.etcd % 2 == 0:
        raise SettingError(
            f"--etcd {sizes.etcd} stands no more failures than one less; choose an odd number"
        )


def names(kind: str, count: int) -> tuple[str, ...]:
    """The children of a kind."""
    return (kind,) if count == 1 else tuple(f"{kind}-{n}" for n in range(1, count + 1))


def folder(kind: str, number: int) -> str:
    """Where the child of that number, from 0, keeps its data: one that is alone, and the first of
    several, in the same."""
    return kind if number == 0 else f"{kind}-{number + 1}"


def etcd_folders(count: int) -> tuple[str, ...]:
    """Where the members of an etcd of that size keep their data. No two sizes share one: members
    remember with whom they were."""
    return ("etcd",) if count == 1 else tuple(f"etcd-{n}-of-{count}" for n in range(1, count + 1))


def stop_shares(children: Sequence[Child]) -> dict[tuple[str, ...], float]:
    """Which children stop together, in their order, and the seconds they may take."""
    return {
        tuple(child.name for child in children if child.kind == kind): share
        for kind, share in STOP_SHARES.items()
    }


def children(plan: Plan) -> list[Child]:
    """All children, in the order in which they start."""
    return [
        *_etcds(plan),
        *_services(plan, "coordinator"),
        *_services(plan, "presence"),
        *_services(plan, "notifier"),
        *_services(plan, "edge"),
    ]


def urls(plan: Plan) -> list[str]:
    """Where clients connect: one of each edge."""
    return [f"http://{HOST}:{port}" for port in plan.ports.http]


def _etcds(plan: Plan) -> list[Child]:
    return [
        Child(
            name,
            etcd_command(plan, number),
            system_environ(plan) | {NAME_VARIABLE: name},
            http_port=plan.ports.etcd[number],
            http_path="/health",
            kind="etcd",
        )
        for number, name in enumerate(names("etcd", plan.sizes.etcd))
    ]


def etcd_command(plan: Plan, number: int = 0) -> tuple[str, ...]:
    """A member on loopback. One alone elects itself in a third of a second; several are given
    time, because machines on which one tries things out are busy."""
    ports, count = plan.ports, plan.sizes.etcd
    members = names("onward", count)
    peers = [f"http://{HOST}:{port}" for port in ports.etcd_peer]
    client = f"http://{HOST}:{ports.etcd[number]}"
    options = {
        "name": members[number],
        "data-dir": str(plan.directory / etcd_folders(count)[number]),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peers[number],
        "initial-advertise-peer-urls": peers[number],
        "initial-cluster": ",".join(
            f"{name}={peer}" for name, peer in zip(members, peers, strict=True)
        ),
        "heartbeat-interval": "25" if count == 1 else "100",
        "election-timeout": "250" if count == 1 else "1000",
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


def service_environ(plan: Plan, service: str, number: int = 0) -> dict[str, str]:
    """The environment of one service: the user's variables for it, and what is decided here."""
    others = tuple(f"ONWARD_{other.upper()}_" for other in SERVICES if other != service)
    given = {
        name: value
        for name, value in plan.environ.items()
        if not name.startswith(others) and _ONLY_FOR.get(name, service) == service
    }
    return _defaults(service) | given | _decided(plan, service, number)


def anonymous(environ: Mapping[str, str]) -> bool:
    """Whether the edge will let in clients without a token."""
    given = environ.get("ONWARD_EDGE_ANONYMOUS") or _defaults("edge")["ONWARD_EDGE_ANONYMOUS"]
    return given.lower() in ("1", "true", "yes", "on")


def system_environ(plan: Plan) -> dict[str, str]:
    """The user's environment without our variables, nor etcd's own: it reads ETCD_… itself."""
    return {k: v for k, v in plan.environ.items() if not k.startswith(("ONWARD_", "ETCD_"))}


def _services(plan: Plan, kind: str) -> list[Child]:
    count = plan.sizes.of(kind)
    ports: tuple[int, ...] = getattr(plan.ports, kind)
    return [
        Child(
            name,
            # -P: a folder named `services` where the user stands must not be taken for ours.
            (plan.python, "-P", "-m", f"services.{kind}"),
            service_environ(plan, kind, number) | {NAME_VARIABLE: name},
            names("etcd", plan.sizes.etcd) if kind != "notifier" else (),
            ports[number],
            http_port=plan.ports.http[number] if kind == "edge" else 0,
            http_path="/readyz" if kind == "edge" else "",
            shown=kind == "notifier",
            kind=kind,
        )
        for number, name in enumerate(names(kind, count))
    ]


def _defaults(service: str) -> dict[str, str]:
    """What suits one machine and the user may change."""
    made = {f"ONWARD_{service.upper()}_DRAIN_S": _DRAIN_S[service]}
    if service == "edge":
        made |= {"ONWARD_EDGE_ANONYMOUS": "true", "ONWARD_EDGE_PAGE": "true"}
    return made


def _decided(plan: Plan, service: str, number: int) -> dict[str, str]:
    ports, directory = plan.ports, plan.directory
    notifier = f"{HOST}:{ports.notifier[0]}"
    plugins = plan.environ.get("ONWARD_PRESENCE_PLUGINS", "")
    if service == "edge":
        own = {
            "ADDRESS": f"{HOST}:{ports.http[number]}",
            "GRPC_ADDRESS": f"{HOST}:{ports.edge[number]}",
        }
    elif service == "notifier":
        own = {"LISTEN": notifier}
    else:
        own = {
            "LISTEN": f"{HOST}:{getattr(ports, service)[number]}",
            "NAME": f"{service}-{number + 1}",
            "DATA_DIR": str(directory / folder(service, number)),
            "ERA": str(plan.era),
        }
        if plan.store:
            own["STORE"] = plan.store
    if service == "presence":
        # The first plugin of a channel serves it, so the user's own come before ours.
        own["PLUGINS"] = f"{plugins},{notifier}" if plugins else notifier
    return {f"ONWARD_{service.upper()}_{name}": value for name, value in own.items()} | {
        "ONWARD_ETCD": ",".join(f"{HOST}:{port}" for port in ports.etcd),
        "ONWARD_SECRET": plan.secret,
        "ONWARD_DIE_WITH_PARENT": "1",
        "ONWARD_PARENT_PID": str(plan.parent),
    }
