"""Glomeruli, and what could be mistaken for them: vessels, casts, cysts, inflammation."""

from __future__ import annotations

import numpy as np

from .anatomy import Anatomy, Blob, BlobKind
from .canvas import CLEAR, DyeCanvas
from .cores import Floats, blob_ring
from .truth import Subtype


def paint_blobs(canvas: DyeCanvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Paint all roundish things of a slide over its tubules."""
    for blob in anatomy.blobs:
        if blob.kind is BlobKind.GLOMERULUS:
            if blob.subtype is Subtype.SCLEROTIC:
                _sclerotic(canvas, blob, rng)
            else:
                _glomerulus(canvas, blob, rng)
        elif blob.kind is BlobKind.ARTERY:
            _artery(canvas, blob, rng)
        elif blob.kind is BlobKind.CAST:
            _tubule(canvas, blob, rng, filling=(4.0, 70.0 + 40 * rng.random(), 120.0))
        elif blob.kind is BlobKind.CYST:
            _tubule(canvas, blob, rng, filling=CLEAR)
        else:
            _aggregate(canvas, blob, rng)


def _glomerulus(canvas: DyeCanvas, blob: Blob, rng: np.random.Generator) -> None:
    radius = float(np.hypot(*blob.ring_um.T).mean())
    center = blob.center_um
    canvas.fill(center + blob.ring_um * (1 + 3.5 / radius), (12.0, 62.0, 62.0))
    canvas.fill(blob.outline_um, (10.0, 135.0, 50.0))
    canvas.fill(center + blob.ring_um * (1 - 2.6 / radius), CLEAR)
    _flat_cells(canvas, blob, 1 - 4.0 / radius, 17.0, rng)
    # The tuft hangs on one side, the vascular pole, so the space about it is a crescent.
    size = rng.uniform(0.84, 0.95)
    pole = rng.uniform(0, 2 * np.pi)
    shift = np.array([np.cos(pole), np.sin(pole)]) * radius * (1 - size) * rng.uniform(0.4, 1.0)
    tuft_center = center + shift
    mesangium = rng.uniform(78, 118)
    lobes = _lobes(blob, size, radius, rng)
    for xy, lobe_um in lobes:
        ring = tuft_center + xy + blob_ring(rng, lobe_um + 1.2, wobble=0.03, n=32)
        canvas.fill(ring, (14.0, mesangium + 15, 70.0))
    for xy, lobe_um in lobes:
        canvas.disc(tuft_center + xy, lobe_um, (16.0, mesangium * 0.62, 80.0))
    points = _points_in_lobes(lobes, 10.5, rng)
    for xy in points[rng.random(len(points)) < 0.74]:
        loop_um = rng.uniform(2.9, 5.0)
        canvas.disc(tuft_center + xy, loop_um, (8.0, 26.0, 40.0) if rng.random() < 0.3 else CLEAR)
        canvas.disc(tuft_center + xy, loop_um, (12.0, mesangium + 30, 70.0), 1)
    for xy in points[rng.random(len(points)) < 0.16]:
        canvas.disc(tuft_center + xy, rng.uniform(3, 6), (14.0, mesangium + 22, 80.0))
    nuclei = _points_in_lobes(lobes, rng.uniform(9.2, 11.5), rng)
    canvas.add_nuclei(
        tuft_center + nuclei, rng.normal(0, 0.8, nuclei.shape), rng.uniform(150, 225, len(nuclei))
    )


def _lobes(
    blob: Blob, size: float, radius: float, rng: np.random.Generator
) -> list[tuple[Floats, float]]:
    """Discs that together make the tuft: offset from the tuft's centre, and radius."""
    n = int(rng.integers(7, 11))
    angle = np.arange(n) * (2 * np.pi / n) + rng.uniform(-0.16, 0.16, n) + rng.uniform(0, 6)
    rim = blob.radius_at(angle) * size
    lobe_um = radius * rng.uniform(0.27, 0.36, n)
    reach = rim - lobe_um - 3.0
    xy = np.column_stack([np.cos(angle), np.sin(angle)]) * reach[:, None]
    return [(np.zeros(2), 0.5 * radius), *zip(xy, (float(v) for v in lobe_um), strict=True)]


def _points_in_lobes(
    lobes: list[tuple[Floats, float]], pitch_um: float, rng: np.random.Generator
) -> Floats:
    reach = max(float(np.hypot(*xy)) + r for xy, r in lobes)
    x, y = np.meshgrid(*[np.arange(-reach, reach + pitch_um, pitch_um)] * 2)
    x[1::2] += pitch_um / 2
    points = np.column_stack([x.ravel(), y.ravel()])
    points += rng.uniform(-0.4, 0.4, points.shape) * pitch_um
    inside = np.zeros(len(points), bool)
    for xy, r in lobes:
        inside |= np.hypot(*(points - xy).T) < r - 2.0
    return points[inside]


def _sclerotic(canvas: DyeCanvas, blob: Blob, rng: np.random.Generator) -> None:
    radius = float(np.hypot(*blob.ring_um.T).mean())
    center = blob.center_um
    canvas.fill(center + blob.ring_um * (1 + 5 / radius), (12.0, 66.0, 60.0))
    canvas.fill(blob.outline_um, (10.0, 150.0, 60.0))
    gap = rng.uniform(0, 3.5) if rng.random() < 0.6 else 0.0
    canvas.fill(center + blob.ring_um * (1 - 2.4 / radius), CLEAR if gap > 1 else (8.0, 70.0, 60.0))
    body = blob.ring_um * (1 - (2.6 + gap) / radius)
    # A scar takes PAS and eosin more strongly than anything around it.
    glassy, eosin = rng.uniform(125, 150), rng.uniform(112, 126)
    canvas.fill(center + body, (8.0, glassy, eosin))
    # Collapsed capillary walls leave faint strands and patches in the scar.
    for _ in range(int(radius * 0.9)):
        angle, depth = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 0.72))
        at = center + depth * radius * np.array([np.cos(angle), np.sin(angle)])
        turn = angle + rng.normal(0, 0.8) + np.array([0.0, 0.5, 1.0])
        strand = at + np.cumsum(np.column_stack([np.cos(turn), np.sin(turn)]) * 5, axis=0)
        shade = glassy + rng.choice([-22.0, 30.0])
        canvas.line(strand, (8.0, shade, eosin), int(rng.integers(1, 4)), closed=False)
    n = rng.poisson(0.0016 * np.pi * radius**2)
    around, out = rng.uniform(0, 2 * np.pi, n), 0.92 * radius * np.sqrt(rng.uniform(0, 0.85, n))
    xy = center + out[:, None] * np.column_stack([np.cos(around), np.sin(around)])
    canvas.add_nuclei(xy, rng.normal(0, 0.8, (n, 2)), rng.uniform(130, 190, n))
    _flat_cells(canvas, blob, 1 + 3.0 / radius, 20.0, rng)


def _flat_cells(
    canvas: DyeCanvas, blob: Blob, scale: float, spacing_um: float, rng: np.random.Generator
) -> None:
    """Flat nuclei along a ring."""
    length = float(np.hypot(*np.diff(blob.ring_um, axis=0).T).sum())
    angle = rng.uniform(0, 2 * np.pi, int(length / spacing_um))
    radius = blob.radius_at(angle) * scale
    direction = np.column_stack([np.cos(angle), np.sin(angle)])
    along = np.column_stack([-direction[:, 1], direction[:, 0]]) * 2.6
    canvas.add_nuclei(
        blob.center_um + direction * radius[:, None], along, rng.uniform(140, 200, len(angle))
    )


def _artery(canvas: DyeCanvas, blob: Blob, rng: np.random.Generator) -> None:
    radius = float(np.hypot(*blob.ring_um.T).mean())
    center = blob.center_um
    canvas.fill(center + blob.ring_um * (1 + 4 / radius), (10.0, 66.0, 50.0))
    canvas.fill(blob.outline_um, (10.0, 30.0, 108.0))
    lumen = rng.uniform(0.4, 0.66)
    for scale in np.arange(0.96, lumen + 0.05, -6.5 / radius):
        wave = 1 + 0.01 * rng.normal(0, 1, (len(blob.ring_um), 1))
        canvas.line(center + blob.ring_um * scale * wave, (10.0, 62.0, 84.0))
        _flat_cells(canvas, blob, float(scale), 26.0, rng)
    wavy = 1 + 0.05 * np.sin(np.arange(len(blob.ring_um))[:, None] * (2 * np.pi * 9 / 72))
    canvas.fill(center + blob.ring_um * wavy * lumen, (8.0, 120.0, 60.0))
    inner = center + blob.ring_um * wavy * (lumen - 2.4 / radius)
    canvas.fill(inner, CLEAR)
    _flat_cells(canvas, blob, lumen - 2.5 / radius, 16.0, rng)
    if rng.random() < 0.4:
        # Blood left behind: pale discs without nuclei.
        n = int(0.35 * (lumen * radius) ** 2 / 12)
        angle, depth = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(0, 0.7, n))
        for a, d in zip(angle, depth * lumen * radius, strict=True):
            canvas.disc(center + d * np.array([np.cos(a), np.sin(a)]), 3.2, (0.0, 40.0, 105.0))


def _tubule(
    canvas: DyeCanvas, blob: Blob, rng: np.random.Generator, *, filling: tuple[float, float, float]
) -> None:
    """A wide tubule with flat cells, empty or plugged with a glassy cast."""
    radius = float(np.hypot(*blob.ring_um.T).mean())
    center = blob.center_um
    canvas.fill(center + blob.ring_um * (1 + 3 / radius), (10.0, 52.0, 60.0))
    canvas.fill(blob.outline_um, (8.0, 120.0, 60.0))
    canvas.fill(center + blob.ring_um * (1 - 1.8 / radius), (16.0, 14.0, 92.0))
    canvas.fill(center + blob.ring_um * (1 - rng.uniform(8.5, 11) / radius), CLEAR)
    if filling is not CLEAR:
        canvas.fill(center + blob.ring_um * (1 - rng.uniform(12, 15) / radius), filling)
    _flat_cells(canvas, blob, 1 - 5.5 / radius, 14.0, rng)


def _aggregate(canvas: DyeCanvas, blob: Blob, rng: np.random.Generator) -> None:
    """Lymphocytes crowded between tubules: small, round, dark, without a capsule."""
    reach = blob.reach_um
    pitch = rng.uniform(6.4, 7.6)
    x, y = np.meshgrid(*[np.arange(-reach * 1.15, reach * 1.15, pitch)] * 2)
    xy = np.column_stack([x.ravel(), y.ravel()])
    xy += rng.normal(0, 0.42, xy.shape) * pitch
    angle = np.arctan2(xy[:, 1], xy[:, 0])
    depth = np.hypot(xy[:, 0], xy[:, 1]) / blob.radius_at(angle)
    # The edge frays out: the further out, the fewer.
    xy = xy[depth < rng.uniform(0.62, 1.12, len(xy))]
    canvas.fill(blob.center_um + blob.ring_um * 0.86, (16.0, 46.0, 58.0))
    canvas.add_nuclei(
        blob.center_um + xy, rng.normal(0, 0.35, xy.shape), rng.uniform(185, 240, len(xy))
    )
