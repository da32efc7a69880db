"""Everything else: hands notifications to Apprise. A process of its own, and optional.

    python -m services.notifier.apprise        settings: `apprise_settings.py`

The endpoint is `apprise:` and a name that the operator gave to an Apprise URL in a file: a URL of
a user's own could read files here, or knock at hosts that only this machine reaches. Best effort:
Apprise says yes or no, so there is no name of a provider's, and nothing is ever gone. It says no if
any of the people or rooms that one URL may stand for did not get it, though others did: the outcome
is unknown, and not repeated unless the operator wants that. The library waits for its services in
threads; a thread that hangs is not waited for, and holds nothing but itself.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.chassis import logs, metrics, process
from services.chassis.errors import SettingError
from services.chassis.settings import load
from services.chassis.tls import trust_of
from services.notifier import harness, results
from services.notifier.apprise_settings import Settings, targets
from services.notifier.harness import Channel, Delivery, Result
from services.notifier.wording import words

Send = Callable[[str, str], bool]  # title and body; whether Apprise says that it was sent


class Apprise:
    """The channel `apprise`."""

    name = "apprise"

    def __init__(
        self,
        senders: Mapping[str, Send],
        threads: int = 8,
        send_s: float = 20.0,
        repeats: bool = False,
    ) -> None:
        """`repeats`: what may have been sent is sent again."""
        self.channels = (Channel(scheme="apprise", repeats_unknown=repeats),)
        self._senders = senders
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="apprise")
        self._free = threads
        self._send_s = send_s
        self.concurrency = threads

    async def send(self, delivery: Delivery) -> Result:
        """Hand one notification to Apprise."""
        sender = self._senders.get(delivery.endpoint.partition(":")[2])
        if sender is None:
            return results.rejected_message("the operator has no target of this name")
        if self._free == 0:
            return results.retry("every thread waits for a service")
        shown = words(delivery)
        body = "\n".join(part for part in (shown.body, shown.url) if part) or shown.title
        self._free -= 1
        call = asyncio.get_running_loop().run_in_executor(self._threads, sender, shown.title, body)
        call.add_done_callback(self._ended)
        try:
            # Shielded: a thread cannot be cut, and is free only when it ends.
            sent = await asyncio.wait_for(asyncio.shield(call), self._send_s)
        except TimeoutError:
            return results.unknown(f"no answer within {self._send_s:g} s")
        return results.accepted() if sent else results.unknown("Apprise says no")

    async def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, call: "asyncio.Future[bool]") -> None:
        self._free += 1
        if not call.cancelled():
            call.exception()  # It was told already, or comes too late to be.


def senders_of(urls: Mapping[str, str]) -> dict[str, Send]:
    """What sends to each target. Raises SettingError naming one that Apprise does not take."""
    try:
        import apprise
    except ImportError:
        raise SettingError(
            "Apprise is not installed, so nothing could be sent; install onward[apprise]"
        ) from None
    # Its log quotes URLs and what services answer.
    logging.getLogger("apprise").disabled = True
    asset = apprise.AppriseAsset(app_id="Onward", app_desc="Onward", async_mode=False)
    made: dict[str, Send] = {}
    for name, url in urls.items():
        target = apprise.Apprise(asset=asset)
        if not target.add(url):
            raise SettingError(
                f"ONWARD_APPRISE_TARGETS_FILE has a target {name} that Apprise does not take; "
                "its page on the service says what the URL must be"
            )
        made[name] = _sender(target, apprise.NotifyFormat.TEXT)
    return made


def _sender(target: Any, plain: Any) -> Send:
    def send(title: str, body: str) -> bool:
        return bool(target.notify(body=body, title=title, body_format=plain))

    return send


async def main(stop: asyncio.Event, environ: Mapping[str, str] = os.environ) -> None:
    """Serve until `stop`."""
    settings = load(Settings, "apprise", environ)
    logs.configure("apprise", settings.log_level)
    senders = senders_of(targets(settings.targets_file, settings.schemes))
    metrics.serve(settings.metrics_port, settings.metrics_host)
    await harness.serve(
        [Apprise(senders, settings.threads, settings.send_s, settings.repeats)],
        settings.listen,
        trust_of(settings, "apprise"),
        stop,
        name="apprise",
        limits=harness.Limits(send_s=settings.send_s + 1.0),
        drain_s=settings.drain_s,
    )


if __name__ == "__main__":
    process.run(main)
