"""Names of our temporary files, and the removal of those that a killed process left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

_NAME = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{12})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}\.tmp"
)
_CLOCK_SLACK_SECONDS = (
    5  # the start time is counted from the boot, whose time the clock may correct
)
_UNKNOWN = 0
_looked_at: set[Path] = set()


def temporary_name(name: str) -> str:
    """A new name beside a file; it says which process of which host writes it."""
    return f".{name}.{_host()}-{os.getpid()}-{_start(os.getpid())}-{uuid4().hex[:8]}.tmp"


def remove_leftovers(folder: Path, *, once: bool = False) -> None:
    """Remove temporary files of processes of this host that have ended.

    A name that :func:`temporary_name` did not make is never touched, nor is a file of a process
    that lives or of another host. Failure is no error: a leftover does no harm.

    Args:
        folder: to look in, not below.
        once: look only the first time in this process, for a folder with many files.
    """
    if once and folder in _looked_at:
        return
    _looked_at.add(folder)
    for path, _ in _left_behind(folder, folders=False):
        with contextlib.suppress(OSError):
            path.unlink()


def remove_leftovers_of(folder: Path) -> None:
    """Remove what killed processes of this host left of a folder they were making, beside it.

    Only folders that :func:`temporary_name` named for this very one. Failure is no error.
    """
    for path, name in _left_behind(folder.parent, folders=True):
        if name == folder.name:
            shutil.rmtree(path, ignore_errors=True)


def _left_behind(folder: Path, *, folders: bool) -> list[tuple[Path, str]]:
    """Temporary files, or folders, of processes of this host that have ended; the name each was to get."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or match["host"] != _host():
                continue
            is_right = entry.is_dir if folders else entry.is_file
            if is_right(follow_symlinks=False) and not _lives(
                int(match["pid"]), int(match["start"])
            ):
                found.append((Path(entry.path), match["name"]))
    return found


def _lives(pid: int, start: int) -> bool:
    import psutil

    try:
        # A number is given out again, but not with the same start.
        difference = abs(float(psutil.Process(pid).create_time()) - start)
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, ValueError, OverflowError):
        return True
    return start == _UNKNOWN or difference <= _CLOCK_SLACK_SECONDS


@lru_cache(maxsize=4)
def _start(pid: int) -> int:
    """When a process began, seconds since 1970. Asked with the number, as a fork changes both."""
    import psutil  # not for those who only read

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return _UNKNOWN


@lru_cache(maxsize=1)
def _host() -> str:
    space = ""
    # Containers may share a host's name and a folder while each counts its processes from 1.
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:12]
