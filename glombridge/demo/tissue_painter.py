"""Tubules and interstitium: the bulk of a kidney, packed back to back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from .anatomy import Anatomy, Blob
from .canvas import CLEAR, Dye, DyeCanvas
from .cores import MEDULLA_STRETCH, Core, Floats, smooth_noise

_PITCH_UM = 52.0
"""Mean distance of neighbouring tubules in the cortex."""

INTERSTITIUM: Dye = (8.0, 30.0, 50.0)


def paint_tissue(canvas: DyeCanvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Fill the tissue with interstitium and tubules that make room for the blobs."""
    canvas.fill_all(anatomy.tissue.geoms, INTERSTITIUM)
    for core in anatomy.cores:
        _paint_core(canvas, core, anatomy.blobs, rng)
    area_um2 = anatomy.tissue.area
    _interstitial_nuclei(canvas, anatomy, int(area_um2 / 500), rng)


def _paint_core(canvas: DyeCanvas, core: Core, blobs: list[Blob], rng: np.random.Generator) -> None:
    warp_u, sites = _sites(core, rng)
    diagram = Voronoi(sites)
    vertices = _to_slide(core, warp_u, diagram.vertices)
    centers = _to_slide(core, warp_u, sites)
    vertices, _ = _push_out(vertices, blobs, 5.0)
    _, hidden = _push_out(centers, blobs, -2.0)
    scarring = 1.1 + 1.5 * np.clip(smooth_noise(rng, core.s_um, 900), 0, 3)
    by_size: dict[int, list[list[int]]] = {}
    for site, region in enumerate(diagram.point_region):
        corners = diagram.regions[region]
        if 4 <= len(corners) <= 11 and -1 not in corners and not hidden[site]:
            by_size.setdefault(len(corners), []).append(corners)
    for size in sorted(by_size):
        rings = vertices[np.array(by_size[size])]
        center = rings.mean(axis=1)
        extent = np.abs(rings - center[:, None]).max(axis=(1, 2))
        keep = (extent < 260) & canvas.in_tissue(center)
        if keep.any():
            inset = np.interp(center[keep, 0] - core.left_um, core.s_um, scarring)
            _paint_cells(canvas, _rounded(rings[keep]), inset, blobs, rng)


def _sites(core: Core, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Tubule centres in (u, t): u is s with the medulla shortened, so its cells come out long.

    Returns:
        u at each ``core.s_um``; and the sites, shape (n, 2).
    """
    stretch = 1 + (MEDULLA_STRETCH - 1) * core.medulla
    step = np.diff(core.s_um, prepend=0.0)
    u_of_s = np.cumsum(step / stretch)
    half = max(core.top_um.max(), core.bottom_um.max()) + 2 * _PITCH_UM
    u, t = np.meshgrid(
        np.arange(-2 * _PITCH_UM, u_of_s[-1] + 2 * _PITCH_UM, _PITCH_UM),
        np.arange(-half, half, _PITCH_UM * 0.87),
    )
    u[1::2] += _PITCH_UM / 2
    sites = np.column_stack([u.ravel(), t.ravel()])
    sites += rng.uniform(-0.34, 0.34, sites.shape) * _PITCH_UM
    # Missing neighbours make some tubules large; extra ones make some small.
    sites = sites[rng.random(len(sites)) > 0.07]
    extra = sites[rng.random(len(sites)) < 0.14]
    extra = extra + rng.choice([-1.0, 1.0], extra.shape) * rng.uniform(14, 20, extra.shape)
    return u_of_s, np.vstack([sites, extra])


def _to_slide(core: Core, u_of_s: Floats, ut: Floats) -> Floats:
    """(u, t) to slide micrometres with a gentle swirl, so that rows do not show."""
    # The swirl depends on the core alone: vertices and centres must get the same.
    u, t = ut[:, 0], ut[:, 1]
    phase = core.left_um + float(core.mid_um[0])
    swirl_u = 34 * np.sin(t / 92 + phase + 1.3 * np.sin(u / 410)) + 20 * np.sin(
        (u + t) / 61 + phase
    )
    swirl_t = 30 * np.sin(u / 105 + 2 * phase + 1.1 * np.sin(t / 230)) + 18 * np.sin((u - t) / 57)
    # Beyond the ends np.interp would fold cells onto one line; go on with slope 1.
    warped = u + swirl_u
    beyond = warped - np.clip(warped, u_of_s[0], u_of_s[-1])
    s = np.interp(warped, u_of_s, core.s_um) + beyond
    return core.to_slide_um(s, t + swirl_t)


def _push_out(
    points: Floats, blobs: list[Blob], margin_um: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Move points that lie in a blob, or within a margin of it, to its rim.

    Returns:
        The points, and which of them were moved.
    """
    points = points.copy()
    moved = np.zeros(len(points), bool)
    for blob in blobs:
        close = np.flatnonzero(np.abs(points - blob.center_um).max(axis=1) < blob.reach_um + 12)
        offset = points[close] - blob.center_um
        distance = np.hypot(offset[:, 0], offset[:, 1])
        rim = blob.radius_at(np.arctan2(offset[:, 1], offset[:, 0])) + margin_um
        inside = distance < rim
        scale = rim[inside] / np.maximum(distance[inside], 1e-6)
        points[close[inside]] = blob.center_um + offset[inside] * scale[:, None]
        moved[close[inside]] = True
    return points, moved


def _rounded(rings: Floats) -> Floats:
    """Sort each ring's corners by angle and round them by Chaikin's corner cutting, twice.

    Args:
        rings: shape (n, k, 2).

    Returns:
        Shape (n, 4k, 2).
    """
    offset = rings - rings.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(offset[..., 1], offset[..., 0]), axis=1)
    rings = np.take_along_axis(rings, order[..., None], axis=1)
    for _ in range(2):
        following = np.roll(rings, -1, axis=1)
        cut = np.stack([0.75 * rings + 0.25 * following, 0.25 * rings + 0.75 * following], axis=2)
        rings = cut.reshape(len(rings), -1, 2)
    return rings


def _paint_cells(
    canvas: DyeCanvas,
    rings: Floats,
    inset_um: Floats,
    blobs: list[Blob],
    rng: np.random.Generator,
) -> None:
    n = len(rings)
    center = rings.mean(axis=1, keepdims=True)
    offset = rings - center
    distance = np.hypot(offset[..., 0], offset[..., 1])
    radius = distance.mean(axis=1)
    outer = np.clip(1 - (inset_um * rng.uniform(0.4, 1.6, n) - 0.8) / radius, 0.5, 1.02)
    # Proximal tubules have tall cells, a small fringed lumen and more dye; distal ones are open.
    distal = rng.random(n) < 0.36
    lumen = np.where(distal, rng.uniform(0.42, 0.66, n), rng.uniform(0.12, 0.38, n)) * outer
    membrane = rng.uniform(95, 150, n)
    cytoplasm = np.where(distal, rng.uniform(68, 96, n), rng.uniform(100, 150, n))
    basophilia = np.where(distal, 18.0, 10.0) + rng.uniform(0, 8, n)
    wavy = 1 + np.where(distal, 0.05, 0.13)[:, None] * rng.normal(0, 1, rings.shape[:2])
    epithelium = outer - 1.6 / radius
    basement_xy = center + offset * outer[:, None, None]
    cell_xy = center + offset * epithelium[:, None, None]
    lumen_xy = center + offset * (lumen[:, None] * wavy)[..., None]
    fringe_xy = center + offset * ((lumen + 2.2 / radius)[:, None] * wavy)[..., None]
    for i in range(n):
        canvas.fill(basement_xy[i], (8.0, float(membrane[i]), 60.0))
        canvas.fill(cell_xy[i], (float(basophilia[i]), 14.0, float(cytoplasm[i])))
        if not distal[i]:
            canvas.fill(fringe_xy[i], (4.0, 58.0, 80.0))
        canvas.fill(lumen_xy[i], CLEAR)
    perimeter = 2 * np.pi * distance.mean(axis=1)
    count = np.maximum(2, perimeter * outer / np.where(distal, 12.5, 17.0)).astype(int)
    cell = np.repeat(np.arange(n), count)
    first = np.repeat(np.cumsum(count) - count, count)
    place = (np.arange(len(cell)) - first + rng.uniform(-0.35, 0.35, len(cell))) / count[cell]
    corner = np.mod(place * rings.shape[1], rings.shape[1]).astype(np.intp)
    depth = lumen[cell] + (epithelium - lumen)[cell] * rng.uniform(0.4, 0.72, len(cell))
    xy = center[cell, 0] + offset[cell, corner] * depth[:, None]
    # Nuclei are stamped last, so those of tubules that a blob covers must go now.
    _, covered = _push_out(xy, blobs, 0.0)
    xy = xy[~covered]
    canvas.add_nuclei(xy, rng.normal(0, 0.75, xy.shape), rng.uniform(105, 170, len(xy)))


def _interstitial_nuclei(
    canvas: DyeCanvas, anatomy: Anatomy, n: int, rng: np.random.Generator
) -> None:
    x0, y0, x1, y1 = anatomy.tissue.bounds
    xy = rng.uniform((x0, y0), (x1, y1), (3 * n, 2))
    _, in_blob = _push_out(xy, anatomy.blobs, 0.0)
    xy = xy[~in_blob]
    # Only between tubules: where the canvas still shows bare interstitium.
    dye = canvas.dyes[xy[:, 1].astype(np.intp), xy[:, 0].astype(np.intp)]
    bare = np.abs(dye.astype(np.int16) - np.array(INTERSTITIUM, np.int16)).max(axis=1) < 2
    xy = xy[bare]
    angle = rng.uniform(0, np.pi, len(xy))
    axis = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(1, 3.2, len(xy))[:, None]
    canvas.add_nuclei(xy, axis, rng.uniform(150, 215, len(xy)))
