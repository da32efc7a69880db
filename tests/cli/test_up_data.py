import os
from pathlib import Path

import pytest

from services.chassis.errors import StartError
from services.cli import up_data


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with up_data.held(tmp_path / "a" / "b") as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {p.name for p in directory.iterdir() if p.is_dir()} == {
            "etcd", "coordinator", "presence", "logs"
        }  # fmt: skip


def test_a_second_holder_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    second = up_data.held(tmp_path)
    with up_data.held(tmp_path), pytest.raises(StartError, match="another onward up uses"):
        second.__enter__()
    with up_data.held(tmp_path):
        pass


def test_a_directory_that_is_none_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/onward")):
        with pytest.raises(StartError, match="--data-dir"), up_data.held(path):
            pass


def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)  # root may write everywhere
    try:
        with pytest.raises(StartError, match="Permission denied"):
            up_data.held(tmp_path / "data").__enter__()
    finally:
        os.seteuid(user)


def test_the_secret_is_drawn_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    drawn = up_data.secret(tmp_path)
    assert len(drawn) >= 32
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert up_data.secret(tmp_path) == drawn


def test_a_damaged_secret_is_not_used(tmp_path: Path) -> None:
    for damaged in (b"short", b"\xff" * 40):
        (tmp_path / "secret").write_bytes(damaged)
        with pytest.raises(StartError):
            up_data.secret(tmp_path)


def test_the_era_rises_when_etcd_is_new_and_the_log_is_not(tmp_path: Path) -> None:
    with up_data.held(tmp_path) as directory:
        assert up_data.era(directory) == 0  # Both are new.
        (directory / "etcd" / "member").mkdir()
        (directory / "coordinator" / "log.sqlite").write_text("")
        assert up_data.era(directory) == 0  # Both are kept.
        (directory / "etcd" / "member").rmdir()
        assert up_data.era(directory) == 1
        (directory / "etcd" / "member").mkdir()
        assert up_data.era(directory) == 1
        (directory / "era").write_text("x")
        with pytest.raises(StartError, match="era is damaged"):
            up_data.era(directory)


def test_with_a_store_the_era_rises_above_that_of_its_log_when_etcd_is_new(tmp_path: Path) -> None:
    with up_data.held(tmp_path) as directory:
        assert up_data.era(directory, in_store=-1) == 0  # There is no log.
        assert up_data.era(directory, in_store=4) == 5
        (directory / "etcd" / "member").mkdir()
        assert up_data.era(directory, in_store=5) == 5


def test_an_etcd_of_another_size_begins_anew(tmp_path: Path) -> None:
    one, three = ("etcd",), tuple(f"etcd-{n}-of-3" for n in (1, 2, 3))
    with up_data.held(tmp_path) as directory:
        (directory / "etcd" / "member").mkdir()
        up_data.make_folders(directory, one, ("coordinator", "coordinator-2"))
        assert (directory / "etcd" / "member").exists()
        assert (directory / "coordinator-2").is_dir()
        up_data.make_folders(directory, three, ())
        assert not (directory / "etcd").exists()
        for name in three:
            (directory / name / "member").mkdir()
        up_data.make_folders(directory, three, ())
        assert (directory / three[0] / "member").exists()
        # One that lost its data would answer for entries that it has not.
        (directory / three[1] / "member").rmdir()
        up_data.make_folders(directory, three, ())
        assert not (directory / three[0] / "member").exists()


def test_a_long_log_is_set_aside_while_its_process_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up_data, "LOG_BYTES_MAX", 10)
    with up_data.held(tmp_path) as directory:
        log = up_data.log_path(directory, "edge")
        up_data.set_aside(log)  # there is none yet
        with log.open("a") as process:
            process.write("x" * 10)
            process.flush()
            up_data.set_aside(log)
            assert not log.with_suffix(".log.1").exists()
            process.write("y")
            process.flush()
            up_data.set_aside(log)
            process.write("after")
        assert log.with_suffix(".log.1").read_text() == "x" * 10 + "y"
        assert log.read_text() == "after"


def test_the_last_line_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    assert up_data.last_line(log) == ""
    log.write_text("x" * 10_000 + "\nfirst\nthe port is in use\n")
    assert up_data.last_line(log) == "the port is in use"
