"""The data directory of `onward up`: who uses it, its secret, its era, its logs.

    lock         held by flock while an `onward up` uses the directory
    secret       the shared secret, drawn at the first start, mode 0600
    era          how often etcd's data was lost while the log was kept
    etcd/ coordinator/ presence/    what each process keeps; of several: etcd-1-of-3/, presence-2/ …
    logs/        one file per process; the one before it as .1

Whatever cannot be read or written is a StartError: one sentence with the remedy.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import StartError

LOG_BYTES_MAX = 10 * 1024 * 1024  # a longer log is set aside
SECRET_CHARACTERS_MIN = 16
ERA_MAX = 32_767
_FOLDERS = ("etcd", "coordinator", "presence")


@contextmanager
def held(path: Path) -> Iterator[Path]:
    """The directory, made if need be, for this process alone until the block ends."""
    with _explained(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = path.resolve()
        for name in (*_FOLDERS, "logs"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"another onward up uses {path}; stop it, or choose another directory with "
                "--data-dir"
            ) from None
        yield directory
    finally:
        os.close(lock)


def secret(directory: Path) -> str:
    """The shared secret; drawn if there is none."""
    path = directory / "secret"
    with _explained(directory):
        if not path.exists():
            _write(path, secrets.token_urlsafe(32))
        text = path.read_text().strip()
    if len(text) < SECRET_CHARACTERS_MIN:
        raise StartError(f"{path} is damaged; remove it, and a new one is drawn")
    return text


def make_folders(directory: Path, etcds: Sequence[str], others: Sequence[str]) -> None:
    """Makes what the processes keep their data in, and removes what cannot go on.

    An etcd goes on if all its members have their data. Else it begins anew, as do those of other
    sizes when their turn comes: by then their data would be that of a former time.
    """
    with _explained(directory):
        whole = all((directory / name / "member").exists() for name in etcds)
        kept = set(etcds) if whole else set()
        for path in directory.glob("etcd*"):
            if path.name not in kept:
                shutil.rmtree(path)
        for name in (*etcds, *others):
            (directory / name).mkdir(mode=0o700, exist_ok=True)


def era(directory: Path, etcds: Sequence[str] = ("etcd",), in_store: int | None = None) -> int:
    """The era to tell the services: raised when etcd's data is new and the log is not.

    A new etcd counts its revisions from one again; without a higher era the log store would
    refuse its epochs as those of a deposed owner. `in_store`: the era of the log in a store that is
    not in the directory, or -1 if it has none; None: the log is in the directory.
    """
    path = directory / "era"
    with _explained(directory):
        text = path.read_text().strip() if path.exists() else "0"
        if not (text.isascii() and text.isdigit() and int(text) <= ERA_MAX):
            raise StartError(f"{path} is damaged; write into it the number of the last era")
        number = int(text)
        etcd_is_new = not all((directory / name / "member").exists() for name in etcds)
        if in_store is None:
            log_exists = any((directory / "coordinator").iterdir())
        else:
            log_exists, number = in_store >= 0, max(number, in_store)
        if etcd_is_new and log_exists:
            number += 1
        if str(number) != text:
            _write(path, str(number))
    return number


def log_path(directory: Path, name: str) -> Path:
    """The log file for a process about to start."""
    return directory / "logs" / f"{name}.log"


def set_aside(path: Path) -> None:
    """Makes a log that has grown too long empty; what it held is then its `.1`.

    The process that writes it goes on writing (it appends), so lines of the moment between the
    copy and the cut are lost. Where the disk has no room for the copy, the cut makes some.
    """
    if not path.exists() or path.stat().st_size <= LOG_BYTES_MAX:
        return
    with contextlib.suppress(OSError):
        shutil.copyfile(path, path.with_suffix(".log.1"))
    os.truncate(path, 0)


def last_line(path: Path) -> str:
    """The last line of a log: the sentence with which a process ended."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _write(path: Path, text: str) -> None:
    """Write a small file, readable by its owner alone, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, f"{text}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    fresh.replace(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "a file in it is damaged"
        raise StartError(
            f"the data directory {path} cannot be used ({why}); make it readable and writable, "
            "or choose another with --data-dir"
        ) from None
