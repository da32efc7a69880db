"""Writes docs/settings.md from the settings of every service. Run by `make settings`."""

import dataclasses
import importlib
from pathlib import Path

from services.chassis.settings import Variable, variables

PAGE = Path(__file__).with_name("settings.md")
# What has settings, and the module they are in.
MODULES = {
    **{
        service: f"services.{service}.settings"
        for service in ("edge", "coordinator", "presence", "notifier")
    },
    "apprise": "services.notifier.apprise_settings",
}
HEAD = """# Settings

Every service reads its settings once, at its start, from environment variables. A wrong value
stops the start with one sentence and exit code 2. `onward up` sets what the services need to find
one another and passes on every `ONWARD_…` variable of its own environment. A shared variable can be
given for one service alone: for an edge, `ONWARD_EDGE_ETCD` goes before `ONWARD_ETCD`.

This page is generated from the code by `make settings`.
"""


def row(variable: Variable) -> str:
    """A table row: name, default, meaning."""
    if variable.default is dataclasses.MISSING:
        default = "required"
    elif variable.default in ("", ()):
        default = "empty"
    elif isinstance(variable.default, tuple):
        default = f"`{','.join(variable.default)}`"
    elif variable.kind is bool:
        default = "`on`" if variable.default else "`off`"
    else:
        default = f"`{variable.default}`"
    doc = " ".join(variable.doc.split()).replace("|", "\\|").replace("<", "&lt;")
    return f"| `{variable.name}` | {default} | {doc} |"


def page() -> str:
    """The whole page: shared variables first, then each service's own."""
    parts = [HEAD]
    shared: dict[str, Variable] = {}
    own: dict[str, list[Variable]] = {}
    for service, module in MODULES.items():
        settings = importlib.import_module(module).Settings
        for variable in variables(settings, service):
            if variable.name.startswith(f"ONWARD_{service.upper()}_"):
                own.setdefault(service, []).append(variable)
            else:
                shared.setdefault(variable.name, variable)
    for title, rows in [("Shared", list(shared.values())), *own.items()]:
        table = ["| variable | default | meaning |", "|---|---|---|", *map(row, rows)]
        parts.append(f"## {title.capitalize()}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
