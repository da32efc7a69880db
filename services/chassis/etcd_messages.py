"""What is said to etcd and what it answers, as plain records; keys and values are text.

Knows etcd's messages (`aetcd.rpc`) and how records become them. Must not know calls, endpoints or
what keys mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aetcd.rpc import rpc_pb2


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as etcd holds it."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    lease: int  # 0: none


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: built by `absent`, `created_at`, `modified_at`, `holds`."""

    key: str
    create_revision: int | None = None
    mod_revision: int | None = None
    value: str | None = None


def absent(key: str) -> Compare:
    """The key does not exist."""
    return Compare(key, create_revision=0)


def created_at(key: str, revision: int) -> Compare:
    """The key exists since exactly that revision."""
    return Compare(key, create_revision=revision)


def modified_at(key: str, revision: int) -> Compare:
    """The key was last written at exactly that revision."""
    return Compare(key, mod_revision=revision)


def holds(key: str, value: str) -> Compare:
    """The key has exactly that value."""
    return Compare(key, value=value)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key."""

    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; one that is not there is passed over."""

    key: str


@dataclass(frozen=True, slots=True)
class TxnOutcome:
    """What a transaction did. `revision` is that of its writes, if it wrote."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under a prefix at a revision. Replaces whatever was known before."""

    revision: int
    keys: Sequence[KeyValue]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since, in order: a key as written, or only the name of one removed."""

    revision: int
    events: Sequence[KeyValue | Delete]


def range_of(prefix: str) -> Any:
    """The request for all keys that start with `prefix`."""
    return rpc_pb2.RangeRequest(key=prefix.encode(), range_end=_range_end(prefix))


def watch_of(prefix: str, revision: int) -> Any:
    """The request to be told of changes under `prefix` from `revision` on."""
    create = rpc_pb2.WatchCreateRequest(
        key=prefix.encode(), range_end=_range_end(prefix), start_revision=revision
    )
    return rpc_pb2.WatchRequest(create_request=create)


def txn_of(when: Sequence[Compare], then: Sequence[Put | Delete], lease: int) -> Any:
    """The request to do `then` if all of `when` is so; `lease` is for puts that name none."""
    return rpc_pb2.TxnRequest(
        compare=[_compare(one) for one in when],
        success=[_operation(one, lease) for one in then],
    )


def key_value(kv: Any) -> KeyValue:
    """A key of an answer."""
    return KeyValue(
        kv.key.decode(), kv.value.decode(), kv.create_revision, kv.mod_revision, kv.lease
    )


def event_of(event: Any) -> KeyValue | Delete:
    """A change of a watch's answer."""
    if event.type == event.DELETE:
        return Delete(event.kv.key.decode())
    return key_value(event.kv)


def _range_end(prefix: str) -> bytes:
    raw = prefix.encode()
    assert raw and raw[-1] < 0xFF, "a prefix ends in a byte that has a successor"
    return raw[:-1] + bytes([raw[-1] + 1])


def _compare(one: Compare) -> Any:
    request = rpc_pb2.Compare(result=rpc_pb2.Compare.EQUAL, key=one.key.encode())
    if one.create_revision is not None:
        request.target = rpc_pb2.Compare.CREATE
        request.create_revision = one.create_revision
    elif one.mod_revision is not None:
        request.target = rpc_pb2.Compare.MOD
        request.mod_revision = one.mod_revision
    else:
        assert one.value is not None
        request.target = rpc_pb2.Compare.VALUE
        request.value = one.value.encode()
    return request


def _operation(one: Put | Delete, lease: int) -> Any:
    if isinstance(one, Delete):
        delete = rpc_pb2.DeleteRangeRequest(key=one.key.encode())
        return rpc_pb2.RequestOp(request_delete_range=delete)
    put = rpc_pb2.PutRequest(
        key=one.key.encode(), value=one.value.encode(), lease=one.lease or lease
    )
    return rpc_pb2.RequestOp(request_put=put)
