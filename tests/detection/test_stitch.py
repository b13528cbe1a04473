"""Stitching: one box per object, whatever the grid saw of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.detection.boxes import Boxes, areas, intersections
from glombridge.detection.pipeline import BORDER_SHARE
from glombridge.detection.stitch import stitch
from glombridge.frames import Frame
from glombridge.tiles.grid import Grid, TileSpec


def boxes(*rows: tuple[float, float, float, float, float], cut: tuple[int, ...] = ()) -> Boxes:
    table = np.array(rows, float).reshape(-1, 5)
    flags = np.zeros(len(table), bool)
    flags[list(cut)] = True
    return Boxes(table[:, :4], table[:, 4], np.zeros(len(table), np.int64), flags)


@pytest.mark.parametrize(
    ("given_boxes", "expected"),
    [
        pytest.param(boxes(), 0, id="nothing"),
        pytest.param(boxes((0, 0, 10, 10, 0.9)), 1, id="one"),
        pytest.param(boxes((0, 0, 10, 10, 0.9), (0.5, 0, 10, 10, 0.8)), 1, id="two-whole-views"),
        pytest.param(boxes((0, 0, 10, 10, 0.9), (10, 0, 20, 10, 0.8)), 2, id="touching-neighbours"),
        pytest.param(
            boxes((0, 0, 10, 10, 0.9), (8, 0, 18, 10, 0.8)), 2, id="overlapping-neighbours"
        ),
        pytest.param(
            boxes((0, 0, 10, 10, 0.6), (0, 0, 5, 10, 0.9), cut=(1,)), 1, id="fragment-yields"
        ),
        pytest.param(boxes((0, 0, 10, 10, 0.6), (2, 2, 9, 9, 0.9)), 1, id="part-seen-as-a-whole"),
        pytest.param(
            boxes((0, 0, 60, 100, 0.7), (40, 0, 100, 100, 0.8), cut=(0, 1)),
            2,
            id="fragments-that-barely-overlap-stay",
        ),
        pytest.param(
            boxes((0, 0, 70, 100, 0.7), (30, 0, 100, 100, 0.8), cut=(0, 1)),
            1,
            id="fragments-of-a-large-object-join",
        ),
        pytest.param(
            boxes((0, 0, 10, 10, 0.9), (10, 0, 16, 10, 0.8), cut=(1,)),
            2,
            id="fragment-of-a-neighbour-stays",
        ),
    ],
)
def test_cases(given_boxes: Boxes, expected: int) -> None:
    assert len(stitch(given_boxes)) == expected


def test_joined_fragments_are_their_union_and_say_so() -> None:
    out = stitch(boxes((0, 0, 70, 100, 0.7), (30, 5, 100, 110, 0.8), cut=(0, 1)))
    assert out.xyxy.tolist() == [[0, 0, 100, 110]]
    assert out.score.tolist() == [0.8]
    assert out.cut.tolist() == [True]


def test_a_whole_view_is_the_mean_of_its_views_weighted_by_score() -> None:
    out = stitch(boxes((0, 0, 10, 10, 0.9), (2, 0, 12, 10, 0.3)))
    assert out.xyxy[0].tolist() == pytest.approx([0.5, 0, 10.5, 10])
    assert out.score[0] == 0.9


def test_classes_are_voted() -> None:
    b = boxes((0, 0, 10, 10, 0.5), (0, 0, 10, 10, 0.4), (0, 0, 10, 10, 0.3))
    b = Boxes(b.xyxy, b.score, np.array([0, 1, 1]), b.cut)
    assert stitch(b).class_index.tolist() == [1]


many = st.lists(
    st.tuples(
        st.floats(0, 500),
        st.floats(0, 500),
        st.floats(1, 80),
        st.floats(1, 80),
        st.floats(0.01, 1),
        st.booleans(),
    ),
    max_size=40,
)


def made(rows: list[tuple[float, float, float, float, float, bool]]) -> Boxes:
    t = np.array([r[:5] for r in rows], float).reshape(-1, 5)
    xyxy = np.column_stack([t[:, 0], t[:, 1], t[:, 0] + t[:, 2], t[:, 1] + t[:, 3]])
    cut = np.array([r[5] for r in rows], bool)
    return Boxes(xyxy.reshape(-1, 4), t[:, 4], np.zeros(len(t), np.int64), cut)


@given(many, st.randoms())
def test_the_order_of_boxes_does_not_matter(rows: list, random: object) -> None:
    one = stitch(made(rows))
    random.shuffle(rows)  # type: ignore[attr-defined]
    two = stitch(made(rows))
    assert one.xyxy.tobytes() == two.xyxy.tobytes()
    assert one.score.tolist() == two.score.tolist()


@given(many)
def test_nothing_is_lost_and_nothing_is_invented(rows: list) -> None:
    before, after = made(rows), stitch(made(rows))
    assert len(after) <= len(before)
    if len(before):
        assert after.score.max() == before.score.max()
    # Every box that went in still has something of it covered by what came out.
    for box in before.xyxy:
        repeated = np.repeat(box[None], len(after), axis=0)
        assert intersections(repeated, after.xyxy).max() > 0


def through_the_grid(
    objects: np.ndarray, spec: TileSpec, side: int, jitter: float, seed: int
) -> Boxes:
    """What an honest detector reports: the visible part of each object in each tile."""
    rng = np.random.default_rng(seed)
    grid = Grid.of(Frame("sim", side, side), spec)
    parts = []
    for tile in grid:
        t = np.array([tile.x_px, tile.y_px, tile.x_px + tile.width_px, tile.y_px + tile.height_px])
        low, high = np.maximum(objects[:, :2], t[:2]), np.minimum(objects[:, 2:], t[2:])
        seen = (high > low).all(axis=1)
        visible = np.hstack([low, high])[seen]
        size = (visible[:, 2:] - visible[:, :2]).repeat(2, axis=0).reshape(-1, 4)
        # A sliver is not detected; what is, is off by a little, but not beyond its tile.
        keep = areas(visible) > 0.15 * areas(objects[seen])
        noisy = visible + rng.uniform(-jitter, jitter, visible.shape) * size
        noisy = np.clip(noisy, np.tile(t[:2], 2), np.tile(t[2:], 2))[keep]
        border = BORDER_SHARE * np.array([tile.width_px, tile.height_px])
        cut = ((noisy[:, :2] - t[:2] <= border) & (t[:2] > 0)).any(axis=1)
        cut |= ((t[2:] - noisy[:, 2:] <= border) & (t[2:] < side)).any(axis=1)
        parts.append(
            Boxes(noisy, rng.uniform(0.3, 1, len(noisy)), np.zeros(len(noisy), np.int64), cut)
        )
    return Boxes.concatenate(parts)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), jitter=st.sampled_from([0.0, 0.01, 0.03]))
def test_objects_up_to_the_overlap_come_out_once_each(seed: int, jitter: float) -> None:
    rng = np.random.default_rng(seed)
    spec, side = TileSpec(192, 192, 1 / 3), 2000
    # Objects on a jittered lattice: none overlap, many nearly touch.
    step = 70
    corners = np.stack(
        np.meshgrid(np.arange(0, side - step, step), np.arange(0, side - step, step))
    )
    corners = corners.reshape(2, -1).T.astype(float)
    size = rng.uniform(25, 60, (len(corners), 2))
    corners += rng.uniform(0, 1, corners.shape) * (step - size - 1)
    objects = np.hstack([corners, corners + size])
    found = stitch(through_the_grid(objects, spec, side, jitter, seed))
    assert len(found) == len(objects)


def test_an_object_across_four_tiles_is_one() -> None:
    spec = TileSpec(200, 200, 0.5)
    objects = np.array([[150.0, 150, 240, 240]])
    assert len(stitch(through_the_grid(objects, spec, 1000, 0.0, 1))) == 1


def test_an_object_at_the_slides_edge_survives() -> None:
    spec = TileSpec(200, 200, 1 / 3)
    objects = np.array([[0.0, 0, 50, 50], [940, 940, 1000, 1000]])
    found = stitch(through_the_grid(objects, spec, 1000, 0.0, 1))
    assert len(found) == 2
    assert not found.cut.any()
