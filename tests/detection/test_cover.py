"""The area under tiles: that of a plain union, for any tiles that a grid or a file can give."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from glombridge.detection.boxes import Boxes
from glombridge.detection.cover import united_boxes
from glombridge.detection.raw import SlideDetections
from glombridge.frames import Frame
from glombridge.objects import box_polygons
from glombridge.tiles.grid import PAPER, Grid, TileSpec

NONE = np.zeros((0, 4))


def plain(boxes: np.ndarray, without: np.ndarray = NONE) -> BaseGeometry:
    area = shapely.union_all(box_polygons(boxes))
    return area.difference(shapely.union_all(box_polygons(without))) if len(without) else area


def assert_same(area: BaseGeometry, expected: BaseGeometry) -> None:
    assert area.is_valid
    assert area.geom_type in ("Polygon", "MultiPolygon")
    assert area.area == pytest.approx(expected.area, rel=1e-12)
    assert area.equals(expected) or (area.is_empty and expected.area == 0)


@st.composite
def tiles(draw: st.DrawFn) -> np.ndarray:
    """All tiles of a grid, its last ones moved back to the edge of the slide, or reaching over it."""
    spec = TileSpec(draw(st.integers(2, 9)), draw(st.integers(2, 9)), draw(st.integers(0, 1)))
    frame = Frame("", draw(st.integers(1, 60)), draw(st.integers(1, 60)))
    # Pixels at another resolution fall between those of the slide.
    return Grid.of(frame, spec).boxes_px() * draw(st.sampled_from([1.0, 0.25, 2.0143, 1 / 3]))


def some(draw: st.DrawFn, boxes: np.ndarray) -> np.ndarray:
    """Gaps where no tissue is."""
    is_in = st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))
    return boxes[np.array(draw(is_in), bool)]


@st.composite
def any_boxes(draw: st.DrawFn) -> np.ndarray:
    """Of any size, also one without an area or with its sides the other way round."""
    corner = st.integers(-3, 12)
    return np.array(
        draw(st.lists(st.tuples(corner, corner, corner, corner), max_size=12)), float
    ).reshape(-1, 4)


@given(st.data())
def test_tiles_of_a_grid(data: st.DataObject) -> None:
    every = data.draw(tiles())
    boxes, without = some(data.draw, every), some(data.draw, every)
    assert_same(united_boxes(boxes), plain(boxes))
    assert_same(united_boxes(boxes, without), plain(boxes, without))


@given(any_boxes(), any_boxes())
def test_boxes_of_any_size(boxes: np.ndarray, without: np.ndarray) -> None:
    assert_same(united_boxes(boxes, without), plain(boxes, without))


@given(st.data())
def test_where_a_slide_was_looked_at(data: st.DataObject) -> None:
    """In the frame and the region asked for, and not where a tile could not be read."""
    every = data.draw(tiles())
    lost = np.array(data.draw(st.lists(st.booleans(), min_size=len(every), max_size=len(every))))
    kind = data.draw(st.sampled_from(["none", "round", "in pieces", "beside it"]))
    middle = every[:, 2:].max(axis=0) / 2
    region = {
        "none": None,
        "round": shapely.Point(middle).buffer(middle.min()),
        # The first ends where tiles may begin, and touches them in a line.
        "in pieces": shapely.union_all([box(0, 0, *every[0, 2:]), box(*middle, *every[-1, 2:])]),
        "beside it": box(1000, 1000, 1001, 1001),
    }[kind]
    width, height = np.ceil(every[:, 2:].max(axis=0)).astype(int) - data.draw(st.integers(0, 1))
    seen = SlideDetections(
        Boxes.empty(), every[~lost], len(every), int(width), int(height), every[lost], region
    )
    expected = plain(every[~lost]).intersection(box(0, 0, width, height))
    if region is not None:
        expected = expected.intersection(region)
    expected = expected.difference(plain(every[lost]))
    polygons = [p for p in shapely.get_parts(expected) if p.geom_type == "Polygon"]
    area, expected = seen.scanned_area, shapely.union_all(polygons)
    if kind == "round":
        # Where a side crosses a curve, the order of the cuts changes last digits.
        assert area.is_valid
        assert area.symmetric_difference(expected).area < 1e-9
    else:
        assert_same(area, expected)
    assert replace(seen, scanned=NONE).scanned_area.equals(shapely.Polygon())


@pytest.mark.parametrize(
    ("boxes", "area"),
    [
        pytest.param([(0, 0, 1, 1), (1, 1, 2, 2)], None, id="two that touch in a corner"),
        pytest.param(
            [(0, 0, 3, 1), (0, 2, 3, 3), (0, 0, 1, 3), (2, 0, 3, 3)],
            box(0, 0, 3, 3) - box(1, 1, 2, 2),
            id="a gap inside",
        ),
        pytest.param(
            [(0, 0, 5, 1), (0, 4, 5, 5), (0, 0, 1, 5), (4, 0, 5, 5), (2, 2, 3, 3)],
            None,
            id="one that lies in a gap",
        ),
        pytest.param(
            [(0, 0, 4, 1), (0, 3, 4, 4), (0, 0, 1, 4), (3, 0, 4, 4), (1, 1, 2, 2)],
            None,
            id="one that touches the gap it lies in",
        ),
        pytest.param(
            [(0, 0, 4, 1), (0, 3, 4, 4), (0, 0, 1, 4), (3, 0, 4, 4), (1, 1, 2, 2), (2, 2, 3, 3)],
            None,
            id="two gaps that touch",
        ),
        pytest.param([(0, 0, 2, 2), (2, 0, 4, 2), (1, 0, 3, 2)], box(0, 0, 4, 2), id="a row"),
        pytest.param([(0, 0, 0, 2)], shapely.Polygon(), id="no width"),
        pytest.param([], shapely.Polygon(), id="none"),
    ],
)
def test_shapes(boxes: list[tuple[int, ...]], area: BaseGeometry | None) -> None:
    given_boxes = np.array(boxes, float).reshape(-1, 4)
    found = united_boxes(given_boxes)
    assert_same(found, plain(given_boxes))
    if area is not None:
        # Also with no corner more: a file for QuPath holds them all.
        assert shapely.get_num_coordinates(found) == shapely.get_num_coordinates(area)


def test_a_whole_slide_of_the_paper_tiles_has_four_corners() -> None:
    side = 100_000
    found = united_boxes(Grid.of(Frame("", side, side), PAPER).boxes_px())
    assert shapely.get_num_coordinates(found) == 5
    assert found.equals(box(0, 0, side, side))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_box_with_a_side_that_is_no_number_covers_nothing() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, np.nan, 2]])
    assert united_boxes(boxes).equals(box(0, 0, 1, 1))


def test_boxes_that_are_no_grid_take_no_memory_for_their_cells() -> None:
    """A file can hold any: of 6,000 that share no side there are 144 million cells."""
    corner = np.random.default_rng(0).uniform(0, 1e6, (6000, 2))
    boxes = np.hstack([corner, corner + 10])
    tracemalloc.start()
    try:
        area = united_boxes(boxes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20
    assert area.area == pytest.approx(plain(boxes).area)
