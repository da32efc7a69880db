"""Certificates, user and password, before a real etcd that asks for them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from services.chassis.errors import SettingError, Unavailable
from services.chassis.etcd import Access, Etcd
from tests.certificates import Authority, Files
from tests.log_scan import CANARY
from tests.real_etcd import EtcdServer, running
from tests.waiting import until

Run = Callable[[Any], Any]
PASSWORD = f"{CANARY}-of-etcd"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cert_file": "FILE"}, "ONWARD_ETCD_KEY_FILE is not set"),
        ({"key_file": "FILE"}, "ONWARD_ETCD_CERT_FILE is not set"),
        ({"user": "onward"}, "ONWARD_ETCD_PASSWORD_FILE is not set"),
        ({"password_file": "FILE"}, "ONWARD_ETCD_USER is not set"),
        ({"ca_file": "ABSENT"}, "ONWARD_ETCD_CA_FILE: .*absent cannot be read"),
        ({"user": "onward", "password_file": "ABSENT"}, "ONWARD_ETCD_PASSWORD_FILE: .*absent"),
    ],
)
def test_what_is_missing_or_unreadable_is_named(
    tmp_path: Path, given: dict[str, str], words: str
) -> None:
    (tmp_path / "file").write_text("")
    places = {"FILE": str(tmp_path / "file"), "ABSENT": str(tmp_path / "absent")}
    access = Access(**{name: places.get(value, value) for name, value in given.items()})
    with pytest.raises(SettingError, match=words):
        Etcd("127.0.0.1:1", access=access)


# TLS.


def shown(files: Files) -> Access:
    return Access(str(files.ca), str(files.cert), str(files.key))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def closed(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd that asks for a certificate."""
    with running(tmp_path_factory.mktemp("etcd"), tls=authority.sign("etcd")) as server:
        yield server


def test_certificates_of_the_ca_are_taken_from_both_ends(
    run: Run, closed: EtcdServer, authority: Authority
) -> None:
    async def body() -> None:
        etcd = Etcd(closed.address, access=shown(authority.sign("client")))
        revision = await etcd.put("/a", "1")
        assert (await etcd.range("/a")).revision == revision
        await etcd.close()

    run(body())


def test_who_shows_none_or_that_of_another_ca_is_not_let_in(
    run: Run, closed: EtcdServer, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path).sign("stranger")
    mixed = Access(str(authority.file), str(stranger.cert), str(stranger.key))

    async def body() -> None:
        for access in (Access(), Access(ca_file=str(authority.file)), mixed):
            etcd = Etcd(closed.address, access=access)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await etcd.get("/a")
            await etcd.close()

    run(body())


def test_an_etcd_with_a_certificate_of_another_ca_or_host_is_not_told_anything(
    run: Run, closed: EtcdServer, authority: Authority, tmp_path: Path
) -> None:
    ours = authority.sign("careful")
    other_ca = Access(str(Authority(tmp_path).file), str(ours.cert), str(ours.key))

    async def body() -> None:
        etcd = Etcd(closed.address, access=other_ca)
        with pytest.raises(Unavailable, match="handshake failed"):
            await etcd.get("/a")
        await etcd.close()
        etcd = Etcd(closed.address.replace("127.0.0.1", "localhost"), access=shown(ours))
        with pytest.raises(Unavailable, match="cannot be reached"):
            await etcd.get("/a")
        await etcd.close()

    run(body())


def test_the_next_connection_shows_what_the_files_hold_by_then(
    run: Run, closed: EtcdServer, authority: Authority
) -> None:
    files = authority.sign("renewed", days=-0.01)

    async def body() -> None:
        etcd = Etcd(closed.address, access=shown(files))
        with pytest.raises(Unavailable):
            await etcd.get("/a")
        files.key.rename(files.key.with_suffix(".away"))
        with pytest.raises(Unavailable, match=r"renewed\.key cannot be read"):
            await etcd.get("/a")
        authority.sign("renewed")
        await etcd.range("/a")
        await etcd.close()

    run(body())


# User and password.


@pytest.fixture(scope="module")
def asking(run_once: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd that asks for a user; onward may write under /onward/ only."""
    options = {"bcrypt-cost": "4"}
    with running(tmp_path_factory.mktemp("etcd"), options=options) as server:
        run_once(set_up_users(server.address))
        yield server


@pytest.fixture(scope="module")
def run_once() -> Run:
    return asyncio.run


async def set_up_users(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        auth = rpc_pb2_grpc.AuthStub(channel)
        for user in ("root", "onward"):
            await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name=user, password=PASSWORD))
            await auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name=user))
            await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user=user, role=user))
        grant = rpc_pb2.AuthRoleGrantPermissionRequest(name="onward")
        grant.perm.permType = grant.perm.READWRITE
        grant.perm.key, grant.perm.range_end = b"/onward/", b"/onward0"
        await auth.RoleGrantPermission(grant)
        await auth.AuthEnable(rpc_pb2.AuthEnableRequest())


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def test_a_user_may_do_what_is_granted_and_no_more(
    run: Run, asking: EtcdServer, password_file: Path
) -> None:
    async def body() -> None:
        etcd = Etcd(asking.address, access=Access(user="onward", password_file=str(password_file)))
        await etcd.put("/onward/a", "1")
        news = etcd.follow("/onward/")
        assert [kv.key for kv in (await anext(news)).keys] == ["/onward/a"]  # type: ignore[union-attr]
        with pytest.raises(Unavailable, match="PERMISSION_DENIED"):
            await etcd.put("/other", "1")
        lease = await etcd.lease_grant(5)
        assert await etcd.lease_refresh(lease)
        await etcd.lease_revoke(lease)
        await news.aclose()
        await etcd.close()
        nobody = Etcd(asking.address)
        with pytest.raises(Unavailable, match="INVALID_ARGUMENT"):
            await nobody.get("/onward/a")
        await nobody.close()

    run(body())


def test_a_token_that_etcd_has_forgotten_is_followed_by_another_within_the_call(
    run: Run, asking: EtcdServer, password_file: Path
) -> None:
    async def body() -> None:
        etcd = Etcd(asking.address, access=Access(user="onward", password_file=str(password_file)))
        await etcd.put("/onward/b", "1")
        connection = await etcd._endpoints.connection()
        connection._token = "forgotten.1"
        await etcd.put("/onward/b", "2")
        assert await etcd._endpoints.connection() is connection
        connection._token = "forgotten.2"
        news = etcd.follow("/onward/")
        await anext(news)
        await news.aclose()
        await etcd.close()

    run(body())


def test_a_wrong_password_is_told_as_such_is_not_tried_in_a_row_and_never_shown(
    run: Run, asking: EtcdServer, password_file: Path
) -> None:
    password_file.write_text(f"{PASSWORD} with a typing error")

    def correct() -> None:
        password_file.write_text(PASSWORD)

    async def body() -> None:
        etcd = Etcd(asking.address, access=Access(user="onward", password_file=str(password_file)))
        with pytest.raises(Unavailable, match="refuses the user 'onward' or the password") as first:
            await etcd.get("/onward/a")
        assert CANARY not in f"{first.value!r} {etcd._endpoints._access!r}"
        with pytest.raises(Unavailable) as second:
            await etcd.get("/onward/a")
        assert second.value is first.value
        correct()

        async def let_in() -> bool:
            try:
                await etcd.get("/onward/a")
                return True
            except Unavailable:
                return False

        await until(let_in)
        await etcd.close()

    run(body())


def test_a_user_is_no_harm_before_etcd_asks_for_one(
    run: Run, tmp_path: Path, password_file: Path
) -> None:
    async def body(server: EtcdServer) -> None:
        etcd = Etcd(server.address, access=Access(user="onward", password_file=str(password_file)))
        await etcd.put("/onward/a", "1")
        await set_up_users(server.address)
        await etcd.put("/onward/a", "2")
        await etcd.close()

    with running(tmp_path, options={"bcrypt-cost": "4"}) as server:
        run(body(server))
