"""`onward up`: the embedded profile, every service on this machine, in one command.

    up ── up_data        the data directory: lock, secret, era, logs
       ├─ up_machine     free ports, the etcd binary
       ├─ up_store       the era of a log that is in PostgreSQL
       ├─ up_plan        commands, environments, health checks (pure)
       └─ up_processes ── supervision    what runs when (pure)
                       └─ up_health      who is ready

The children are started by the commands that an operator uses. They die with this process, even
when it is killed: each asks the kernel for that (up_exec does it for etcd). They are started
from the main thread, because the kernel's promise is about the thread that started them.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from services.chassis.errors import SettingError
from services.cli import up_data, up_machine, up_plan
from services.cli.supervision import Supervision
from services.cli.up_plan import Plan, Sizes
from services.cli.up_processes import Processes

DATA_DIR = Path("onward-data")
PORT = 8080


def run_up(
    data_dir: Path = DATA_DIR, port: int = PORT, sizes: Sizes | None = None, store: str = ""
) -> NoReturn:
    """Run everything until SIGTERM, SIGINT or SIGHUP; then exit the process, with code 0.

    `port` serves clients on 127.0.0.1, and with several edges those after it; 0 draws one. `store`
    is where the log and presence are kept, as `postgresql://…`; empty: in the data directory.
    Whatever is in the way of a start is one sentence on standard error, and code 2.
    """
    assert threading.current_thread() is threading.main_thread()
    sizes = sizes or Sizes()
    try:
        up_plan.check(os.environ, sizes, store)
        with up_data.held(data_dir) as directory:
            plan = _plan(directory, port, os.environ, sizes, store)
            sys.exit(asyncio.run(_run(plan)))
    except SettingError as error:
        _complain(str(error))
        sys.exit(2)


def _plan(directory: Path, port: int, environ: Mapping[str, str], sizes: Sizes, store: str) -> Plan:
    ports = up_machine.draw_ports(port, sizes)
    etcd = up_machine.find_etcd(environ, sizes.etcd)
    etcds = up_plan.etcd_folders(sizes.etcd)
    in_store = None
    if store:
        # Imported here: without a store nobody needs the driver.
        from services.cli.up_store import era_in

        in_store = era_in(store)
    kept = [
        up_plan.folder(kind, number)
        for kind in ("coordinator", "presence")
        for number in range(sizes.of(kind))
    ]
    up_data.make_folders(directory, etcds, kept)
    return Plan(
        directory=directory,
        ports=ports,
        secret=up_data.secret(directory),
        era=up_data.era(directory, etcds, in_store),
        python=sys.executable,
        etcd=etcd,
        parent=os.getpid(),
        environ=environ,
        sizes=sizes,
        store=store,
    )


async def _run(plan: Plan) -> int:
    began = time.monotonic()
    directory = plan.directory
    children = up_plan.children(plan)

    def ready() -> None:
        for line in _facts(plan.environ):
            _show(f"onward: {line}")
        _show(f"onward: started in {time.monotonic() - began:.1f} s; Ctrl-C stops it")
        _show(f"onward ready: {' '.join(up_plan.urls(plan))}")

    _show(f"onward: data in {directory}, logs in {directory / 'logs'}")
    _show(f"onward: starting {', '.join(child.name for child in children)}")
    core = Supervision(
        {child.name: child.needs for child in children}, up_plan.stop_shares(children)
    )
    code = await Processes(children, core, directory, plan.secret, _show, _complain, ready).run()
    _show("onward: stopped")
    return code


def _facts(environ: Mapping[str, str]) -> list[str]:
    """What the person should know about how this is set up."""
    facts = []
    if up_plan.anonymous(environ):
        facts.append("anonymous access is on: any program on this machine may connect, as any user")
    if not environ.get("ONWARD_SMTP_URL"):
        facts.append("e-mail is off (ONWARD_SMTP_URL is not set): notifications are printed here")
    return facts


def _show(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        pass  # Nobody reads any more; the services run on.


def _complain(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
