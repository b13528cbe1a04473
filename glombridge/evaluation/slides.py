"""A slide with its truth and everything a model saw on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.boxes import Bools, Boxes, Floats, Ints, Outlines
from ..detection.raw import SlideDetections
from ..detection.stitch import DEFAULT_METHOD, stitch
from .matching import Match, match_boxes, match_centers

_KEPT = 3
"""Confidences a slide is kept stitched at: the lowest, the one to work at, and the last of a sweep. All 99 of
ten thousand slides would take gigabytes."""


@dataclass(frozen=True)
class Truth:
    """The objects that humans marked on one slide.

    Attributes:
        xyxy: (M, 4) boxes, QuPath pixels.
        class_index: (M,) detector class.
        labels: QuPath class of each.
        ids: object id of each.
        outline: (M,) outlines, QuPath pixels, ``None`` where a human drew only a box; ``None``
            altogether where nobody asked for them.
    """

    xyxy: Floats
    class_index: Ints
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    outline: Outlines | None = None

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True)
class JudgedSlide:
    """One slide: what is there, and what a model saw at any confidence.

    Attributes:
        id: entry id of the image.
        patient: whose slide it is; intervals resample patients.
        part: side of the split.
        stain: as the image's metadata says, empty = not known.
        mpp: µm per QuPath px, ``None`` = not known.
        seen: raw boxes of all tiles, with outlines where the model gives them.
        known: where every object was marked, QuPath px: false detections count only there.
        method: of stitching.
    """

    id: int
    name: str
    patient: str
    part: str
    truth: Truth
    seen: SlideDetections
    known: BaseGeometry
    stain: str = ""
    mpp: float | None = None
    method: str = DEFAULT_METHOD
    _stitched: dict[int, Boxes] = field(default_factory=dict, repr=False, compare=False)

    def n_above(self, confidence: float) -> int:
        """Raw boxes that score this much. Where they are as many, they are the same, and so is all else."""
        return int(np.count_nonzero(self.seen.boxes.score >= confidence))

    def stitched(self, confidence: float) -> Boxes:
        """One box per object, stitched anew from the raw boxes that score this much; no outlines."""
        n = self.n_above(confidence)
        found = self._stitched.pop(n, None)
        if found is None:
            boxes = self.seen.boxes.without_outlines().above(confidence)
            found = stitch(boxes, self.method)
        self._stitched[n] = found
        if len(self._stitched) > _KEPT:
            del self._stitched[next(iter(self._stitched))]  # the one not asked for the longest
        return found

    def match(self, confidence: float, min_iou: float) -> Match:
        """Detections and objects, one to one by overlap."""
        found = self.stitched(confidence)
        return match_boxes(found, self.truth.xyxy, min_iou=min_iou, ignored=self.ignored(found))

    def match_centers(self, confidence: float) -> Match:
        """Detections and objects, one to one by centre."""
        found = self.stitched(confidence)
        return match_centers(found, self.truth.xyxy, ignored=self.ignored(found))

    def ignored(self, found: Boxes) -> Bools:
        """(N,) detections whose centre lies where truth is not known."""
        if not len(found):
            return np.zeros(0, np.bool_)
        center = shapely.points((found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2)
        shapely.prepare(self.known)
        return np.asarray(~shapely.intersects(self.known, center), np.bool_)

    def diameter_um(self, xyxy: Floats) -> Floats:
        """(N,) mean of width and height of boxes, µm; NaN where the pixel size is not known."""
        mpp = np.nan if self.mpp is None else self.mpp
        sides: Floats = (xyxy[:, 2:] - xyxy[:, :2]).mean(axis=1) * mpp
        return sides
