"""Deliveries as tests need them."""

from onward.notifier.v1 import notifier_pb2

Delivery = notifier_pb2.Delivery
NotifiedMessage = notifier_pb2.NotifiedMessage

ID = "0123456789abcdef0123456789abcdef"


def message(text: str = "hi", **fields: object) -> NotifiedMessage:
    made = NotifiedMessage(seq=1, publisher="bob", text=text)
    made.accepted_at.FromJsonString("2026-11-22T13:30:00Z")
    made.MergeFrom(NotifiedMessage(**fields))  # type: ignore[arg-type]
    return made


def delivery(
    *messages: NotifiedMessage,
    endpoint: str = "mailto:ann@example.org",
    delivery_id: str = ID,
    count: int = 0,
    subject: str = "/chat/1",
) -> Delivery:
    return Delivery(
        delivery_id=delivery_id,
        notification_id="n1",
        attempt=1,
        endpoint=endpoint,
        user="ann",
        subject=subject,
        first_seq=1,
        last_seq=count or len(messages) or 1,
        count=count or len(messages) or 1,
        messages=messages,
        collapse_key=subject,
    )
