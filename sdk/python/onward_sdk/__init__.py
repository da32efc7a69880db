"""Onward's client library for Python.

    application ── client (asyncio, WebSocket) ── state (core: what to send, tell, keep)
         │            │                             ├─ positions (core: one subject's order)
         │            └─ edges (core: which edge,   └─ protocol (frames ↔ words of this library)
         │                       how long to wait)
         └──────── api (plain HTTP: publish, history, explain)

`events` holds what the application is told, `errors` what it can be refused. Messages of a
subject come in order and once; they are acknowledged after the application handled them, and
after a reconnect everything in between is recovered, or the application is told of the gap.

    client = Client(["http://127.0.0.1:8080"], user="ann", on_message=print)
    await client.subscribe("/chat/1")
    await client.connect()
    await client.publish("/chat/1", "hello")

The cores know no clock, socket or chance; nothing here imports a service.
"""

from onward_sdk.api import Api, HistoryPage
from onward_sdk.client import Client
from onward_sdk.edges import Edge
from onward_sdk.errors import Closed, OnwardError, OutcomeUnknown, QueueFull, Refused, Unreachable
from onward_sdk.events import (
    Connected,
    Disconnected,
    EndpointGone,
    Event,
    Message,
    Resynced,
    Status,
    Subscribed,
    Synced,
    TokenExpiring,
)
from onward_sdk.protocol import Published, Subscription
from onward_sdk.state import Identity, Options

__all__ = [
    "Api",
    "Client",
    "Closed",
    "Connected",
    "Disconnected",
    "Edge",
    "EndpointGone",
    "Event",
    "HistoryPage",
    "Identity",
    "Message",
    "OnwardError",
    "Options",
    "OutcomeUnknown",
    "Published",
    "QueueFull",
    "Refused",
    "Resynced",
    "Status",
    "Subscribed",
    "Subscription",
    "Synced",
    "TokenExpiring",
    "Unreachable",
]
