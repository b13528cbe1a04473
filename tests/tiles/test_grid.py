"""Grids against a brute-force oracle: every pixel covered, closed-form counts, the promise kept."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glombridge.errors import InputError, UsageError
from glombridge.frames import Frame
from glombridge.tiles.grid import (
    PAPER,
    Grid,
    TileSpec,
    axis_starts,
    resolve_overlap,
    whole_object_check,
)


def closed_form(length, tile, stride):
    return 1 if length <= tile else math.ceil((length - tile) / stride) + 1


@settings(max_examples=500)
@given(st.integers(1, 3000), st.integers(1, 600), st.integers(1, 600))
@example(1600, 1600, 1066)
@example(1601, 1600, 1066)
def test_an_axis_is_covered_without_a_gap_and_without_waste(length, tile, stride):
    stride = min(stride, tile)
    starts = axis_starts(length, tile, stride)
    covered = np.zeros(max(length, tile), bool)
    for start in starts:
        covered[start : start + tile] = True
    assert covered[:length].all()
    assert len(starts) == len(set(starts)) == closed_form(length, tile, stride)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - tile)
    steps = np.diff(starts)
    assert (steps[:-1] == stride).all()
    assert (steps <= stride).all()


@settings(max_examples=60)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 300),
    st.integers(1, 300),
    st.floats(0, 0.9),
    st.sampled_from([None, 0.25, 0.5, 0.77, 1.0]),
)
def test_every_pixel_lies_in_a_tile_and_positions_agree(width, height, w, h, overlap, mpp):
    frame = Frame("a", width, height, 0.5, 0.5)
    try:
        spec = TileSpec(w, h, overlap, mpp)
    except UsageError:
        return
    grid = Grid.of(frame, spec)
    covered = np.zeros((height, width), bool)
    assert len(list(grid)) == len(grid)
    for index, tile in enumerate(grid):
        assert (tile.index, grid[index]) == (index, tile)
        assert (tile.row * len(grid.x_starts) + tile.column) == index
        assert tile.x_px * grid.scale_x == pytest.approx(tile.x_target_px)
        x0, y0 = math.floor(tile.x_px + 1e-9), math.floor(tile.y_px + 1e-9)
        x1 = math.ceil(tile.x_px + tile.width_px - 1e-9)
        y1 = math.ceil(tile.y_px + tile.height_px - 1e-9)
        covered[y0:y1, x0:x1] = True
    assert covered.all()
    boxes = grid.boxes_px()
    assert boxes.shape == (len(grid), 4)
    assert boxes[-1, :2] == pytest.approx([grid[-1].x_px, grid[-1].y_px])


def test_the_papers_preset():
    assert PAPER.stride_px == (1066, 800)
    assert PAPER.overlap_px == (534, 400)
    grid = Grid.of(Frame("a", 40_000, 30_000), PAPER)
    assert len(grid) == closed_form(40_000, 1600, 1066) * closed_form(30_000, 1200, 800) == 1406
    assert grid[-1].x_px + 1600 == 40_000
    assert grid[-1].y_px + 1200 == 30_000


def test_a_slide_smaller_than_a_tile_gets_one_tile():
    grid = Grid.of(Frame("a", 300, 200), PAPER)
    assert len(grid) == 1
    assert (grid[0].x_px, grid[0].width_target_px) == (0, 1600)


@pytest.mark.parametrize(
    ("overlap", "stride"),
    [(0, (10, 20)), (0.0, (10, 20)), (0.9, (1, 2)), (1 / 3, (6, 13)), (3, (7, 17)), (9, (1, 11))],
)
def test_strides_are_exact(overlap, stride):
    assert TileSpec(10, 20, overlap).stride_px == stride


@pytest.mark.parametrize("overlap", [1.0, 1.5, 10, 11, -1, -0.1, math.nan, 0.95, True])
def test_an_overlap_that_leaves_no_step_is_refused(overlap):
    with pytest.raises(UsageError, match="overlap"):
        TileSpec(10, 20, overlap)


@pytest.mark.parametrize("bad", [{"width_px": 0}, {"height_px": -1}, {"mpp": 0}, {"mpp": math.nan}])
def test_tiles_that_cannot_be_are_refused(bad):
    with pytest.raises(UsageError):
        TileSpec(**{"width_px": 10, "height_px": 10, **bad})


def test_sizes_in_micrometres():
    spec = TileSpec.in_um(800, 600, mpp=0.5, overlap_um=200)
    assert (spec.width_px, spec.height_px, spec.overlap, spec.mpp) == (1600, 1200, 400, 0.5)


def test_a_resolution_needs_a_pixel_size():
    with pytest.raises(InputError, match=r"'K12-03.svs' has no pixel size"):
        Grid.of(Frame("K12-03.svs", 100, 100), TileSpec(10, 10, 0, 0.5))


def brute_force(grid, box):
    x0, y0, x1, y1 = box
    return not any(
        t.x_px <= x0 + 1e-7
        and t.y_px <= y0 + 1e-7
        and x1 <= t.x_px + t.width_px + 1e-7
        and y1 <= t.y_px + t.height_px + 1e-7
        for t in grid
    )


boxes = st.lists(
    st.tuples(st.floats(0, 900), st.floats(0, 700), st.floats(0, 200), st.floats(0, 200)).map(
        lambda b: (b[0], b[1], min(1000, b[0] + b[2]), min(800, b[1] + b[3]))
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=150)
@given(boxes, st.integers(60, 300), st.floats(0, 0.8), st.sampled_from([None, 0.5, 1.0]))
def test_the_whole_object_check_is_the_brute_force_one(objects, tile, overlap, mpp):
    grid = Grid.of(Frame("a", 1000, 800, 0.5, 0.5), TileSpec(tile, tile, overlap, mpp))
    expected = [i for i, box in enumerate(objects) if brute_force(grid, box)]
    assert whole_object_check(grid, objects).tolist() == expected


@settings(max_examples=150)
@given(boxes, st.integers(201, 400))
def test_the_automatic_overlap_keeps_every_object_whole_and_is_the_smallest(objects, tile):
    frame = Frame("a", 1000, 800, 0.5, 0.5)
    spec = resolve_overlap(TileSpec(tile, tile, "auto"), [(frame, objects), (frame, [])])
    assert len(whole_object_check(Grid.of(frame, spec), objects)) == 0
    largest = max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in objects)
    assert spec.overlap == math.ceil(largest - 1e-6)
    if spec.overlap >= 2:
        # One px less, and an object of that size can lie where no tile shows it whole.
        less = TileSpec(tile, tile, spec.overlap - 1)
        start = less.stride_px[0] - 1e-3
        worst = [(start, 0, start + largest, 10)]
        wide = Grid.of(Frame("a", 10_000, 800), less)
        assert len(whole_object_check(wide, worst)) == (largest > less.overlap_px[0] + 1e-3)


def test_the_papers_overlap_breaks_its_promise_at_a_finer_resolution():
    glomerulus_um = 150
    frame = Frame("a", 20_000, 20_000, 0.25, 0.25)
    size = glomerulus_um / 0.25
    box = [(700, 700, 700 + size, 700 + size)]
    assert whole_object_check(Grid.of(frame, PAPER), box).tolist() == [0]
    auto = resolve_overlap(TileSpec(1600, 1200, "auto"), [(frame, box)])
    assert auto.overlap == 600
    assert whole_object_check(Grid.of(frame, auto), box).tolist() == []


def test_objects_reaching_over_the_edge_count_as_far_as_they_are_on_the_slide():
    grid = Grid.of(Frame("a", 300, 300), TileSpec(100, 100, 50))
    assert whole_object_check(grid, [(-500, 0, 40, 40), (260, 260, 900, 900)]).tolist() == []


def test_an_object_as_large_as_a_tile_cannot_be_kept_whole():
    frame = Frame("K1", 3000, 3000)
    with pytest.raises(InputError, match=r"'K1' has an object 500 px long"):
        resolve_overlap(TileSpec(500, 600, "auto"), [(frame, [(0, 0, 500, 10)])])


def test_auto_must_be_resolved_first():
    with pytest.raises(UsageError, match="auto"):
        Grid.of(Frame("a", 10, 10), TileSpec(5, 5, "auto"))
    assert resolve_overlap(PAPER, []) == PAPER
    assert resolve_overlap(TileSpec(5, 5, "auto"), []).overlap == 0


def test_a_grid_is_a_sequence():
    grid = Grid.of(Frame("a", 300, 300), TileSpec(100, 100, 0))
    assert [t.index for t in grid[3:6]] == [3, 4, 5]
    assert grid[-1] == grid[8]
    with pytest.raises(IndexError):
        grid[9]


@settings(max_examples=2000)
@given(
    st.integers(1, 60_000),
    st.integers(1, 60_000),
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.one_of(st.floats(0, 0.95), st.integers(0, 1999), st.just("1/3")),
)
def test_thousands_of_sizes_against_counting_by_hand(width, height, w, h, overlap):
    """Positions one by one, as a person would lay them."""
    overlap = 1 / 3 if overlap == "1/3" else overlap
    try:
        spec = TileSpec(w, h, overlap)
    except UsageError:
        return
    grid = Grid.of(Frame("a", width, height), spec)
    laid = []
    for length, tile, stride in zip((width, height), (w, h), spec.stride_px, strict=True):
        starts = [0]
        while starts[-1] + tile < length:
            starts.append(min(starts[-1] + stride, length - tile))
        laid.append(starts)
    assert list(grid.x_starts) == laid[0]
    assert list(grid.y_starts) == laid[1]
    assert len(grid) == closed_form(width, w, spec.stride_px[0]) * closed_form(
        height, h, spec.stride_px[1]
    )


@settings(max_examples=300)
@given(
    st.integers(1, 40_000),
    st.integers(1, 40_000),
    st.integers(20, 2000),
    st.floats(0, 0.9),
    st.sampled_from([None, 0.25, 0.5, 0.77, 2.0]),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_every_annotated_point_lies_in_a_tile(width, height, tile, overlap, mpp, points):
    grid = Grid.of(Frame("a", width, height, 0.5, 0.5), TileSpec(tile, tile, overlap, mpp))
    for share_x, share_y in points:
        for share, length, starts, scale in (
            (share_x, width, grid.x_starts, grid.scale_x),
            (share_y, height, grid.y_starts, grid.scale_y),
        ):
            at = share * length * scale
            assert any(start - 1e-6 <= at <= start + tile + 1e-6 for start in starts)


@settings(max_examples=500)
@given(st.integers(1, 120_000), st.integers(1, 120_000))
def test_the_papers_preset_has_its_closed_form(width, height):
    """Stride 1066 and 800 px: one third of 1600 and 1200 px of overlap, rounded up to 534 and 400."""
    grid = Grid.of(Frame("a", width, height), PAPER)
    columns = 1 if width <= 1600 else math.ceil((width - 1600) / 1066) + 1
    rows = 1 if height <= 1200 else math.ceil((height - 1200) / 800) + 1
    assert len(grid) == columns * rows
