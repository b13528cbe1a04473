"""Tables and a document that belong together, in a folder that may hold other things as well."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import MachineError, ProtectedError
from ..qupath.leftovers import remove_leftovers
from ..qupath.saving import write_together

LOCK = ".glombridge.lock"
"""In the folder while files are put in place."""

WAIT_SECONDS = 10.0
"""For another process that puts its files in place, which takes a moment."""


def write_file_set(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    """Write files of which nobody is to see some of one call beside some of another.

    A killed call leaves some missing. The last one is written last: where it is, all are.

    Args:
        folder: made where it is not there; what else lies in it stays.
        texts: by name.

    Returns:
        The files.

    Raises:
        ProtectedError: another process is writing there.
        MachineError: disk full, no permission; the files are as they were.
    """
    files = {folder / name: text.encode() for name, text in texts.items()}
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=WAIT_SECONDS)
    except Timeout:
        msg = f"another process is writing into {folder}. Try again when it is done."
        raise ProtectedError(msg) from None
    except OSError as error:
        msg = f"cannot write into {folder}: {error.strerror or error}"
        raise MachineError(msg) from error
    try:
        remove_leftovers(folder)
        write_together(files)
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
    return tuple(files)
