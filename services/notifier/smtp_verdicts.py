"""What an SMTP reply means for a delivery. Pure: a table.

Sources: RFC 5321 section 4.2 (reply codes), RFC 3463 and RFC 5248 (enhanced status codes). A code
is looked up from the most special to the most general: the enhanced code `5.1.1`, then `5.1`;
then the reply code `550`, then its class `5`. What a reply means depends on the stage it answers:
a refused greeting or sender is our set-up, a refused recipient is about the endpoint. SMTP has no
words for when to come again, so that is ours to say.
"""

import re
from collections.abc import Mapping
from enum import Enum

from services.notifier import results
from services.notifier.results import Outcome, Result

# After 4xx. What lasts a moment costs the wait; who greylists takes nothing before (RFC 6647), and
# a full mailbox is full for long.
BACK_OFF_S = 300.0


class Stage(Enum):
    """Which command a reply answers."""

    SESSION = "session"  # connection, EHLO, STARTTLS, AUTH
    SENDER = "sender"  # MAIL FROM
    RECIPIENT = "recipient"  # RCPT TO
    START = "start"  # DATA: whether to start with the message
    DATA = "data"  # the end of the message


_Table = Mapping[str, "Outcome.ValueType"]

_ANY_STAGE: _Table = {
    "5.7": Result.MISCONFIGURED,  # security or policy: it is we who may not
    "530": Result.MISCONFIGURED,  # authentication required
    "534": Result.MISCONFIGURED,  # authentication mechanism too weak
    "535": Result.MISCONFIGURED,  # credentials wrong
    "538": Result.MISCONFIGURED,  # encryption required for authentication
    "5.1.7": Result.MISCONFIGURED,  # our sender address: syntax
    "5.1.8": Result.MISCONFIGURED,  # our sender address: its domain
    "5.3.4": Result.REJECTED_MESSAGE,  # message too big
    "552": Result.REJECTED_MESSAGE,
    "421": Result.PROVIDER_UNAVAILABLE,  # the service is closing, whatever was asked of it
    "4": Result.RETRY,
}
_ENDPOINT: _Table = {
    "5.1.1": Result.ENDPOINT_GONE,  # no such mailbox
    "5.1.10": Result.ENDPOINT_GONE,  # the domain takes no mail (null MX)
    "5": Result.REJECTED_MESSAGE,
}
_BY_STAGE: Mapping[Stage, _Table] = {
    Stage.SESSION: {
        **_ANY_STAGE,
        "4": Result.PROVIDER_UNAVAILABLE,  # no message was spoken of yet: it is true of all
        "5": Result.MISCONFIGURED,
    },
    Stage.SENDER: {**_ANY_STAGE, "5": Result.MISCONFIGURED},
    Stage.RECIPIENT: {**_ANY_STAGE, **_ENDPOINT},
    Stage.START: {**_ANY_STAGE, **_ENDPOINT},
    Stage.DATA: {**_ANY_STAGE, **_ENDPOINT},
}
_ENHANCED = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")


def verdict(stage: Stage, code: int, text: str, back_off_s: float = BACK_OFF_S) -> Result:
    """The result for reply `code` with `text`. A code that is none means that nothing is known.
    `back_off_s`: until what was refused for now is tried again."""
    enhanced = enhanced_code(code, text)
    # Only codes: the text of a reply may quote the address or the message.
    detail = " ".join(str(part) for part in (stage.value, code, enhanced) if part)
    table = _BY_STAGE[stage]
    for key in _from_special_to_general(code, enhanced):
        if key in table:
            if table[key] == Result.RETRY:
                return results.retry(detail, back_off_s)
            return results.build(table[key], detail)
    # Neither 4xx nor 5xx. After the message it may have been taken; before, it was not.
    if stage is Stage.DATA:
        return results.unknown(detail)
    if stage is Stage.SESSION:
        return results.provider_unavailable(detail)
    return results.retry(detail, back_off_s)


def enhanced_code(code: int, text: str) -> str:
    """The enhanced status code that `text` starts with; empty if none, or of another class."""
    match = _ENHANCED.match(text)
    if match is None or match[1] != str(code)[0]:
        return ""
    return f"{match[1]}.{int(match[2])}.{int(match[3])}"


def _from_special_to_general(code: int, enhanced: str) -> list[str]:
    keys = [enhanced, enhanced.rpartition(".")[0]] if enhanced else []
    return [*keys, str(code), str(code)[:1]]
