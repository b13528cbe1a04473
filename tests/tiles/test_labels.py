"""Labels: the right boxes, the ignore band painted out, and the way back to the slide."""

from collections import Counter
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from glombridge.errors import InputError, UsageError
from glombridge.frames import Frame
from glombridge.geojson_codec import load_objects
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.tiles.grid import Grid, TileSpec, resolve_overlap
from glombridge.tiles.labels import (
    Areas,
    ClassMap,
    VisibleRule,
    label_tiles,
    labelled_objects,
)
from glombridge.tiles.yolo import yolo_lines, yolo_to_slide

TPATH = Path(__file__).parent.parent / "data" / "geojson" / "tpath"
GLOM = ClassMap.of(["Glomerulus"])
FRAME = Frame("a", 400, 400, 0.5, 0.5)
QUARTERS = Grid.of(FRAME, TileSpec(200, 200, 0))  # 4 tiles side by side


def boxes_of(labels):
    return [[(b.x0, b.y0, b.x1, b.y1) for b in tile.boxes] for tile in labels]


@pytest.mark.parametrize(
    ("x", "kept", "slivers"),
    [
        pytest.param(50, [0], [], id="whole in the left tile"),
        pytest.param(150, [0, 1], [], id="half in each"),
        pytest.param(130, [0], [1], id="70 % left, 30 % right"),
        pytest.param(108, [0], [], id="92 % left, 8 % right"),
        pytest.param(100, [0], [], id="touches the border"),
        pytest.param(185, [1], [0], id="15 % left"),
        pytest.param(195, [1], [], id="5 % left"),
    ],
)
def test_the_visible_share_decides(make, x, kept, slivers):
    labels = label_tiles(QUARTERS, [make.square(1, x, 20)], GLOM)
    assert [t.tile.index for t in labels if t.boxes] == kept
    assert [t.tile.index for t in labels if t.slivers] == slivers
    for tile in labels:
        if tile.slivers:
            assert tile.painted.area == pytest.approx(100 * (x + 100 - 200 if x < 150 else 200 - x))
            assert tile.usable_share == pytest.approx(1 - tile.painted.area / 40_000)
        else:
            assert tile.painted is None
            assert tile.usable_share == 1


def test_a_cut_box_is_the_visible_part(make):
    labels = label_tiles(QUARTERS, [make.square(1, 130, 20)], GLOM)
    assert boxes_of(labels)[0] == [(130, 20, 200, 120)]
    assert labels[0].boxes[0].visible_share == pytest.approx(0.7)


def test_an_object_beside_a_sliver_is_never_painted_over(make):
    labels = label_tiles(QUARTERS, [make.square(1, 180, 20), make.square(2, 150, 30, 60)], GLOM)
    right = labels[0]
    assert [b.object_id for b in right.boxes] == [UUID(int=2)]
    assert right.painted.intersection(box(150, 30, 200, 90)).area == 0
    assert right.painted.area > 0


def test_scaling_to_the_target_resolution(make):
    grid = Grid.of(FRAME, TileSpec(100, 100, 0, 1.0))
    labels = label_tiles(grid, [make.square(1, 220, 40, 60)], GLOM)
    assert boxes_of(labels) == [[], [(10, 20, 40, 50)], [], []]


def test_classes_and_aliases(make):
    classes = ClassMap.of({"Glomerulus": 0, "Vessel": 1}, {"Glomerulus: Sclerotic": "Glomerulus"})
    names = [
        "Glomerulus",
        "Glomerulus: Sclerotic",
        "Vessel",
        "Glomerulus: Proposed",
        "Tubule",
        None,
    ]
    objects = [make.square(i, 20 * i, 0, 15, cls) for i, cls in enumerate(names)]
    labels = label_tiles(QUARTERS, objects, classes)
    assert [(b.object_id.int, b.class_index) for b in labels[0].boxes] == [(0, 0), (1, 0), (2, 1)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: ClassMap.of([]),
        lambda: ClassMap.of({"a": 1}),
        lambda: ClassMap.of({"a": 0, "b": 2}),
        lambda: ClassMap.of(["a"], {"b": "c"}),
        lambda: VisibleRule(0.2, 0.5),
        lambda: VisibleRule(1.5, 0.1),
    ],
    ids=["none", "no 0", "gap", "alias of nothing", "drop above keep", "above 1"],
)
def test_settings_that_cannot_be(call):
    with pytest.raises(UsageError):
        call()


def test_points_and_lines_are_no_labels():
    line = Outline.of(shapely.LineString([(0, 0), (50, 50)]))
    objects = [SlideObject(UUID(int=1), ObjectKind.ANNOTATION, line, PathClass(("Glomerulus",)))]
    assert labelled_objects(objects, GLOM) == []


# ---- areas


def test_only_searched_areas_teach(make):
    objects = [make.square(1, 20, 20, 40), make.square(2, 60, 20, 40), make.square(3, 140, 20, 40)]
    areas = Areas(searched=box(0, 0, 100, 200))
    tile = label_tiles(QUARTERS, objects, GLOM, areas=areas)[0]
    assert [b.object_id.int for b in tile.boxes] == [1, 2]
    assert tile.painted.equals(box(100, 0, 200, 200))
    others = label_tiles(QUARTERS, objects, GLOM, areas=areas)[1:]
    assert [t.usable_share for t in others] == [0, 0, 0]


def test_an_object_reaching_out_of_the_searched_area_stays_visible(make):
    areas = Areas(searched=box(0, 0, 100, 200))
    tile = label_tiles(QUARTERS, [make.square(1, 70, 20, 50)], GLOM, areas=areas)[0]
    assert boxes_of([tile]) == [[(70, 20, 120, 70)]]
    assert tile.painted.area == 100 * 200 - 20 * 50


def test_objects_mostly_ignored_are_painted_out(make):
    objects = [make.square(1, 20, 20, 40), make.square(2, 100, 20, 40)]
    tile = label_tiles(QUARTERS, objects, GLOM, areas=Areas(ignored=box(90, 0, 200, 100)))[0]
    assert [b.object_id.int for b in tile.boxes] == [1]
    assert tile.painted.area == 110 * 100


def test_pending_proposals_are_painted_except_under_truth(make):
    pending = shapely.union_all([box(20, 20, 60, 60), box(100, 20, 140, 60)])
    tile = label_tiles(QUARTERS, [make.square(1, 20, 20, 40)], GLOM, areas=Areas(pending=pending))[
        0
    ]
    assert len(tile.boxes) == 1
    assert tile.painted.equals(box(100, 20, 140, 60))


def test_rejected_proposals_are_background_also_where_nothing_was_searched():
    areas = Areas(searched=box(0, 0, 100, 200), cleared=box(120, 20, 160, 60))
    tile = label_tiles(QUARTERS, [], GLOM, areas=areas)[0]
    assert tile.painted.equals(box(100, 0, 200, 200) - box(120, 20, 160, 60))


def test_a_proposal_inside_a_rejected_outline_is_still_nobodys_background():
    """Two glomeruli in one box: the box is rejected, and each is proposed in a box of its own."""
    areas = Areas(pending=box(30, 30, 60, 60), cleared=box(20, 20, 120, 80))
    tile = label_tiles(QUARTERS, [], GLOM, areas=areas)[0]
    assert tile.painted.equals(box(30, 30, 60, 60))


def test_a_tile_over_the_edge_counts_only_what_is_on_the_slide():
    grid = Grid.of(Frame("a", 100, 100), TileSpec(200, 200, 0))
    tile = label_tiles(grid, [], GLOM, areas=Areas(ignored=box(0, 0, 50, 100)))[0]
    assert tile.usable_share == pytest.approx(0.5)


def test_crossed_outlines_do_not_stop_the_others(make):
    bow = shapely.Polygon([(10, 10), (60, 60), (60, 10), (10, 60)])
    crossed = SlideObject(
        UUID(int=1), ObjectKind.ANNOTATION, Outline.of(bow), PathClass(("Glomerulus",))
    )
    tile = label_tiles(QUARTERS, [make.square(2, 100, 20, 40), crossed], GLOM)[0]
    assert boxes_of([tile]) == [[(100, 20, 140, 60), (10, 10, 60, 60)]]


# ---- the way back


places = st.lists(
    st.tuples(st.floats(-20, 400), st.floats(-20, 400), st.floats(2, 120)), min_size=1, max_size=12
)


@settings(max_examples=150)
@given(places, st.integers(60, 250), st.floats(0, 0.8), st.sampled_from([None, 0.25, 0.5, 0.7]))
def test_every_label_maps_back_to_the_visible_part_of_its_object(found, tile_px, overlap, mpp):
    objects = [
        SlideObject(
            UUID(int=i),
            ObjectKind.ANNOTATION,
            Outline.ellipse(x, y, x + size, y + size),
            PathClass(("Glomerulus",)),
        )
        for i, (x, y, size) in enumerate(found)
    ]
    grid = Grid.of(FRAME, TileSpec(tile_px, tile_px, overlap, mpp))
    by_id = {o.id: o.outline.geometry for o in objects}
    for labels in label_tiles(grid, objects, GLOM):
        text = yolo_lines(labels)
        back = yolo_to_slide(text, labels.tile)
        assert len(back) == len(labels.boxes)
        tile = labels.tile
        window = box(tile.x_px, tile.y_px, tile.x_px + tile.width_px, tile.y_px + tile.height_px)
        for (index, bounds), label in zip(back, labels.boxes, strict=True):
            visible = by_id[label.object_id].intersection(window)
            assert index == 0
            assert bounds == pytest.approx(visible.bounds, abs=2e-4 * tile.width_px / 100 + 1e-3)
            assert label.visible_share == pytest.approx(
                visible.area / by_id[label.object_id].area, abs=1e-6
            )
            assert label.visible_share >= 0.5 - 1e-9
        values = np.array([line.split()[1:] for line in text.splitlines()], float)
        assert ((values >= 0) & (values <= 1)).all()


def test_every_object_that_is_nowhere_half_visible_is_labelled_nowhere(make):
    huge = make.square(1, 0, 0, 400)
    assert not any(t.boxes for t in label_tiles(QUARTERS, [huge], GLOM))


@pytest.mark.parametrize("path", sorted(TPATH.glob("*.geojson")), ids=lambda p: p.stem)
def test_real_biopsies_keep_every_count_class_and_area(path):
    objects = load_objects(path).objects
    classes = ClassMap.of(["Normal", "Sclerotic"])
    truth = {o.id: o for o in objects if o.path_class is not None}
    bounds = [o.outline.bounds for o in truth.values()]
    frame = Frame(path.stem, 40_000, 40_000, 0.25, 0.25)
    spec = resolve_overlap(TileSpec(1600, 1200, "auto", 0.5), [(frame, bounds)])
    whole = {}
    for labels in label_tiles(Grid.of(frame, spec), objects, classes):
        back = yolo_to_slide(yolo_lines(labels), labels.tile)
        for (index, found), label in zip(back, labels.boxes, strict=True):
            if label.visible_share > 1 - 1e-9:
                whole[label.object_id] = (classes.names[index], found)
    assert whole.keys() == truth.keys()
    assert Counter(name for name, _ in whole.values()) == Counter(
        str(o.path_class) for o in truth.values()
    )
    for object_id, (_, found) in whole.items():
        expected = box(*truth[object_id].outline.bounds)
        assert box(*found).area == pytest.approx(expected.area, rel=0.01)
        assert found == pytest.approx(expected.bounds, abs=0.01)


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "x 0.5 0.5 0.1 0.1", "0 a b c d", "0.5 1 1 1 1"])
def test_bad_label_lines_are_refused(line):
    with pytest.raises(InputError, match="line 2 of a YOLO label file"):
        yolo_to_slide(f"0 0.5 0.5 0.1 0.1\n{line}\n", QUARTERS[0])


def test_no_step_grows_with_tiles_times_objects(make):
    """Ten thousand tiles and five thousand objects: seconds, not hours."""
    frame = Frame("a", 100_000, 80_000)
    rng = np.random.default_rng(0)
    objects = [make.square(i, x, y) for i, (x, y) in enumerate(rng.random((5000, 2)) * 79_000)]
    grid = Grid.of(frame, TileSpec(1600, 1200))
    assert sum(len(t.boxes) for t in label_tiles(grid, objects, GLOM)) >= 5000


@pytest.mark.parametrize(("x", "kept", "slivers"), [(150, 1, 0), (140, 0, 1)])
def test_an_object_that_reaches_into_a_hidden_tile_is_all_that_teaches_there(
    make, x, kept, slivers
):
    areas = Areas(searched=box(0, 0, 200, 400))
    right = label_tiles(QUARTERS, [make.square(1, x, 20)], GLOM, areas=areas)[1]
    assert (len(right.boxes), len(right.slivers)) == (kept, slivers)
    assert right.painted.area == pytest.approx(40_000 - kept * 100 * (x + 100 - 200))
    assert right.usable_share == pytest.approx(kept * 100 * (x + 100 - 200) / 40_000)


def blobs(rng, reach):
    """Some areas, round and square, also beyond the image; or none."""
    shapes = []
    for _ in range(rng.integers(0, 5)):
        x, y = rng.integers(-50, reach + 50, 2).tolist()
        size = float(rng.integers(5, 250))
        round_ = rng.random() < 0.5
        shapes.append(shapely.Point(x, y).buffer(size) if round_ else box(x, y, x + size, y + size))
    return shapely.union_all(shapes) if shapes else None


def glomerulus(number, x, y):
    outline = Outline.ellipse(x, y, x + 60, y + 60)
    return SlideObject(UUID(int=number), ObjectKind.ANNOTATION, outline, PathClass(("Glomerulus",)))


def tile_by_tile(grid, objects, areas, rule):
    """Of each tile the objects it shows, the slivers, and what is painted out, one after the other."""
    frame = grid.frame
    image = box(0, 0, frame.width_px, frame.height_px)
    nothing = shapely.Polygon()
    searched, ignored, pending, cleared = (
        shape or nothing
        for shape in (areas.searched or image, areas.ignored, areas.pending, areas.cleared)
    )
    hidden = pending | (image - searched - cleared) | ignored
    used = labelled_objects(objects, GLOM, areas)
    for left, top, right, bottom in grid.boxes_px():
        tile = box(left, top, right, bottom)
        parts = [(o.id, o.outline.geometry & tile, o.outline.geometry.area) for o in used]
        shares = [(i, part, part.area / whole) for i, part, whole in parts if part.area]
        kept = [(i, part) for i, part, share in shares if share >= rule.keep]
        slivers = [(i, part) for i, part, share in shares if rule.drop <= share < rule.keep]
        painted = shapely.union_all([hidden & tile, *(part for _, part in slivers)])
        painted = painted - shapely.union_all([part for _, part in kept])
        yield kept, slivers, painted, 1 - painted.area / (tile & image).area


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), together=st.sampled_from([1, 7, 1 << 15]))
def test_labels_are_those_of_each_tile_by_itself(seed, together):
    rng = np.random.default_rng(seed)
    width, height = rng.integers(30, 700, 2).tolist()
    spec = TileSpec(*rng.integers(20, 150, 2).tolist(), float(rng.choice([0, 1 / 3])), 0.5)
    grid = Grid.of(Frame("a", width, height, 0.25, 0.25), spec)
    areas = Areas(*(blobs(rng, max(width, height)) for _ in range(4)))
    corners = rng.uniform(0, max(width, height), (6, 2)).tolist()
    objects = [glomerulus(k, *corner) for k, corner in enumerate(corners)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glombridge.tiles.labels._TOGETHER", together)
        labels = label_tiles(grid, objects, GLOM, areas=areas)
    assert [label.tile for label in labels] == [grid[k] for k in range(len(grid))]
    plain = tile_by_tile(grid, objects, areas, VisibleRule())
    for k, (label, (kept, slivers, painted, usable)) in enumerate(zip(labels, plain, strict=True)):
        assert [b.object_id for b in label.boxes] == [i for i, _ in kept]
        assert list(label.slivers) == [i for i, _ in slivers]
        assert label.usable_share == pytest.approx(max(0, usable), abs=1e-6)
        tile = label.tile
        scale = tile.width_target_px / tile.width_px, tile.height_target_px / tile.height_px
        there = label.painted or shapely.Polygon()
        back = shapely.transform(there, lambda xy, t=tile, s=scale: xy / s + (t.x_px, t.y_px))
        assert (back ^ painted).area < 1e-3
        assert labels[k] == label
