"""Tissue cores of a needle biopsy as pure geometry in micrometres from the slide's top left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from .study import StudyOptions

Floats = NDArray[np.float64]

GRID_UM = 8.0
"""Spacing of the samples along a core."""

MEDULLA_STRETCH = 3.5
"""Medullary tubules run along the core and are cut lengthwise: they look this much longer."""


@dataclass(frozen=True)
class Core:
    """One core: a bent strip of tissue that runs from left to right.

    Attributes:
        s_um: distance along the core from its left end, ascending, shape (n,).
        left_um: x of the left end.
        mid_um: y of the middle line at each ``s_um``.
        top_um: distance from the middle line to the upper edge, 0 or more.
        bottom_um: distance from the middle line to the lower edge, 0 or more.
        medulla: 0 in cortex to 1 in medulla, soft between, at each ``s_um``.
    """

    s_um: Floats
    left_um: float
    mid_um: Floats
    top_um: Floats
    bottom_um: Floats
    medulla: Floats

    @property
    def length_um(self) -> float:
        """From end to end."""
        return float(self.s_um[-1])

    def to_slide_um(self, s_um: Floats, t_um: Floats) -> Floats:
        """Points along (s) and across (t, down is positive) the core as (n, 2) slide xy."""
        y = np.interp(s_um, self.s_um, self.mid_um) + t_um
        return np.stack([self.left_um + s_um, y], axis=-1)

    def half_width_um(self, s_um: float) -> float:
        """Half of the tissue's height at one place."""
        top, bottom = (float(np.interp(s_um, self.s_um, e)) for e in (self.top_um, self.bottom_um))
        return (top + bottom) / 2

    def outline(self) -> Polygon:
        """The core's edge, before gaps are cut into it."""
        top = np.column_stack([self.left_um + self.s_um, self.mid_um - self.top_um])
        bottom = np.column_stack([self.left_um + self.s_um, self.mid_um + self.bottom_um])
        return Polygon(np.vstack([top, bottom[::-1]]))


def smooth_noise(rng: np.random.Generator, s_um: Floats, scale_um: float) -> Floats:
    """A smooth random curve of about unit spread that bends every ``scale_um``."""
    knots = np.arange(float(s_um[0]) - scale_um, float(s_um[-1]) + 4 * scale_um, scale_um)
    return np.asarray(CubicSpline(knots, rng.normal(0, 1, len(knots)))(s_um), dtype=np.float64)


def blob_ring(
    rng: np.random.Generator,
    radius_um: float,
    *,
    wobble: float = 0.04,
    flattening: float = 0.12,
    n: int = 72,
) -> Floats:
    """A roundish closed ring about the origin, shape (n, 2), equal steps of angle from 0.

    Args:
        rng: where the shape comes from.
        radius_um: mean radius.
        wobble: relative size of the bumps.
        flattening: up to this much wider than high, in any direction.
        n: vertices.
    """
    angle = np.arange(n) * (2 * np.pi / n)
    radius = 1 + rng.uniform(0.3, 1) * flattening * np.cos(2 * (angle - rng.uniform(0, np.pi)))
    for k in (3, 4, 5, 7):
        radius += wobble * 2 / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    radius *= radius_um / radius.mean()
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def lay_cores(rng: np.random.Generator, options: StudyOptions) -> tuple[list[Core], float, float]:
    """Lay out a slide's cores one below the other.

    Returns:
        The cores, and the slide's width and height in micrometres.
    """
    low, high = options.core_length_um
    total = rng.uniform(*options.tissue_length_um)
    # Enough cores to share the length without any longer than a needle's notch.
    fewest = max(options.cores_per_slide[0], int(np.ceil(total / high)))
    n_cores = int(rng.integers(fewest, max(fewest, options.cores_per_slide[1]) + 1))
    share = rng.uniform(0.75, 1.25, n_cores)
    lengths = np.clip(total * share / share.sum(), low, high)
    margin = options.margin_um
    width = float(lengths.max()) + 2 * margin
    cores: list[Core] = []
    y = margin
    for length in lengths:
        core = _one_core(rng, options, float(length), width)
        shift = y - float((core.mid_um - core.top_um).min())
        core = Core(
            core.s_um, core.left_um, core.mid_um + shift, core.top_um, core.bottom_um, core.medulla
        )
        y = float((core.mid_um + core.bottom_um).max()) + margin * rng.uniform(0.7, 1.1)
        cores.append(core)
    return cores, width, y + 0.3 * margin


def _one_core(
    rng: np.random.Generator, options: StudyOptions, length: float, slide_width: float
) -> Core:
    s = np.linspace(0, length, int(length / GRID_UM))
    left = options.margin_um + rng.uniform(0, 1) * (slide_width - 2 * options.margin_um - length)
    half = rng.uniform(*options.core_width_um) / 2
    bend = 0.012 * length * smooth_noise(rng, s, 0.45 * length)
    bend += rng.normal(0, 0.012) * (s - length / 2)
    broad = 1 + 0.08 * smooth_noise(rng, s, 700)
    edges = []
    for _ in range(2):
        # Ends: each corner rounds off by itself, as the needle tears them.
        near_left, near_right = (
            s / (half * rng.uniform(0.1, 1.1)),
            (length - s) / (half * rng.uniform(0.1, 1.1)),
        )
        taper = np.sqrt(np.clip(near_left, 0, 1) * np.clip(near_right, 0, 1))
        rough = 9 * smooth_noise(rng, s, 110) + 4 * smooth_noise(rng, s, 28)
        rough += 2.5 * rng.normal(0, 1, len(s))
        edges.append(np.clip((half * broad + rough) * taper, 0, 1.25 * half))
    medulla = _medulla(rng, s, rng.uniform(*options.medulla_share) * length)
    return Core(s, left, bend, edges[0], edges[1], medulla)


def _medulla(rng: np.random.Generator, s: Floats, medulla_um: float) -> Floats:
    if medulla_um < 400:
        return np.zeros_like(s)
    start = float(s[-1]) - medulla_um
    depth = np.clip((s - start) / 150 + 0.5, 0, 1)
    # The needle goes in at the capsule: medulla is at one end, either one.
    return depth if rng.random() < 0.5 else depth[::-1].copy()


def tear(
    rng: np.random.Generator, cores: list[Core], slide_um: tuple[float, float]
) -> MultiPolygon:
    """The tissue as it lies on glass: cores with breaks across, clefts, and loose fragments."""
    pieces: list[BaseGeometry] = []
    for core in cores:
        tissue: BaseGeometry = core.outline().buffer(0)
        for _ in range(rng.poisson(core.length_um / 9000)):
            tissue = tissue.difference(_break_across(rng, core))
        for _ in range(rng.poisson(core.length_um / 3000)):
            tissue = tissue.difference(_cleft(rng, core))
        pieces.append(tissue)
        pieces += [_fragment(rng, core) for _ in range(rng.poisson(1.2))]
    frame = shapely.box(12, 12, slide_um[0] - 12, slide_um[1] - 12)
    union = shapely.union_all(pieces).intersection(frame)
    parts = [p for p in getattr(union, "geoms", [union]) if p.area > 400]
    return MultiPolygon(parts)


def _break_across(rng: np.random.Generator, core: Core) -> Polygon:
    t = np.arange(-1500.0, 1500.0, 20.0)
    s = rng.uniform(0.2, 0.8) * core.length_um + rng.normal(0, 0.25) * t
    s += 22 * smooth_noise(rng, t, 130) + 6 * smooth_noise(rng, t, 45)
    left = core.to_slide_um(s, t)
    gap = rng.uniform(20, 110) * (1 + 0.4 * smooth_noise(rng, t, 200))
    right = core.to_slide_um(s + np.clip(gap, 8, None), t)
    return Polygon(np.vstack([left, right[::-1]])).buffer(0)


def _cleft(rng: np.random.Generator, core: Core) -> BaseGeometry:
    """A thin crack that enters from one edge."""
    s0 = rng.uniform(0.05, 0.95) * core.length_um
    half = core.half_width_um(s0)
    side = rng.choice([-1.0, 1.0])
    depth = np.linspace(1.3, rng.uniform(0.2, 0.8), 14)
    s = s0 + 14 * np.cumsum(rng.normal(0, 1, len(depth))) + rng.normal(0, 60) * (1.3 - depth)
    return LineString(core.to_slide_um(s, side * half * depth)).buffer(rng.uniform(3, 8))


def _fragment(rng: np.random.Generator, core: Core) -> Polygon:
    s = rng.uniform(-0.01, 1.01) * core.length_um
    half = core.half_width_um(float(np.clip(s, 0, core.length_um)))
    size = rng.uniform(20, 70)
    offset = rng.choice([-1.0, 1.0]) * (half + size + rng.uniform(15, 80))
    ring = blob_ring(rng, size, wobble=0.12, flattening=0.35)
    return Polygon(ring + core.to_slide_um(np.array([s]), np.array([offset]))[0]).buffer(0)
