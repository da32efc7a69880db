"""Keeps what clients send out of the log of aiohttp, which quotes it when it cannot parse it."""

import logging
import traceback


class _Wordless(logging.Filter):
    """Replaces a record's text: what happened and where in the code, never what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        raised = record.exc_info[1] if record.exc_info else None
        if raised is None:
            record.msg, record.args = "HTTP: a message withheld", ()
        else:
            frames = traceback.extract_tb(raised.__traceback__)
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
            record.msg = "HTTP: a request failed with %s at %s"
            record.args = (type(raised).__name__, place)
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def http_logger() -> logging.Logger:
    """The logger to give to aiohttp's server."""
    logger = logging.getLogger("onward.edge.http")
    if not logger.filters:
        logger.addFilter(_Wordless())
    return logger
