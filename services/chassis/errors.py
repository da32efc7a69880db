"""Faults: what went wrong that is nobody's request's fault, as exceptions.

A refusal is no fault: it is data (`services.chassis.refusals`). A bug is an assert. One table
here maps faults to gRPC statuses, and nothing else does.
"""

import grpc


class Fault(Exception):
    """Something outside this process failed. Subclasses know their status and whether to retry."""

    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    retry: bool = True


class Unavailable(Fault):
    """A peer did not answer in time or is not there; the same call may succeed later."""


class Deposed(Fault):
    """The store holds a newer epoch than the caller's: somebody else owns this now."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    retry = False


class StoreFull(Fault):
    """The store cannot take more bytes, or is read-only; nothing was written."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class LogReplaced(Fault):
    """The log is another one than the state at hand belongs to; an operator must decide."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    retry = False


class SettingError(Exception):
    """The process cannot start as it is set up. The message is one sentence with the remedy."""


class StartError(SettingError):
    """Something the process needs is not there (a port, a file, a binary). Same use."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group that is none itself.

    For tasks' groups that carry one reason to the outside. Raise it behind the `except*` clause,
    not inside: what is raised inside is put into a group again.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
