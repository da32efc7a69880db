from onward_sdk import Connected, Disconnected, Message
from onward_sdk.inbox import COUNT_MAX, Inbox


def message(seq: int) -> Message:
    return Message("/a", seq, 1, "LIVE", "bob", text="x")


def test_who_reads_nothing_keeps_the_newest_events_of_connections_and_every_message() -> None:
    inbox = Inbox()
    inbox.put(message(1))
    for session in range(COUNT_MAX):
        inbox.put(Connected(str(session), 1, "c", "ann", "L", "7"))
        inbox.put(Disconnected("lost", True))
    inbox.put(message(2))
    kept = list(inbox._events)
    assert len(kept) == COUNT_MAX + 1
    assert (kept[0], kept[-1]) == (message(1), message(2))
    assert kept[-3] == Connected(str(COUNT_MAX - 1), 1, "c", "ann", "L", "7")
