import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("report_to",)
    REPORT_TO_FIELD_NUMBER: _ClassVar[int]
    report_to: str
    def __init__(self, report_to: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("name", "version", "channels", "batch_max", "concurrency_max", "callbacks")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    BATCH_MAX_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_MAX_FIELD_NUMBER: _ClassVar[int]
    CALLBACKS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    batch_max: int
    concurrency_max: int
    callbacks: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., batch_max: _Optional[int] = ..., concurrency_max: _Optional[int] = ..., callbacks: _Optional[bool] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("scheme", "repeats_unknown", "receipts")
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    REPEATS_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    scheme: str
    repeats_unknown: bool
    receipts: bool
    def __init__(self, scheme: _Optional[str] = ..., repeats_unknown: _Optional[bool] = ..., receipts: _Optional[bool] = ...) -> None: ...

class NotifyRequest(_message.Message):
    __slots__ = ("deliveries",)
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("delivery_id", "notification_id", "attempt", "endpoint", "user", "subject", "first_seq", "last_seq", "count", "messages", "collapse_key", "expires_at", "title", "body", "html", "url", "category", "priority", "locale", "mute_url", "test", "templated")
    class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PRIORITY_UNSPECIFIED: _ClassVar[Delivery.Priority]
        LOW: _ClassVar[Delivery.Priority]
        NORMAL: _ClassVar[Delivery.Priority]
        HIGH: _ClassVar[Delivery.Priority]
        URGENT: _ClassVar[Delivery.Priority]
    PRIORITY_UNSPECIFIED: Delivery.Priority
    LOW: Delivery.Priority
    NORMAL: Delivery.Priority
    HIGH: Delivery.Priority
    URGENT: Delivery.Priority
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    COLLAPSE_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    HTML_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    MUTE_URL_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    TEMPLATED_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    notification_id: str
    attempt: int
    endpoint: str
    user: str
    subject: str
    first_seq: int
    last_seq: int
    count: int
    messages: _containers.RepeatedCompositeFieldContainer[NotifiedMessage]
    collapse_key: str
    expires_at: _timestamp_pb2.Timestamp
    title: str
    body: str
    html: str
    url: str
    category: str
    priority: Delivery.Priority
    locale: str
    mute_url: str
    test: bool
    templated: bool
    def __init__(self, delivery_id: _Optional[str] = ..., notification_id: _Optional[str] = ..., attempt: _Optional[int] = ..., endpoint: _Optional[str] = ..., user: _Optional[str] = ..., subject: _Optional[str] = ..., first_seq: _Optional[int] = ..., last_seq: _Optional[int] = ..., count: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[NotifiedMessage, _Mapping]]] = ..., collapse_key: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., title: _Optional[str] = ..., body: _Optional[str] = ..., html: _Optional[str] = ..., url: _Optional[str] = ..., category: _Optional[str] = ..., priority: _Optional[_Union[Delivery.Priority, str]] = ..., locale: _Optional[str] = ..., mute_url: _Optional[str] = ..., test: _Optional[bool] = ..., templated: _Optional[bool] = ...) -> None: ...

class NotifiedMessage(_message.Message):
    __slots__ = ("seq", "publisher", "accepted_at", "content_type", "text", "data", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    publisher: str
    accepted_at: _timestamp_pb2.Timestamp
    content_type: str
    text: str
    data: bytes
    headers: _containers.ScalarMap[str, str]
    def __init__(self, seq: _Optional[int] = ..., publisher: _Optional[str] = ..., accepted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., content_type: _Optional[str] = ..., text: _Optional[str] = ..., data: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class NotifyResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("delivery_id", "outcome", "retry_after", "gone_since", "provider_id", "detail")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Result.Outcome]
        ACCEPTED: _ClassVar[Result.Outcome]
        DELIVERED: _ClassVar[Result.Outcome]
        RETRY: _ClassVar[Result.Outcome]
        REJECTED_MESSAGE: _ClassVar[Result.Outcome]
        ENDPOINT_GONE: _ClassVar[Result.Outcome]
        OPTED_OUT: _ClassVar[Result.Outcome]
        MISCONFIGURED: _ClassVar[Result.Outcome]
        EXPIRED: _ClassVar[Result.Outcome]
        UNKNOWN: _ClassVar[Result.Outcome]
        PROVIDER_UNAVAILABLE: _ClassVar[Result.Outcome]
    OUTCOME_UNSPECIFIED: Result.Outcome
    ACCEPTED: Result.Outcome
    DELIVERED: Result.Outcome
    RETRY: Result.Outcome
    REJECTED_MESSAGE: Result.Outcome
    ENDPOINT_GONE: Result.Outcome
    OPTED_OUT: Result.Outcome
    MISCONFIGURED: Result.Outcome
    EXPIRED: Result.Outcome
    UNKNOWN: Result.Outcome
    PROVIDER_UNAVAILABLE: Result.Outcome
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    GONE_SINCE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    outcome: Result.Outcome
    retry_after: _duration_pb2.Duration
    gone_since: _timestamp_pb2.Timestamp
    provider_id: str
    detail: str
    def __init__(self, delivery_id: _Optional[str] = ..., outcome: _Optional[_Union[Result.Outcome, str]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., gone_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider_id: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class HandleCallbackRequest(_message.Message):
    __slots__ = ("method", "url", "headers", "body")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    method: str
    url: str
    headers: _containers.ScalarMap[str, str]
    body: bytes
    def __init__(self, method: _Optional[str] = ..., url: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., body: _Optional[bytes] = ...) -> None: ...

class HandleCallbackResponse(_message.Message):
    __slots__ = ("status", "body", "content_type", "events")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: str
    content_type: str
    events: _containers.RepeatedCompositeFieldContainer[DeliveryEvent]
    def __init__(self, status: _Optional[int] = ..., body: _Optional[str] = ..., content_type: _Optional[str] = ..., events: _Optional[_Iterable[_Union[DeliveryEvent, _Mapping]]] = ...) -> None: ...

class DeliveryEvent(_message.Message):
    __slots__ = ("delivery_id", "kind", "at", "provider_id", "detail")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[DeliveryEvent.Kind]
        DELIVERED: _ClassVar[DeliveryEvent.Kind]
        OPENED: _ClassVar[DeliveryEvent.Kind]
        FAILED: _ClassVar[DeliveryEvent.Kind]
        ENDPOINT_GONE: _ClassVar[DeliveryEvent.Kind]
        OPTED_OUT: _ClassVar[DeliveryEvent.Kind]
    KIND_UNSPECIFIED: DeliveryEvent.Kind
    DELIVERED: DeliveryEvent.Kind
    OPENED: DeliveryEvent.Kind
    FAILED: DeliveryEvent.Kind
    ENDPOINT_GONE: DeliveryEvent.Kind
    OPTED_OUT: DeliveryEvent.Kind
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    kind: DeliveryEvent.Kind
    at: _timestamp_pb2.Timestamp
    provider_id: str
    detail: str
    def __init__(self, delivery_id: _Optional[str] = ..., kind: _Optional[_Union[DeliveryEvent.Kind, str]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider_id: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
