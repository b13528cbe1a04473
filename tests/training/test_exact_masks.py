"""Masks that a segmentation is taught: to the cell, and no wider than the outline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from killed import OPTIONS
from shapely.geometry import MultiPolygon, Point, box
from tiny_dataset import write_tiny_dataset

from glombridge.tiles.polygons import ring_of
from glombridge.training import train
from glombridge.training.sandbox import load_ultralytics

CELL_PX = 4
ROWS, COLUMNS = 24, 32


@pytest.fixture(scope="module", autouse=True)
def ultralytics_is_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    load_ultralytics(tmp_path_factory.mktemp("cache"))


def mask_of(ring: np.ndarray) -> np.ndarray:
    from glombridge.training.masks import mask_of

    return mask_of(ring, (ROWS, COLUMNS), CELL_PX)


def cells_inside(area: shapely.Geometry) -> np.ndarray:
    """By asking about the centre of each cell."""
    x = (np.arange(COLUMNS) + 0.5) * CELL_PX
    y = (np.arange(ROWS) + 0.5) * CELL_PX
    return shapely.contains_xy(area, *np.meshgrid(x, y))


RING = Point(60.7, 50.1).buffer(35).difference(Point(62.3, 48.9).buffer(14))


@pytest.mark.parametrize(
    "area",
    [
        pytest.param(Point(60.3, 48.7).buffer(30), id="disc"),
        pytest.param(RING, id="hole"),
        pytest.param(
            MultiPolygon([Point(30.3, 31.1).buffer(20), box(71, 51, 111, 93)]), id="parts"
        ),
        pytest.param(Point(5.3, 89.1).buffer(40), id="reaches-out"),
        pytest.param(box(200, 10, 240, 30), id="outside"),
        pytest.param(Point(50, 50).buffer(0.5), id="between-centres"),
    ],
)
def test_a_cell_belongs_to_an_object_if_its_centre_does(area: shapely.Geometry) -> None:
    assert (mask_of(ring_of(area)) == cells_inside(area)).all()


corners = st.lists(
    st.tuples(st.floats(-20, 150, width=32), st.floats(-20, 120, width=32)), min_size=3, max_size=12
)


@settings(max_examples=100)
@given(corners)
def test_any_ring_is_filled_by_the_even_odd_rule(points: list[tuple[float, float]]) -> None:
    ring = np.array(points)
    x = (np.arange(COLUMNS) + 0.5) * CELL_PX
    y = (np.arange(ROWS) + 0.5) * CELL_PX
    gx, gy = np.meshgrid(x, y)
    crossings = np.zeros(gx.shape, int)
    near = np.zeros(gx.shape, bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        spans = (np.minimum(y0, y1) <= gy) & (gy < np.maximum(y0, y1))
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (gy - y0) / (y1 - y0) * (x1 - x0)
        crossings += spans & (at <= gx)
        near |= spans & (np.abs(at - gx) < 1e-6)
    expected = crossings % 2 == 1
    # Whether a centre exactly on the line is inside, nobody says.
    assert (mask_of(ring) == expected)[~near].all()


def test_ultralytics_own_masks_are_wider_than_the_outline() -> None:
    """Why there are our own. Should a later version be exact, they can go."""
    from ultralytics.data.utils import polygon2mask

    rng = np.random.default_rng(0)
    off_px: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(200):
        disc = Point(*rng.uniform(40, 56, 2)).buffer(rng.uniform(12, 35))
        ring = ring_of(disc)
        theirs = polygon2mask((ROWS * CELL_PX, COLUMNS * CELL_PX), [ring.ravel()], 1, CELL_PX)
        for name, mask in (("ours", mask_of(ring)), ("theirs", theirs)):
            off_px[name].append((int(mask.sum()) * CELL_PX**2 - disc.area) / disc.length)
    assert abs(np.mean(off_px["ours"])) < 0.05
    assert np.mean(off_px["theirs"]) > 0.5


def test_the_smaller_object_lies_on_the_larger() -> None:
    from ultralytics.utils.instance import Instances

    from glombridge.training.masks import ExactMasks

    large, small = Point(60, 48).buffer(40), Point(70, 48).buffer(12)
    n = 40
    rings = np.stack([ring_of(a.segmentize(8))[:n] for a in (small, large)])
    instances = Instances(np.zeros((2, 4), np.float32), rings.astype(np.float32))
    classes = np.array([[1.0], [0.0]])
    step = ExactMasks(return_mask=True, mask_ratio=CELL_PX, mask_overlap=True)
    masks, sorted_instances, sorted_classes = step._format_segments(instances, classes, 128, 96)
    assert sorted_classes.ravel().tolist() == [0, 1]
    assert len(sorted_instances) == 2
    row = masks[0, 12]
    assert (row[6], row[17]) == (1, 2)
    assert (masks[0] == 2).sum() == mask_of(rings[0]).sum()


def test_a_training_is_taught_by_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glombridge.training.masks import ExactMasks

    data = write_tiny_dataset(tmp_path / "data", task="segment")
    shown: list[Any] = []
    real = ExactMasks._format_segments

    def told(self: Any, *arguments: Any) -> Any:
        shown.append(arguments)
        return real(self, *arguments)

    monkeypatch.setattr(ExactMasks, "_format_segments", told)
    options = OPTIONS.__class__(**{**vars(OPTIONS), "epochs": 1})
    train(data, tmp_path / "run", options, cache=tmp_path / "cache")
    # 13 tiles to learn from and 4 to validate on, an object each.
    assert len(shown) == 17
