"""Masks of outlines, to the cell: what a segmentation is taught.

ultralytics (8.4.190, ``data.utils.polygon2mask``) cuts coordinates to whole pixels, fills the outline with
every pixel its line touches, and makes the result four times smaller. Its masks come out about three
quarters of a pixel too wide on each side, and so do the outlines that are learnt from them: 7 % of the
area of an object of 40 px. Here a cell belongs to an object if its centre does.

This module imports ultralytics; import it after :func:`~.sandbox.load_ultralytics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data.augment import Format


def mask_of(
    ring: NDArray[np.floating[Any]], shape: tuple[int, int], cell_px: float
) -> NDArray[np.uint8]:
    """The cells whose centre an outline encloses, by the even-odd rule, which bridges to holes need.

    Args:
        ring: (n, 2) corners, pixels.
        shape: rows and columns of cells.
        cell_px: side of a cell.

    Returns:
        1 inside, 0 outside.
    """
    rows, columns = shape
    # In units where the centres of cells are whole numbers.
    x, y = np.asarray(ring, float).T / cell_px - 0.5
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    first = np.clip(np.ceil(np.minimum(y, to_y)), 0, rows).astype(int)
    behind = np.clip(np.ceil(np.maximum(y, to_y)), 0, rows).astype(int)
    count = behind - first
    side = np.repeat(np.arange(len(x)), count)
    row = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
    along = (row - y[side]) / (to_y - y)[side]
    column = np.ceil(x[side] + along * (to_x - x)[side])
    crossings = np.zeros((rows, columns + 1), np.int64)
    np.add.at(crossings, (row, np.clip(column, 0, columns).astype(int)), 1)
    inside: NDArray[np.uint8] = (np.cumsum(crossings, axis=1)[:, :columns] % 2).astype(np.uint8)
    return inside


class ExactMasks(Format):  # type: ignore[misc]
    """ultralytics' last step of preparing a tile, with :func:`mask_of` for its masks."""

    def _format_segments(self, instances: Any, cls: Any, w: int, h: int) -> tuple[Any, Any, Any]:
        ratio = self.mask_ratio
        masks = [mask_of(ring, (h // ratio, w // ratio), ratio) for ring in instances.segments]
        if not self.mask_overlap:
            return np.array(masks), instances, cls
        # One field for all objects: the smaller lie on the larger.
        order = np.argsort([-int(mask.sum()) for mask in masks], kind="stable")
        field = np.zeros((h // ratio, w // ratio), np.int32 if len(masks) > 255 else np.uint8)
        for number, k in enumerate(order, 1):
            field[masks[k] > 0] = number
        return field[None], instances[order], cls[order]

    @classmethod
    def instead_of(cls, step: Format) -> ExactMasks:
        """The same step with other masks."""
        made = cls.__new__(cls)
        made.__dict__.update(vars(step))
        return made
