import socket
import subprocess
from dataclasses import astuple
from pathlib import Path

import pytest

from services.chassis.errors import StartError
from services.cli import up_machine
from services.cli.up_plan import Sizes


def test_the_drawn_ports_are_free_and_different() -> None:
    ports = [port for kind in astuple(up_machine.draw_ports(0)) for port in kind]
    assert len(set(ports)) == 7
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_the_port_asked_for_is_kept() -> None:
    (free,) = up_machine.draw_ports(0).http
    assert up_machine.draw_ports(free).http == (free,)


def test_edges_have_ports_in_a_row_and_a_busy_one_is_named() -> None:
    sizes = Sizes(edge=3)
    first, second, third = up_machine.draw_ports(0, sizes).http
    assert (second, third) == (first + 1, first + 2)
    assert up_machine.draw_ports(first, sizes).http == (first, second, third)
    with socket.socket() as other:
        other.bind(("127.0.0.1", second))
        other.listen()
        with pytest.raises(StartError, match=f"port {second} of 127.0.0.1 is in use"):
            up_machine.draw_ports(first, sizes)
    with pytest.raises(StartError, match="65536 is no port"):
        up_machine.draw_ports(65_535, Sizes(edge=2))


def test_a_busy_port_is_refused_with_the_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StartError, match=r"is in use; free it, or .* --port"):
            up_machine.draw_ports(other.getsockname()[1])


def test_a_number_that_is_no_port_is_refused() -> None:
    with pytest.raises(StartError, match="--port"):
        up_machine.draw_ports(70_000)


def a_binary(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    path = folder / "etcd"
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def test_the_binary_on_the_path_comes_first_and_wrappers_are_passed_over(tmp_path: Path) -> None:
    wrapper = a_binary(tmp_path / "wrapper", b"#!/bin/sh\n")
    binary = a_binary(tmp_path / "binary", b"\x7fELF")
    path = f"{wrapper.parent}:{binary.parent}"
    assert up_machine.find_etcd({"PATH": path}) == str(binary)


def test_the_packaged_binary_is_next() -> None:
    assert Path(up_machine.find_etcd({"PATH": "/nonexistent"})).is_file()


@pytest.mark.parametrize(
    ("version", "refused"),
    [("3.4.23", False), ("3.5.0", True), ("3.5.1", True), ("3.5.2", True), ("3.5.3", False)],
)
def test_an_etcd_that_may_corrupt_several_members_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, refused: bool
) -> None:
    said = f"etcd Version: {version}\nGit SHA: 1\n"
    done = subprocess.CompletedProcess([], 0, said, "")
    monkeypatch.setattr("services.cli.up_machine.subprocess.run", lambda *_, **__: done)
    binary = a_binary(tmp_path / "binary", b"\x7fELF")
    environ = {"PATH": str(binary.parent)}
    assert up_machine.find_etcd(environ) == str(binary)
    if refused:
        with pytest.raises(StartError, match=f"etcd {version} .* apt-get install etcd-server"):
            up_machine.find_etcd(environ, 3)
    else:
        assert up_machine.find_etcd(environ, 3) == str(binary)


def test_the_packaged_binary_is_asked_and_refused_for_several() -> None:
    with pytest.raises(StartError, match=r"etcd 3\.5\.1 at .*, or leave --etcd at 1"):
        up_machine.find_etcd({"PATH": "/nonexistent"}, 3)


def test_without_any_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"etcd is missing; put .* or install"):
        up_machine.find_etcd({"PATH": "/nonexistent"})
