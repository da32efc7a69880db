"""What `onward subscribe` keeps between runs: client ids, generations, positions per log.

Knows files; must not know connections. A file holds one client for each client id used with it,
and the one that was drawn. It is replaced as a whole: written beside, synced, renamed, and the
directory synced, so that after a kill or a power cut it is the old file or the new one. A second
process with a drawn client id would be the same client twice; a lock beside the file, which the
system lets go when its holder dies, tells it to draw its own and keep nothing.
"""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from onward_sdk import Identity

from services.cli.outcome import Failure

VERSION = 1
_REMEDY = "choose another with --state-file"


def default_path(environ: Mapping[str, str], url: str, user: str, client_id: str) -> Path:
    """The file for a server, a user and a client (empty: drawn), by the XDG rules."""
    root = environ.get("XDG_STATE_HOME", "")
    state = Path(root) if root.startswith("/") else Path.home() / ".local" / "state"
    names = (url.partition("://")[2], user, client_id)
    readable = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", name)[:40] for name in names if name)
    digest = blake2b("\n".join((url, user, client_id)).encode(), digest_size=4).hexdigest()
    return state / "onward" / f"{readable}_{digest}.json"


class StateFile:
    """The file of one process. Raises Failure, with the remedy, if it cannot be used."""

    def __init__(self, path: Path, client_id: str) -> None:
        self._path = path
        self._given_id = client_id
        self._client_id = client_id
        self._content: dict[str, Any] = {"version": VERSION, "drawn": "", "clients": {}}
        self._lock = -1
        self.shared = False  # another process uses the drawn client; nothing is kept

    def open(self) -> Identity:
        """Locks and reads the file; returns whom to be, and how far that client has come."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            is_first = self._take_lock()
            self._content |= self._read()
        except OSError as error:
            raise Failure(f"{self._path} cannot be used ({error.strerror}); {_REMEDY}") from None
        if not is_first and not self._given_id:
            self.shared = True
            return Identity(_draw_id())
        self._client_id = self._given_id or self._content["drawn"] or _draw_id()
        client = self._content["clients"].get(self._client_id, {})
        try:
            log_id = str(client.get("log_id", ""))
            positions = client.get("positions", {}).get(log_id, {})
            return Identity(
                self._client_id,
                int(client.get("generation", 0)),
                log_id,
                {str(subject): int(seq) for subject, seq in positions.items()},
            )
        except (AttributeError, TypeError, ValueError):
            raise self._unreadable() from None

    def keep(self, identity: Identity) -> None:
        """Makes the identity durable; when this returns it outlives a power cut.

        Once the server gave this client to a newer process, the file is that one's too.
        """
        if self.shared or identity.client_id != self._client_id:
            return
        if not self._given_id:
            self._content["drawn"] = identity.client_id
        self._content["clients"][identity.client_id] = {
            "generation": identity.generation,
            "log_id": identity.log_id,
            "positions": {identity.log_id: dict(identity.positions)},
        }
        try:
            self._replace(json.dumps(self._content, indent=1).encode() + b"\n")
        except OSError as error:
            raise Failure(f"{self._path} cannot be written ({error.strerror}); {_REMEDY}") from None

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise self._unreadable() from None
        if (
            not isinstance(content, dict)
            or content.get("version") != VERSION
            or not isinstance(content.get("drawn"), str)
            or not isinstance(content.get("clients"), dict)
        ):
            raise self._unreadable()
        return content

    def _unreadable(self) -> Failure:
        return Failure(f"{self._path} is no state file of this version; remove it, or {_REMEDY}")

    def _take_lock(self) -> bool:
        path = self._path.with_name(self._path.name + ".lock")
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _replace(self, content: bytes) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _draw_id() -> str:
    return f"cli-{uuid.uuid4().hex[:16]}"
