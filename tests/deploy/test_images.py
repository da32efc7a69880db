"""Each service starts and serves from what its image holds, and from nothing else.

A tree of the files that the Dockerfile copies, an environment with the packages that it installs,
and its own command, environment, health check and signal; without a container engine. The four then
carry a message from a publisher to somebody who has gone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jwt
import pytest

from tests import real_etcd
from tests.deploy.dockerfile import ROOT, SERVICES, build_tree, environment, instructions
from tests.path.stack import ONWARD, Program, base_environ, ended, free_port
from tests.waiting import wait_for

SECRET, KEY = "0123456789abcdef" * 2, "a key that tokens are signed with"
GRANTS = {"subscribe": ["/chat/*"], "publish": ["/chat/*"], "external_tokens": ["mailto:ann@x.org"]}


def said(word: str) -> str:
    """The text of the image's last instruction of a kind."""
    return [i.text for i in instructions() if i.word == word][-1]


class Image:
    """The image of a service, laid out in a folder."""

    def __init__(self, service: str, folder: Path) -> None:
        self.service, self.folder = service, folder
        build_tree(service, folder)
        (folder / "data").mkdir()
        lock = folder / "service.lock"
        program = [sys.executable, str(ROOT / "deploy/service_lock.py"), service]
        lock.write_bytes(subprocess.run(program, capture_output=True, check=True).stdout)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        python = folder / "venv/bin/python"
        if uv := shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
            install = [uv, "pip", "install", "-q", "--python", str(python)]
        else:
            install = [sys.executable, "-m", "pip", "-q", "--python", str(python), "install"]
        subprocess.run([*install, "--require-hashes", "-r", str(lock)], check=True)

    def environ(self, settings: dict[str, str]) -> dict[str, str]:
        """What a process in the container has: the image's ENV, and the settings."""
        inside = environment(self.service)
        inside["PATH"] = inside["PATH"].replace("/opt/onward", str(self.folder / "venv"))
        inside["PYTHONPATH"] = inside["PYTHONPATH"].replace("/app", str(self.folder / "app"))
        return inside | settings

    def start(self, settings: dict[str, str]) -> Program:
        """Its command, in its working directory."""
        return Program(json.loads(said("CMD")), self.environ(settings), cwd=self.folder / "data")

    def healthy(self, settings: dict[str, str]) -> bool:
        """What its health check says."""
        check = json.loads(said("HEALTHCHECK").partition("CMD ")[2])
        environ = self.environ(settings)
        check[0] = str(self.folder / "venv/bin" / check[0])
        done = subprocess.run(check, env=environ, cwd=self.folder, capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_etcd.EtcdServer]:
    with real_etcd.running(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    return {service: Image(service, tmp_path_factory.mktemp(service)) for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_imports_nothing_but_itself_and_its_packages(
    service: str, images: dict[str, Image]
) -> None:
    """Every module of the service, also those that are imported late."""
    app = images[service].folder / "app"
    paths = sorted((app / "services" / service).rglob("*.py"))
    assert len(paths) > 5
    names = ["services.chassis.probe"]
    names += [".".join(p.relative_to(app).with_suffix("").parts) for p in paths]
    program = f"import importlib; [importlib.import_module(name) for name in {names!r}]"
    python = str(images[service].folder / "venv/bin/python")
    done = subprocess.run(
        [python, "-P", "-c", program],
        env=images[service].environ({}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def settings_of(etcd_address: str) -> dict[str, dict[str, str]]:
    """Per service, what a deployment gives it."""
    shared = {"ONWARD_SECRET": SECRET, "ONWARD_ETCD": etcd_address}
    ports = {service: f"127.0.0.1:{free_port()}" for service in [*SERVICES, "clients"]}
    return {
        "edge": shared | {
            "ONWARD_EDGE_ADDRESS": ports["clients"], "ONWARD_EDGE_GRPC_ADDRESS": ports["edge"],
            "ONWARD_EDGE_JWT_HS256_SECRET": KEY,
        },
        "coordinator": shared | {"ONWARD_COORDINATOR_LISTEN": ports["coordinator"]},
        "presence": shared | {
            "ONWARD_PRESENCE_LISTEN": ports["presence"],
            "ONWARD_PRESENCE_PLUGINS": ports["notifier"],
            "ONWARD_PRESENCE_GRACE_S": "0.5", "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.5",
        },
        "notifier": shared | {"ONWARD_NOTIFIER_LISTEN": ports["notifier"]},
    }  # fmt: skip


@pytest.mark.timeout(300)
def test_the_four_images_carry_a_message_to_somebody_who_has_gone(
    images: dict[str, Image], etcd: real_etcd.EtcdServer, tmp_path: Path
) -> None:
    settings = settings_of(etcd.address)
    url = f"http://{settings['edge']['ONWARD_EDGE_ADDRESS']}"
    claims = {"exp": int(time.time()) + 600, "onward": GRANTS}
    ann, bob = (jwt.encode({"sub": user} | claims, KEY, "HS256") for user in ("ann", "bob"))
    with ExitStack() as stack:
        running = {}
        for service in SERVICES:
            running[service] = images[service].start(settings[service])
            stack.enter_context(ended(running[service]))
        for service in SERVICES:
            wait_for(
                healthy(images[service], settings[service], running[service]),
                60, f"{service}: {running[service].errors.all}",
            )  # fmt: skip
        reader = Program(
            [ONWARD, "subscribe", "/chat/1", "--url", url, "--token", ann, "--client-id", "a1",
             "--external-token", "mailto:ann@x.org", "--state-file", str(tmp_path / "state"),
             "--json"],
            base_environ(),
        )  # fmt: skip
        stack.enter_context(ended(reader))
        wait_for(lambda: '"connected"' in "".join(reader.output.all), 20, str(reader.errors.all))
        assert publish(url, bob, "are you there?") == "1"
        wait_for(lambda: re.search("are you there", "".join(reader.output.all)), 20, "it arrives")
        reader.kill()
        assert publish(url, bob, "call me") == "2"
        printed = running["notifier"].output
        wait_for(
            lambda: "call me" in "\n".join(printed.all),
            30, "the notifier sends",
        )  # fmt: skip
        for service in SERVICES:
            assert running[service].end(20) == 0, running[service].errors.all[-5:]


def healthy(image: Image, settings: dict[str, str], program: Program) -> Callable[[], bool]:
    """Whether the service can work; fails if its process has ended."""

    def ask() -> bool:
        assert program.process.poll() is None, program.errors.all
        return image.healthy(settings)

    return ask


def publish(url: str, token: str, text: str) -> str:
    """The number that the message was given."""
    request = urllib.request.Request(
        f"{url}/v1/publish",
        json.dumps({"subject": "/chat/1", "text": text}).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.load(answer)["seq"])
