"""How well outlines fit, of objects that were found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely

from ..detection.boxes import Floats
from ..objects import sound_area
from .matching import Match
from .slides import JudgedSlide


def outline_ious(slide: JudgedSlide, confidence: float, match: Match) -> Floats:
    """(pairs,) intersection over union of outlines, of the pairs that boxes made.

    What is only a box, on either side, is left out: it says nothing of an outline.

    Args:
        slide: with its truth.
        confidence: of the match.
        match: of the slide's boxes stitched at this confidence.

    Raises:
        InputError: a drawn outline crosses itself too often to be repaired.
    """
    found = slide.seen.stitched(confidence, slide.method).outline
    truth = slide.truth.outline
    if found is None or truth is None:
        return np.zeros(0)
    paired = np.flatnonzero(match.truth_of >= 0)
    ours, theirs = found[paired], truth[match.truth_of[paired]]
    both = ~shapely.is_missing(ours) & ~shapely.is_missing(theirs)
    ours = ours[both]
    theirs = np.array([sound_area(outline) for outline in theirs[both]], object)
    shared = shapely.area(shapely.intersection(ours, theirs))
    ious: Floats = shared / (shapely.area(ours) + shapely.area(theirs) - shared)
    return ious


def outline_figures(ious: Iterable[Floats]) -> dict[str, Any] | None:
    """For JSON: over all pairs of some slides; ``None`` where there is none."""
    values = np.concatenate([np.zeros(0), *ious])
    if not len(values):
        return None
    return {
        "pairs": len(values),
        "mean_iou": round(float(values.mean()), 6),
        "median_iou": round(float(np.median(values)), 6),
        "above_0.75": round(float((values >= 0.75).mean()), 6),
    }
