import dataclasses
import math
import struct

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qupath_golden import OUTLINES, an_object, edited, new_id, parsed
from shapely.geometry import LineString, MultiPoint, Point, Polygon

from glombridge.errors import InputError, UsageError
from glombridge.objects import Color, ObjectKind, Outline, OutlineKind, PathClass, Plane
from glombridge.qupath import IMAGE_TYPES, HierarchyEdit
from glombridge.qupath import descriptors as d
from glombridge.qupath.decoding import decode_tree
from glombridge.qupath.javastream import ClassDesc, JavaEnum, JavaObject, JavaString
from glombridge.qupath.new_file import new_data_file
from glombridge.qupath.stored_form import as_stored, differences, stored_outline

EMPTY = new_data_file(None, qupath_version="0.5.1", image_type="BRIGHTFIELD_H_E")


def written(*objects):
    """What comes back when objects are written into a new file."""
    data = edited(EMPTY, HierarchyEdit(add=objects))
    return [entry.object for entry in decode_tree(parsed(data).root, "s")]


def worked_example():
    return an_object(
        "A",
        outline=Outline.rectangle(10, 20, 40, 60),
        path_class=PathClass(("Tumor",), Color.from_argb(-3670016)),
        locked=True,
        measurements={"score": 0.5},
        metadata={},
    )


def test_worked_example_of_the_format_description():
    data = edited(EMPTY, HierarchyEdit(add=(worked_example(),)))
    assert len(data) == 1793
    file = parsed(data)
    # Handles as the description numbers them.
    names = {
        1: "java.util.Locale",
        3: "object java.util.Locale",
        7: d.IMAGE_TYPE,
        8: "java.lang.Enum",
        11: d.WORKFLOW,
        13: d.HIERARCHY,
        17: d.ROOT,
        20: d.METADATA,
        22: d.INTEGER,
        25: d.OBJECT_ARRAY,
        30: d.ANNOTATION,
        38: d.DEFAULT_LIST,
        41: d.ARRAY_LIST,
        43: d.DOUBLE_MEASUREMENT,
        46: d.BOOLEAN,
        48: d.PATH_CLASS,
        54: d.RECTANGLE,
        56: d.HASH_MAP,
    }
    texts = {0: '{"dataVersion":3,"qupathVersion":"0.5.1"}', 2: "Ljava/lang/String;", 4: "US"}
    texts |= {5: "", 6: "en", 10: "BRIGHTFIELD_H_E", 27: "Object ID", 33: "A", 45: "score"}
    texts |= {53: "Tumor", 58: "EOF"}
    assert len(file.handles) == 59
    for handle, name in names.items():
        node = file.handles[handle]
        found = f"object {node.desc.name}" if isinstance(node, JavaObject) else node.name
        assert found == name
    for handle, text in texts.items():
        assert file.handles[handle].text == text
    assert isinstance(file.handles[9], JavaEnum)
    (found,) = decode_tree(file.root, "s")
    assert differences(found.object, worked_example()) == []
    assert found.id == worked_example().id


@pytest.mark.parametrize("image_type", IMAGE_TYPES)
def test_new_file_has_no_objects_and_the_type(image_type):
    builder = {"builderType": "uri", "uri": "file:/a=b.svs", "args": []}
    data = new_data_file(builder, qupath_version="0.6.0", image_type=image_type)
    file = parsed(data)
    assert file.image_type == image_type
    assert file.root.children == []
    assert file.emit() == data
    assert isinstance(file.contents[1], JavaString)
    assert '"uri":"file:/a\\u003db.svs"' in file.contents[1].text


def test_unknown_image_type():
    with pytest.raises(UsageError, match="BRIGHTFIELD_H_E"):
        new_data_file(None, qupath_version="0.6.0", image_type="HE")


@pytest.mark.parametrize("kind", [k for k in ObjectKind if k is not ObjectKind.TMA_CORE])
@pytest.mark.parametrize("outline", OUTLINES.values(), ids=OUTLINES)
def test_every_kind_with_every_outline_comes_back(kind, outline):
    obj = an_object(
        kind.value,
        kind=kind,
        outline=outline,
        nucleus=OUTLINES["ellipse"] if kind is ObjectKind.CELL else None,
        measurements={"a": 0.1, "nan": math.nan, "inf": math.inf, "ninf": -math.inf},
        metadata={"k": "ä\0😀", "ANNOTATION_DESCRIPTION": ""},
        probability=0.875,
        color=Color(1, 2, 3, 4),
        locked=True,
    )
    (found,) = written(obj)
    assert differences(found, as_stored(obj)) == []
    assert found.id == obj.id
    assert found.id_is_stored
    assert found.path_class.color == obj.path_class.color
    # Independently of the rounding rules: close to what was asked for.
    assert found.outline.kind is outline.kind
    assert found.outline.plane == outline.plane
    assert shapely.hausdorff_distance(found.outline.geometry, outline.geometry) < 1e-5
    exact = kind is ObjectKind.ANNOTATION
    assert found.measurements["a"] == (0.1 if exact else 0.10000000149011612)
    assert math.isnan(found.measurements["nan"])


coordinates = st.floats(-300_000, 300_000, allow_nan=False).map(lambda v: round(v, 3))


@settings(max_examples=60)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12, unique=True))
def test_rounding_twice_is_rounding_once_and_small(points):
    outline = Outline(Polygon(points), OutlineKind.POLYGON)
    assume(len(np.unique(np.float32(points), axis=0)) == len(points))
    once = stored_outline(outline)
    assert stored_outline(once) == once
    x0, y0, x1, y1 = np.subtract(once.bounds, outline.bounds)
    assert max(map(abs, (x0, y0, x1, y1))) <= 0.016
    (found,) = written(an_object(outline=outline))
    assert found.outline == once


@pytest.mark.parametrize(
    ("kind", "geometry"),
    [
        (OutlineKind.RECTANGLE, Polygon([(0, 0), (2, 1), (1, 2)])),
        (OutlineKind.RECTANGLE, Point(0, 0)),
        (OutlineKind.ELLIPSE, Polygon([(0, 0), (2, 1), (1, 2)])),
        (OutlineKind.POLYGON, OUTLINES["holed"].geometry),
        (OutlineKind.POLYGON, LineString([(0, 0), (1, 1)])),
        (OutlineKind.POLYGON, Polygon([(1e6, 0), (1e6, 5), (1e6 + 1e-4, 0)])),
        (OutlineKind.LINE, LineString([(0, 0), (1, 1), (2, 0)])),
        (OutlineKind.POLYLINE, Point(1, 1)),
        (OutlineKind.POINTS, LineString([(0, 0), (1, 1)])),
        (OutlineKind.GEOMETRY, Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])),
        (OutlineKind.GEOMETRY, Polygon()),
        (OutlineKind.POINTS, MultiPoint()),
        (OutlineKind.POINTS, Point(math.inf, 0)),
        (OutlineKind.POLYLINE, LineString([(0, 0), (math.nan, 1)])),
        (OutlineKind.POINTS, Point(1e39, 0)),
    ],
)
def test_outline_that_qupath_could_not_read_is_refused(kind, geometry):
    with pytest.raises(InputError, match=str(an_object().id)):
        written(an_object(outline=Outline(geometry, kind)))


@pytest.mark.parametrize(
    "fields",
    [
        {"path_class": PathClass(("Tumor", "a:b"))},
        {"path_class": PathClass(("",))},
        {"path_class": PathClass(("Tumor", " x"))},
        {"path_class": PathClass(("Tumor\n",))},
        {"path_class": PathClass(("Tumor",), Color(300, 0, 0))},
        {"color": Color(-1, 0, 0)},
        {"measurements": {"": 1.0}},
        {"metadata": {"": "x"}},
        {"metadata": {"Object ID": "x"}},
        {"metadata": {"x": 1}},
        {"metadata": {"x": None}},
        {"kind": ObjectKind.DETECTION, "measurements": {"big": 1e39}},
        {"nucleus": OUTLINES["ellipse"]},
        {"missing": True},
        {"outline": None},
        {"outline": dataclasses.replace(OUTLINES["line"], plane=Plane(-2, 0, 0))},
        {"outline": dataclasses.replace(OUTLINES["line"], plane=Plane(-1, -1, 0))},
        {"outline": dataclasses.replace(OUTLINES["line"], plane=Plane(-1, 0, 2**31))},
    ],
    ids=str,
)
def test_object_that_qupath_could_not_read_is_refused(fields):
    with pytest.raises(InputError):
        written(an_object(**fields))


def test_objects_share_what_qupath_shares():
    objects = [
        an_object(i, kind=ObjectKind.DETECTION, measurements={"a": i, "b": 2}) for i in range(3)
    ]
    handles = parsed(edited(EMPTY, HierarchyEdit(add=tuple(objects)))).handles
    count = {}
    for node in handles:
        if isinstance(node, JavaObject):
            count[node.desc.name] = count.get(node.desc.name, 0) + 1
    assert count[d.PATH_CLASS] == 2
    assert count[d.BOOLEAN] == 1
    assert count[d.FLOAT_LIST] == 3
    assert count[d.ARRAY_LIST] == 1
    assert len({n.name for n in handles if isinstance(n, ClassDesc)}) == sum(
        isinstance(n, ClassDesc) for n in handles
    )


def test_no_cached_statistics_are_written():
    outlines = [OUTLINES["polygon"], OUTLINES["holed"]]
    data = edited(
        EMPTY, HierarchyEdit(add=tuple(an_object(i, outline=o) for i, o in enumerate(outlines)))
    )
    polygons = {
        n.desc.name: n
        for n in parsed(data).handles
        if isinstance(n, JavaObject) and n.desc.name in (d.POLYGON, d.GEOMETRY)
    }
    assert polygons[d.POLYGON].parts[0][2] is None
    assert polygons[d.GEOMETRY].parts[0][1] is None
    assert polygons[d.GEOMETRY].parts[0][2].raw[:5] == struct.pack(">BI", 0, 3)


def test_nested_additions():
    objects = (
        an_object("child", parent=new_id("parent")),
        an_object("parent"),
        an_object("grandchild", parent=new_id("child")),
    )
    found = written(*objects)
    assert [o.name for o in found] == ["parent", "child", "grandchild"]
    assert [o.parent for o in found] == [None, found[0].id, found[1].id]
