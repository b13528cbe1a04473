"""The files of a dataset: each tile a picture of the size it should have, each label one that can be.

Whoever trains gives these files to ultralytics, which decodes whatever it is given, takes any format
under any ending, looks into folders below, and prefers ``x.npy`` to ``x.jpg``. So nothing may lie here
but what ``glombridge tile`` writes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DamagedFileError, InputError
from ..filenames import require_inside, shown_line
from ..tiles.dataset_files import AGAIN, label_text
from ..tiles.labels import Task

_TILE_SUFFIX = ".jpg"
_HEAD_BYTES = 4096
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_NUMBER = re.compile(r"\S+")

LABEL_FORMS: dict[Task, tuple[str, Callable[[int], bool]]] = {
    "detect": ("class x y width height", lambda n: n == 4),
    "segment": ("class x y x y x y ...", lambda n: n >= 6 and n % 2 == 0),
}
"""What a line of a label file is, by task, and how many numbers may follow the class."""


def check_part(
    dataset: Path,
    part: str,
    *,
    count: int,
    tile_px: tuple[int, int],
    task: Task,
    class_names: Sequence[str],
    digest: Any,
) -> Counter[int]:
    """See every file of one part of a dataset.

    Args:
        dataset: its folder.
        part: ``train``, ``val`` or ``test``.
        count: tiles there should be.
        tile_px: width and height of each.
        task: what the labels are for.
        class_names: by index.
        digest: is fed with the name and size of each tile and the text of its labels.

    Returns:
        Labels per class index.

    Raises:
        InputError: a file is missing, is one too many, is damaged or not what it should be.
        ProtectedError: a link leads out of the dataset.
    """
    images, texts = dataset / "images" / part, dataset / "labels" / part
    tiles = list(_files(dataset, images))
    if len(tiles) != count:
        msg = (
            f"dataset {dataset}: its manifest counts {count} tiles in {part}, and {len(tiles)} are "
            f"there. Files were added or lost after they were written. {AGAIN}"
        )
        raise InputError(msg)
    stems = {tile.stem for tile in tiles if tile.suffix == _TILE_SUFFIX}
    with_labels = {path.stem for path in _files(dataset, texts) if path.suffix == ".txt"}
    alien = sorted(with_labels - stems)
    if alien:
        msg = f"{texts / (alien[0] + '.txt')} are labels of a tile that is not there. {AGAIN}"
        raise InputError(msg)
    counts: Counter[int] = Counter()
    for tile in tiles:
        size = _check_tile(tile, tile_px)
        digest.update(f"{part}/{tile.name} {size}\n".encode(errors="surrogateescape"))
        if tile.stem in with_labels:
            path = texts / f"{tile.stem}.txt"
            text = label_text(path, dataset)
            digest.update(text.encode())
            counts.update(_class_indices(path, text, task, class_names))
    return counts


def _files(dataset: Path, folder: Path) -> Iterator[Path]:
    """What lies in a folder of a dataset, by name; everything there is a file of the dataset's own."""
    require_inside(folder, dataset)
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = folder / entry.name
        if entry.is_symlink():
            require_inside(path, dataset)
        if not entry.is_file():  # a folder, whose files ultralytics would use, or a pipe
            msg = f"{path} is no file, and only tiles and their labels belong there. {AGAIN}"
            raise InputError(msg)
        yield path


def _check_tile(tile: Path, tile_px: tuple[int, int]) -> int:
    """Bytes of a tile that is whole and says that it has the size it should have."""
    with tile.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        is_whole = file.read() == _JPEG_END
    if tile.suffix != _TILE_SUFFIX or not head.startswith(_JPEG_START):
        msg = f"tile {tile} is no JPEG file that 'glombridge tile' wrote. {AGAIN}"
        raise DamagedFileError(msg)
    if not is_whole:
        # ultralytics would mend it silently: it writes the part it could read over the file.
        msg = f"tile {tile} is cut off ({size} bytes): it was not copied completely. {AGAIN}"
        raise DamagedFileError(msg)
    claimed = _jpeg_size_px(head)
    if claimed != tile_px:
        says = "no size" if claimed is None else f"{claimed[0]} x {claimed[1]} px"
        msg = (
            f"tile {tile} says {says} in its header, and the tiles of this dataset are {tile_px[0]} x "
            f"{tile_px[1]} px in colour and baseline JPEG. {AGAIN}"
        )
        raise DamagedFileError(msg)
    return size


def _jpeg_size_px(head: bytes) -> tuple[int, int] | None:
    """Width and height that a baseline JPEG in colour will be decoded to; ``None`` for any other.

    A progressive one is refused like a file without a size: a few bytes are a whole scan of it, so a
    small file takes hours to decode.
    """
    at = len(_JPEG_START)
    while len(head) >= at + 10 and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1):
            height, width = (int.from_bytes(head[at + k : at + k + 2], "big") for k in (5, 7))
            is_colour = (head[at + 4], head[at + 9]) == (8, 3)
            return (width, height) if is_colour else None
        is_table = marker in (0xC4, 0xDB, 0xDD, 0xFE) or 0xE0 <= marker <= 0xEF
        if not is_table or length < 2:
            return None
        at += 2 + length
    return None


def _class_indices(path: Path, text: str, task: Task, names: Sequence[str]) -> Iterator[int]:
    """Class index of each label line; ultralytics would drop the whole tile, with a warning."""
    form, is_right = LABEL_FORMS[task]
    for number, line in enumerate(text.splitlines(), 1):
        # One after the other: a line may be as long as the file.
        words = (match[0] for match in _NUMBER.finditer(line))
        index = next(words, "")
        n_numbers = 0
        for word in words:
            try:
                value = float(word)
            except ValueError:
                n_numbers = -1
                break
            # Also refuses what is no number.
            if not 0 <= value <= 1:
                msg = f"{path}, line {number}: {value} lies outside 0 to 1, the tile. {AGAIN}"
                raise InputError(msg)
            n_numbers += 1
        if not index or not is_right(n_numbers):
            msg = f"{path}, line {number}: {line[:80]!r} is no label ({form}). {AGAIN}"
            raise InputError(msg)
        if not re.fullmatch("[0-9]{1,9}", index) or int(index) >= len(names):
            msg = (
                f"{path}, line {number}: there is no class {index[:80]}; the dataset has "
                f"{len(names)} ({', '.join(map(shown_line, names))}), counted from 0. {AGAIN}"
            )
            raise InputError(msg)
        yield int(index)
