"""What an operator sets for the process that hands notifications to Apprise."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.chassis.errors import SettingError
from services.chassis.settings import setting
from services.chassis.shared_settings import SharedSettings

TARGETS_MAX = 1_000  # of a file
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LINE = re.compile(rf"({NAME.pattern})\s*=\s*(([A-Za-z][A-Za-z0-9+.-]*)://\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SharedSettings):
    """Read from the environment by `services.chassis.settings.load`."""

    listen: str = setting(
        "127.0.0.1:0", doc="host:port to listen on for gRPC; port 0 draws a free one"
    )
    targets_file: str = setting(
        doc="file with one target on a line, as: name = Apprise URL; what users register is "
        "apprise:name, so that no user ever gives a URL. Lines with # are comments. Read at the "
        "start"
    )
    schemes: tuple[str, ...] = setting(
        (),
        doc="the schemes of Apprise that the file may use, parted by commas, such as slack,ntfys; "
        "empty: all",
    )
    threads: int = setting(
        8, least=1, most=64, doc="sends at a time, a thread each; a service that hangs holds one"
    )
    send_s: float = setting(
        20.0,
        least=0.1,
        most=600,
        doc="seconds that one send may take, then its outcome is unknown",
    )
    repeats: bool = setting(
        False,
        doc="true sends again what Apprise says it could not send, or does not answer for; of "
        "several people or rooms behind one URL, those that got it get it again. false: it is not "
        "repeated, and may have reached nobody",
    )
    drain_s: float = setting(
        3.0, least=0, most=60, doc="seconds that calls under way get when the process is stopped"
    )
    metrics_port: int = setting(0, least=0, most=65535, doc="port of /metrics; 0: none")


def targets(path: str, schemes: Sequence[str]) -> dict[str, str]:
    """Apprise URLs by name. Raises SettingError naming the line, never quoting it: it is secret."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise _wrong(f"cannot be read ({type(error).__name__})") from None
    found: dict[str, str] = {}
    allowed = {scheme.lower() for scheme in schemes}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise _wrong(f"line {number} is not: name = Apprise URL, with a name of [a-z0-9-]")
        name, url, scheme = match.groups()
        if name in found:
            raise _wrong(f"line {number} names {name} a second time")
        if allowed and scheme.lower() not in allowed:
            raise _wrong(f"line {number} has a scheme that ONWARD_APPRISE_SCHEMES does not list")
        found[name] = url
    if not 1 <= len(found) <= TARGETS_MAX:
        raise _wrong(f"has {len(found)} targets, not 1 to {TARGETS_MAX}")
    return found


def _wrong(what: str) -> SettingError:
    return SettingError(f"ONWARD_APPRISE_TARGETS_FILE {what}; see docs/channels.md")
