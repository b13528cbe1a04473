"""Who reads a project: a name in ``glombridge/reader.txt``, which the review window takes as its default."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import InputError, UsageError
from ..qupath.saving import atomic_write

READER_FILE = "reader.txt"
MAX_LENGTH = 60

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029/\\:*?"<>|]')


def check_reader(name: str) -> str:
    """A reader's name, if it can be one: it becomes part of folder names and of metadata.

    Returns:
        The name without spaces around it.

    Raises:
        UsageError: it is empty, too long, begins with a dot, or has a character that folder names
            cannot have.
    """
    reader = name.strip()
    bad = _NOT_IN_NAMES.search(name.strip(" "))
    if not reader:
        why = "is empty"
    elif bad is not None:
        why = f"has {bad[0]!r} in it"
    elif reader.startswith("."):
        why = "begins with a dot"
    elif len(reader) > MAX_LENGTH:
        why = f"is longer than {MAX_LENGTH} characters"
    else:
        return reader
    msg = (
        f"the reader's name {name[:80]!r} {why}. Give a short name, as it should stand beside each "
        "decision: letters, digits, spaces, '-' and '_'."
    )
    raise UsageError(msg)


def read_reader(folder: Path) -> str | None:
    """Who reads a project, ``None`` if nothing says so.

    Args:
        folder: ``glombridge/`` of the project.

    Raises:
        InputError: the file cannot be read, or holds no name that can be one.
    """
    file = folder / READER_FILE
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read as UTF-8 text: {error}"
        raise InputError(msg) from error
    try:
        return check_reader(text.strip())
    except UsageError as error:
        msg = f"{file} must hold the reader's name on one line: {error}"
        raise InputError(msg) from error


def write_reader(folder: Path, reader: str) -> None:
    """Say who reads a project.

    Raises:
        MachineError: the file cannot be written.
    """
    atomic_write(folder / READER_FILE, f"{reader}\n".encode())
