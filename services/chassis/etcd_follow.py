"""Follows the keys under a prefix, whatever happens to the member that tells of them.

Knows what a watch of etcd can do wrong: end, fall silent, be without a leader, forget what is to
come next, or come from an etcd that has gone back, as after a restore. Must not know keys.

Drive it: iterate over `Follower(…).news()`. It never ends and never raises.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc
import grpc.aio
from aetcd.rpc import rpc_pb2

from services.chassis import logs
from services.chassis.errors import Unavailable
from services.chassis.etcd_endpoints import Connection, Endpoints, unavailable
from services.chassis.etcd_messages import (
    Changes,
    Snapshot,
    event_of,
    key_value,
    range_of,
    watch_of,
)

log = logs.get(__name__)

# A watch on which nothing happens is asked this often for a sign of life, and left after so long
# without one: a frozen process's kernel keeps its connections. More than two signs must be missing,
# because some versions of etcd pass over a request while they catch up.
_SIGN_EVERY_S: Final = 1.0
_SILENT_S: Final = 3.0
_BACKOFF_FIRST_S: Final = 0.05
_BACKOFF_MAX_S: Final = 1.0


class Follower:
    """One prefix, followed from one member after another."""

    def __init__(self, endpoints: Endpoints, prefix: str) -> None:
        self._endpoints = endpoints
        self._prefix = prefix
        self._seen: int | None = None  # everything up to this revision was told; None: nothing
        self._behind = 0  # how often in a row etcd was found to be behind that

    async def news(self) -> AsyncGenerator[Snapshot | Changes, None]:
        """First a Snapshot, then Changes; a Snapshot again if changes were missed for good."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                if self._seen is None:
                    snapshot = await self._list()
                    self._seen = snapshot.revision
                    yield snapshot
                async with aclosing(self._changes()) as stream:
                    async for changes in stream:
                        backoff_s = _BACKOFF_FIRST_S
                        self._seen = changes.revision
                        yield changes
            except _CompactedError:
                log.warning("etcd_watch_compacted", revision=self._seen)
                self._seen = None
            except _BehindError:
                # One member may have been given to another cluster by mistake. All of them?
                self._behind += 1
                if self._behind >= len(self._endpoints.addresses):
                    log.error("etcd_went_back", revision=self._seen)
                    self._seen, self._behind = None, 0
            except Unavailable:
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _list(self) -> Snapshot:
        request = range_of(self._prefix)
        response = await self._endpoints.call(lambda to: to.kv.Range, request, repeat=True)
        return Snapshot(response.header.revision, [key_value(kv) for kv in response.kvs])

    async def _changes(self) -> AsyncGenerator[Changes, None]:
        """What comes after `_seen`, from one member until it fails."""
        assert self._seen is not None
        connection = await self._endpoints.connection()
        request = watch_of(self._prefix, self._seen + 1)
        try:
            with connection.use():
                async with aclosing(_responses(connection, request)) as responses:
                    async for response in responses:
                        if response.compact_revision:
                            raise _CompactedError
                        if response.canceled:
                            raise Unavailable(f"etcd at {connection.address} cancelled a watch")
                        if response.created:
                            await self._check_not_behind(connection, response.header.revision)
                        # The header tells the store's revision, which may be ahead of the events.
                        # A member that was sent a whole copy of the store may tell events again.
                        events = [e for e in response.events if e.kv.mod_revision > self._seen]
                        if events:
                            seen = max(event.kv.mod_revision for event in events)
                            yield Changes(seen, [event_of(event) for event in events])
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
            fault = unavailable(connection.address, error)
            self._endpoints.leave(connection, str(fault))
            raise fault from error
        except (_BehindError, Unavailable) as fault:
            self._endpoints.leave(connection, str(fault))
            raise

    async def _check_not_behind(self, connection: Connection, revision: int) -> None:
        """Whether what we have seen is still to come: then a watch waits for it in silence.

        A member may only be late: it was away, or is slow. So it is made to read, which it does not
        before it knows what a majority knows. If that is less than we have seen, etcd has lost it.
        """
        assert self._seen is not None
        if revision < self._seen:
            request = range_of(self._prefix)
            request.count_only = True
            response = await connection.ask(
                connection.kv.Range, request, self._endpoints.deadline_s
            )
            if response.header.revision < self._seen:
                raise _BehindError(f"etcd at {connection.address} has not got what it had")
        self._behind = 0


async def _responses(connection: Connection, request: Any) -> AsyncGenerator[Any, None]:
    """What a watch is told, until it fails, is silent, or its connection is left."""
    loop = asyncio.get_running_loop()
    sign = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())
    call = connection.watch.Watch(metadata=connection.metadata)
    leaving = loop.create_task(connection.left.wait())
    reading: asyncio.Task[Any] | None = None
    try:
        await asyncio.wait_for(call.write(request), _SIGN_EVERY_S)
        heard = loop.time()
        while True:
            # A read that is cancelled ends the watch, so it is kept over the pauses.
            reading = reading or loop.create_task(call.read())
            await asyncio.wait(
                {reading, leaving}, timeout=_SIGN_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
            if reading.done():
                response, reading, heard = reading.result(), None, loop.time()
                if response is grpc.aio.EOF:
                    raise Unavailable(f"etcd at {connection.address} ended a watch")
                yield response
            elif leaving.done():
                raise Unavailable(f"etcd at {connection.address} was left")
            elif loop.time() > heard + _SILENT_S:
                raise Unavailable(f"etcd at {connection.address} is silent")
            else:
                await asyncio.wait_for(call.write(sign), _SIGN_EVERY_S)
    finally:
        call.cancel()
        tasks = [task for task in (reading, leaving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _CompactedError(Exception):
    """The revision to resume at is no longer kept."""


class _BehindError(Exception):
    """The store's revision is below one that was told before: it is another, or restored."""
