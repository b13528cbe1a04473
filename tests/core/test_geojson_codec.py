"""GeoJSON: what QuPath wrote is read, what we write comes back, nothing is lost unsaid."""

import contextlib
import gzip
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from folders import files_in
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import (
    GeometryCollection,
    LineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
)

from glombridge.errors import DamagedFileError, InputError, MachineError
from glombridge.geojson_codec import dump_geojson, dump_objects, load_objects, write_geojson
from glombridge.objects import (
    Color,
    ObjectKind,
    Outline,
    OutlineKind,
    PathClass,
    Plane,
    SlideObject,
)
from glombridge.qupath.leftovers import temporary_name

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent.parent / "data"
GOLDEN = DATA / "qupath_golden"
VERSIONS = ["0.3.2", "0.4.4", "0.5.1", "0.6.0", "0.7.0"]
REAL = sorted([*DATA.glob("geojson/**/*json"), *GOLDEN.glob("*.geojson"), *GOLDEN.glob("*-hier*")])
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
WRITING = """
import os, signal, sys
from uuid import UUID
from glombridge.geojson_codec import write_geojson
from glombridge.objects import ObjectKind, Outline, SlideObject

if sys.argv[2]:
    setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
outline = Outline.rectangle(0, 0, 9, 9)
write_geojson(sys.argv[1], [SlideObject(UUID(int=1), ObjectKind.ANNOTATION, outline)])
"""


def feature(**properties):
    return {"type": "Feature", "geometry": SQUARE, "properties": properties}


def only(document):
    loaded = load_objects(json.dumps(document))
    assert len(loaded.objects) == 1
    return loaded.objects[0]


def plain(item):
    color = item.path_class.color if item.path_class else None
    return repr(item), item.path_class, color, item.outline and item.outline.geometry.wkb


# ---- what others wrote


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.name)
def test_every_real_file_loads_and_comes_back(path):
    loaded = load_objects(path)
    again = load_objects(dump_geojson(loaded.objects))
    assert list(map(plain, again.objects)) == list(map(plain, loaded.objects))
    left_out = sum("left out" in line and "feature" in line for line in loaded.problems)
    document = json.loads(path.read_text("utf-8"))
    if "root" not in document:
        items = document if isinstance(document, list) else document.get("features", [document])
        assert len(loaded.objects) + left_out == len(items)


@pytest.mark.parametrize("version", VERSIONS[1:])
@pytest.mark.parametrize("image", [1, 2])
def test_qupaths_own_exports_mean_what_qupath_says(version, image):
    truth = json.loads((GOLDEN / f"v{version}.truth.json").read_text("utf-8"))
    expected = {}
    for item in truth["images"][image - 1]["objects"]:
        if item["parent"] is not None:
            expected[item["id"]] = item
    loaded = load_objects(GOLDEN / f"v{version}.truth-image{image}.geojson")
    pairs = [(o, expected[str(o.id)]) for o in loaded.objects]
    assert pairs
    for found, truly in pairs:
        assert found.name == truly["name"]
        assert found.locked == truly["locked"]
        cls = truly["cls"]
        assert (found.path_class and str(found.path_class)) == (cls and cls["name"])
        if cls:
            assert list(found.path_class.color[:3]) == cls["color"]["rgb"]
        bounds = truly["roi"]["bounds"]
        left, top, right, bottom = found.outline.bounds
        assert [left, top, right - left, bottom - top] == pytest.approx(bounds, abs=0.011)
        if found.outline.kind is OutlineKind.ELLIPSE:
            assert truly["roi"]["type"] == "Ellipse"
        plane = found.outline.plane
        assert (plane.z, plane.t) == (truly["roi"]["z"], truly["roi"]["t"])


def test_qupath_0_3_exports_names_and_classes_but_no_ids():
    truth = json.loads((GOLDEN / "v0.3.2.truth.json").read_text("utf-8"))["images"][0]["objects"]
    loaded = load_objects(GOLDEN / "v0.3.2.truth-image1.geojson").objects
    assert Counter((o.name, o.path_class and str(o.path_class)) for o in loaded) == Counter(
        (t["name"], t["cls"] and t["cls"]["name"]) for t in truth if t["parent"] is not None
    )


def test_a_hierarchy_export_keeps_parents():
    loaded = load_objects(GOLDEN / "v0.7.0.truth-image1-hierarchy.json")
    truth = json.loads((GOLDEN / "v0.7.0.truth.json").read_text("utf-8"))["images"][0]["objects"]
    by_index = {o["index"]: o["id"] for o in truth}
    expected = {o["id"]: by_index[o["parent"]] for o in truth if o["parent"]}
    assert {str(o.id): str(o.parent) for o in loaded.objects if o.parent} == expected


# ---- one table of spellings

NAMED = PathClass(("Glomerulus", "Sclerotic"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param({"name": "A", "color": [1, 2, 3]}, (("A",), (1, 2, 3, 255)), id="0.4"),
        pytest.param(
            {"name": "A", "colorRGB": -16711165}, (("A",), (1, 2, 3, 255)), id="0.2 packed"
        ),
        pytest.param({"name": "A", "color": [1, 2, 3, 9]}, (("A",), (1, 2, 3, 9)), id="alpha"),
        pytest.param(
            {"names": ["A", "B"], "color": [1, 2, 3]}, (("A", "B"), (1, 2, 3, 255)), id="names"
        ),
        pytest.param({"name": "A: B"}, (("A", "B"), None), id="display text"),
        pytest.param(
            {"name": "B", "parentClass": {"name": "A"}}, (("A", "B"), None), id="0.3 parent"
        ),
        pytest.param("A: B", (("A", "B"), None), id="bare text"),
        pytest.param(None, None, id="null"),
        pytest.param({}, None, id="empty"),
    ],
)
def test_classifications(raw, expected):
    found = only(feature(classification=raw)).path_class
    if expected is None:
        assert found is None
    else:
        assert (found.names, found.color) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            {"a": 1, "b": "NaN", "c": "-Infinity"},
            {"a": 1, "b": math.nan, "c": -math.inf},
            id="map",
        ),
        pytest.param([{"name": "a", "value": 2.5}], {"a": 2.5}, id="list"),
        pytest.param({"a": None}, {"a": math.nan}, id="null is missing"),
    ],
)
def test_measurements(raw, expected):
    found = only(feature(measurements=raw)).measurements
    assert found == pytest.approx(expected, nan_ok=True)


def test_bare_nan_as_qupath_0_4_writes_it():
    text = json.dumps(feature(measurements={"a": math.nan, "b": math.inf}))
    assert "NaN" in text
    found = load_objects(text).objects[0].measurements
    assert math.isnan(found["a"])
    assert found["b"] == math.inf


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        pytest.param(
            {**feature(), "id": "PathAnnotationObject"}, ObjectKind.ANNOTATION, id="0.2 id"
        ),
        pytest.param({**feature(), "id": "PathCellObject"}, ObjectKind.CELL, id="0.2 cell"),
        pytest.param(feature(object_type="detection"), ObjectKind.DETECTION, id="0.3"),
        pytest.param(feature(objectType="tmaCore"), ObjectKind.TMA_CORE, id="tma 0.4"),
        pytest.param(feature(objectType="tma_core"), ObjectKind.TMA_CORE, id="tma other"),
        pytest.param(feature(type="tile"), ObjectKind.TILE, id="type"),
        pytest.param(feature(), ObjectKind.ANNOTATION, id="none"),
        pytest.param([feature()], ObjectKind.ANNOTATION, id="list"),
        pytest.param(SQUARE, ObjectKind.ANNOTATION, id="bare geometry"),
        pytest.param([SQUARE], ObjectKind.ANNOTATION, id="list of geometries"),
        pytest.param({"features": [feature()]}, ObjectKind.ANNOTATION, id="untyped collection"),
    ],
)
def test_containers_and_kinds(document, kind):
    assert only(document).kind is kind
    assert load_objects(json.dumps(document)).problems == ()


def test_children_get_their_parent():
    parent = {**feature(childObjects=[feature(name="child")]), "id": str(UUID(int=5))}
    first, second = load_objects(json.dumps(parent)).objects
    assert (first.parent, second.parent, second.name) == (None, UUID(int=5), "child")


@pytest.mark.parametrize(
    "pack",
    [lambda b: b, gzip.compress, lambda b: b"\xef\xbb\xbf" + b],
    ids=["plain", "gzip", "byte order mark"],
)
def test_bytes_paths_and_gzip(tmp_path, pack):
    data = pack(
        dump_geojson([SlideObject(UUID(int=1), ObjectKind.ANNOTATION, Outline.of(box(0, 0, 1, 2)))])
    )
    path = tmp_path / "ä.geojson"
    path.write_bytes(data)
    assert load_objects(data) == load_objects(path) == load_objects(str(path))
    assert load_objects(path).objects[0].id == UUID(int=1)


def test_ids_made_up_are_the_same_each_time_and_said_to_be_made_up():
    text = json.dumps([feature(), feature()])
    first, second = load_objects(text).objects, load_objects(text).objects
    assert first == second
    assert first[0].id != first[1].id
    assert not first[0].id_is_stored


@pytest.mark.parametrize(
    ("document", "count", "problem"),
    [
        pytest.param({**feature(), "id": "x7"}, 1, "id 'x7'", id="id"),
        pytest.param([{**feature(), "id": str(UUID(int=1))}] * 2, 2, "there twice", id="id twice"),
        pytest.param(feature(objectType="blob"), 1, "object type 'blob'", id="kind"),
        pytest.param(feature(color=[1, 2]), 1, "colour", id="colour"),
        pytest.param(
            feature(classification={"names": ["a", ""]}), 1, "cannot be read back", id="class"
        ),
        pytest.param(feature(classification=[1]), 1, "classification", id="class type"),
        pytest.param(feature(measurements={"a": "wide"}), 1, "measurement 'a'", id="measurement"),
        pytest.param(feature(metadata={"a": [1]}), 1, "metadata 'a'", id="metadata"),
        pytest.param(feature(shape="round"), 1, "property 'shape' (1 times)", id="property"),
        pytest.param([feature(), 7], 1, "not an object but 7", id="number"),
        pytest.param([feature(), {"a": 1}], 1, "neither feature nor geometry", id="other object"),
        pytest.param({"type": "Feature", "geometry": None}, 1, "no geometry", id="null geometry"),
        pytest.param(
            {"type": "Feature", "geometry": {"type": "Blob"}}, 0, "left out", id="geometry type"
        ),
        pytest.param(
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, 0, "left out", id="two points"
        ),
        pytest.param({"type": "Polygon", "coordinates": []}, 0, "left out", id="empty"),
        pytest.param({"type": "Point", "coordinates": [1, 2, 3]}, 1, "third coordinate", id="3-D"),
    ],
)
def test_what_is_not_understood_is_named(document, count, problem):
    loaded = load_objects(json.dumps(document))
    assert len(loaded.objects) == count
    assert problem in "\n".join(loaded.problems)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b'{"type": "FeatureCollection", "features": [', DamagedFileError, id="cut"),
        pytest.param(b"\x1f\x8b\x08cut", DamagedFileError, id="cut gzip"),
        pytest.param(b"\xff\xfe{", DamagedFileError, id="not UTF-8"),
        pytest.param(b"", DamagedFileError, id="empty"),
        pytest.param(b'{"a": 1}', InputError, id="other JSON"),
        pytest.param(b"7", InputError, id="a number"),
        pytest.param(b"[" * 100_000, DamagedFileError, id="too deep"),
    ],
)
def test_bad_files_are_refused(content, error):
    with pytest.raises(error):
        load_objects(content)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"'none.geojson' cannot be read"):
        load_objects(tmp_path / "none.geojson")


# ---- what we write


def test_written_features_have_what_qupath_asks_for():
    item = SlideObject(
        UUID(int=3),
        ObjectKind.ANNOTATION,
        Outline.ellipse(0, 0, 10, 20, Plane(-1, 2, 1)),
        PathClass(("Glomerulus", "Proposed")),
        name="g",
        locked=True,
        measurements={"Confidence": 0.5, "none": math.nan},
        metadata={"glombridge.state": "proposal"},
        parent=UUID(int=9),
    )
    colors = {"Glomerulus: Proposed": Color(10, 20, 30)}
    written = json.loads(json.dumps(dump_objects([item], class_colors=colors)))["features"][0]
    assert written["id"] == str(UUID(int=3))
    assert written["geometry"]["isEllipse"] is True
    assert written["geometry"]["plane"] == {"c": -1, "z": 2, "t": 1}
    assert written["properties"] == {
        "objectType": "annotation",
        "name": "g",
        "classification": {"names": ["Glomerulus", "Proposed"], "color": [10, 20, 30]},
        "isLocked": True,
        "measurements": {"Confidence": 0.5},
        "metadata": {"glombridge.state": "proposal"},
        "glombridge": {
            "parent": str(UUID(int=9)),
            # One number that is not finite makes QuPath 0.4 refuse the whole file.
            "measurements": {"none": "NaN"},
            "measurementNames": ["Confidence", "none"],
        },
    }


def test_a_class_without_colour_still_gets_one_but_reads_back_without():
    item = SlideObject(
        uuid4(), ObjectKind.ANNOTATION, Outline.of(box(0, 0, 1, 1)), PathClass(("A",))
    )
    written = dump_objects([item])["features"][0]["properties"]["classification"]
    assert written == {"name": "A", "color": [64, 64, 64]}
    assert load_objects(dump_geojson([item])).objects[0].path_class.color is None


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.geojson"
    write_geojson(path, [])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        write_geojson(path, [])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize("there", ["a file", "nothing"])
def test_a_link_is_replaced_and_not_followed(tmp_path, there):
    target, path = tmp_path / "elsewhere" / "b.geojson", tmp_path / "a.geojson"
    target.parent.mkdir()
    if there == "a file":
        target.write_bytes(b"another's")
        target.chmod(0o600)
    path.symlink_to(target)
    before = files_in(target.parent)
    write_geojson(path, [])
    assert path.read_bytes() == dump_geojson([])
    assert not path.is_symlink()
    assert files_in(target.parent) == before


def written_in_a_process(path: Path, killed_at: str) -> int:
    """The exit code of a process that writes an object, unless it is killed at some function's call."""
    done = subprocess.run(
        [sys.executable, "-c", WRITING, path, killed_at],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return done.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
@pytest.mark.parametrize("killed_at", ["fsync", "replace"])
def test_what_a_killed_write_left_goes_with_the_next_one(tmp_path, killed_at):
    path, other = tmp_path / "a.geojson", tmp_path / "b.geojson"
    write_geojson(path, [])
    before = files_in(tmp_path)
    assert written_in_a_process(path, killed_at) == -signal.SIGKILL
    (left,) = files_in(tmp_path).keys() - before.keys()
    assert left.startswith(".")
    assert files_in(tmp_path)[path.name] == before[path.name]
    # What a process that lives is writing, and what is not ours.
    kept = {temporary_name(path.name): b"now", f".{path.name}.tmp": b"theirs"}
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    assert written_in_a_process(other, "") == 0
    written = other.read_bytes()
    assert len(load_objects(other).objects) == 1
    assert files_in(tmp_path) == {**before, **kept, other.name: written}


number = st.floats(-1e6, 1e6).map(lambda v: v + 0.0)  # without -0.0
planes = st.builds(Plane, st.just(-1) | st.integers(0, 3), st.integers(0, 5), st.integers(0, 5))
texts = st.text(max_size=12)
level_names = st.text(min_size=1, max_size=8).filter(
    lambda t: t == t.strip() and t.strip() and not set(t) & set(":\r\n")
)
channel = st.integers(0, 255)
colors = st.builds(Color, channel, channel, channel, st.just(255) | st.integers(1, 255))


@st.composite
def outlines(draw):
    plane = draw(planes)
    x, y, w, h = draw(number), draw(number), draw(st.floats(0.5, 1e4)), draw(st.floats(0.5, 1e4))
    made = draw(
        st.sampled_from(["rectangle", "ellipse", "poly", "hole", "multi", "line", "points", "mix"])
    )
    if made == "rectangle":
        return Outline.rectangle(x, y, x + w, y + h, plane)
    if made == "ellipse":
        return Outline.ellipse(x, y, x + w, y + h, plane)
    shapes = {
        "poly": Polygon([(x, y), (x + w, y + h / 3), (x + w / 2, y + h)]),
        "hole": box(x, y, x + w, y + h) - box(x + w / 4, y + h / 4, x + w / 2, y + h / 2),
        "multi": MultiPolygon([box(x, y, x + w, y + h), box(x + 2 * w, y, x + 3 * w, y + h)]),
        "line": LineString([(x, y), (x + w, y + h)]),
        "points": MultiPoint([(x, y), (x + w, y)]),
        "mix": GeometryCollection([Point(x, y), box(x, y, x + w, y + h)]),
    }
    outline = Outline.of(shapes[made], plane)
    if made == "poly" and draw(st.booleans()):
        return Outline(outline.geometry, OutlineKind.GEOMETRY, plane)
    return outline


@st.composite
def slide_objects(draw):
    kind = draw(st.sampled_from(ObjectKind))
    return SlideObject(
        id=UUID(int=draw(st.integers(0, 2**128 - 1))),
        kind=kind,
        outline=draw(outlines()),
        path_class=draw(
            st.none()
            | st.builds(
                PathClass,
                st.lists(level_names, min_size=1, max_size=3).map(tuple),
                st.none() | colors,
            )
        ),
        name=draw(st.none() | texts),
        color=draw(st.none() | colors),
        locked=draw(st.booleans()),
        measurements=draw(st.dictionaries(texts, st.floats(), max_size=3)),
        metadata=draw(st.dictionaries(texts, texts, max_size=3)),
        probability=draw(st.just(math.nan) | st.floats(0, 1)),
        nucleus=draw(st.none() | outlines()) if kind is ObjectKind.CELL else None,
        parent=draw(st.none() | st.builds(UUID, int=st.integers(0, 2**128 - 1))),
        missing=draw(st.booleans()) if kind is ObjectKind.TMA_CORE else False,
        id_is_stored=True,
    )


@settings(max_examples=120)
@given(st.lists(slide_objects(), max_size=4, unique_by=lambda o: o.id))
def test_objects_to_geojson_to_objects_keeps_everything(objects):
    data = dump_geojson(objects)
    loaded = load_objects(data)
    assert loaded.problems == ()
    assert [plain(o) for o in loaded.objects] == [plain(o) for o in objects]
    assert dump_geojson(loaded.objects) == data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "id",
                    "geometry",
                    "properties",
                    "coordinates",
                    "classification",
                    "name",
                    "names",
                    "color",
                    "measurements",
                    "metadata",
                    "features",
                    "objectType",
                    "plane",
                    "glombridge",
                    "outline",
                    "parent",
                    "childObjects",
                    "isEllipse",
                    "nucleusGeometry",
                    "probability",
                    "c",
                ]
            ),
            inner
            | st.sampled_from(["Feature", "Polygon", "Point", "annotation", "FeatureCollection"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(json_values, json_values)
def test_no_json_makes_the_reader_fail_in_an_unclean_way(document, value):
    for candidate in (
        document,
        [{"type": "Feature", "geometry": SQUARE, "id": value, "properties": document}],
        [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": document, "plane": value},
            }
        ],
    ):
        with contextlib.suppress(InputError):
            load_objects(json.dumps(candidate).encode())
