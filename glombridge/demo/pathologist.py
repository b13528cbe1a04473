"""A simulated pathologist: marks the glomeruli of a demo slide as a human hand would."""

from __future__ import annotations

import zlib
from uuid import UUID, uuid5

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from ..errors import UsageError
from ..objects import Color, ObjectKind, Outline, PathClass, SlideObject
from .truth import SlideTruth, Subtype, TrueGlomerulus

NORMAL_CLASS = PathClass(("Glomerulus",), Color(0, 170, 60))
SCLEROTIC_CLASS = PathClass(("Glomerulus", "Sclerotic"), Color(40, 90, 220))

_NAMESPACE = UUID("6f0b3c0e-5d7a-5c55-9d0d-2b7b6f5f1a10")
_WOBBLE = 0.035
"""Size of the hand's waver, relative to the radius."""
_LEAST_IOU = 0.84
"""Of a freehand outline with the truth; below it the outline is drawn again."""
_ELLIPSE_SHARE = 0.2
_LEAST_ELLIPSE_IOU = 0.88
"""Where an ellipse fits worse than this, as at a core's edge, a human draws freehand."""


def annotate(
    truth: SlideTruth, *, seed: int = 0, miss_rate: float = 0.0, offset_um: float = 2.5
) -> list[SlideObject]:
    """Mark the glomeruli of one slide; the same truth and seed give the same objects and ids.

    Args:
        truth: of the slide, whatever its ``annotated`` says.
        seed: of the hand; another seed is another reader.
        miss_rate: probability, 0 to 1, that a glomerulus is overlooked.
        offset_um: spread of the whole outline's displacement, in each direction.

    Returns:
        Annotations in level-0 pixels, of class ``Glomerulus`` or ``Glomerulus: Sclerotic``, in
        the order of the truth. Outlines are valid and inside the image.

    Raises:
        UsageError: a miss rate that is no probability, or a negative seed or offset.
    """
    if not 0 <= miss_rate <= 1:
        msg = f"miss_rate must be from 0 to 1, got {miss_rate}"
        raise UsageError(msg)
    if seed < 0 or offset_um < 0:
        msg = f"seed and offset_um must be 0 or above, got {seed} and {offset_um}"
        raise UsageError(msg)
    # The slide's name is part of the seed: slides drawn in any order come out the same.
    slide_key = zlib.crc32(truth.name.encode("utf-8"))
    objects: list[SlideObject] = []
    for number, glomerulus in enumerate(truth.glomeruli):
        rng = np.random.default_rng(np.random.SeedSequence([seed, slide_key, number]))
        if rng.random() < miss_rate:
            continue
        sclerotic = glomerulus.subtype is Subtype.SCLEROTIC
        objects.append(
            SlideObject(
                id=uuid5(_NAMESPACE, f"{truth.name}/{seed}/{number}"),
                kind=ObjectKind.ANNOTATION,
                outline=_draw(glomerulus, truth, rng, offset_um),
                path_class=SCLEROTIC_CLASS if sclerotic else NORMAL_CLASS,
            )
        )
    return objects


def _draw(
    glomerulus: TrueGlomerulus, truth: SlideTruth, rng: np.random.Generator, offset_um: float
) -> Outline:
    true_outline = glomerulus.outline
    shift = rng.normal(0, offset_um / truth.mpp, 2)
    limit = 2 * offset_um / truth.mpp
    shift = np.clip(shift, -limit, limit)
    if rng.random() < _ELLIPSE_SHARE:
        ellipse = _as_ellipse(true_outline, truth, shift)
        if _iou(ellipse.geometry, true_outline) > _LEAST_ELLIPSE_IOU:
            return ellipse
    drawn = _freehand(true_outline, truth, shift, rng, _WOBBLE)
    for care in (0.5, 0.25):
        if _iou(drawn, true_outline) >= _LEAST_IOU:
            break
        # On a small remnant the same slip is too visible: a human draws it again, with more care.
        drawn = _freehand(true_outline, truth, shift * care, rng, _WOBBLE * care)
    return Outline.of(drawn)


def _as_ellipse(outline: Polygon, truth: SlideTruth, shift: NDArray[np.float64]) -> Outline:
    x0, y0, x1, y1 = outline.bounds
    return Outline.ellipse(
        round(max(x0 + shift[0], 0.0), 2),
        round(max(y0 + shift[1], 0.0), 2),
        round(min(x1 + shift[0], float(truth.width_px)), 2),
        round(min(y1 + shift[1], float(truth.height_px)), 2),
    )


def _freehand(
    outline: Polygon,
    truth: SlideTruth,
    shift: NDArray[np.float64],
    rng: np.random.Generator,
    wobble: float,
) -> Polygon:
    """The outline resampled to few vertices, with a smooth waver and a shift."""
    n = int(rng.integers(20, 41))
    along = (np.arange(n) + rng.uniform(-0.25, 0.25, n) + rng.random()) / n
    ring = outline.exterior
    places = shapely.line_interpolate_point(ring, np.sort(np.mod(along, 1.0)), normalized=True)
    xy = shapely.get_coordinates(places)
    center = np.array(outline.centroid.coords[0])
    angle = np.arctan2(*(xy - center).T[::-1])
    waver = np.zeros(n)
    for k in (1, 2, 3, 5):
        waver += rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    # Four unit waves together have a spread of sqrt(2).
    xy = center + (xy - center) * (1 + wobble / np.sqrt(2) * np.clip(waver, -3, 3))[:, None] + shift
    frame = shapely.box(0, 0, truth.width_px, truth.height_px)
    drawn = shapely.make_valid(Polygon(np.round(xy, 2))).intersection(frame)
    parts = [p for p in getattr(drawn, "geoms", [drawn]) if isinstance(p, Polygon)]
    parts += [
        q for p in getattr(drawn, "geoms", []) if isinstance(p, MultiPolygon) for q in p.geoms
    ]
    # A crossed line leaves slivers; the hand meant the large part, without its pinholes.
    return Polygon(max(parts, key=lambda p: p.area).exterior)


def _iou(a: BaseGeometry, b: BaseGeometry) -> float:
    common = a.intersection(b).area
    return float(common / (a.area + b.area - common))
