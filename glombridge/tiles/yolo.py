"""The text of YOLO label files, and the way from it back to the slide."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..errors import InputError
from .grid import TileBox
from .labels import Task, TileLabels
from .polygons import area_of, ring_of

_MOST_CLASSES = 1 << 16
_FARTHEST_TILES = 2.0
_DECIMALS = 7  # of YOLO numbers: 0.0002 px of a 1600 px tile


def yolo_lines(labels: TileLabels, task: Task = "detect") -> str:
    """Text of a YOLO label file, one line per object, positions as shares of the tile.

    For ``"detect"`` a line is ``class cx cy w h``; for ``"segment"`` it is ``class x y x y ...``,
    the corners of the one ring that :func:`.polygons.ring_of` makes of the visible part.
    """
    size = np.array([labels.tile.width_target_px, labels.tile.height_target_px], float)
    lines = []
    for box in labels.boxes:
        low, high = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
        if task == "detect":
            values = np.concatenate([(low + high) / 2 / size, (high - low) / size])
        else:
            values = np.clip(ring_of(box.area) / size, 0, 1).ravel()
        lines.append(f"{box.class_index} " + " ".join(f"{v:.{_DECIMALS}f}" for v in values) + "\n")
    return "".join(lines)


def yolo_to_slide(text: str, tile: TileBox) -> list[tuple[int, tuple[float, float, float, float]]]:
    """Boxes of a YOLO label file as class and left, top, right, bottom in QuPath px.

    Raises:
        InputError: a line that is not five numbers, the first a whole one.
    """
    found = []
    for class_index, values in _numbers(text, "class cx cy w h", lambda n: n == 4):
        cx, cy, width, height = values.tolist()
        left = tile.x_px + (cx - width / 2) * tile.width_px
        top = tile.y_px + (cy - height / 2) * tile.height_px
        box = (left, top, left + width * tile.width_px, top + height * tile.height_px)
        found.append((class_index, box))
    return found


def yolo_polygons_to_slide(text: str, tile: TileBox) -> list[tuple[int, BaseGeometry]]:
    """Outlines of a YOLO segmentation label file as class and polygon(s) in QuPath px.

    Raises:
        InputError: a line that is not a class and three or more corners.
    """
    found = []
    for class_index, values in _numbers(
        text, "class x y x y x y ...", lambda n: n >= 6 and n % 2 == 0
    ):
        corners = values.reshape(-1, 2) * (tile.width_px, tile.height_px) + (tile.x_px, tile.y_px)
        found.append((class_index, area_of(corners)))
    return found


def _numbers(
    text: str, form: str, is_right: Callable[[int], bool]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            index_text, *rest = line.split()
            class_index = int(index_text)
            if not 0 <= class_index < _MOST_CLASSES:
                raise ValueError(index_text)
            values = np.array([float(value) for value in rest])
        except ValueError as error:
            msg = f"line {number} of a YOLO label file is not '{form}': {line[:80]!r}"
            raise InputError(msg) from error
        # Also refuses what is no number. Boxes may reach over the tile, though not far.
        if not is_right(len(values)) or not (np.abs(values) <= _FARTHEST_TILES).all():
            msg = f"line {number} of a YOLO label file is not '{form}': {line[:80]!r}"
            raise InputError(msg)
        yield class_index, values
