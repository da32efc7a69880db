"""Builds refusals. Their codes, and when each happens, stand in `refusal.proto` alone."""

from onward.types.v1 import refusal_pb2

Code = refusal_pb2.Refusal.Code
Refusal = refusal_pb2.Refusal


def refuse(
    code: "Code.ValueType", message: str, retry_after_ms: int = 0, subject: str | None = None
) -> Refusal:
    """A refusal. `message` is one sentence for a person, without content or tokens."""
    return Refusal(code=code, message=message, retry_after_ms=retry_after_ms, subject=subject)


def code_name(refusal: Refusal) -> str:
    """The word of the code, as JSON shows it."""
    return Code.Name(refusal.code)
