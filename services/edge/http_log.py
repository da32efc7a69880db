"""Keeps what clients send out of the log of aiohttp, which quotes it when it cannot parse it.

Nor may whoever sends nonsense fill the log with it: that is counted.
"""

import logging

from aiohttp.http_exceptions import HttpProcessingError

from services.edge.metrics import CONNECTIONS_REFUSED


class _Wordless(logging.Filter):
    """Takes a record's text away. Faults of handlers do not get here: `http_refusal` logs them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            CONNECTIONS_REFUSED.labels("malformed").inc()
            return False
        record.msg, record.args = "HTTP: a message withheld", ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def http_logger() -> logging.Logger:
    """The logger to give to aiohttp's server."""
    logger = logging.getLogger("onward.edge.http")
    if not logger.filters:
        logger.addFilter(_Wordless())
    return logger
