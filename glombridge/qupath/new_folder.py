"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import GlombridgeError, MachineError
from .leftovers import remove_leftovers_of, temporary_name


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder that takes its place when the block ends without an error, else goes.

    What a killed process left of the same folder goes as well, and nothing else does.

    Args:
        folder: to be made; nothing may be there, or an empty folder.

    Raises:
        MachineError: it cannot be made; nothing was.
    """
    remove_leftovers_of(folder)
    hidden = folder.with_name(temporary_name(folder.name))
    try:
        try:
            hidden.mkdir(parents=True)
            yield hidden
            if folder.is_dir():
                folder.rmdir()  # Windows renames onto nothing, not even an empty folder
            hidden.rename(folder)
        except GlombridgeError:
            raise
        except OSError as error:
            msg = f"cannot write {folder}: {error.strerror or error}. Nothing was made."
            raise MachineError(msg) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
