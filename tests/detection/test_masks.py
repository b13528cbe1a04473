"""From a network's prototype fields to outlines: exact to a fraction of a pixel, valid, small in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon, box
from simulation import ellipse

from glombridge.detection.masks import outlines_of

STEP_PX = 4


def field_of(area: shapely.Geometry, width: int, height: int) -> np.ndarray:
    """(height/4, width/4) distance to the edge of an area, positive inside: what a good network gives."""
    x = (np.arange(width // STEP_PX) + 0.5) * STEP_PX
    y = (np.arange(height // STEP_PX) + 0.5) * STEP_PX
    points = shapely.points(*np.meshgrid(x, y))
    away = shapely.distance(points, area.boundary)
    return np.where(shapely.intersects(points, area), away, -away).astype(np.float32)


def traced(area: shapely.Geometry, width: int = 256, height: int = 192) -> shapely.Geometry | None:
    """The outline found of an area, its field given as a sum of two prototypes."""
    field = field_of(area, width, height)
    noise = np.random.default_rng(0).normal(0, 1, field.shape).astype(np.float32)
    prototypes = np.stack([field + noise, noise])
    xyxy = np.array([area.intersection(box(0, 0, width, height)).bounds])
    coefficients = np.array([[1.0, -1.0]], np.float32)
    return outlines_of(coefficients, prototypes, xyxy, input_px=(width, height))[0]


def iou(a: shapely.Geometry, b: shapely.Geometry) -> float:
    return float(a.intersection(b).area / a.union(b).area)


SHAPES = [
    pytest.param(ellipse(128, 96, 40, 0.7, 20), id="small"),
    pytest.param(ellipse(100.3, 80.9, 90, 0.8, 65), id="between-pixels"),
    pytest.param(ellipse(128, 96, 170, 0.9, 0), id="large"),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_is_the_objects_own_and_closer_than_ultralytics_gives_it(
    shape: Polygon,
) -> None:
    import torch
    from ultralytics.utils import ops

    ours = traced(shape)
    assert isinstance(ours, Polygon)
    assert shapely.hausdorff_distance(ours.boundary, shape.boundary) < 1.0
    assert iou(ours, shape) > 0.975
    field = torch.from_numpy(field_of(shape, 256, 192))[None]
    bounds = torch.tensor([shape.bounds])
    masks = ops.process_mask_native(field, torch.ones(1, 1), bounds, (192, 256))
    theirs = Polygon(ops.masks2segments(masks)[0])
    assert iou(ours, shape) > iou(theirs, shape)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(ellipse(10, 96, 60, 0.8, 30), id="left"),
        pytest.param(ellipse(250, 185, 70, 0.8, 30), id="corner"),
    ],
)
def test_an_object_cut_by_the_tile_goes_on_to_its_border(shape: Polygon) -> None:
    tile = box(0, 0, 256, 192)
    ours = traced(shape)
    assert ours is not None
    assert iou(ours, shape.intersection(tile)) > 0.97
    assert ours.within(tile)
    left, _, right, bottom = ours.bounds
    assert left == 0 or (right, bottom) == (256, 192)


def test_a_tile_that_was_enlarged_and_padded_keeps_its_own_pixels() -> None:
    """100 x 60 px shown as 128 x 96: enlarged by 1.28, with 9 px above and 10 below."""
    shape = ellipse(50, 30, 40, 0.8, 20)
    shown = shapely.transform(shape, lambda xy: xy * 1.28 + (0, 9))
    prototypes = field_of(shown, 128, 96)[None]
    (ours,) = outlines_of(
        np.ones((1, 1), np.float32),
        prototypes,
        np.array([shape.bounds]),
        scale_xy=(1.28, 1.28),
        left_top_px=(0, 9),
        input_px=(128, 96),
    )
    assert iou(ours, shape) > 0.97


def test_large_parts_and_holes_are_kept_and_specks_are_not() -> None:
    parts = [ellipse(70, 60, 60, 1, 0), ellipse(180, 130, 50, 1, 0)]
    ring = ellipse(180, 50, 70, 1, 0).difference(ellipse(180, 50, 36, 1, 0))
    torn = traced(MultiPolygon(parts))
    assert isinstance(torn, MultiPolygon)
    assert iou(torn, MultiPolygon(parts)) > 0.97
    with_hole = traced(ring)
    assert isinstance(with_hole, Polygon)
    assert len(with_hole.interiors) == 1
    assert iou(with_hole, ring) > 0.94
    speckled = MultiPolygon([parts[0], ellipse(180, 130, 14, 1, 0)])
    assert isinstance(traced(speckled), Polygon)


def test_an_empty_mask_is_no_outline_and_a_full_one_is_the_box() -> None:
    xyxy = np.array([[10.0, 10, 60, 50], [10, 10, 60, 50]])
    prototypes = np.ones((1, 48, 64), np.float32)
    coefficients = np.array([[-1.0], [1.0]], np.float32)
    nothing, everything = outlines_of(coefficients, prototypes, xyxy, input_px=(256, 192))
    assert nothing is None
    assert everything.equals(box(10, 10, 60, 50))
    assert len(outlines_of(coefficients[:0], prototypes, xyxy[:0], input_px=(256, 192))) == 0


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), smooth=st.booleans())
def test_whatever_a_network_says_outlines_are_valid_and_inside_their_boxes(
    seed: int, n: int, smooth: bool
) -> None:
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(0, 1, (4, 24, 32)).astype(np.float32)
    if smooth:
        prototypes = np.round(prototypes)  # many samples of exactly zero
    low = rng.uniform(0, 90, (n, 2))
    xyxy = np.hstack([low, low + rng.uniform(0, 38, (n, 2))]).clip(0, [128, 96, 128, 96])
    coefficients = rng.normal(0, 1, (n, 4)).astype(np.float32)
    for found, bounds in zip(
        outlines_of(coefficients, prototypes, xyxy, input_px=(128, 96)), xyxy, strict=True
    ):
        if found is None:
            continue
        assert found.is_valid
        assert found.area > 0
        assert found.geom_type in ("Polygon", "MultiPolygon")
        assert found.within(box(*bounds).buffer(1e-6))


def test_memory_does_not_grow_with_the_tile() -> None:
    """300 objects of a tile of 1600 x 1216 px: as masks of the tile they would take 584 MB."""
    rng = np.random.default_rng(0)
    prototypes = rng.normal(0, 1, (32, 304, 400)).astype(np.float32)
    low = rng.uniform(0, 1100, (300, 2))
    xyxy = np.hstack([low, low + 100])
    coefficients = rng.normal(0, 1, (300, 32)).astype(np.float32)
    outlines_of(coefficients[:2], prototypes, xyxy[:2], input_px=(1600, 1216))
    tracemalloc.start()
    try:
        found = outlines_of(coefficients, prototypes, xyxy, input_px=(1600, 1216))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(area is not None for area in found)
    assert peak_bytes < 20 << 20
