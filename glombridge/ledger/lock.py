"""The project lock: one writer at a time, across processes and hosts."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import psutil
from filelock import FileLock, Timeout

from ..documents import parse_json
from ..errors import MachineError, ProtectedError
from ..qupath.leftovers import remove_leftovers, temporary_name
from .history import utc_now

GUARD_SECONDS = 10.0
"""Taking or clearing the lock is a matter of milliseconds."""


class ProjectLock:
    """A lock file created exclusively, naming host and process; use with ``with``.

    A lock left by a dead process of this host is taken over. One of another host is refused,
    because nobody here can tell whether that process still lives.

    Args:
        path: the lock file; its folder is made if missing.
        break_lock: take the lock whoever holds it.
        wait_seconds: how long to wait for it before refusing.
    """

    def __init__(self, path: Path, *, break_lock: bool = False, wait_seconds: float = 0) -> None:
        self.path = path
        self.break_lock = break_lock
        self.wait_seconds = wait_seconds
        self._held_as: dict[str, Any] | None = None

    def __enter__(self) -> ProjectLock:
        """Take the lock.

        Raises:
            ProtectedError: somebody else holds it.
            MachineError: the folder cannot be written.
        """
        deadline = time.monotonic() + self.wait_seconds
        while True:
            try:
                self._take()
            except ProtectedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)
            else:
                return self

    def _take(self) -> None:
        me = psutil.Process()
        owner = {
            "host": socket.gethostname(),
            "pid": me.pid,
            # A process number is given again after a while; with its start time it is unique.
            "started": me.create_time(),
            "since": utc_now(),
            "token": uuid4().hex,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Looking at a dead owner's file and replacing it must be one step, or two processes
            # could take it over from each other; the guard is an operating-system lock.
            guard = self.path.with_name(self.path.name + ".guard")
            with FileLock(guard, timeout=GUARD_SECONDS):
                if self.path.exists():
                    self._clear_if_dead()
                remove_leftovers(self.path.parent)
                _appear(self.path, json.dumps(owner))
        except (FileExistsError, Timeout):
            # Another host on the same share, where the guard does not reach, was faster; or a
            # process stands still while it takes or clears the lock.
            msg = f"project lock {self.path} is being taken by others; try again"
            raise ProtectedError(msg) from None
        except OSError as error:
            msg = f"cannot create the project lock {self.path}: {error.strerror or error}"
            raise MachineError(msg) from error
        self._held_as = owner

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        owner, self._held_as = self._held_as, None
        # Whoever gave --break-lock may hold it by now; theirs is not ours to take away.
        if owner is not None and _owner(self.path) == owner:
            self.path.unlink(missing_ok=True)

    def _clear_if_dead(self) -> None:
        holder = lock_holder(self.path)
        if holder is None:
            return
        if holder.is_dead or self.break_lock:
            self.path.unlink(missing_ok=True)
            return
        msg = (
            f"project lock {self.path} {holder.text}. Wait until it is done; "
            "if that process is gone for certain, give --break-lock."
        )
        raise ProtectedError(msg)


def _appear(path: Path, text: str) -> None:
    """Make a file with its text in one step, if there is none.

    A lock without a name, as a kill between the two would leave it, could only be broken.

    Raises:
        FileExistsError: there is one.
    """
    named = path.with_name(temporary_name(path.name))
    try:
        named.write_text(text, encoding="utf-8")
        try:
            os.link(named, path)
        except FileExistsError:
            raise
        except OSError:
            # A disk that knows no links.
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    finally:
        named.unlink(missing_ok=True)


@dataclass(frozen=True)
class LockHolder:
    """Who holds a project lock.

    Attributes:
        text: ``is held by ...``, to follow the name of the lock.
        is_dead: whether it is certain that the process has ended; the next writer takes it over.
    """

    text: str
    is_dead: bool


def lock_holder(path: Path) -> LockHolder | None:
    """Who holds a lock, ``None`` if nobody does. Takes and changes nothing."""
    if not path.exists():
        return None
    owner = _owner(path)
    if owner is None:
        return LockHolder("cannot be read", is_dead=False)
    since = f" since {owner['since']}" if "since" in owner else ""
    if owner.get("host") != socket.gethostname():
        text = f"is held by process {owner.get('pid')} on host {owner.get('host')!r}{since}"
        return LockHolder(text, is_dead=False)
    if _is_alive(owner):
        return LockHolder(f"is held by process {owner.get('pid')} on this host{since}", False)
    return LockHolder(f"was left by process {owner.get('pid')}, which has ended{since}", True)


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _is_alive(owner: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(owner["pid"]))
        started = float(owner["started"])
        return bool(process.is_running() and abs(process.create_time() - started) < 2)
    except psutil.NoSuchProcess:
        return False
    except (psutil.AccessDenied, KeyError, TypeError, ValueError):
        return True  # what cannot be told for certain counts as alive
