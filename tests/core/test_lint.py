"""``lint``: each fault is named, its repair is what it says, and a repaired copy is clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.cli import main
from glombridge.errors import DamagedFileError, InputError, ProtectedError, UsageError
from glombridge.geojson_codec import dump_geojson, load_objects
from glombridge.geojson_codec.lint import Fault, lint_objects
from glombridge.steps.lint import fixed_name, lint

DATA = Path(__file__).parents[1] / "data" / "geojson"
ID = "6423a977-ffff-48db-affc-cd11632010f0"
ID_2 = "7423a977-ffff-48db-affc-cd11632010f0"
SQUARE = [[10, 10], [50, 10], [50, 50], [10, 50], [10, 10]]
BOW_TIE = [[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]]
RED = {"name": "Glomerulus", "color": [255, 0, 0]}


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry: Any = None, object_id: Any = ID, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": object_id,
        "geometry": polygon(SQUARE) if geometry is None else geometry,
        "properties": {"objectType": "annotation", "classification": RED, **properties},
    }


def text(*features: Any) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def test_a_sound_file_is_sound() -> None:
    found = lint_objects(text(feature(), feature(polygon([*BOW_TIE[:2], [40, 0], [0, 0]]), ID_2)))
    assert found.findings == ()
    assert len(found.objects) == 2


FAULTS = [
    pytest.param(feature(polygon(SQUARE[:-1])), Fault.UNCLOSED, "closed", 1, id="unclosed"),
    pytest.param(
        feature({"type": "MultiPolygon", "coordinates": [[SQUARE[:-1]]]}),
        Fault.UNCLOSED,
        "closed",
        1,
        id="unclosed-in-many",
    ),
    pytest.param(feature(polygon(BOW_TIE)), Fault.INVALID, "in 2 parts", 1, id="bow-tie"),
    pytest.param(
        feature(polygon(SQUARE, [[20, 20], [60, 20], [60, 30], [20, 30], [20, 20]])),
        Fault.INVALID,
        "made valid",
        1,
        id="hole-over-the-edge",
    ),
    pytest.param(feature(polygon()), Fault.EMPTY, "left out", 0, id="no-ring"),
    pytest.param(feature(polygon([])), Fault.EMPTY, "left out", 0, id="empty-ring"),
    pytest.param(feature({}), Fault.EMPTY, "left out", 0, id="empty-object"),
    pytest.param(
        feature(polygon([[1, 1], [2, 2], [1, 1], [1, 1]])), Fault.EMPTY, "left out", 0, id="line"
    ),
    pytest.param(
        feature(polygon([[1, 1], [2, 2], [3, 3], [1, 1]])), Fault.EMPTY, "left out", 0, id="flat"
    ),
    pytest.param(
        feature(polygon([[1, 1], ["a", 2], [3, 3], [1, 1]])),
        Fault.BAD_GEOMETRY,
        "left out",
        0,
        id="no-number",
    ),
    pytest.param(feature("here"), Fault.BAD_GEOMETRY, "left out", 0, id="geometry-is-text"),
    pytest.param(feature(object_id=None), Fault.NO_ID, "given", 1, id="no-id"),
    pytest.param(feature(object_id="7"), Fault.BAD_ID, "given", 1, id="id-is-a-number"),
    pytest.param(feature(object_id="PathCellDetection"), Fault.BAD_ID, "given", 1, id="id-of-0.2"),
    pytest.param(feature(classification={"name": "A"}), Fault.NO_COLOR, "grey", 1, id="colourless"),
    pytest.param(feature(classification="A"), Fault.NO_COLOR, "grey", 1, id="class-is-text"),
    pytest.param(
        feature(classification={"names": ["A", "B:C"], "color": [1, 2, 3]}),
        Fault.BAD_CLASS,
        "'A: B: C'",
        1,
        id="colon-in-a-level",
    ),
    pytest.param(
        feature(classification={"name": "A\nB ", "color": [1, 2, 3]}),
        Fault.BAD_CLASS,
        "'A: B'",
        1,
        id="line-break",
    ),
    pytest.param(
        feature(classification={"name": " : ", "color": [1, 2, 3]}),
        Fault.BAD_CLASS,
        "taken away",
        1,
        id="blank-class",
    ),
    pytest.param(
        feature(measurements={"a": "many"}), Fault.NOT_UNDERSTOOD, "left out", 1, id="measurement"
    ),
    pytest.param(17, Fault.NOT_AN_OBJECT, "left out", 0, id="a-number"),
    pytest.param(
        feature(polygon([[-30, 10], [20, 10], [20, 20], [-30, 20], [-30, 10]])),
        Fault.OFF_SLIDE,
        "cut",
        1,
        id="over-the-edge",
    ),
    pytest.param(
        feature(polygon([[200, 10], [220, 10], [220, 20], [200, 20], [200, 10]])),
        Fault.OFF_SLIDE,
        "left out",
        0,
        id="beside-the-slide",
    ),
    pytest.param(
        feature({"type": "Point", "coordinates": [200, 10]}),
        Fault.OFF_SLIDE,
        "left out",
        0,
        id="point-beside-the-slide",
    ),
]


@pytest.mark.parametrize(("raw", "fault", "done", "left"), FAULTS)
def test_each_fault_is_named_and_repaired(raw: Any, fault: Fault, done: str, left: int) -> None:
    found = lint_objects(text(raw), size_px=(100, 100))
    (only,) = found.faults
    assert only.fault is fault
    assert only.done is not None
    assert done in only.done
    assert only.where == "feature 1"
    assert len(found.objects) == left
    again = lint_objects(dump_geojson(found.objects), size_px=(100, 100))
    assert again.faults == ()
    assert len(again.objects) == left


def test_the_same_id_twice_makes_another() -> None:
    other = polygon([[60, 60], [90, 60], [90, 90], [60, 60]])
    found = lint_objects(text(feature(), feature(other)))
    assert [f.fault for f in found.findings] == [Fault.SAME_ID]
    assert found.findings[0].where == "feature 2"
    assert str(found.objects[0].id) == ID
    assert found.objects[1].id != found.objects[0].id


@pytest.mark.parametrize(
    ("extra", "done", "left"),
    [
        pytest.param({}, "left out", 1, id="says-nothing-more"),
        pytest.param({"name": "x"}, None, 2, id="another-name"),
        pytest.param({"measurements": {"a": 1}}, None, 2, id="another-measurement"),
        pytest.param({"metadata": {"a": "1"}}, None, 2, id="other-metadata"),
        pytest.param({"isLocked": True}, None, 2, id="locked"),
    ],
)
def test_a_repetition_goes_only_if_nothing_goes_with_it(
    extra: dict[str, Any], done: str | None, left: int
) -> None:
    turned = polygon([*SQUARE[2:], *SQUARE[1:3]])
    found = lint_objects(text(feature(), feature(turned, ID_2, **extra)))
    assert [(f.fault, f.done) for f in found.findings] == [(Fault.DUPLICATE, done)]
    assert len(found.objects) == left
    assert len(found.remaining) == (done is None)


def test_children_of_a_repetition_stay() -> None:
    child = feature(
        polygon([[20, 20], [30, 20], [30, 30], [20, 20]]), "8423a977-ffff-48db-affc-cd11632010f0"
    )
    found = lint_objects(text(feature(), feature(object_id=ID_2, childObjects=[child])))
    assert [str(o.parent) for o in found.objects] == ["None", ID]
    lost = lint_objects(text(feature(polygon(), childObjects=[child])))
    assert [f.where for f in lost.findings] == ["feature 1", "feature 1"]
    assert [o.parent for o in lost.objects] == [None]


def test_a_class_takes_the_colour_it_has_elsewhere() -> None:
    other = polygon([[60, 60], [90, 60], [90, 90], [60, 60]])
    found = lint_objects(
        text(feature(other, ID_2, classification={"name": "Glomerulus"}), feature())
    )
    (only,) = found.findings
    assert "(255, 0, 0)" in str(only.done)
    assert found.objects[0].path_class is not None
    assert found.objects[0].path_class.color == (255, 0, 0, 255)


def test_no_class_is_a_note() -> None:
    found = lint_objects(text(feature(classification=None)))
    assert [f.fault for f in found.findings] == [Fault.NO_CLASS]
    assert found.faults == ()


def test_what_nobody_knows_is_named() -> None:
    found = lint_objects(text({**feature(), "extra": 1}))
    assert "'extra'" in found.lost[0]


@pytest.mark.parametrize("path", sorted(DATA.rglob("*json")), ids=lambda p: p.name)
def test_real_exports_become_clean_and_keep_every_object(path: Path) -> None:
    found = lint_objects(path)
    assert found.remaining == ()
    assert len(found.objects) == len(load_objects(path).objects)
    data = dump_geojson(found.objects)
    again = lint_objects(data)
    assert again.faults == ()
    assert dump_geojson(again.objects) == data


COORDINATE = st.integers(-20, 120)
RINGS = st.lists(st.lists(st.tuples(COORDINATE, COORDINATE).map(list), max_size=7), max_size=3)
FEATURES = st.builds(
    lambda rings, object_id, classification: feature(
        polygon(*rings), object_id, classification=classification
    ),
    RINGS,
    st.sampled_from([ID, ID_2, None, "x", 3]),
    st.sampled_from([RED, None, {"name": "A"}, "B", {"name": " "}, {"names": ["A", "C:"]}, 5, []]),
)


@given(st.lists(FEATURES, max_size=5))
@settings(max_examples=80)
def test_repairing_twice_is_repairing_once(features: list[Any]) -> None:
    once = lint_objects(text(*features), size_px=(100, 100))
    data = dump_geojson(once.objects)
    twice = lint_objects(data, size_px=(100, 100))
    assert [f for f in twice.faults if f.fault is not Fault.DUPLICATE] == []
    assert dump_geojson(twice.objects) == data


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"{", DamagedFileError, id="cut"),
        pytest.param(b'{"a": 1}', InputError, id="no-geojson"),
        pytest.param(b"\x00\x01", DamagedFileError, id="no-text"),
    ],
)
def test_a_file_that_is_none(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        lint_objects(data)


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("a.geojson", "a.fixed.geojson"),
        ("a.json", "a.fixed.geojson"),
        ("a.b.geojson.gz", "a.b.fixed.geojson"),
        ("a", "a.fixed.geojson"),
    ],
)
def test_the_name_of_a_copy(name: str, fixed: str) -> None:
    assert fixed_name(Path("x") / name) == Path("x") / fixed


def test_a_copy_is_never_overwritten(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.geojson", tmp_path / "a.fixed.geojson"
    path.write_bytes(text(feature(object_id=None)))
    copy.write_text("mine", "utf-8")
    with pytest.raises(ProtectedError, match="is there already"):
        lint([path], fix=True)
    assert copy.read_text("utf-8") == "mine"
    copy.unlink()
    (tmp_path / "a.json").write_bytes(b"{}")
    with pytest.raises(ProtectedError, match="written twice"):
        lint([path, tmp_path / "a.json"], fix=True)
    assert not copy.exists()
    with pytest.raises(UsageError):
        lint([path], slide=path, size_px=(1, 1))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, worse = (tmp_path / f"{n}.geojson" for n in ("good", "bad", "worse"))
    good.write_bytes(text(feature()))
    bad.write_bytes(text(feature(object_id="7")))
    worse.write_bytes(b"[")
    before = bad.read_bytes()
    assert main(["lint", str(good), "--size", "100x100"]) == 0
    assert main(["lint", str(good), "--size", "40x40"]) == 3
    assert main(["lint", str(good), "--size", "wide"]) == 2
    capsys.readouterr()
    assert main(["lint", str(good), str(bad), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert [f["problems"] for f in document["files"]] == [0, 1]
    assert document["files"][1]["findings"][0]["object"] == "feature 1"
    assert main(["lint", str(good), str(bad), "--fix"]) == 0
    assert "given" in capsys.readouterr().out
    assert bad.read_bytes() == before
    assert [p.name for p in sorted(tmp_path.glob("*.fixed.*"))] == ["bad.fixed.geojson"]
    assert main(["lint", str(tmp_path / "bad.fixed.geojson")]) == 0
    assert main(["lint", str(worse), str(good)]) == 3
    told = capsys.readouterr()
    assert "worse.geojson" in told.out
    assert "A person has to decide" in told.err
    assert main(["lint", str(worse), str(bad)]) == 3
    assert "'--fix' writes a repaired copy" in capsys.readouterr().err


def test_the_size_of_a_slide(tmp_path: Path, data: Path) -> None:
    slide = sorted(
        p for p in (data / "slides").rglob("*") if p.suffix in (".tif", ".tiff", ".svs")
    )[0]
    path = tmp_path / "a.geojson"
    far = [[10**7, 0], [10**7 + 5, 0], [10**7, 5], [10**7, 0]]
    path.write_bytes(text(feature(polygon(far))))
    (found,) = lint([path], slide=slide).files
    assert found.result is not None
    assert [f.fault for f in found.result.faults] == [Fault.OFF_SLIDE]
