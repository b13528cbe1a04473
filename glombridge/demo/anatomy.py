"""What lies where in the tissue: glomeruli, vessels, and things that only look like glomeruli."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from .cores import Core, Floats, blob_ring, lay_cores, tear
from .study import SlidePlan
from .truth import Subtype

_TRIES = 250
_LEAST_VISIBLE = 0.5
"""A glomerulus that the core's edge cuts to less than this is not placed."""

_MOST_SEVERED = 0.06
"""A break may part this much from a glomerulus; more would be a piece that no truth speaks of."""


class BlobKind(Enum):
    """What a roundish thing in the tissue is."""

    GLOMERULUS = "glomerulus"
    ARTERY = "artery"
    CAST = "cast"
    AGGREGATE = "aggregate"
    CYST = "cyst"


_DISTRACTORS: dict[BlobKind, tuple[float, float, float]] = {
    # Weight, least and most radius in micrometres.
    BlobKind.ARTERY: (0.45, 22, 85),
    BlobKind.CAST: (0.28, 28, 48),
    BlobKind.AGGREGATE: (0.16, 45, 105),
    BlobKind.CYST: (0.11, 40, 75),
}


@dataclass(frozen=True)
class Blob:
    """A roundish thing: kind, centre, and its outline about the centre at equal angles from 0."""

    kind: BlobKind
    center_um: Floats
    ring_um: Floats
    subtype: Subtype | None = None

    @property
    def outline_um(self) -> Floats:
        """Vertices in slide micrometres, shape (n, 2)."""
        return self.ring_um + self.center_um

    @property
    def reach_um(self) -> float:
        """Largest distance of the outline from the centre."""
        return float(np.hypot(*self.ring_um.T).max())

    def radius_at(self, angle: Floats) -> Floats:
        """Distance of the outline from the centre in each direction, angles in radians."""
        radius = np.hypot(*self.ring_um.T)
        step = 2 * np.pi / len(radius)
        at = np.arange(len(radius)) * step
        found = np.interp(np.mod(angle, 2 * np.pi), at, radius, period=2 * np.pi)
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True)
class Anatomy:
    """Everything on one slide, in micrometres from its top left.

    Attributes:
        width_um: of the slide.
        height_um: of the slide.
        cores: from top to bottom.
        tissue: what the cores leave after tearing, with fragments.
        blobs: glomeruli first.
        visible: outline of each glomerulus clipped to the tissue, as many as glomeruli.
        folds: where the section lies double.
        pen: strokes of a marker on the glass.
        bubbles: air under the cover slip.
    """

    width_um: float
    height_um: float
    cores: list[Core]
    tissue: MultiPolygon
    blobs: list[Blob]
    visible: list[Polygon]
    folds: list[Polygon]
    pen: list[Polygon]
    bubbles: list[Polygon]


def lay_out(plan: SlidePlan) -> Anatomy:
    """Invent the anatomy of one slide; the same plan gives the same anatomy."""
    rng = plan.rng(purpose=1)
    options = plan.options
    cores, width, height = lay_cores(rng, options)
    tissue = tear(rng, cores, (width, height))
    folds: list[Polygon] = []
    pen: list[Polygon] = []
    bubbles: list[Polygon] = []
    if options.artefacts:
        if rng.random() < 0.5:
            folds.append(_fold(rng, cores[int(rng.integers(len(cores)))]))
        if rng.random() < 0.4:
            pen.append(_pen_stroke(rng, width, height))
        if rng.random() < 0.4:
            bubbles.append(_bubble(rng, width, height))
    avoid = shapely.union_all([*folds, *pen, *(b.exterior.buffer(15) for b in bubbles)])
    placer = _Placer(rng, cores, tissue, avoid)
    wanted = int(rng.integers(options.glomeruli_per_slide[0], options.glomeruli_per_slide[1] + 1))
    for _ in range(wanted):
        placer.add_glomerulus(options.sclerotic_share)
    n_glomeruli = len(placer.blobs)
    kinds = list(_DISTRACTORS)
    weights = np.array([_DISTRACTORS[kind][0] for kind in kinds])
    n_others = rng.poisson(options.distractors_per_mm2 * tissue.area / 1e6)
    for choice in rng.choice(len(kinds), n_others, p=weights / weights.sum()):
        placer.add_distractor(kinds[int(choice)])
    return Anatomy(
        width,
        height,
        cores,
        tissue,
        placer.blobs,
        placer.visible[:n_glomeruli],
        folds,
        pen,
        bubbles,
    )


class _Placer:
    """Puts one thing after the other where it fits."""

    def __init__(
        self,
        rng: np.random.Generator,
        cores: list[Core],
        tissue: MultiPolygon,
        avoid: BaseGeometry,
    ) -> None:
        self.rng = rng
        self.cores = cores
        self.tissue = tissue
        self.avoid = avoid
        self.blobs: list[Blob] = []
        self.visible: list[Polygon] = []
        shapely.prepare(self.tissue)
        shapely.prepare(self.avoid)

    def add_glomerulus(self, sclerotic_share: float) -> None:
        rng = self.rng
        sclerotic = rng.random() < sclerotic_share
        mean, spread = (64.0, 0.09) if sclerotic else (90.0, 0.15)
        low, high = (56.0, 80.0) if sclerotic else (64.0, 124.0)
        radius = float(np.clip(mean * np.exp(rng.normal(0, spread)), low, high))
        ring = blob_ring(rng, radius, wobble=0.045 if sclerotic else 0.022, flattening=0.13)
        subtype = Subtype.SCLEROTIC if sclerotic else Subtype.NORMAL
        touching = rng.random() < 0.15
        for _ in range(_TRIES):
            beside = self._beside(ring) if touching and self.blobs else None
            center = self._somewhere(radius, cut=rng.random() < 0.16) if beside is None else beside
            touching = touching and rng.random() > 0.1
            if center is not None and self._fits(
                Blob(BlobKind.GLOMERULUS, center, ring, subtype), beside is not None
            ):
                return

    def add_distractor(self, kind: BlobKind) -> None:
        _, low, high = _DISTRACTORS[kind]
        radius = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        wobble = 0.11 if kind is BlobKind.AGGREGATE else 0.03
        ring = blob_ring(self.rng, radius, wobble=wobble, flattening=0.28)
        for _ in range(40):
            center = self._somewhere(radius, cut=False, in_medulla=True)
            if center is not None and self._fits(Blob(kind, center, ring), False):
                return

    def _somewhere(self, radius: float, *, cut: bool, in_medulla: bool = False) -> Floats | None:
        rng = self.rng
        lengths = np.array([core.length_um for core in self.cores])
        core = self.cores[int(rng.choice(len(lengths), p=lengths / lengths.sum()))]
        s = rng.uniform(0.01, 0.99) * core.length_um
        if not in_medulla and np.interp(s, core.s_um, core.medulla) > 0:
            return None
        half = core.half_width_um(s)
        if cut:
            t = rng.choice([-1.0, 1.0]) * (half - radius * rng.uniform(0.15, 0.8))
        else:
            t = rng.uniform(-1, 1) * (half - radius - 8)
        return np.asarray(core.to_slide_um(np.array([s]), np.array([t]))[0], dtype=np.float64)

    def _beside(self, ring: Floats) -> Floats | None:
        """A place where the new ring nearly touches an older glomerulus."""
        rng = self.rng
        glomeruli = [blob for blob in self.blobs if blob.kind is BlobKind.GLOMERULUS]
        other = glomeruli[int(rng.integers(len(glomeruli)))]
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        distance = float(np.hypot(*ring.T).mean()) + float(other.radius_at(np.array([angle]))[0])
        target = rng.uniform(1.5, 8)
        fixed = Polygon(other.outline_um)
        for _ in range(6):
            center = other.center_um + direction * distance
            gap = Polygon(ring + center).distance(fixed)
            if gap >= 1.5:
                return center
            distance += target + 3
        return None

    def _fits(self, blob: Blob, may_touch: bool) -> bool:
        outline = Polygon(blob.outline_um)
        if self.avoid.intersects(outline):
            return False
        spacing = 1.0 if may_touch else 12.0
        for other in self.blobs:
            distance = float(np.hypot(*(blob.center_um - other.center_um)))
            if distance < blob.reach_um + other.reach_um + spacing and (
                not may_touch or outline.distance(Polygon(other.outline_um)) < spacing
            ):
                return False
        seen = self.tissue.intersection(outline)
        part = max(getattr(seen, "geoms", [seen]), key=lambda g: g.area, default=None)
        least = _LEAST_VISIBLE if blob.kind is BlobKind.GLOMERULUS else 0.9
        if not isinstance(part, Polygon) or part.area < least * outline.area:
            return False
        if seen.area - part.area > _MOST_SEVERED * outline.area:
            return False
        x0, y0, x1, y1 = part.bounds
        if min(x1 - x0, y1 - y0) < 55 and blob.kind is BlobKind.GLOMERULUS:
            return False
        self.blobs.append(blob)
        self.visible.append(Polygon(part.exterior))
        return True


def _fold(rng: np.random.Generator, core: Core) -> Polygon:
    t = np.arange(-900.0, 900.0, 30.0)
    s = rng.uniform(0.15, 0.85) * core.length_um + rng.normal(0, 0.5) * t
    s += 20 * np.sin(t / 130 + rng.uniform(0, 6))
    half = rng.uniform(10, 26) * (1 + 0.3 * np.sin(t / 210 + rng.uniform(0, 6)))
    left, right = core.to_slide_um(s - half, t), core.to_slide_um(s + half, t)
    return Polygon(np.vstack([left, right[::-1]])).buffer(0)


def _pen_stroke(rng: np.random.Generator, width: float, height: float) -> Polygon:
    x = rng.uniform(0.02, 0.98) * width
    y = np.linspace(-50, rng.uniform(0.12, 0.3) * height, 12)
    if rng.random() < 0.5:
        y = height - y
    xs = x + np.cumsum(rng.normal(0, 40, len(y)))
    return Polygon(
        shapely.LineString(np.column_stack([xs, y])).buffer(rng.uniform(60, 110)).exterior
    )


def _bubble(rng: np.random.Generator, width: float, height: float) -> Polygon:
    center = np.array([rng.uniform(0.05, 0.95) * width, rng.uniform(0.05, 0.95) * height])
    ring = blob_ring(rng, rng.uniform(130, 420), wobble=0.02, flattening=0.1, n=120)
    return Polygon(ring + center)
