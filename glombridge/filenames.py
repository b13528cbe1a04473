"""Names that came from anywhere: as file names, in tables, on a terminal, and read as paths."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from .errors import ProtectedError

_NOT_SHOWN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BREAKS = re.compile(r"[\t\n\r\u2028\u2029]")
MAX_LENGTH = 80
MAX_ENTRY_BYTES = 255
"""Longer ones no common file system has; asking for one is an error of the system, not an absent file."""
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def is_plain_name(name: str) -> bool:
    """Whether a name that was read from a file names an entry of one folder, on every platform."""
    if name in ("", ".", "..") or len(name.encode("utf-8", "replace")) > MAX_ENTRY_BYTES:
        return False
    return not re.search(r"[/\\:\x00-\x1f]", name)


def cell_text(text: str) -> str:
    """A text as a cell of a table that people open.

    A spreadsheet takes text that begins like a formula for one, and names come from anywhere. A
    carriage return becomes a space: before Python 3.13 the csv module does not quote it.
    """
    text = text.replace("\r", " ")
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def shown_text(text: str) -> str:
    """A text as a terminal may get it: escape sequences and marks that turn it around are spelt out.

    Line breaks and tabs stay. So do joiners, which emoji and several scripts need.
    """
    return _NOT_SHOWN.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a path that a symbolic link leads out of the folder it belongs into.

    The folder itself may be reached by a link. Nothing needs to be there yet.

    Raises:
        ProtectedError: it would be somewhere else.
    """
    # realpath, unlike Path.resolve in 3.10 to 3.12, also follows a link that leads in a circle.
    there, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if there != home and home not in there.parents:
        msg = (
            f"{path} leads out of {folder} by a link, to {there}. Nothing is read or written there: "
            "put the files themselves into the folder."
        )
        raise ProtectedError(msg)


def shown_line(text: str) -> str:
    """A text as a part of one line: like :func:`shown_text`, with line breaks and tabs spelt out, too."""
    return shown_text(_BREAKS.sub(lambda m: f"\\u{ord(m[0]):04x}", text))


def refuse_ways_out(folder: Path, home: Path, *, depth: int) -> None:
    """Refuse a folder in which a symbolic link leads out.

    Args:
        folder: is looked through; nothing needs to be there.
        home: what a link must stay in.
        depth: folders within folders that are looked into, 1 = only this one.

    Raises:
        ProtectedError: names the first link that leads out of ``home``.
    """
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:
        return  # not there, no folder, or not ours to read: whoever wants something of it will say so
    for entry in entries:
        # On Windows a folder may be a junction, which is no symbolic link (known from Python 3.12 on).
        is_link = entry.is_symlink() or getattr(entry, "is_junction", bool)()
        if is_link:
            require_inside(Path(entry.path), home)
        elif depth > 1 and entry.is_dir():
            refuse_ways_out(Path(entry.path), home, depth=depth - 1)


def safe_name(name: str) -> str:
    """An image name as part of a file name on every platform.

    Letters and digits of any script, ``.``, ``_`` and ``-`` stay; everything else, path
    separators and control characters among them, becomes ``_``. Not unique: add an id.
    """
    text = re.sub(r"[^\w.\-]+", "_", unicodedata.normalize("NFC", name))
    safe = text.strip("._-")[:MAX_LENGTH] or "image"
    return f"_{safe}" if _WINDOWS_DEVICES.match(safe) else safe
