"""Stitching: one box per object, whatever the grid saw of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import TILE_PX, Noise, World, ellipse, look, make_world, outcome

from glombridge.detection.boxes import Boxes, intersections
from glombridge.detection.stitch import METHODS, stitch
from glombridge.detection.views import cut_sides
from glombridge.errors import InputError, UsageError

TILES = np.array(
    [[0, 0, 100, 100], [60, 0, 160, 100], [0, 60, 100, 160], [60, 60, 160, 160]], float
)
SLIDE_PX = (1000, 1000)
Row = tuple[int, float, float, float, float, float]


def boxes(*rows: Row, classes: tuple[int, ...] = ()) -> Boxes:
    """Rows of (tile, left, top, right, bottom, score) on four overlapping tiles."""
    table = np.array(rows, float).reshape(-1, 6)
    tile = table[:, 0].astype(int)
    xyxy = table[:, 1:5]
    index = np.array(classes, int) if classes else np.zeros(len(table), int)
    return Boxes(xyxy, table[:, 5], index, cut_sides(xyxy, TILES[tile], SLIDE_PX), tile, TILES)


@pytest.mark.parametrize(
    ("given_boxes", "expected"),
    [
        pytest.param(boxes(), 0, id="nothing"),
        pytest.param(boxes((0, 10, 10, 20, 20, 0.9)), 1, id="one"),
        pytest.param(
            boxes((0, 65, 10, 85, 30, 0.9), (1, 66, 10, 85, 30, 0.8)), 1, id="two-whole-views"
        ),
        pytest.param(
            boxes((0, 65, 10, 80, 30, 0.9), (1, 80, 10, 95, 30, 0.8)), 2, id="touching-neighbours"
        ),
        pytest.param(
            boxes((0, 62, 10, 82, 30, 0.9), (1, 78, 10, 98, 30, 0.8)), 2, id="overlapping-boxes"
        ),
        pytest.param(
            boxes((0, 10, 10, 30, 30, 0.6), (0, 14, 14, 29, 29, 0.9)), 1, id="reported-twice"
        ),
        pytest.param(
            boxes((0, 10, 10, 60, 60, 0.6), (0, 11, 11, 19, 19, 0.9)),
            2,
            id="small-neighbour-in-the-corner-of-a-turned-one",
        ),
        pytest.param(
            boxes((1, 80, 10, 120, 50, 0.6), (0, 80, 10, 100, 50, 0.9)), 1, id="fragment-yields"
        ),
        pytest.param(
            boxes((1, 80, 10, 120, 50, 0.6), (0, 84, 20, 100, 44, 0.9)),
            1,
            id="fragment-smaller-than-the-clipped-box-yields",
        ),
        pytest.param(
            # A fragment below another object's view in its own tile is another object's.
            boxes((0, 70, 10, 100, 60, 0.9), (0, 80, 50, 100, 70, 0.8), (1, 70, 10, 110, 60, 0.9)),
            2,
            id="fragment-of-a-neighbour-stays",
        ),
        pytest.param(
            boxes((0, 5, 10, 100, 90, 0.7), (1, 60, 10, 155, 90, 0.8)),
            1,
            id="fragments-of-a-large-object-join",
        ),
        pytest.param(
            boxes((0, 5, 5, 100, 50, 0.7), (1, 60, 50, 155, 95, 0.8)),
            2,
            id="fragments-of-two-large-objects-stay",
        ),
        pytest.param(
            boxes(
                (0, 40, 40, 100, 100, 0.7),
                (1, 60, 40, 120, 100, 0.8),
                (2, 40, 60, 100, 120, 0.6),
                (3, 60, 60, 120, 120, 0.9),
            ),
            1,
            id="across-four-tiles",
        ),
        pytest.param(
            boxes((0, 0, 0, 30, 30, 0.7), (0, 0, 70, 30, 95, 0.8)), 2, id="at-the-slides-edge"
        ),
    ],
)
def test_cases(given_boxes: Boxes, expected: int) -> None:
    assert len(stitch(given_boxes)) == expected


def test_joined_fragments_are_their_union_and_say_where_nobody_saw_the_end() -> None:
    out = stitch(boxes((0, 5, 12, 100, 90, 0.7), (1, 60, 10, 159, 85, 0.8)))
    assert out.xyxy.tolist() == [[5, 10, 159, 90]]
    assert out.score.tolist() == [0.8]
    assert out.cut_sides.tolist() == [[False, False, True, False]]


def test_an_object_is_the_mean_of_its_whole_views_weighted_by_score() -> None:
    out = stitch(boxes((0, 64, 10, 84, 30, 0.9), (1, 66, 10, 86, 30, 0.3)))
    assert out.xyxy[0].tolist() == pytest.approx([64.5, 10, 84.5, 30])
    assert out.score[0] == 0.9
    assert not out.cut.any()


@pytest.mark.parametrize("method", METHODS)
def test_classes_are_voted(method: str) -> None:
    views = [(0, 65, 65, 85, 85, 0.5), (1, 65, 65, 85, 85, 0.4), (2, 65, 65, 85, 85, 0.3)]
    out = stitch(boxes(*views, classes=(0, 1, 1)), method)
    assert out.class_index.tolist() == [1]
    # Also of one tile, whose own suppression looks at each class by itself.
    out = stitch(boxes((0, 65, 65, 85, 85, 0.5), (0, 65, 65, 85, 86, 0.4), classes=(0, 1)), method)
    assert out.class_index.tolist() == [0]


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="views, nms, nmm"):
        stitch(boxes((0, 1, 1, 2, 2, 0.5)), "soft-nms")


def test_boxes_of_two_grids_are_not_mixed() -> None:
    one = boxes((0, 1, 1, 2, 2, 0.5))
    other = Boxes(one.xyxy, one.score, one.class_index, one.cut_sides, one.tile, TILES + 1)
    with pytest.raises(InputError, match="different grids"):
        Boxes.concatenate([one, other])


many = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.floats(0, 0.9),
        st.floats(0, 0.9),
        st.floats(0.05, 1),
        st.floats(0.05, 1),
        st.sampled_from([0.1, 0.5, 0.9]),
    ),
    max_size=40,
)


def made(rows: list[tuple[int, float, float, float, float, float]]) -> Boxes:
    """Any boxes inside their tiles; many share a score."""
    out = []
    for tile, x, y, w, h, score in rows:
        x0, y0, x1, y1 = TILES[tile]
        left, top = x0 + x * 100, y0 + y * 100
        out.append((tile, left, top, min(x1, left + w * 60), min(y1, top + h * 60), score))
    return boxes(*out)


@pytest.mark.parametrize("method", METHODS)
@given(rows=many, random=st.randoms())
def test_the_order_of_boxes_does_not_matter(method: str, rows: list, random: object) -> None:
    one = stitch(made(rows), method)
    random.shuffle(rows)  # type: ignore[attr-defined]
    two = stitch(made(rows), method)
    assert one.xyxy.tobytes() == two.xyxy.tobytes()
    assert one.score.tolist() == two.score.tolist()


@pytest.mark.parametrize("method", METHODS)
@given(rows=many)
def test_nothing_is_lost_and_nothing_is_invented(method: str, rows: list) -> None:
    before, after = made(rows), stitch(made(rows), method)
    assert len(after) <= len(before)
    if len(before):
        assert after.score.max() == before.score.max()
    # Every box that went in still has something of it covered by what came out.
    for box in before.xyxy:
        repeated = np.repeat(box[None], len(after), axis=0)
        assert intersections(repeated, after.xyxy).max() > 0


def up_to(world: World, extent_px: float) -> np.ndarray:
    return np.asarray(world.extent_px <= extent_px)


@pytest.mark.parametrize("jitter", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("least_visible", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_objects_up_to_the_overlap_come_out_once_each(
    seed: int, least_visible: float, jitter: float
) -> None:
    """4,000 objects, half of them placed against a neighbour, seen through the real grid."""
    world = make_world(
        2000, tiles_wide=14, sizes=(0.15, 1 / 3), touching_share=0.5, seed=seed, tile_px=TILE_PX
    )
    assert len(world.xyxy) == 2000
    assert len(world.touching) > 500
    found = stitch(look(world, Noise(jitter, least_visible=least_visible), seed=seed))
    result = outcome(found, world.xyxy)
    assert (len(result.lost), len(result.extra)) == (0, 0)


def test_large_neighbours_cost_no_small_object() -> None:
    """Sizes of 0.2 to 2 tiles together: what is no larger than the overlap is still found."""
    world = make_world(1500, tiles_wide=40, touching_share=0.5, seed=4)
    found = stitch(look(world, Noise(0.03), seed=4))
    result = outcome(found, world.xyxy)
    small = up_to(world, TILE_PX / 3)
    assert small.sum() > 400
    assert not small[result.lost].any()
    assert result.f1 > 0.995


@pytest.mark.parametrize("seed", range(3))
def test_touching_pairs_stay_two(seed: int) -> None:
    """Pairs of up to two tiles in size, without a gap between, alone on the slide."""
    rng = np.random.default_rng(seed)
    shapes = []
    side = 60 * TILE_PX
    for k in range(100):
        x, y = (k % 10 + 0.5) * 6 * TILE_PX, (k // 10 + 0.5) * 6 * TILE_PX
        x, y = rng.uniform(-TILE_PX, TILE_PX, 2) + np.array([x, y])
        a, b = rng.uniform(0.2, 2, 2) * TILE_PX
        shapes += [ellipse(x - a / 2, y, a, 0.9, 0), ellipse(x + b / 2, y, b, 0.9, 0)]
    items = np.array(shapes, object)
    import shapely

    world = World(items, shapely.bounds(items), np.arange(200).reshape(-1, 2), side)
    result = outcome(stitch(look(world, Noise(0.03), seed=seed)), world.xyxy)
    assert result.n_found == 200
    assert (len(result.lost), len(result.extra)) == (0, 0)


@pytest.mark.parametrize("overlap", [0.2, 1 / 3, 0.5])
def test_an_object_across_four_tiles_or_more_is_one(overlap: float) -> None:
    import shapely

    for k, size in enumerate(np.linspace(0.2, 2, 19)):
        at = TILE_PX * (1 - overlap) * 3 + TILE_PX * overlap / 2  # the middle of a crossing
        shapes = np.array([ellipse(at, at, size * TILE_PX, 1, 0)], object)
        world = World(shapes, shapely.bounds(shapes), np.zeros((0, 2), int), 8 * TILE_PX)
        views = look(world, Noise(0.0, least_visible=0.05), overlap=overlap, seed=k)
        assert len(views) >= 4
        result = outcome(stitch(views), world.xyxy)
        assert (result.n_found, len(result.lost)) == (1, 0)


def test_objects_at_the_slides_edges_survive() -> None:
    import shapely

    side, size = 10 * TILE_PX, 0.3 * TILE_PX
    middle = np.arange(0.5, 10, 1) * TILE_PX
    low, high = size / 2, side - size / 2
    places = [(x, low) for x in middle] + [(x, high) for x in middle]
    places += [(low, y) for y in middle[1:-1]] + [(high, y) for y in middle[1:-1]]
    shapes = np.array([ellipse(x, y, size, 1, 0) for x, y in places], object)
    world = World(shapes, shapely.bounds(shapes), np.zeros((0, 2), int), side)
    found = stitch(look(world, Noise(0.0), overlap=1 / 3))
    result = outcome(found, world.xyxy)
    assert (result.n_found, len(result.lost)) == (36, 0)
    assert not found.cut.any()


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_any_small_world_comes_out_as_it_is(seed: int) -> None:
    world = make_world(150, tiles_wide=4, sizes=(0.15, 1 / 3), touching_share=0.7, seed=seed)
    result = outcome(stitch(look(world, Noise(0.03), seed=seed)), world.xyxy)
    assert (len(result.lost), len(result.extra)) == (0, 0)
