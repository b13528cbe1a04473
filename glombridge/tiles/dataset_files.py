"""Files of a dataset that somebody may have made up: no link that leads out, no pipe, no gigabytes."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..filenames import require_inside

AGAIN = "Run 'glombridge tile' again."
MOST_LABEL_BYTES = 16 << 20
"""Of one tile: some 800,000 corners. A text is read whole, and ultralytics makes about eight times as much of
it."""
MOST_RECORD_BYTES = 256 << 20
"""Of one slide: some 400,000 tiles."""


def label_text(path: Path, dataset: Path) -> str:
    """The text of a label file.

    Raises:
        InputError: it is none, or a larger one than a tile has.
        ProtectedError: a link leads out of the dataset.
        OSError: it cannot be read.
    """
    way_out = "Simplify outlines of that many corners in QuPath, and run 'glombridge tile' again."
    data = file_bytes(path, dataset, MOST_LABEL_BYTES, "labels of one tile have", way_out)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        msg = f"{path} is no text of labels: {error}. {AGAIN}"
        raise InputError(msg) from error


def file_bytes(
    path: Path,
    dataset: Path,
    most_bytes: int,
    what_has: str = "such a file has",
    way_out: str = AGAIN,
) -> bytes:
    """What is in a file of a dataset.

    Args:
        path: of the file.
        dataset: folder that it must lie in; it may itself be reached by a link.
        most_bytes: that it may have.
        what_has: subject and verb of the sentence that names this limit.
        way_out: a sentence.

    Raises:
        InputError: it is no file, or a larger one.
        ProtectedError: a link leads out of the dataset.
        OSError: it cannot be read.
    """
    require_inside(path, dataset)
    size = path.stat().st_size
    if not path.is_file():  # a pipe would be waited for
        msg = f"{path} is no file. {AGAIN}"
        raise InputError(msg)
    if size > most_bytes:
        msg = f"{path} has {size} bytes, and {what_has} at most {most_bytes}. {way_out}"
        raise InputError(msg)
    return path.read_bytes()
