"""One etcd for each module of the coordinator's tests."""

from collections.abc import Iterator

import pytest

from tests.real_etcd import EtcdServer, running


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as server:
        yield server
