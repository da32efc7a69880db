"""A small asyncio client of etcd: keys, transactions, leases, and a watch that resumes.

    etcd_messages   what is said and answered, as records
    etcd_access     certificates, user and password
    etcd_endpoints  which member is asked
    etcd_follow     the watch
    lease           a lease that this process keeps

They are what knows etcd's API (the messages and stubs of `aetcd.rpc`, nothing else of that
package). Must not know which keys Onward keeps: that is `services.chassis.cluster`.

Drive it: `etcd = Etcd("one:2379,two:2379,three:2379")`, await its calls, `await etcd.close()`.
Every call has a deadline and raises `Unavailable` when etcd does not answer in time or says no; a
write whose call raised may have happened. `follow(prefix)` never ends and never raises: it goes on
at another member, resumes at the revision after the last one seen, and lists again when that has
been compacted, or when etcd has gone back behind it, as after a restore.

    lease = await Lease.grant(etcd, ttl_s=5)
    task = asyncio.create_task(lease.keep())      # refreshes until lost or revoked
    … lease.valid() before anything that only the holder may do; lease.lost is an event
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2

from services.chassis.errors import Unavailable
from services.chassis.etcd_access import Access
from services.chassis.etcd_endpoints import Endpoints, parse, status, unavailable
from services.chassis.etcd_follow import Follower
from services.chassis.etcd_messages import (
    Changes,
    Compare,
    Delete,
    KeyValue,
    Put,
    Snapshot,
    TxnOutcome,
    absent,
    created_at,
    holds,
    key_value,
    modified_at,
    range_of,
    txn_of,
)
from services.chassis.lease import Lease, boottime

__all__ = [
    "DEADLINE_S",
    "Access",
    "Changes",
    "Compare",
    "Delete",
    "Etcd",
    "KeyValue",
    "Lease",
    "Put",
    "Snapshot",
    "TxnOutcome",
    "absent",
    "boottime",
    "created_at",
    "holds",
    "modified_at",
]

DEADLINE_S = 1.0
# etcd refreshes a lease in memory. Within a TTL there must be time for a member that is frozen, one
# that is then found without a leader, and the third.
_REFRESH_S: Final = 0.6


class Etcd:
    """A client of the etcd at `endpoints`: `host:port`, or several parted by commas.

    `deadline_s` is what one member is given for one call, and as much again to connect (three times
    as much with a password). A call asks each member once at most.
    """

    def __init__(
        self, endpoints: str, deadline_s: float = DEADLINE_S, access: Access | None = None
    ) -> None:
        """Connects with the first call. Raises SettingError if `endpoints` or `access` is wrong."""
        access = access or Access()
        access.check()
        self._endpoints = Endpoints(parse(endpoints), access, deadline_s)

    async def close(self) -> None:
        """End all calls under way."""
        await self._endpoints.close()

    async def get(self, key: str) -> KeyValue | None:
        """The key, or None if it does not exist."""
        request = rpc_pb2.RangeRequest(key=key.encode())
        response = await self._endpoints.call(lambda to: to.kv.Range, request, repeat=True)
        return key_value(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: str) -> Snapshot:
        """All keys that start with `prefix`, in order of key."""
        request = range_of(prefix)
        response = await self._endpoints.call(lambda to: to.kv.Range, request, repeat=True)
        return Snapshot(response.header.revision, [key_value(kv) for kv in response.kvs])

    async def put(self, key: str, value: str, lease: int = 0) -> int:
        """Write the key; returns the revision of the write."""
        request = rpc_pb2.PutRequest(key=key.encode(), value=value.encode(), lease=lease)
        response = await self._endpoints.call(lambda to: to.kv.Put, request, repeat=False)
        return int(response.header.revision)

    async def delete(self, key: str) -> None:
        """Remove the key, if it is there."""
        request = rpc_pb2.DeleteRangeRequest(key=key.encode())
        await self._endpoints.call(lambda to: to.kv.DeleteRange, request, repeat=False)

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Put | Delete], lease: int = 0
    ) -> TxnOutcome:
        """If all of `when` is so, do all of `then`; else nothing. At most 64 keys by our own rule.

        `lease` is for those puts that name none.
        """
        request = txn_of(when, then, lease)
        response = await self._endpoints.call(lambda to: to.kv.Txn, request, repeat=False)
        return TxnOutcome(response.succeeded, response.header.revision)

    async def lease_grant(self, ttl_s: int) -> int:
        """A new lease; returns its id, unique for ever and never 0."""
        # Repeated, it may leave a lease behind that nobody knows, and that soon runs out.
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl_s)
        response = await self._endpoints.call(lambda to: to.lease.LeaseGrant, request, repeat=True)
        return int(response.ID)

    async def lease_revoke(self, lease: int) -> None:
        """End a lease: all its keys vanish together. One that is not there is passed over."""
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        try:
            await self._endpoints.call(lambda to: to.lease.LeaseRevoke, request, repeat=True)
        except Unavailable as fault:
            if status(fault) is not grpc.StatusCode.NOT_FOUND:
                raise

    async def lease_time_to_live(self, lease: int) -> int:
        """Seconds that a lease has left; -1 if it does not exist."""
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease)
        response = await self._endpoints.call(
            lambda to: to.lease.LeaseTimeToLive, request, repeat=True
        )
        return int(response.TTL)

    async def lease_refresh(self, lease: int) -> bool:
        """Start a lease's time anew; False if it does not exist any more.

        Only the member at hand is asked: whoever asks again counts the lease's time from then.
        """
        connection = await self._endpoints.connection()
        with connection.use():
            deadline_s = min(_REFRESH_S, self._endpoints.deadline_s)
            call = connection.lease.LeaseKeepAlive(timeout=deadline_s, metadata=connection.metadata)
            try:
                await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
                response = await call.read()
                if response is grpc.aio.EOF:
                    raise Unavailable(f"etcd at {connection.address} ended the call")
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, Unavailable) as error:
                fault = unavailable(connection.address, error)
                self._endpoints.leave(connection, str(fault))
                raise fault from error
            finally:
                call.cancel()
        return bool(response.TTL > 0)

    def follow(self, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
        """First a Snapshot of the prefix, then its Changes for ever; a Snapshot again if
        changes were missed for good. While etcd is away nothing comes."""
        return Follower(self._endpoints, prefix).news()
