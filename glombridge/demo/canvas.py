"""A canvas of dye at 1 µm per pixel, on which the tissue is drawn before it gets its colours.

Three channels of 0 to 255 hold how much of each dye is there: haematoxylin in nuclei, the dye of
basement membranes and mesangium, and the dye of cytoplasm. Colour comes later, by Beer and Lambert.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from .cores import Floats

Image = NDArray[np.uint8]
Dye = tuple[float, float, float]
"""Haematoxylin, matrix dye, cytoplasm dye, each 0 to 255."""

CLEAR: Dye = (0.0, 2.0, 4.0)
"""The inside of a lumen: hardly any dye."""

_SHIFT = 4
"""cv2 takes coordinates as integers with this many binary places."""

_MASK_UM = 4
"""Pixel size of the coarse mask that tells whether a nucleus lies in tissue."""


def fixed_point(xy_um: Floats) -> NDArray[np.int32]:
    """Slide micrometres to cv2's fixed-point coordinates of pixel centres."""
    # A continuous coordinate of 0.5 is the centre of pixel 0.
    return np.round((xy_um - 0.5) * (1 << _SHIFT)).astype(np.int32)


class DyeCanvas:
    """The dyes of one slide, and its nuclei, which are stamped all at once at the end.

    Args:
        width_px: canvas pixels, one micrometre each.
        height_px: canvas pixels.
        tissue: in slide micrometres.
    """

    def __init__(self, width_px: int, height_px: int, tissue: MultiPolygon) -> None:
        self.dyes: Image = np.zeros((height_px, width_px, 3), np.uint8)
        self._tissue = tissue
        self._nuclei: list[tuple[Floats, Floats, Floats]] = []
        self._mask: Image = np.zeros(
            (height_px // _MASK_UM + 1, width_px // _MASK_UM + 1), np.uint8
        )
        for polygon in tissue.geoms:
            rings = [polygon.exterior, *polygon.interiors]
            points = [np.round(np.asarray(r.coords) / _MASK_UM).astype(np.int32) for r in rings]
            cv2.fillPoly(self._mask, points, 255)
        # cv2 draws the edge pixels too; without them no nucleus hangs over the edge.
        self._mask = np.asarray(cv2.erode(self._mask, np.ones((3, 3), np.uint8)), np.uint8)

    def in_tissue(self, xy_um: Floats) -> NDArray[np.bool_]:
        """Whether each point of (..., 2) lies in tissue, to about 4 µm."""
        column = np.clip(xy_um[..., 0] / _MASK_UM, 0, self._mask.shape[1] - 1).astype(np.intp)
        row = np.clip(xy_um[..., 1] / _MASK_UM, 0, self._mask.shape[0] - 1).astype(np.intp)
        return self._mask[row, column] > 0

    def fill(self, ring_um: Floats, dye: Dye) -> None:
        """Fill a closed ring of shape (n, 2)."""
        cv2.fillPoly(self.dyes, [fixed_point(ring_um)], dye, cv2.LINE_AA, _SHIFT)

    def fill_all(self, polygons: Iterable[Polygon], dye: Dye) -> None:
        """Fill polygons, leaving their holes."""
        for polygon in polygons:
            rings = [polygon.exterior, *polygon.interiors]
            points = [fixed_point(np.asarray(ring.coords)[:, :2]) for ring in rings]
            cv2.fillPoly(self.dyes, points, dye, cv2.LINE_AA, _SHIFT)

    def line(self, points_um: Floats, dye: Dye, width_um: int = 1, *, closed: bool = True) -> None:
        """Draw along points of shape (n, 2)."""
        cv2.polylines(
            self.dyes, [fixed_point(points_um)], closed, dye, width_um, cv2.LINE_AA, _SHIFT
        )

    def disc(self, center_um: Floats, radius_um: float, dye: Dye, width_um: int = -1) -> None:
        """A disc, or a circle if a line width is given."""
        x, y = (int(v) for v in fixed_point(center_um))
        radius = max(1, round(radius_um * (1 << _SHIFT)))
        cv2.circle(self.dyes, (x, y), radius, dye, width_um, cv2.LINE_AA, _SHIFT)

    def add_nuclei(self, xy_um: Floats, axis_um: Floats, darkness: Floats) -> None:
        """Remember nuclei for :meth:`finish`.

        Args:
            xy_um: centres, shape (n, 2).
            axis_um: half of the long axis as a vector, beyond a roundish 4 µm, shape (n, 2).
            darkness: haematoxylin, 0 to 255, shape (n,).
        """
        self._nuclei.append((xy_um, axis_um, darkness))

    def finish(self) -> None:
        """Take the dye away where there is no tissue, and stamp the nuclei."""
        height, width = self.dyes.shape[:2]
        frame = np.array([[-9, -9], [width + 9, -9], [width + 9, height + 9], [-9, height + 9]])
        rings = [fixed_point(frame.astype(np.float64))]
        for polygon in self._tissue.geoms:
            edges = (polygon.exterior, *polygon.interiors)
            rings += [fixed_point(np.asarray(edge.coords)[:, :2]) for edge in edges]
        # Even-odd filling of the frame and all tissue rings is everything but tissue.
        cv2.fillPoly(self.dyes, rings, (0, 0, 0), cv2.LINE_AA, _SHIFT)
        stamp = self._nuclei_layer()
        np.maximum(self.dyes[..., 0], stamp, out=self.dyes[..., 0])

    def _nuclei_layer(self) -> Image:
        height, width = self.dyes.shape[:2]
        layer: Image = np.zeros((height, width), np.uint8)
        for xy, axis, darkness in self._nuclei:
            keep = self.in_tissue(xy)
            xy, axis, dark = xy[keep], axis[keep], darkness[keep].astype(np.uint8)
            for along in (-1.0, -0.34, 0.34, 1.0):
                point = np.floor(xy + along * axis).astype(np.intp)
                inside = ((point >= 0) & (point < (width, height))).all(axis=1)
                layer[point[inside, 1], point[inside, 0]] = dark[inside]
        # Growing the points with a brush is far cheaper than drawing 100 000 ellipses.
        brush = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]], np.uint8)
        return np.asarray(cv2.dilate(layer, brush), dtype=np.uint8)
