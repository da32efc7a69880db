"""Takes positions out of an event when they are those of a log that was replaced. Pure.

A log with another identity is another log, even if it holds an older copy of the same messages:
seqs of the former one may stand for other messages in it. An acknowledgement carried over would
pass for one of messages that nobody has seen. So what sessions of the former log still have to say
is said without: their ends are recorded, and nothing counts as acknowledged by them. Who comes
back states its subscriptions anew.
"""

from onward.types.v1 import entry_pb2


def forget_positions(event: entry_pb2.PresenceEvent) -> None:
    """Changes `event`: seqs acknowledged become 0, which raises nothing; subscriptions that start
    somewhere are left out, and what the client followed before stays as it is."""
    kind = event.WhichOneof("event")
    if kind == "connected":
        event.connected.ClearField("follows")
        event.connected.replaces_follows = False
    elif kind == "followed":
        event.followed.ClearField("follows")
    elif kind in ("disconnected", "unfollowed", "logged_out"):
        for position in getattr(event, kind).acked:
            position.seq = 0
