"""Detections that cannot be pushed, found before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import shapely

from ..objects import box_polygons
from ..qupath.store import ImageEntry, ProjectStore
from ..settings import Settings
from .proposals import Proposals
from .roles import areas_sha256

MPP_TOLERANCE = 0.02
"""Two pixel sizes that differ by less than this share are one."""


def problems_of(
    proposals: Sequence[Proposals],
    store: ProjectStore,
    settings: Settings,
    *,
    more: Mapping[int, Sequence[str]],
) -> dict[int, tuple[str, ...]]:
    """What is wrong with the proposals of each image, by entry id; sound ones are not named.

    Args:
        proposals: per image.
        store: of the project.
        settings: of the project.
        more: what else was found.
    """
    entries = {e.id: e for e in store.images()}
    found: dict[int, tuple[str, ...]] = {}
    seen: set[int] = set()
    for wanted in proposals:
        problems = list(more.get(wanted.entry_id, ()))
        entry = entries.get(wanted.entry_id)
        if entry is None:
            problems.append("is not in the project")
        else:
            problems += _numbers(wanted, settings) + _frame(wanted, entry)
            problems += _rois(wanted, store)
        if wanted.entry_id in seen:
            problems.append("is named twice in these detections")
        seen.add(wanted.entry_id)
        if problems:
            found[wanted.entry_id] = (*found.get(wanted.entry_id, ()), *problems)
    return found


def _numbers(wanted: Proposals, settings: Settings) -> list[str]:
    problems = []
    if not (np.isfinite(wanted.xyxy).all() and np.isfinite(wanted.score).all()):
        problems.append("a box or score is not a finite number")
    elif ((wanted.score < 0) | (wanted.score > 1)).any():
        problems.append("a score lies outside 0 to 1")
    elif not (wanted.xyxy[:, 2:] > wanted.xyxy[:, :2]).all():
        problems.append("a box has no extent")
    if ((wanted.class_index < 0) | (wanted.class_index >= len(settings.class_names))).any():
        problems.append(f"a class is not one of {settings.class_names}")
    return problems


def _frame(wanted: Proposals, entry: ImageEntry) -> list[str]:
    problems = []
    if entry.width and entry.height:
        size = (entry.width, entry.height)
        if wanted.size_px is not None and wanted.size_px != size:
            problems.append(
                f"was searched as {wanted.size_px[0]} x {wanted.size_px[1]} px, but QuPath shows "
                f"{size[0]} x {size[1]} px: another slide, or turned or cropped since. Detect again"
            )
        elif len(wanted.xyxy) and np.isfinite(wanted.xyxy).all():
            boxes = box_polygons(wanted.xyxy)
            outside = ~shapely.intersects(boxes, shapely.box(0, 0, *size))
            if outside.any():
                problems.append(f"{int(outside.sum())} boxes lie outside the image")
    if wanted.mpp and entry.mpp_x and entry.mpp_y:
        mpp = (entry.mpp_x + entry.mpp_y) / 2
        if abs(wanted.mpp - mpp) > MPP_TOLERANCE * mpp:
            problems.append(
                f"was searched at {wanted.mpp:g} um per pixel, but QuPath says {mpp:g}: what was "
                "shown to the model had another size. Detect again"
            )
    return problems


def _rois(wanted: Proposals, store: ProjectStore) -> list[str]:
    if not wanted.roi_classes:
        return []
    now = areas_sha256(store.read(wanted.entry_id).objects, wanted.roi_classes)
    if now == wanted.roi_sha256:
        return []
    classes = ", ".join(wanted.roi_classes)
    return [f"was searched inside annotations ({classes}) that have changed since. Detect again"]
