"""From the masks of a segmentation network to outlines.

Such a network gives, for each tile, a number of prototype fields at a quarter of its resolution, and for
each box one coefficient per prototype (Bolya et al., YOLACT, ICCV 2019). The sum is a field that is
positive on the object. ultralytics enlarges it to the tile, makes it black and white and walks along
pixels (``ops.process_mask_native``, ``ops.masks2segments``): an outline in steps of whole pixels. Here
the line where the field is zero is taken from the field itself, by marching squares with linear
interpolation, which needs only the samples under the box and is exact to a fraction of a pixel.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from ..objects import box_polygons
from .boxes import Outlines
from .outlines import tidy

SIMPLE_PX = 0.25
"""How far a corner may lie off the line of its neighbours and be left out, in tile pixels."""


def outlines_of(
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    xyxy: NDArray[np.float64],
    *,
    scale_xy: tuple[float, float] = (1.0, 1.0),
    left_top_px: tuple[float, float] = (0.0, 0.0),
    input_px: tuple[int, int],
) -> Outlines:
    """Outlines of the boxes of one tile.

    What a mask says outside its box is not looked at: there the network was never corrected.

    Args:
        coefficients: (N, K) of each box.
        prototypes: (K, height, width) of the tile.
        xyxy: (N, 4) boxes in tile pixels.
        scale_xy: pixels of the network's input per tile pixel.
        left_top_px: where the tile begins in the network's input.
        input_px: width and height of the network's input.

    Returns:
        (N,) polygons or multipolygons in tile pixels, ``None`` where a mask is empty inside its box.
    """
    found: Outlines = np.full(len(xyxy), None, object)
    if not len(xyxy):
        return found
    _, rows, columns = prototypes.shape
    step_px = np.array([input_px[0] / columns, input_px[1] / rows])
    offset_px, scale = np.array(left_top_px), np.array(scale_xy)
    # A sample stands for the pixels around it, so the first lies half a step inside.
    low = np.floor((xyxy[:, :2] * scale + offset_px) / step_px - 0.5).astype(int)
    high = np.ceil((xyxy[:, 2:] * scale + offset_px) / step_px - 0.5).astype(int)
    for k, ((x0, y0), (x1, y1)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        x, y = np.arange(x0, max(x1, x0 + 1) + 1), np.arange(y0, max(y1, y0 + 1) + 1)
        # Beyond the tile the outermost sample goes on: objects end at its border, not before.
        window = prototypes[:, np.clip(y, 0, rows - 1)[:, None], np.clip(x, 0, columns - 1)]
        # Not by BLAS, whose last digits change with its threads.
        field = np.einsum("k,kyx->yx", coefficients[k], window)
        found[k] = _where_positive(
            ((x + 0.5) * step_px[0] - offset_px[0]) / scale[0],
            ((y + 0.5) * step_px[1] - offset_px[1]) / scale[1],
            field,
        )
    is_there = np.flatnonzero([area is not None for area in found])
    inside = shapely.intersection(shapely.make_valid(found[is_there]), box_polygons(xyxy[is_there]))
    found[is_there] = tidy(shapely.simplify(inside, SIMPLE_PX))
    return found


def _where_positive(
    x: NDArray[np.float64], y: NDArray[np.float64], field: NDArray[np.float32]
) -> BaseGeometry | None:
    """The area where a field, linear between its samples, is above zero."""
    top = float(field.max())
    if top <= 0:
        return None
    generator = contour_generator(x, y, field, fill_type=FillType.OuterOffset)
    parts = []
    for points, offsets in zip(*generator.filled(0.0, top + 1.0), strict=True):
        rings = [points[a:b] for a, b in pairwise(offsets)]
        parts.append(Polygon(rings[0], rings[1:]))
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
