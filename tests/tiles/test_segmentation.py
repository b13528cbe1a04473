"""Outlines as labels: one ring for holes and parts, no ring for what is only a box."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box

from glombridge.errors import InputError
from glombridge.frames import Frame
from glombridge.geojson_codec import dump_geojson, load_objects
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import BOX
from glombridge.tiles.grid import Grid, TileSpec, resolve_overlap
from glombridge.tiles.labels import Areas, ClassMap, is_only_a_box, label_tiles, labelled_objects
from glombridge.tiles.polygons import area_of, polygons_of, ring_of
from glombridge.tiles.yolo import yolo_lines, yolo_polygons_to_slide

TPATH = Path(__file__).parent.parent / "data" / "geojson" / "tpath"
GLOM = ClassMap.of(["Glomerulus"])
FRAME = Frame("a", 400, 400, 0.5, 0.5)
QUARTERS = Grid.of(FRAME, TileSpec(200, 200, 0))

RING = Polygon(box(0, 0, 40, 40).exterior.coords, [box(10, 10, 20, 20).exterior.coords])
SIEVE = box(0, 0, 90, 60).difference(
    shapely.union_all([box(x, y, x + 8, y + 8) for x in (5, 30, 60) for y in (5, 25, 45)])
)
SHAPES = [
    pytest.param(box(0, 0, 10, 20), id="box"),
    pytest.param(RING, id="hole"),
    pytest.param(SIEVE, id="nine holes"),
    pytest.param(MultiPolygon([box(0, 0, 10, 10), box(30, 5, 50, 25)]), id="two parts"),
    pytest.param(MultiPolygon([RING, box(13, 13, 17, 17)]), id="part inside a hole"),
    pytest.param(MultiPolygon([RING, box(60, 0, 70, 9), box(0, 80, 5, 85)]), id="parts and holes"),
]


def glom(number: int, geometry, cls="Glomerulus", **metadata) -> SlideObject:
    outline = Outline.of(geometry)
    path_class = PathClass((cls,))
    kind = ObjectKind.ANNOTATION
    return SlideObject(UUID(int=number), kind, outline, path_class, metadata=metadata)


def shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@pytest.mark.parametrize("shape", SHAPES)
def test_one_ring_holds_a_whole_area_and_gives_it_back(shape):
    ring = ring_of(shape)
    assert shoelace(ring) == pytest.approx(shape.area)
    assert area_of(ring).symmetric_difference(shape).area == pytest.approx(0, abs=1e-9)
    assert len(polygons_of(area_of(ring))) == len(polygons_of(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_opencv_fills_the_ring_as_the_area(shape):
    """That is how ultralytics makes a mask of it; lines as wide as a pixel are allowed."""
    grown = shapely.affinity.scale(shape, 8, 8, origin=(0, 0))
    mask = np.zeros((800, 800), np.uint8)
    cv2.fillPoly(mask, [np.round(ring_of(grown)).astype(np.int32)], 1)
    length = grown.length + 8 * 200
    assert abs(int(mask.sum()) - grown.area) < length


def test_nothing_has_no_ring():
    assert ring_of(Polygon()).shape == (0, 2)
    assert ring_of(Point(1, 1)).shape == (0, 2)
    assert area_of(np.empty((0, 2))).is_empty
    assert area_of([(0, 0), (1, 1)]).is_empty


blobs = st.lists(
    st.tuples(st.floats(0, 350), st.floats(0, 350), st.floats(4, 90), st.floats(0, 0.8)),
    min_size=1,
    max_size=5,
)


def donut(x: float, y: float, radius: float, hole: float):
    whole = Point(x, y).buffer(radius)
    return whole if hole < 0.1 else whole.difference(Point(x, y).buffer(radius * hole))


@settings(max_examples=120)
@given(blobs, st.integers(60, 250), st.floats(0, 0.7), st.sampled_from([None, 0.25, 0.7]))
def test_every_outline_maps_back_to_the_visible_part_of_its_object(found, tile_px, overlap, mpp):
    objects = [glom(i, donut(*blob)) for i, blob in enumerate(found)]
    by_id = {o.id: o.outline.geometry for o in objects}
    grid = Grid.of(FRAME, TileSpec(tile_px, tile_px, overlap, mpp))
    for labels in label_tiles(grid, objects, GLOM, task="segment"):
        text = yolo_lines(labels, "segment")
        back = yolo_polygons_to_slide(text, labels.tile)
        assert len(back) == len(labels.boxes)
        t = labels.tile
        window = box(t.x_px, t.y_px, t.x_px + t.width_px, t.y_px + t.height_px)
        for (index, area), label in zip(back, labels.boxes, strict=True):
            visible = by_id[label.object_id].intersection(window)
            assert index == 0
            assert area.symmetric_difference(visible).area < 1e-3 * (1 + visible.length)
        values = [float(v) for line in text.splitlines() for v in line.split()[1:]]
        assert all(0 <= v <= 1 for v in values)


@pytest.mark.parametrize("path", sorted(TPATH.glob("*.geojson")), ids=lambda p: p.stem)
def test_real_biopsies_go_to_labels_and_back_to_geojson(path):
    """Every count and class stays, and each area within 1 %; in fact within 0.001 %."""
    objects = load_objects(path).objects
    classes = ClassMap.of(["Normal", "Sclerotic"])
    truth = {o.id: o for o in objects if o.path_class is not None}
    frame = Frame(path.stem, 40_000, 40_000, 0.25, 0.25)
    bounds = [o.outline.bounds for o in truth.values()]
    spec = resolve_overlap(TileSpec(1600, 1200, "auto", 0.5), [(frame, bounds)])
    back = {}
    for labels in label_tiles(Grid.of(frame, spec), objects, classes, task="segment"):
        text = yolo_lines(labels, "segment")
        areas = yolo_polygons_to_slide(text, labels.tile)
        for (index, area), label in zip(areas, labels.boxes, strict=True):
            if label.visible_share > 1 - 1e-9:
                back[label.object_id] = glom(label.object_id.int, area, classes.names[index])
    again = load_objects(dump_geojson(back.values())).objects
    assert Counter(str(o.path_class) for o in again) == Counter(
        str(o.path_class) for o in truth.values()
    )
    assert {o.id for o in again} == truth.keys()
    for obj in again:
        expected = shapely.make_valid(truth[obj.id].outline.geometry)
        assert obj.outline.geometry.area == pytest.approx(expected.area, rel=1e-5)
        assert obj.outline.geometry.symmetric_difference(expected).area < 1e-3 * expected.area


# ---- what is only a box

ROUND = Point(60, 60).buffer(30)
BOXES = [
    pytest.param(glom(1, box(20, 20, 60, 60), **{BOX: "true"}), True, id="proposed box, accepted"),
    pytest.param(glom(1, box(20, 20, 60, 60)), True, id="drawn with the rectangle tool"),
    pytest.param(
        replace(
            glom(1, box(20, 20, 60, 60), **{BOX: "true"}),
            outline=replace(Outline.of(ROUND), geometry=box(20, 20, 60, 60)),
        ),
        True,
        id="box stored as a polygon",
    ),
    pytest.param(glom(1, ROUND, **{BOX: "true"}), False, id="redrawn by a human"),
    pytest.param(glom(1, ROUND), False, id="drawn"),
]


@pytest.mark.parametrize(("obj", "is_box"), BOXES)
def test_only_outlines_become_segmentation_labels(obj, is_box):
    assert is_only_a_box(obj) is is_box
    assert len(labelled_objects([obj], GLOM, task="segment")) == (not is_box)
    assert len(labelled_objects([obj], GLOM)) == 1


def test_a_box_is_neither_object_nor_background_for_a_segmentation():
    objects = [glom(1, box(20, 20, 60, 60)), glom(2, Point(60, 60).buffer(15))]
    areas = Areas(ignored=box(150, 150, 200, 200))
    tile = label_tiles(QUARTERS, objects, GLOM, areas=areas, task="segment")[0]
    assert [b.object_id.int for b in tile.boxes] == [2]
    visible = objects[1].outline.geometry
    hidden = box(20, 20, 60, 60).difference(visible).union(box(150, 150, 200, 200))
    assert tile.painted.symmetric_difference(hidden).area == pytest.approx(0, abs=1e-6)
    as_boxes = label_tiles(QUARTERS, objects, GLOM, task="detect")[0]
    assert [b.object_id.int for b in as_boxes.boxes] == [1, 2]


@pytest.mark.parametrize("line", ["0 .1 .1 .2 .2", "0 .1 .1 .2 .2 .3", "a .1 .1 .2 .2 .3 .3"])
def test_bad_lines_are_refused(line):
    with pytest.raises(InputError, match=r"line 1 .* is not 'class x y x y x y \.\.\.'"):
        yolo_polygons_to_slide(line, QUARTERS[0])
