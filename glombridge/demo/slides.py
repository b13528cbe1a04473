"""Paint the synthetic kidney biopsies of a demo study, and say what is on them."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import shapely

from ..errors import UsageError
from .anatomy import Anatomy, lay_out
from .blob_painter import paint_blobs
from .canvas import DyeCanvas
from .pyramid import write_pyramid
from .stain import develop
from .study import MPP, SlidePlan, StudyOptions, plan_study
from .tissue_painter import paint_tissue
from .truth import TRUTH_FILE, SlideTruth, TrueGlomerulus, load_truth, rounded, save_truth

__all__ = [
    "MPP",
    "TRUTH_FILE",
    "SlidePlan",
    "SlideTruth",
    "StudyOptions",
    "TrueGlomerulus",
    "load_truth",
    "paint_slide",
    "paint_study",
    "plan_study",
    "save_truth",
    "truth_of",
]

_CANVAS_MULTIPLE_PX = 16
"""Level 0 is then a multiple of 32 px, so that every level is an exact half of the one before."""

Progress = Callable[[int, int, SlideTruth], None]
"""Called with slides done, slides in all, and the truth of the slide just done."""


def paint_slide(plan: SlidePlan, path: Path) -> SlideTruth:
    """Paint one slide; the same plan gives the same file, byte for byte, on the same libraries.

    Args:
        plan: from :func:`plan_study`.
        path: the TIFF to write; replaced in one step when it is complete.

    Returns:
        Where its glomeruli are, in level-0 pixels.
    """
    anatomy = lay_out(plan)
    width_px, height_px = (
        math.ceil(um / _CANVAS_MULTIPLE_PX) * _CANVAS_MULTIPLE_PX
        for um in (anatomy.width_um, anatomy.height_um)
    )
    rng = plan.rng(purpose=2)
    canvas = DyeCanvas(width_px, height_px, anatomy.tissue)
    paint_tissue(canvas, anatomy, rng)
    paint_blobs(canvas, anatomy, rng)
    canvas.finish()
    image = develop(canvas.dyes, anatomy, plan.stain, plan.rng(purpose=3))
    quality = plan.options.jpeg_quality
    write_pyramid(image, path, mpp=MPP, jpeg_quality=quality, rng=plan.rng(purpose=4))
    # The canvas has 1 µm per pixel and becomes level 1, half as large as level 0.
    return truth_of(plan, anatomy, 2 * width_px, 2 * height_px)


def paint_study(
    plans: Sequence[SlidePlan],
    folder: Path,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> list[SlideTruth]:
    """Paint all slides into a folder, with their truth beside them.

    Args:
        plans: from :func:`plan_study`.
        folder: made if it is not there; slides of the same names are replaced.
        workers: processes; ``None`` is two, or one on a single core. More than one needs a
            script that can be imported, as always with spawned processes.
        on_progress: called in the order of the plans.

    Returns:
        The truth of each slide, in the order of the plans.

    Raises:
        UsageError: fewer than one worker.
    """
    if workers is None:
        workers = min(2, os.cpu_count() or 1)
    if workers < 1:
        msg = f"painting needs at least one worker, got {workers}"
        raise UsageError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / plan.name for plan in plans]
    if workers == 1 or len(plans) < 2:
        truths = _collect(map(paint_slide, plans, paths), len(plans), on_progress)
    else:
        # Spawned, never forked: a fork copies the locks of threads that cv2 or torch may hold.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(plans)), mp_context=context) as pool:
            truths = _collect(pool.map(paint_slide, plans, paths), len(plans), on_progress)
    save_truth(truths, folder / TRUTH_FILE)
    return truths


def _collect(
    results: Iterable[SlideTruth], total: int, on_progress: Progress | None
) -> list[SlideTruth]:
    truths: list[SlideTruth] = []
    for truth in results:
        truths.append(truth)
        if on_progress is not None:
            on_progress(len(truths), total, truth)
    return truths


def truth_of(plan: SlidePlan, anatomy: Anatomy, width_px: int, height_px: int) -> SlideTruth:
    """The truth of a slide from its anatomy, in level-0 pixels of an image of this size."""
    glomeruli = []
    for blob, visible_um in zip(anatomy.blobs, anatomy.visible, strict=False):
        if blob.subtype is not None:
            outline_px = shapely.transform(visible_um, lambda xy: np.asarray(xy) / MPP)
            glomeruli.append(TrueGlomerulus(rounded(outline_px), blob.subtype))
    glomeruli.sort(key=lambda g: (g.outline.bounds, g.subtype.value))
    return SlideTruth(
        name=plan.name,
        patient=plan.patient,
        annotated=plan.annotated,
        width_px=width_px,
        height_px=height_px,
        mpp=MPP,
        glomeruli=tuple(glomeruli),
    )
