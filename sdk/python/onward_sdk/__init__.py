"""Onward's client library for Python.

    application ── client ── driver (asyncio) ── connection (WebSocket)
         │            │         └─ edges (core: which edge, how long to wait)
         │            └─ state (core: what to send, tell and keep; gives effects)
         │                 ├─ introduction, retries (cores: who, and when to come again)
         │                 ├─ outgoing ── pending (cores: requests, acknowledgements)
         │                 └─ subscriptions ── positions (core: one subject's order)
         └── api (plain HTTP: publish, history, explain, who is there) ── user_data

`protocol` translates frames; `events` and `errors` are what an application gets. Messages of a
subject come once and in order, and are acknowledged after the application handled them; after a
reconnect those in between are recovered, or the application is told that they will not come.

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
    Limits,
    Message,
    Resynced,
    Status,
    Subscribed,
    Synced,
    TokenExpiring,
    Unsubscribed,
)
from onward_sdk.protocol import Published, Subscription
from onward_sdk.state import Identity, Options
from onward_sdk.user_data import UserData

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
    "Limits",
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
    "Unsubscribed",
    "UserData",
]
