"""`onward up` with several of each: what it refuses, and a cluster over one PostgreSQL."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis.errors import StartError
from services.cli.up_machine import find_etcd
from services.cli.up_store import era_in
from tests.path.stack import ROOT, Suite, base_environ, ended
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--coordinators", "2"], "--coordinators 2 needs a store"),
        (["--store", "postgresql://user:hidden@127.0.0.1:1/no"], "--store cannot be used"),
    ],
)
def test_what_cannot_be_ends_with_one_sentence(
    tmp_path: Path, options: list[str], words: str
) -> None:
    program = [sys.executable, "-m", "services.cli", "up", "--data-dir", str(tmp_path), *options]
    done = subprocess.run(
        [*program, "--port", "0"], env=base_environ(), cwd=ROOT, capture_output=True, text=True,
        timeout=40, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert words in sentence and "hidden" not in sentence


def test_a_store_without_a_log_has_no_era_and_one_that_is_not_there_is_told(
    postgres_url: str,
) -> None:
    assert era_in(postgres_url) == -1
    with pytest.raises(StartError, match="see that it runs"):
        era_in(postgres_url + "-not")


def test_a_cluster_serves_at_every_edge_and_goes_on_when_members_are_killed(
    tmp_path: Path, postgres_url: str
) -> None:
    try:
        find_etcd(os.environ, 3)
        etcds = "3"
    except StartError:  # no etcd is installed that may be several
        etcds = "1"
    options = ("--coordinators", "2", "--edges", "2", "--presence", "2", "--etcd", etcds,
               "--store", postgres_url)  # fmt: skip
    cluster = Suite(tmp_path / "data", {}, options=options)
    with ended(cluster):
        cluster.wait_ready(60)
        assert len(cluster.urls) == 2
        assert cluster.publish("/chat/1", "one")["seq"] == "1"
        told = cluster.get("/v1/status")
        owners = {row["owner"] for row in told["partitions"]["list"]}
        assert owners == {"coordinator-1", "coordinator-2"}
        wait_for(
            lambda: all(one["owned"] for one in cluster.get("/v1/status")["presences"]),
            20,
            "both presence services have their share",
        )
        killed = {name: cluster.child(name) for name in ("coordinator-2", "edge-1")}
        if etcds == "3":
            killed["etcd-2"] = cluster.child("etcd-2")
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        for name in killed:
            wait_for(
                lambda name=name: any(
                    f"{name} is ready again" in row for row in cluster.output.all
                ),
                40,
                f"{name} is back",
            )
            assert cluster.child(name) != killed[name]
        assert [cluster.publish("/chat/1", text)["seq"] for text in ("two", "three")] == ["2", "3"]
        assert cluster.end() == 0
    # A new etcd goes on before the log in a higher era.
    assert era_in(postgres_url) == 0
    again = Suite(tmp_path / "other", {}, options=("--store", postgres_url))
    with ended(again):
        again.wait_ready(60)
        assert again.publish("/chat/1", "four")["seq"] == "4"
        assert era_in(postgres_url) == 1
        assert again.end() == 0
