"""What tiles show of objects: where a view is cut, and whether two views agree."""

from __future__ import annotations

import numpy as np

from .boxes import Bools, Boxes, Floats, Ints, areas, intersections

BORDER_SHARE = 0.015
"""A side this close to its tile's border, as a share of the tile, ends at the border: a detector is
not exact to the pixel."""

BORDER_SHARE_OF_BOX = 0.04
"""The same as a share of the box: the error of a detector grows with the object."""

_EDGE_PX = 0.5  # the last tile ends within half a pixel of the slide's edge


def cut_sides(xyxy: Floats, tile_xyxy: Floats, slide_px: tuple[float, float]) -> Bools:
    """Which sides of boxes end at a border of their tile that lies inside the slide.

    At the edge of the slide nothing is cut: there is no more of the object to see.

    Args:
        xyxy: (N, 4) boxes, QuPath pixels.
        tile_xyxy: (N, 4) the tile of each, QuPath pixels.
        slide_px: width and height of the slide.

    Returns:
        (N, 4) left, top, right, bottom.
    """
    tile_size = tile_xyxy[:, 2:] - tile_xyxy[:, :2]
    box_size = xyxy[:, 2:] - xyxy[:, :2]
    near = np.maximum(BORDER_SHARE * tile_size, BORDER_SHARE_OF_BOX * box_size)
    low = (xyxy[:, :2] - tile_xyxy[:, :2] <= near) & (tile_xyxy[:, :2] > _EDGE_PX)
    high = tile_xyxy[:, 2:] - xyxy[:, 2:] <= near
    high &= tile_xyxy[:, 2:] < np.array(slide_px, float) - _EDGE_PX
    return np.hstack([low, high])


def agreement(boxes: Boxes, i: Ints, j: Ints) -> Floats:
    """How far two views agree where both could look: on the ground that their tiles share.

    Two tiles that see one object see the same of it there, whatever each sees beyond. Two touching
    neighbours differ there. So the measure needs no guess at how much of an object a view shows.

    Args:
        boxes: of all tiles.
        i: (pairs,) positions.
        j: (pairs,) positions.

    Returns:
        (pairs,) intersection over union of the two boxes, each clipped to the other's tile.
    """
    # A box lies in its own tile, so what two boxes share lies in both tiles.
    shared = intersections(boxes.xyxy[i], boxes.xyxy[j])
    there_i = intersections(boxes.xyxy[i], boxes.tiles[boxes.tile[j]])
    there_j = intersections(boxes.xyxy[j], boxes.tiles[boxes.tile[i]])
    union = there_i + there_j - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def overlap_shares(xyxy: Floats, i: Ints, j: Ints) -> tuple[Floats, Floats]:
    """(pairs,) intersection over union, and intersection over the smaller of the two."""
    area = areas(xyxy)
    shared = intersections(xyxy[i], xyxy[j])
    tiny = np.finfo(float).tiny
    of_union = shared / np.maximum(area[i] + area[j] - shared, tiny)
    of_smaller = shared / np.maximum(np.minimum(area[i], area[j]), tiny)
    return of_union, of_smaller
