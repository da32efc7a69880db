"""Which of etcd's members is asked: one at a time, and the next when it fails.

Knows channels, deadlines, what an error of gRPC says about a member, and how a connection begins:
the member is asked whether it has a leader, and given user and password. Must not know what calls
are for. A `Connection` is one connection and no other: it is never mended, but left, and the next
one goes to the next member with the certificates that the files hold by then.

Drive it: `await endpoints.call(…)`, or `connection()` and then `leave()` it when it fails. Whoever
has a stream open on a connection watches its `left`.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from services.chassis import logs
from services.chassis.errors import SettingError, Unavailable
from services.chassis.etcd_access import Access

log = logs.get(__name__)

# No keepalive: every call has a deadline, and a watch asks for signs of life (etcd_follow).
_OPTIONS: Sequence[tuple[str, int]] = (
    # Or another channel to the member, silent as it may be, would lend this one its connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
)
# etcd checks a password slowly on purpose.
_PASSWORD_DEADLINES: Final = 2
# A refused password is not tried again at once: each check costs etcd a tenth of a second of CPU.
_REFUSED_PAUSE_S: Final = 1.0
_NO_LEADER: Final = "etcdserver: no leader"
# What etcd says when it has no use for our token: it has expired, been forgotten in a restart, or
# users have changed since. None of them has done anything.
_STALE_TOKEN: Final = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
)
# A member that fails with one of these may be broken, or cut off; another code is an answer.
_FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.CANCELLED,
    }
)


def parse(text: str) -> tuple[str, ...]:
    """`host:port[,host:port…]` as addresses, each once. Raises SettingError."""
    addresses = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise SettingError(f"ONWARD_ETCD names {address!r}; set it to host:port[,host:port…]")
    if not addresses:
        raise SettingError("ONWARD_ETCD names no etcd; set it to host:port[,host:port…]")
    return addresses


class Connection:
    """A connection to one member, from `begin` until it is left."""

    def __init__(
        self, address: str, access: Access, forget: Callable[["Connection"], None]
    ) -> None:
        """`forget` is called once it is closed. Raises Unavailable if a file cannot be read."""
        self.address = address
        self.left = asyncio.Event()
        self._access = access
        self._token = ""
        self._uses = 0
        self._forget = forget
        self._closing: asyncio.Future[None] | None = None
        credentials = access.channel_credentials()
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(address, options=list(_OPTIONS))
        else:
            self.channel = grpc.aio.secure_channel(address, credentials, options=list(_OPTIONS))
        self.kv = rpc_pb2_grpc.KVStub(self.channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.watch = rpc_pb2_grpc.WatchStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call: a member without a leader is to say so at once."""
        token = (("token", self._token),) if self._token else ()
        return (("hasleader", "true"), *token)

    def up(self) -> bool:
        """Whether it is still connected, as far as is known."""
        return bool(self.channel.get_state() is grpc.ChannelConnectivity.READY)

    async def begin(self, deadline_s: float) -> None:
        """Connect. Raises Unavailable if the member is not fit to be asked."""
        stub = rpc_pb2_grpc.MaintenanceStub(self.channel)
        try:
            status = await stub.Status(rpc_pb2.StatusRequest(), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            if is_failure(error):
                raise Unavailable(
                    f"etcd at {self.address} cannot be reached "
                    f"({error.code().name}: {error.details()})"
                ) from error
            # Some versions tell this to administrators only. The member is there, and if it has
            # no leader, the first call will be told.
        else:
            if not status.leader or status.isLearner:
                raise Unavailable(f"etcd at {self.address} has no leader, or is learning")
        await self.authenticate(deadline_s)

    async def authenticate(self, deadline_s: float) -> None:
        """Get a token for the user, if there is one to be. Raises Unavailable, `_RefusedError`."""
        if not self._access.user:
            return
        request = rpc_pb2.AuthenticateRequest(
            name=self._access.user, password=self._access.password()
        )
        stub = rpc_pb2_grpc.AuthStub(self.channel)
        try:
            response = await stub.Authenticate(request, timeout=_PASSWORD_DEADLINES * deadline_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                # So that users can be set up here before etcd begins to ask for them.
                log.warning("etcd_asks_for_no_user", address=self.address)
                self._token = ""
                return
            # Without its cause: the request stands in none of gRPC's errors, but nothing need rely
            # on that.
            if is_failure(error):
                raise unavailable(self.address, error) from None
            raise _RefusedError(
                f"etcd at {self.address} refuses the user {self._access.user!r} or the password"
            ) from None
        self._token = response.token

    async def ask(self, method: Any, request: Any, deadline_s: float) -> Any:
        """One call, with a new token if need be. Raises AioRpcError, Unavailable."""
        with self.use():
            try:
                return await method(request, timeout=deadline_s, metadata=self.metadata)
            except grpc.aio.AioRpcError as error:
                if not self._access.user or error.details() not in _STALE_TOKEN:
                    raise
            await self.authenticate(deadline_s)
            return await method(request, timeout=deadline_s, metadata=self.metadata)

    @contextmanager
    def use(self) -> Iterator[None]:
        """While a call is under way: a connection that is left is closed when nobody uses it.
        To close it earlier would cancel the calls, and with them the tasks that wait for them."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            self._close_unused()

    def leave(self) -> None:
        """Let streams end, and the connection when they have."""
        self.left.set()
        self._close_unused()

    def _close_unused(self) -> None:
        if self.left.is_set() and not self._uses and self._closing is None:
            self._closing = asyncio.ensure_future(self.channel.close())
            self._closing.add_done_callback(lambda _: self._forget(self))


class Endpoints:
    """The members at `addresses`, of which one is asked at a time."""

    def __init__(self, addresses: Sequence[str], access: Access, deadline_s: float) -> None:
        self.addresses = tuple(addresses)
        self.deadline_s = deadline_s
        self._access = access
        self._index = 0
        self._open_ones: set[Connection] = set()  # also those that were left, until they are closed
        self._current: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._refused: tuple[float, _RefusedError] | None = None  # until when, and what was said

    async def close(self) -> None:
        """End all calls under way."""
        if self._opening is not None:
            self._opening.cancel()
        self._current = None
        for connection in list(self._open_ones):
            await connection.channel.close()

    async def call(self, method: Callable[[Connection], Any], request: Any, *, repeat: bool) -> Any:
        """The answer to one request, from any member; each is asked once at most, and given
        `deadline_s`.

        With `repeat` another member is asked after one that failed. Without, only if nothing can
        have been done. Raises Unavailable.
        """
        tries = len(self.addresses)
        while True:
            tries -= 1
            connection: Connection | None = None
            try:
                connection = await self.connection()
                return await connection.ask(method(connection), request, self.deadline_s)
            except Unavailable:
                # No connection, or no token: nothing was done.
                if connection is not None:
                    self.leave(connection, "it gives no token")
                if not tries:
                    raise
            except grpc.aio.AioRpcError as error:
                assert connection is not None
                if is_failure(error):
                    self.leave(connection, error.code().name)
                    if tries and (repeat or error.details() == _NO_LEADER):
                        continue
                raise unavailable(connection.address, error) from error

    async def connection(self) -> Connection:
        """A connection to the member whose turn it is; it has begun. Raises Unavailable."""
        if self._current is not None:
            if self._current.up():
                return self._current
            self.leave(self._current, "the connection ended")
        loop = asyncio.get_running_loop()
        if self._refused is not None and loop.time() < self._refused[0]:
            raise self._refused[1]
        if self._opening is None:
            self._opening = loop.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        # One opens for all who wait, and goes on if one of them is cancelled.
        return await asyncio.shield(self._opening)

    def leave(self, connection: Connection, why: str) -> None:
        """The connection has failed: whoever asks next is given another, to the next member."""
        if connection is self._current:
            self._current = None
            self._index += 1
            log.warning("etcd_left", address=connection.address, reason=why)
        connection.leave()

    async def _open(self) -> Connection:
        address = self.addresses[self._index % len(self.addresses)]
        connection: Connection | None = None
        try:
            connection = Connection(address, self._access, self._open_ones.discard)
            self._open_ones.add(connection)
            await connection.begin(self.deadline_s)
        except BaseException as error:  # goes on; the connection is of no use
            self._index += 1
            if connection is not None:
                connection.leave()
            if isinstance(error, _RefusedError):
                pause_ends = asyncio.get_running_loop().time() + _REFUSED_PAUSE_S
                self._refused = (pause_ends, error)
            raise
        if self._index:  # a start at the first member is no news
            log.info("etcd_joined", address=address)
        self._current = connection
        return connection

    def _opened(self, task: asyncio.Task[Connection]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # seen, also if everybody who waited for it has gone


class _RefusedError(Unavailable):
    """etcd knows the user by another password, or not at all."""


def is_failure(error: grpc.aio.AioRpcError) -> bool:
    """Whether the member may be at fault, and not what it was asked."""
    return error.code() in _FAILURES


def unavailable(address: str, error: Exception) -> Unavailable:
    """The fault that a failed call is."""
    if isinstance(error, grpc.aio.AioRpcError):
        why = error.code().name
    else:
        why = type(error).__name__
    return Unavailable(f"etcd at {address} did not do as asked ({why})")


def status(fault: Unavailable) -> grpc.StatusCode | None:
    """The status that etcd gave, if it gave one."""
    cause = fault.__cause__
    return cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
