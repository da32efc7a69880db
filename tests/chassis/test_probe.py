"""The probe of a container tells what the service's health says, shown what the port wants."""

import subprocess
import sys

import pytest

from services.chassis.errors import SettingError
from services.chassis.probe import ask, main, peer
from services.chassis.server import Server
from tests.path.stack import base_environ, free_port

SECRET = "0123456789abcdef"


def environ(port: int, **more: str) -> dict[str, str]:
    listen = f"0.0.0.0:{port}"
    return {"SERVICE": "presence", "ONWARD_PRESENCE_LISTEN": listen, "ONWARD_SECRET": SECRET} | more


def test_it_tells_ready_from_alive_and_alive_from_gone(run):
    async def claim():
        server = Server("127.0.0.1:0", SECRET, [])
        await server.start()
        whom = peer(environ(server.port))
        waiting, alive = await ask(whom, alive=False), await ask(whom, alive=True)
        await server.set_serving(True)
        ready = await ask(whom, alive=False)
        stranger = peer(environ(server.port, ONWARD_SECRET="another secret of 16"))
        refused = await ask(stranger, alive=True)
        await server.drain(0)
        gone = await ask(whom, alive=True)
        return waiting, alive, ready, refused, gone

    waiting, alive, ready, refused, gone = run(claim())
    assert "cannot do its work" in waiting
    assert (alive, ready) == ("", "")
    assert "UNAUTHENTICATED" in refused
    assert "UNAVAILABLE" in gone


def test_it_asks_where_the_service_listens():
    assert peer(environ(7200)).address == "127.0.0.1:7200"
    edge = {"SERVICE": "edge", "ONWARD_EDGE_GRPC_ADDRESS": "edge-1:7400", "ONWARD_SECRET": SECRET}
    assert peer(edge).address == "edge-1:7400"
    six = environ(0, ONWARD_PRESENCE_LISTEN="[::]:7200")
    assert peer(six).address == "[::1]:7200"
    plain = environ(7200, ONWARD_PRESENCE_ADVERTISE="presence-1:7200")
    assert peer(plain).address == "127.0.0.1:7200"


NO_SECRET = environ(1, ONWARD_SECRET="")


@pytest.mark.parametrize("settings", [{}, {"SERVICE": "edge"}, environ(0), NO_SECRET])
def test_it_says_what_is_missing(settings, capsys):
    with pytest.raises(SettingError):
        peer(settings)
    assert main([], settings) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_as_a_program_it_ends_with_the_code_that_containers_look_at():
    program = [sys.executable, "-m", "services.chassis.probe"]
    given = base_environ() | environ(free_port())
    done = subprocess.run(program, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("does not answer (UNAVAILABLE)\n")
    done = subprocess.run([*program, "-x"], env=given, capture_output=True, check=False)
    assert done.returncode == 2
