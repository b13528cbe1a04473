import json
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qupath_golden import GOLDEN, VERSIONS, truth

from glombridge.errors import InputError, MachineError, ProtectedError
from glombridge.objects import Color, PathClass
from glombridge.placement import ImageTransform
from glombridge.qupath import (
    ImageServerInfo,
    ProjectFile,
    add_classes,
    create_project,
    gson,
    path_to_uri,
    read_classes,
    resolve_slide,
    uri_to_path,
)
from glombridge.qupath.locations import moved_path

JSON_FILES = sorted([*GOLDEN.glob("*/*.qpproj"), *GOLDEN.glob("*/classifiers/classes.json")])
PRETTY = [*JSON_FILES, *sorted(GOLDEN.glob("v0.[67].0*/data/1/server.json"))]


@pytest.mark.parametrize("path", PRETTY, ids=lambda p: "-".join(p.parts[-3:]))
def test_json_comes_out_byte_for_byte(path):
    data = path.read_bytes()
    assert gson.dumps(gson.loads(data)) == data


@pytest.mark.parametrize(
    ("value", "pretty", "text"),
    [
        ({}, True, "{}"),
        ({"a": []}, True, '{\n  "a": []\n}'),
        ({"a": [1, {"b": None}]}, False, '{"a":[1,{"b":null}]}'),
        ("<>&='", True, '"\\u003c\\u003e\\u0026\\u003d\\u0027"'),
        ('"\\\n\t\x01\u2028', True, '"\\"\\\\\\n\\t\\u0001\\u2028"'),
        ("ä😀µ", True, '"ä😀µ"'),
        ([float("nan"), float("inf"), -float("inf")], False, "[NaN,Infinity,-Infinity]"),
        ([True, False, 1.0, -5], False, "[true,false,1.0,-5]"),
    ],
)
def test_gson_text(value, pretty, text):
    assert gson.dumps(value, pretty=pretty).decode() == text


def test_numbers_stay_as_they_are_written():
    data = b"[1.0E-5,NaN,0.10,-Infinity,1e400,12345678901234567890]"
    assert gson.dumps(gson.loads(data), pretty=False) == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.booleans())
def test_json_means_the_same(value, pretty):
    assert gson.loads(gson.dumps(value, pretty=pretty)) == value


@pytest.mark.parametrize("version", VERSIONS)
def test_entries_are_what_qupath_says(version):
    project = ProjectFile.open(GOLDEN / version)
    expected = truth(version)
    assert project.version == version[1:]
    entries = project.entries()
    assert [e.id for e in entries] == sorted(expected)
    for entry in entries:
        want = expected[entry.id]
        assert entry.name == want["name"]
        assert entry.description == want["description"]
        assert dict(entry.metadata) == want["metadata"]
        assert list(entry.tags) == (want["tags"] or [])
        assert list(entry.uris) == want["uris"]
        assert entry.transforms == ()
        assert entry.has_data is (entry.id != 3)
    first = entries[0]
    assert (first.width, first.height, first.mpp_x, first.mpp_y) == (4096, 3072, 0.5, 0.5)
    assert (entries[1].mpp_x, entries[2].mpp_x, entries[2].width) == (0.25, None, None)


def uri_builder(uri="file:/a.svs"):
    return {"builderType": "uri", "uri": uri, "args": []}


@pytest.mark.parametrize(
    ("builder", "uris", "transforms"),
    [
        (uri_builder(), ("file:/a.svs",), ()),
        (
            {
                "builderType": "rotated",
                "builder": {"builderType": "cropped", "builder": uri_builder()},
            },
            ("file:/a.svs",),
            ("rotated", "cropped"),
        ),
        (
            {
                "builderType": "channels",
                "builder": uri_builder(),
                "channels": [uri_builder("file:/b.svs"), uri_builder()],
            },
            ("file:/a.svs", "file:/b.svs"),
            ("channels",),
        ),
        (
            {
                "builderType": "sparse",
                "regions": [{"resolutions": [{"serverBuilder": uri_builder("file:/c.svs")}]}],
            },
            ("file:/c.svs",),
            ("sparse",),
        ),
        (None, (), ()),
    ],
)
def test_builder_trees(tmp_path, builder, uris, transforms):
    item = {"serverBuilder": builder, "entryID": 4, "imageName": "n", "metadata": {}}
    write_project(tmp_path, images=[item])
    (entry,) = ProjectFile.open(tmp_path).entries()
    assert (entry.uris, entry.transforms) == (uris, transforms)


def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    write_project(tmp_path)

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(MachineError, match="Permission denied"):
        ProjectFile.open(tmp_path)


def test_steps_around_a_reader_keep_their_parameters(tmp_path):
    region = {"x": 1, "y": 2, "width": 30, "height": 40, "z": 0, "t": 0}
    inner = {**uri_builder(), "metadata": {"width": 500, "height": 400}}
    builder = {
        "builderType": "rotated",
        "builder": {"builderType": "cropped", "builder": inner, "region": region},
        "rotation": "ROTATE_90",
        "metadata": {"width": 40, "height": 30},
    }
    write_project(
        tmp_path,
        images=[
            {"serverBuilder": builder, "entryID": 1, "imageName": "n", "metadata": {}},
            {"serverBuilder": uri_builder(), "entryID": 2, "imageName": "p", "metadata": {}},
        ],
    )
    turned, plain = ProjectFile.open(tmp_path).entries()
    assert turned.geometry == (
        ImageTransform("rotated", {"rotation": "ROTATE_90"}),
        ImageTransform("cropped", {"region": region}),
    )
    assert (turned.source_size, turned.width, turned.height) == ((500, 400), 40, 30)
    assert (plain.geometry, plain.source_size) == ((), None)


def write_project(folder, name="project.qpproj", **keys):
    document = {"version": "0.5.1", "createTimestamp": 1, "modifyTimestamp": 1, "lastID": 0, **keys}
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(document), "utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no .qpproj"),
        ({"a.qpproj": "{}", "b.qpproj": "{}"}, "several"),
        ({"a.qpproj": "PK"}, "not JSON"),
        ({"a.qpproj": "[]"}, "neither a version"),
        ({"a.qpproj": "{}"}, "neither a version"),
        ({"a.qpproj": '{"version":"v0.2.0-m1"}'}, "milestone"),
        ({"a.qpproj": '{"version":"0.5.1","images":{"a":1}}'}, "list of images"),
        ({"a.qpproj": '{"version":"0.5.1","images":[{"entryID":"x"}]}'}, "entryID"),
        ({"a.qpproj": '{"version":"0.5.1","images":[{"entryID":1},{"entryID":1}]}'}, "two images"),
    ],
)
def test_what_is_no_project_says_why(tmp_path, files, says):
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=says):
        ProjectFile.open(tmp_path)


def test_a_folder_without_a_name_is_named(tmp_path, monkeypatch):
    """'.' at the end of a sentence would be '..', another folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"in the folder '\.'\. Give"):
        ProjectFile.open(Path())


@pytest.mark.parametrize("path", ["missing", "missing.qpproj"])
def test_missing_project(tmp_path, path):
    with pytest.raises(InputError, match="missing"):
        ProjectFile.open(tmp_path / path)


def test_unknown_image_names_the_known_ones():
    with pytest.raises(InputError, match="1, 2, 3"):
        ProjectFile.open(GOLDEN / "v0.6.0").entry(9)


def test_new_project_looks_like_the_golden_one(tmp_path):
    golden = json.loads((GOLDEN / "v0.6.0" / "project.qpproj").read_bytes())
    project = create_project(tmp_path / "new")
    levels = ((1.0, 4096, 3072), (2.0, 2048, 1536), (4.0, 1024, 768), (8.0, 512, 384))
    entry = project.add_image(
        Path("/slides/kidney_a.tif"),
        metadata=ImageServerInfo(4096, 3072, 0.5, 0.5, levels),
        image_metadata={"case": "K-2024-0001"},
        tags=("tag one",),
        description="d",
    )
    project.save()
    assert entry.id == 1
    document = json.loads(project.path.read_bytes())
    assert list(document) == list(golden)
    mine, theirs = document["images"][0], golden["images"][0]
    assert list(mine) == list(theirs)
    assert list(mine["serverBuilder"]["metadata"]) == list(theirs["serverBuilder"]["metadata"])
    if not path_to_uri(Path("/slides/kidney_a.tif")).startswith("file:///slides"):
        return  # Windows puts a drive there
    assert mine["serverBuilder"] == theirs["serverBuilder"]
    assert document["uri"].startswith("file:/")
    assert not document["uri"].startswith("file://")


def test_ids_are_never_used_again(tmp_path):
    write_project(tmp_path, lastID=7, images=[{"entryID": 3, "imageName": "n", "metadata": {}}])
    project = ProjectFile.open(tmp_path)
    assert project.add_image(Path("x.svs")).id == 8
    assert project.add_image(Path("y.svs")).id == 9
    assert project.document["lastID"] == 9


def test_old_projects_get_no_tags_and_no_project_is_overwritten(tmp_path):
    project = create_project(tmp_path, "0.5.1")
    project.add_image(tmp_path / "x.svs")
    assert "tags" not in project.document["images"][0]
    with pytest.raises(ProtectedError, match="already"):
        create_project(tmp_path / "other.qpproj")


def test_image_metadata_is_set_and_everything_else_kept(tmp_path):
    path = write_project(
        tmp_path,
        future={"x": [1.0e-7]},
        images=[{"entryID": 3, "imageName": "n", "metadata": {"a": "1", "b": "2"}, "new": 1}],
    )
    project = ProjectFile.open(path)
    assert project.set_image_metadata(3, {"a": None, "c": "3", "gone": None})
    project.save()
    document = json.loads(path.read_bytes())
    assert document["images"][0] == {
        "entryID": 3,
        "imageName": "n",
        "metadata": {"b": "2", "c": "3"},
        "new": 1,
    }
    assert document["future"] == {"x": [1e-7]}
    assert not ProjectFile.open(path).set_image_metadata(3, {"c": "3"})
    with pytest.raises(InputError, match="empty"):
        project.set_image_metadata(3, {"": "3"})


def test_project_saved_by_someone_else_meanwhile_is_not_overwritten(tmp_path):
    path = write_project(tmp_path)
    project = ProjectFile.open(path)
    write_project(tmp_path, lastID=99)
    project.add_image(tmp_path / "x.svs")
    with pytest.raises(ProtectedError, match="changed"):
        project.save()


URIS = [
    ("file:/a/b.svs", PurePosixPath("/a/b.svs")),
    ("file:///a/b.svs", PurePosixPath("/a/b.svs")),
    ("file://localhost/a/b.svs", PurePosixPath("/a/b.svs")),
    ("file:/a%20b/%C3%A4%23%25.svs", PurePosixPath("/a b/ä#%.svs")),
    ("file:/a+b&c='d'.svs", PurePosixPath("/a+b&c='d'.svs")),
    ("file:/C:/a/b.svs", PureWindowsPath("C:/a/b.svs")),
    ("file:///C:/a%20b.svs", PureWindowsPath("C:/a b.svs")),
    ("file://server/share/b.svs", PureWindowsPath("//server/share/b.svs")),
    ("file:////server/share/b.svs", PureWindowsPath("//server/share/b.svs")),
    ("/a/b.svs", PurePosixPath("/a/b.svs")),
    ("C:\\a\\b.svs", PureWindowsPath("C:/a/b.svs")),
    ("https://x.org/b.svs", None),
    ("omero://x", None),
    ("", None),
]


@pytest.mark.parametrize(("uri", "path"), URIS)
def test_uri_to_path(uri, path):
    found = uri_to_path(uri)
    assert found == path
    assert type(found) is type(path)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PurePosixPath("/a b/ä#%.svs"), "file:///a%20b/%C3%A4%23%25.svs"),
        (PureWindowsPath("C:/a b.svs"), "file:///C:/a%20b.svs"),
        (PureWindowsPath("//server/share/b.svs"), "file://server/share/b.svs"),
    ],
)
def test_path_to_uri(path, uri):
    assert path_to_uri(path) == uri
    assert uri_to_path(uri) == path


segment = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(segment.filter(lambda s: s not in (".", "..")), min_size=1, max_size=4))
def test_uri_round_trip(parts):
    path = PurePosixPath("/base", *parts)
    assert uri_to_path(path_to_uri(path)) == path


@pytest.mark.parametrize("slide", ["slides/k 1.svs", "../k 1.svs"], ids=["inside", "beside"])
def test_slides_are_found_after_the_project_moved(tmp_path, slide):
    old, new = tmp_path / "old" / "p", tmp_path / "new" / "p"
    file = (old / slide).resolve()
    file.parent.mkdir(parents=True)
    old.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    project = create_project(old)
    project.add_image(file)
    project.save()
    (entry,) = project.entries()
    assert resolve_slide(entry, project) == file
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = ProjectFile.open(new)
    assert resolve_slide(entry, moved) == (new / slide).resolve()
    (new / slide).unlink()
    assert resolve_slide(entry, moved) is None


def test_project_moved_from_windows(tmp_path):
    path = write_project(tmp_path, uri="file:/D:/study/p/project.qpproj")
    project = ProjectFile.open(path)
    found = moved_path(PureWindowsPath("d:/Study/p/slides/a.svs"), project)
    assert found == tmp_path / "slides" / "a.svs"
    assert moved_path(PureWindowsPath("C:/other/a.svs"), project) is None
    assert moved_path(PurePosixPath("/other/a.svs"), project) is None


def test_classes_are_added_once_and_the_rest_is_kept(tmp_path):
    file = tmp_path / "classifiers" / "classes.json"
    assert read_classes(file) == ()
    tumor = PathClass(("Tumor",), Color(1, 2, 3))
    assert add_classes(file, [tumor, PathClass(("Tumor", "Positive")), tumor])
    assert [(str(c), c.color) for c in read_classes(file)] == [
        ("Tumor", Color(1, 2, 3)),
        ("Tumor: Positive", Color(64, 64, 64)),
    ]
    before = file.read_bytes()
    assert not add_classes(file, [PathClass(("Tumor",), Color(9, 9, 9))])
    assert file.read_bytes() == before
    document = json.loads(before)
    document["future"] = 1
    document["pathClasses"][0]["new"] = 2
    file.write_text(json.dumps(document), "utf-8")
    assert add_classes(file, [PathClass(("Other",))])
    after = json.loads(file.read_bytes())
    assert after["future"] == 1
    assert after["pathClasses"][0]["new"] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_classes_are_what_qupath_says(version):
    project = json.loads((GOLDEN / f"{version}.truth.json").read_text("utf-8"))
    found = read_classes(GOLDEN / version / "classifiers" / "classes.json")
    assert [(str(c), c.color) for c in found] == [
        (c["name"], Color.from_argb(c["color"]["argb"])) for c in project["path_classes"]
    ]


@pytest.mark.parametrize("text", ["PK", "[]", '{"pathClasses":1}'])
def test_bad_classes_file(tmp_path, text):
    file = tmp_path / "classes.json"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match="Restore"):
        read_classes(file)


def test_bad_class_name_is_not_offered(tmp_path):
    with pytest.raises(InputError):
        add_classes(tmp_path / "classes.json", [PathClass(("a:b",))])
    assert not list(tmp_path.iterdir())
