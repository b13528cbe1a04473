"""Outlines of several tiles put together: against known truth, and what becomes of cut ones."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box
from simulation import TILE_PX, Noise, World, ellipse, look, make_world

from glombridge.detection.boxes import Boxes
from glombridge.detection.outlines import moved, put_together, tidy, within
from glombridge.detection.raw import SlideDetections
from glombridge.detection.stitch import METHODS, stitch
from glombridge.errors import DamagedFileError, InputError
from glombridge.evaluation.matching import match_boxes


def ious(found: Boxes, world: World) -> np.ndarray:
    """Of each object's outline with the one that was found for it; 0 where there is none."""
    truth_of = match_boxes(found, world.xyxy, min_iou=0.5).truth_of
    assert found.outline is not None
    result = np.zeros(len(world.shapes))
    for outline, k in zip(found.outline, truth_of, strict=True):
        if k >= 0:
            shape = world.shapes[k]
            result[k] = outline.intersection(shape).area / outline.union(shape).area
    return result


WORLDS = [
    pytest.param(
        {"n": 600, "tiles_wide": 8, "sizes": (0.15, 1 / 3), "touching_share": 0.5}, id="small"
    ),
    pytest.param({"n": 500, "tiles_wide": 24, "touching_share": 0.5, "seed": 4}, id="any-size"),
]


@pytest.mark.parametrize("world", WORLDS)
def test_exact_views_give_exact_outlines(world: dict) -> None:
    """Also of objects that are whole in no tile: their fragments are joined without a gap or a seam."""
    truth = make_world(**world)
    found = stitch(look(truth, Noise(0.0), outlines=True))
    assert len(found) == len(truth.shapes)
    # An end below a tenth of the object is not reported, so it is missing from a few large ones.
    assert ious(found, truth).min() > 0.995
    assert found.outline is not None
    assert all(o.geom_type == "Polygon" and o.is_valid for o in found.outline)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_outlines_are_as_good_as_one_view(world: dict, seed: int) -> None:
    """Sides off by up to j = 3 %: an outline drawn in by that on all sides keeps (1 - 2 j)^2 = .884 of
    the truth. The mean side is off by j / 2, so an axis shares about 1 - j and an area .94.
    """
    truth = make_world(**world)
    found = ious(stitch(look(truth, Noise(0.03), seed=seed, outlines=True)), truth)
    assert found.min() > (1 - 2 * 0.03) ** 2
    assert found.mean() > (1 - 0.03) ** 2


def test_outlines_change_nothing_of_the_boxes() -> None:
    truth = make_world(600, tiles_wide=24, touching_share=0.5, seed=2)
    views = look(truth, Noise(0.03), outlines=True)
    for method in METHODS:
        plain, drawn = stitch(views.without_outlines(), method), stitch(views, method)
        assert plain.outline is None
        assert plain.xyxy.tobytes() == drawn.xyxy.tobytes()
        assert plain.score.tobytes() == drawn.score.tobytes()
        assert drawn.outline is not None
        assert all(o is not None for o in drawn.outline)


def test_touching_neighbours_have_an_outline_each() -> None:
    rng = np.random.default_rng(0)
    shapes = []
    for k in range(60):
        x, y = (k % 8 + 0.5) * 6 * TILE_PX, (k // 8 + 0.5) * 6 * TILE_PX
        x, y = rng.uniform(-TILE_PX, TILE_PX, 2) + np.array([x, y])
        a, b = rng.uniform(0.2, 2, 2) * TILE_PX
        shapes += [ellipse(x - a / 2, y, a, 0.9, 0), ellipse(x + b / 2, y, b, 0.9, 0)]
    items = np.array(shapes, object)
    truth = World(items, shapely.bounds(items), np.zeros((0, 2), int), 48 * TILE_PX)
    found = stitch(look(truth, Noise(0.0), outlines=True))
    assert len(found) == 120
    assert ious(found, truth).min() > 0.995


def test_an_object_whole_in_no_tile_is_the_union_of_its_fragments() -> None:
    shapes = np.array([ellipse(1500, 1500, 2 * TILE_PX, 0.8, 30)], object)
    truth = World(shapes, shapely.bounds(shapes), np.zeros((0, 2), int), 8 * TILE_PX)
    views = look(truth, Noise(0.0, least_visible=0.02), outlines=True)
    assert views.cut.all()
    assert len(views) > 4
    found = stitch(views)
    assert ious(found, truth).tolist() == pytest.approx([1], abs=1e-6)


def one_tile(outlines: list, *, cut: bool = False) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.full(len(outlines), None, object)
    drawn[:] = outlines
    return drawn, np.full(len(outlines), not cut)


A, B = box(0, 0, 20, 10), box(15, 0, 40, 10)


@pytest.mark.parametrize(
    ("outlines", "is_exact", "expected"),
    [
        pytest.param([A, B], [True, True], A, id="the-best-whole-view"),
        pytest.param([A, B], [False, True], B, id="a-fragment-yields"),
        pytest.param([A, B], [False, False], box(0, 0, 40, 10), id="fragments-are-united"),
        pytest.param([None, B], [True, True], B, id="a-view-without-a-mask"),
        pytest.param([None, B], [True, False], B, id="only-a-fragment-has-a-mask"),
        pytest.param([None, None], [True, False], None, id="nobody-has"),
    ],
)
def test_which_views_make_the_outline(outlines: list, is_exact: list, expected: object) -> None:
    drawn, _ = one_tile(outlines)
    (made,) = put_together(drawn, np.zeros(2, np.int64), np.array(is_exact), 1)
    assert made is None if expected is None else made.equals(expected)


def test_specks_go_and_parts_that_can_be_compared_stay() -> None:
    speck = MultiPolygon([box(0, 0, 20, 20), box(30, 0, 34, 4)])
    torn = MultiPolygon([box(0, 0, 20, 20), box(30, 0, 40, 20)])
    pinhole = box(0, 0, 20, 20).difference(box(5, 5, 7, 7))
    crossed = shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 20)])
    nothing = shapely.Polygon()
    made = tidy(np.array([speck, torn, pinhole, crossed, nothing, None, A], object))
    assert made[0].equals(box(0, 0, 20, 20))
    assert made[1].equals(torn)
    assert made[2].equals(box(0, 0, 20, 20))
    assert made[3].is_valid
    assert made[3].area == pytest.approx(200)
    assert made[4] is None
    assert made[5] is None
    assert made[6] is A


def test_outlines_are_moved_and_end_at_the_image() -> None:
    drawn = np.array([A, None, B], object)
    offset = np.array([[100.0, 50], [0, 0], [960, 0]])
    made = moved(drawn, np.array([2.0, 2.0]), offset)
    assert made[0].bounds == (100, 50, 110, 55)
    assert made[1] is None
    inside = within(made, (975, 800))
    assert inside[0] is made[0]
    assert inside[1] is None
    assert inside[2].bounds == (967.5, 0, 975, 5)


shapes_of_views = st.lists(
    st.tuples(
        st.integers(0, 3), st.floats(0, 60), st.floats(0, 60), st.floats(8, 40), st.booleans()
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60)
@example(rows=[(0, 0.0, 0.0, 8.0, False), (0, 0.0, 0.0, 8.0, True)], random=Random(1))
@given(rows=shapes_of_views, random=st.randoms())
def test_the_order_of_views_does_not_matter_and_outlines_are_valid(
    rows: list, random: object
) -> None:
    def made(rows: list) -> Boxes:
        drawn = np.full(len(rows), None, object)
        for k, (_, x, y, size, has_mask) in enumerate(rows):
            drawn[k] = ellipse(x + size / 2, y + size / 2, size, 0.8, 0) if has_mask else None
        xy = np.array([[x, y, x + s, y + s] for _, x, y, s, _ in rows])
        tiles = np.array([[0.0, 0, 70, 70], [40, 0, 110, 70], [0, 40, 70, 110], [40, 40, 110, 110]])
        tile = np.array([row[0] for row in rows])
        score = np.array([0.5 + row[3] / 100 for row in rows])
        zeros = np.zeros(len(rows), np.int64)
        cut = np.zeros((len(rows), 4), np.bool_)
        return Boxes(xy, score, zeros, cut, tile, tiles, outline=drawn)

    one = stitch(made(rows))
    random.shuffle(rows)  # type: ignore[attr-defined]
    two = stitch(made(rows))
    assert one.outline is not None
    assert two.outline is not None
    assert one.xyxy.tobytes() == two.xyxy.tobytes()
    as_text = [[None if o is None else o.wkb_hex for o in b.outline] for b in (one, two)]  # type: ignore[union-attr]
    assert as_text[0] == as_text[1]
    assert all(o is None or (o.is_valid and o.area > 0) for o in one.outline)


# The file.


def seen() -> SlideDetections:
    truth = make_world(60, tiles_wide=5, sizes=(0.15, 0.6), seed=3)
    views = look(truth, Noise(0.02), outlines=True)
    assert views.outline is not None
    views.outline[3] = None
    views.outline[4] = MultiPolygon([box(0, 0, 20, 20), box(30, 0, 40, 20)])
    return SlideDetections(views, views.tiles, len(views.tiles), truth.side_px, truth.side_px)


def test_the_parquet_file_gives_back_the_outlines_and_stitches_alike(tmp_path: Path) -> None:
    one = seen()
    for name in ("a", "b"):
        one.save(tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    back = SlideDetections.load(tmp_path / "a.parquet")
    assert one.boxes.outline is not None
    assert back.boxes.outline is not None
    for before, after in zip(one.boxes.outline, back.boxes.outline, strict=True):
        assert (before is None and after is None) or before.equals_exact(after, 0)
    stitched = [s.stitched(0.3).outline for s in (one, back)]
    assert [o.wkb for o in stitched[0]] == [o.wkb for o in stitched[1]]  # type: ignore[union-attr]
    # Anybody's tools can read it.
    column = pl.read_parquet(tmp_path / "a.parquet")["outline"]
    assert column.dtype == pl.Binary
    assert shapely.from_wkb(column[0]).area > 0
    assert column[3] is None


def test_a_file_of_boxes_has_no_outlines_and_is_read_as_before(tmp_path: Path) -> None:
    one = seen()
    plain = SlideDetections(
        one.boxes.without_outlines(), one.scanned, one.tiles, one.width_px, one.height_px
    )
    plain.save(tmp_path / "a.parquet")
    assert "outline" not in pl.read_parquet(tmp_path / "a.parquet").columns
    back = SlideDetections.load(tmp_path / "a.parquet")
    assert back.boxes.outline is None
    assert back.stitched(0.3).outline is None


def test_a_damaged_outline_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    seen().save(path)
    about = pl.read_parquet_metadata(path)
    table = pl.read_parquet(path).with_columns(outline=pl.lit(b"\x01\x03\x00", pl.Binary))
    table.write_parquet(path, metadata={"glombridge": about["glombridge"]})
    with pytest.raises(DamagedFileError, match=r"a\.parquet does not hold"):
        SlideDetections.load(path)


def test_columns_that_disagree_are_refused() -> None:
    with pytest.raises(InputError, match="columns of 1 boxes disagree"):
        Boxes(
            np.array([[0.0, 0, 1, 1]]),
            np.ones(1),
            np.zeros(1, np.int64),
            outline=np.full(2, None, object),
        )
