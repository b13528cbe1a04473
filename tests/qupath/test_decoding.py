import math
import time

import numpy as np
import pytest
import shapely
from qupath_golden import GOLDEN, VERSIONS, truth

from glombridge.objects import Color, ObjectKind, OutlineKind
from glombridge.qupath import NativeStore
from glombridge.qupath.decoding import stored_id

KINDS = {
    "PathAnnotationObject": ObjectKind.ANNOTATION,
    "PathDetectionObject": ObjectKind.DETECTION,
    "PathCellObject": ObjectKind.CELL,
    "PathTileObject": ObjectKind.TILE,
    "TMACoreObject": ObjectKind.TMA_CORE,
}
CASES = [(version, image) for version in VERSIONS for image in (1, 2)]


def number(value):
    return float(value)  # QuPath's dumps write "nan", "inf", "-inf" as text


def color(value):
    return None if value is None else Color.from_argb(value["argb"])


def check_outline(outline, expected, version):
    if expected is None:
        assert outline is None
        return
    assert outline.kind.value == expected["type"].lower()
    assert tuple(outline.plane) == (expected["c"], expected["z"], expected["t"])
    x0, y0, x1, y1 = outline.bounds
    # QuPath 0.6 and later round Geometry outlines to 0.01 px when reading; the file does not.
    rounds = outline.kind is OutlineKind.GEOMETRY
    tolerance = 0.005 if rounds else 0
    assert np.allclose(
        (x0, y0, x1 - x0, y1 - y0), expected["bounds"], rtol=0, atol=1e-9 + tolerance
    )
    if outline.kind is OutlineKind.ELLIPSE:
        return  # QuPath's points of an ellipse are its four extremes
    points = np.array(expected["points"], dtype=float)
    mine = shapely.get_coordinates(outline.geometry)
    if outline.kind in (OutlineKind.RECTANGLE, OutlineKind.POLYGON):
        mine = mine[:-1]
    if rounds:
        theirs = shapely.from_wkt(expected["wkt"])
        assert theirs.symmetric_difference(outline.geometry).area < 0.02 * outline.geometry.length
    else:
        assert np.array_equal(mine, points)


@pytest.mark.parametrize(("version", "image"), CASES)
def test_every_value_is_what_qupath_reads(version, image):
    store = NativeStore.open(GOLDEN / version)
    contents = store.read(image)
    expected = truth(version)[image]
    assert contents.problems == ()
    assert contents.image_type == expected["image_type"]
    dumped = expected["objects"]
    assert len(contents.objects) == len(dumped) - 1 == expected["n_objects"]
    for obj, want in zip(contents.objects, dumped[1:], strict=True):
        assert obj.kind is KINDS[want["java"]]
        assert obj.id_is_stored is (version != "v0.3.2")
        if obj.id_is_stored:
            assert str(obj.id) == want["id"]
        parent = want["parent"]
        assert obj.parent == (None if parent == 0 else contents.objects[parent - 1].id)
        assert obj.name == want["name"]
        assert obj.locked is want["locked"]
        assert obj.color == color(want["color"])
        if want["cls"] is None:
            assert obj.path_class is None
        else:
            assert str(obj.path_class) == want["cls"]["name"]
            assert obj.path_class.color == color(want["cls"]["color"])
        assert list(obj.measurements) == [name for name, _ in want["measurements"]]
        for name, value in want["measurements"]:
            assert np.array_equal(obj.measurements[name], number(value), equal_nan=True)
        metadata = want["metadata"]
        if metadata is None:  # 0.3 and 0.4 offer no metadata but the description
            description = want["description"]
            metadata = {} if description is None else {"ANNOTATION_DESCRIPTION": description}
        assert dict(obj.metadata) == metadata
        assert np.array_equal(obj.probability, number(want["class_probability"]), equal_nan=True)
        check_outline(obj.outline, want["roi"], version)
        check_outline(obj.nucleus, want["nucleus"], version)


@pytest.mark.parametrize("version", VERSIONS)
def test_image_without_a_data_file_has_no_objects(version):
    contents = NativeStore.open(GOLDEN / version).read(3)
    assert contents.objects == ()
    assert not contents.stamp.exists


def test_derived_ids_are_the_same_at_each_reading_and_differ_between_images():
    store = NativeStore.open(GOLDEN / "v0.3.2")
    first = [obj.id for obj in store.read(1).objects]
    assert first == [obj.id for obj in store.read(1).objects]
    assert len({*first, *(obj.id for obj in store.read(2).objects)}) == len(first) + 6


def test_bulk_file_is_read_in_bulk():
    store = NativeStore.open(GOLDEN / "v0.6.0-bulk")
    start = time.process_time()
    contents = store.read(1)
    seconds = time.process_time() - start
    assert len(contents.objects) == 10_000
    assert all(
        obj.kind is ObjectKind.DETECTION and len(obj.measurements) == 5 for obj in contents.objects
    )
    assert all(math.isfinite(v) for obj in contents.objects for v in obj.measurements.values())
    # About 0.4 s on one core; the bound only catches a change of the order of magnitude.
    assert seconds < 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48cdd00d-0000-4000-8000-00000000abcd", "48cdd00d-0000-4000-8000-00000000abcd"),
        ("48CDD00D-0000-4000-8000-00000000ABCD", "48cdd00d-0000-4000-8000-00000000abcd"),
        ("1-2-3-4-5", "00000001-0002-0003-0004-000000000005"),
        ("", None),
        ("no-uuid", None),
        ("48cdd00d00004000800000000000abcd", None),
        ("48cdd00d-0000-4000-8000-00000000abcd1", None),
    ],
)
def test_ids_are_understood_as_java_does(text, expected):
    found = stored_id({"Object ID": text})
    assert (None if found is None else str(found)) == expected
