"""The file to change: which channel this plugin serves, and how it sends one notification."""

import asyncio

from onward.notifier.v1 import notifier_pb2

Channel = notifier_pb2.Channel
Delivery = notifier_pb2.Delivery
Result = notifier_pb2.Result

NAME = "example"
VERSION = "0.1.0"
CHANNELS = [Channel(scheme="example", repeats_unknown=True)]


async def send(delivery: Delivery) -> Result:
    """Send one notification and say what became of it. YOUR PROVIDER'S CALL GOES HERE.

    `delivery.endpoint` says where to, `delivery.title` and `delivery.body` what to show, and
    `delivery.delivery_id` is the provider's idempotency key, if it has such a thing. What must not
    be here: retries, memory of what was sent, time limits. An exception becomes UNKNOWN.
    """
    _, _, address = delivery.endpoint.partition(":")
    # In place of a provider: what it answers is read off the address.
    if address.startswith("slow"):
        await asyncio.sleep(5)
    if address.startswith("gone"):
        return Result(outcome=Result.ENDPOINT_GONE, detail="404")
    if address.startswith("busy"):
        busy = Result(outcome=Result.RETRY, detail="429")
        busy.retry_after.FromSeconds(30)
        return busy
    return Result(outcome=Result.ACCEPTED, provider_id=f"example-{delivery.delivery_id[:8]}")
