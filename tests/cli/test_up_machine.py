import socket
from dataclasses import astuple
from pathlib import Path

import pytest

from services.chassis.errors import StartError
from services.cli import up_machine


def test_the_drawn_ports_are_free_and_different() -> None:
    ports = astuple(up_machine.draw_ports(0))
    assert len(set(ports)) == 7
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_the_port_asked_for_is_kept() -> None:
    free = up_machine.draw_ports(0).http
    assert up_machine.draw_ports(free).http == free


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


def test_without_any_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"etcd is missing; put .* or install"):
        up_machine.find_etcd({"PATH": "/nonexistent"})
