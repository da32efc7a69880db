"""The smallest correct plugin: prints each notification. The one to copy.

For trying things out: with no other channel set up it shows on standard output what would be
sent, one line each. Printing is its sending, so it prints text; nothing of it goes to the log.
"""

import sys
from typing import TextIO

from services.notifier import results
from services.notifier.harness import Channel, Delivery, NotifiedMessage, Result

TEXT_CHARACTERS_MAX = 300  # of one text; the rest is cut off, with an ellipsis


class Console:
    """Prints to `out`. Serves every scheme that no other plugin of the process serves."""

    name = "console"
    channels = (Channel(scheme="*", repeats_unknown=True),)
    concurrency = 1  # lines do not mix

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out

    async def send(self, delivery: Delivery) -> Result:
        """Print one line. If nobody can read it any more, it was not sent."""
        try:
            print(line(delivery), file=self._out, flush=True)
        except OSError as error:
            return results.retry(f"cannot print: {type(error).__name__}")
        return results.accepted()

    async def close(self) -> None:
        """Nothing to let go of."""


def line(delivery: Delivery) -> str:
    """What is printed: the scheme, whom it is for, and the messages it lists; or the words of its
    template alone, which may be there to hide what the messages hold.

    Only the scheme of the endpoint is shown: the rest of it is as good as a password.
    """
    scheme = delivery.endpoint.partition(":")[0]
    many = "1 message" if delivery.count == 1 else f"{delivery.count} messages"
    head = f"notification [{scheme}] to {delivery.user}: {many} in {delivery.subject}"
    if delivery.templated or delivery.test:
        shown = [_cut(text) for text in (delivery.title, delivery.body) if text]
    else:
        shown = [_message(message) for message in delivery.messages]
    return printable(": ".join([head, " | ".join(shown)]).rstrip(": "))


def _message(message: NotifiedMessage) -> str:
    text = message.text if message.HasField("text") else f"({len(message.data)} bytes)"
    return f"{message.publisher}: {_cut(text)}"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


def printable(text: str) -> str:
    """One line that cannot steer a terminal: control characters become spaces."""
    return "".join(c if c.isprintable() else " " for c in text)
