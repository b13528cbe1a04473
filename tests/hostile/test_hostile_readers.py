"""Files that somebody made up: each is read, or refused by an error that names it, and nothing else."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import shapely
from hostile import DEEP, MANY, NAMES, a_record, changed_json, damaged, few, outcome
from hypothesis import given
from hypothesis import strategies as st

from glombridge import schemes
from glombridge.detection.boxes import Boxes
from glombridge.detection.raw import SlideDetections
from glombridge.errors import DamagedFileError, InputError
from glombridge.evaluation.drawn import outline_ious
from glombridge.geojson_codec import dump_geojson, load_objects
from glombridge.geojson_codec.lint import Fault, lint_objects
from glombridge.ledger import Workspace
from glombridge.ledger.history import History
from glombridge.ledger.ledger import Ledger
from glombridge.objects import sound_area
from glombridge.qupath import NativeStore, read_classes
from glombridge.qupath.decoding import decode_tree
from glombridge.qupath.hierarchy import DataFile
from glombridge.qupath.project_file import ProjectFile
from glombridge.schemes import SHIPPED, load_scheme
from glombridge.settings import Settings, load_settings, render_settings
from glombridge.steps.detect_proposals import load_proposals
from glombridge.tiles.grid import TileBox
from glombridge.tiles.records import SlideRecord
from glombridge.tiles.yolo import yolo_polygons_to_slide, yolo_to_slide

DATA = Path(__file__).parents[1] / "data"
GOLDEN = DATA / "qupath_golden" / "v0.6.0"
SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
STAR = [
    [math.cos(k * math.pi * 0.99) * 1e4, math.sin(k * math.pi * 0.99) * 1e4] for k in range(100)
]
IDS = ["1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"]
EVENTS = [
    {"v": 2, "at": "2026-01-01T00:00:00Z", "event": "init", "store": "native"},
    {
        "v": 2,
        "at": "2026-01-02T00:00:00Z",
        "event": "write-begun",
        "write": "write-001",
        "command": "push",
        "image": 1,
        "layer": "main",
        "run": "detect-001",
        "model": "abc",
        "sha256": "0",
        "replaced": "",
        "snapshot": None,
        "add": [
            {"id": IDS[0], "class": "Glomerulus: Proposed", "measurements": {"Confidence": 0.5}}
        ],
    },
    {"v": 2, "at": "2026-01-02T00:00:01Z", "event": "write-done", "write": "write-001", "image": 1},
    {
        "v": 2,
        "at": "2026-01-03T00:00:00Z",
        "event": "review",
        "image": 1,
        "after": None,
        "decisions": [{"id": IDS[0], "to": "accepted", "class": "Glomerulus", "by": "unknown"}],
    },
    {"v": 2, "at": "2026-01-04T00:00:00Z", "event": "split", "patients": {"P1": "train"}},
]


def small_collection() -> dict[str, Any]:
    """A few objects of each real export, every kind of outline among them."""
    features: list[Any] = []
    for file in sorted((DATA / "geojson").rglob("*json")):
        document = json.loads(file.read_text("utf-8"))
        features += (document if isinstance(document, list) else document.get("features", []))[:1]
    for feature in features:
        ring = (feature.get("geometry") or {}).get("coordinates")
        if isinstance(ring, list) and ring and isinstance(ring[0], list):
            del ring[0][12:]
    return {"type": "FeatureCollection", "features": features[:6]}


def read_project(file: Path) -> None:
    project = ProjectFile.open(file)
    for entry in project.entries():
        f"{entry.name}{entry.description}{entry.metadata}{entry.tags}{entry.uris}".encode()
        assert all(n is None or 0 < n < 2**31 for n in (entry.width, entry.height))
        assert all(v is None or 0 < v < math.inf for v in (entry.mpp_x, entry.mpp_y))
    project.save()


def read_history(file: Path) -> None:
    with Ledger.in_memory(History(file)) as ledger:
        ledger.states()
        ledger.parts()


def read_qpdata(file: Path) -> None:
    decode_tree(DataFile.parse(file.read_bytes(), str(file)).root, "seed")


def lint(file: Path) -> None:
    dump_geojson(lint_objects(file, size_px=(1000, 1000)).objects)


def load(file: Path) -> None:
    dump_geojson(load_objects(file).objects)


def records(file: Path) -> None:
    try:
        SlideRecord.from_json(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error


TOML = render_settings(Settings()).encode()
SCHEME = (Path(schemes.__file__).parent / f"{SHIPPED[0]}.toml").read_bytes()
JSON: dict[str, tuple[str, Any, Callable[[Path], Any]]] = {
    "project": (
        "project.qpproj",
        json.loads((GOLDEN / "project.qpproj").read_text("utf-8")),
        read_project,
    ),
    "classes": (
        "classes.json",
        json.loads((GOLDEN / "classifiers" / "classes.json").read_text("utf-8")),
        read_classes,
    ),
    "geojson": ("a.geojson", small_collection(), load),
    "lint": ("a.geojson", small_collection(), lint),
    "record": ("record.json", a_record(), records),
}
BYTES: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
    "settings": ("glombridge.toml", TOML, load_settings),
    "scheme": ("own.toml", SCHEME, load_scheme),
    "project": ("project.qpproj", (GOLDEN / "project.qpproj").read_bytes(), read_project),
    "geojson": ("a.geojson", json.dumps(small_collection()).encode(), lint),
    "gzip": ("a.geojson.gz", gzip.compress(json.dumps(small_collection()).encode()), load),
    "qpdata": ("data.qpdata", (GOLDEN / "data" / "1" / "data.qpdata").read_bytes(), read_qpdata),
}


@pytest.mark.parametrize("count", [100, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", JSON)
def test_changed_values(tmp_path: Path, name: str, count: int) -> None:
    file_name, document, read = JSON[name]
    file = tmp_path / file_name

    @few(count)
    @given(changed_json(document))
    def check(text: bytes) -> None:
        file.write_bytes(text)
        outcome(lambda: read(file), file_name)

    check()


@pytest.mark.parametrize("count", [60, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BYTES)
def test_changed_bytes(tmp_path: Path, name: str, count: int) -> None:
    file_name, data, read = BYTES[name]
    file = tmp_path / file_name

    @few(count)
    @given(damaged(data))
    def check(text: bytes) -> None:
        file.write_bytes(text)
        outcome(lambda: read(file), file_name)

    check()


@pytest.mark.parametrize("count", [150, pytest.param(MANY, marks=pytest.mark.slow)])
def test_changed_history(tmp_path: Path, count: int) -> None:
    file = tmp_path / "history.jsonl"

    @few(count)
    @given(st.sampled_from(range(len(EVENTS))), st.data())
    def check(which: int, data: st.DataObject) -> None:
        lines = [json.dumps(event).encode() for event in EVENTS]
        lines[which] = data.draw(changed_json(EVENTS[which]))
        file.write_bytes(b"\n".join(lines) + b"\n")
        outcome(lambda: read_history(file), "history.jsonl")

    check()


TOKENS = st.sampled_from(
    [
        "0",
        "1",
        "0.5",
        "-1",
        "nan",
        "inf",
        "1e308",
        "-1e308",
        "9" * 5000,
        "²",
        "١",
        "x",
        "",
        "0x1",
        "\0",
    ]
)


@few(300)
@given(st.lists(st.lists(TOKENS, max_size=9).map(" ".join), max_size=4).map("\n".join))
def test_label_files(text: str) -> None:
    tile = TileBox(0, 0, 0, 0, 0, 640, 640, 0.0, 0.0, 640.0, 640.0)
    outcome(lambda: yolo_to_slide(text, tile), "line ")
    outcome(lambda: yolo_polygons_to_slide(text, tile), "line ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, "[" * DEEP) for name in JSON),
        *((name, '{"a":' * DEEP) for name in JSON),
        (
            "project",
            '{"version":"0.6.0","images":[{"entryID":1,"serverBuilder":' + '{"builder":' * DEEP,
        ),
        ("geojson", '{"type":"GeometryCollection","geometries":[' * DEEP),
        ("geojson", '{"type":"Feature","properties":{"childObjects":[' * DEEP),
        ("lint", '{"type":"Feature","properties":{"classification":{"parentClass":' * DEEP),
    ],
    ids=lambda value: value[:60],
)
def test_json_nested_a_hundred_thousand_times(tmp_path: Path, name: str, text: str) -> None:
    file_name, _, read = JSON[name]
    (tmp_path / file_name).write_text(text)
    assert outcome(lambda: read(tmp_path / file_name), file_name) is not None


@pytest.mark.parametrize("depth", [50, 200, 320])
@pytest.mark.parametrize("read", [load, lint])
def test_nested_as_deep_as_json_allows(tmp_path: Path, depth: int, read: Any) -> None:
    """Whatever Python's own limit is, above it there is an error and below it an answer."""
    one = '{"type":"Feature","geometry":{"type":"Point","coordinates":[1,1]},"properties":{"childObjects":['
    for text in (
        one * depth + "]}}" * depth,
        '{"type":"GeometryCollection","geometries":[' * depth
        + '{"type":"Point","coordinates":[1,1]}'
        + "]}" * depth,
    ):
        (tmp_path / "a.geojson").write_text(text)
        outcome(lambda: read(tmp_path / "a.geojson"), "a.geojson")


@pytest.mark.parametrize("read", [load_settings, load_scheme], ids=["settings", "scheme"])
@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * DEEP,
        "a=" + "{b=" * DEEP,
        "a." * DEEP + "b=1",
        "[" + '"a".' * DEEP + "b]",
        "\0",
        "\ud800",
    ],
    ids=["arrays", "tables", "dotted", "header", "nul", "not-utf-8"],
)
def test_toml(tmp_path: Path, read: Any, text: str) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert outcome(lambda: read(file), "own.toml") is not None


@pytest.mark.parametrize("read", [load_settings, load_scheme], ids=["settings", "scheme"])
def test_a_folder_in_the_place_of_a_file(tmp_path: Path, read: Any) -> None:
    (tmp_path / "own.toml").mkdir()
    assert outcome(lambda: read(tmp_path / "own.toml"), "own.toml") is not None


@pytest.mark.parametrize(
    "line",
    [
        *('tiles.overlap = "' + "9" * 400 + ' px"', "tiles.overlap = inf", "tiles.overlap = nan"),
        *("tiles.width_um = inf\ntiles.height_um = inf", "tiles.background_ratio = 1e308"),
        *("seed = " + "9" * 400, "seed = -1", "tiles.mpp = nan"),
    ],
    ids=lambda value: value[:30],
)
def test_settings_that_cannot_be(tmp_path: Path, line: str) -> None:
    (tmp_path / "glombridge.toml").write_text(line)
    assert (
        outcome(lambda: load_settings(tmp_path / "glombridge.toml"), "glombridge.toml") is not None
    )


@pytest.mark.parametrize(
    "value", [0, -1, 10**12, 10**400, 1e308, math.inf, math.nan, "a", [], None, {}]
)
@pytest.mark.parametrize("key", ["width", "height", "pixelWidth"])
def test_absurd_sizes_of_an_image_are_no_sizes(tmp_path: Path, key: str, value: Any) -> None:
    document = json.loads((GOLDEN / "project.qpproj").read_text("utf-8"))
    metadata = document["images"][0]["serverBuilder"]["metadata"]
    if key == "pixelWidth":
        metadata["pixelCalibration"][key] = {"value": value, "unit": "µm"}
    else:
        metadata[key] = value
    (tmp_path / "project.qpproj").write_text(json.dumps(document), "utf-8")
    entry = ProjectFile.open(tmp_path).entries()[0]
    assert {"width": entry.width, "height": entry.height, "pixelWidth": entry.mpp_x}[key] is None


def polygon(ring: list[Any], **more: Any) -> str:
    geometry = {"type": "Polygon", "coordinates": [ring], **more}
    return json.dumps({"type": "Feature", "id": IDS[0], "geometry": geometry, "properties": {}})


@pytest.mark.parametrize("far", [1e308, 1e300, 2.0**40, math.inf, math.nan, 10**400])
@pytest.mark.parametrize("is_ellipse", [False, True])
def test_coordinates_that_no_pixel_has_are_left_out_and_named(
    tmp_path: Path, far: Any, is_ellipse: bool
) -> None:
    ring = [[-far, -far], [far, -far], [far, far], [-far, far], [-far, -far]]
    (tmp_path / "a.geojson").write_text(polygon(ring, isEllipse=is_ellipse))
    found = load_objects(tmp_path / "a.geojson")
    assert not found.objects
    assert "feature 1" in found.problems[0]
    assert not lint_objects(tmp_path / "a.geojson").objects
    assert {Fault.BAD_GEOMETRY, Fault.EMPTY} & {
        f.fault for f in lint_objects(tmp_path / "a.geojson").faults
    }


@pytest.mark.parametrize("number", [math.inf, math.nan, 10**300, 2**31, -5, "x"])
def test_planes_that_cannot_be(number: Any) -> None:
    found = load_objects(polygon(SQUARE, plane={"c": number, "z": 0, "t": 0}))
    assert found.objects[0].outline is not None
    assert found.objects[0].outline.plane.c == -1
    assert "plane" in found.problems[0]


def test_an_outline_that_crosses_itself_everywhere_is_left_to_a_person() -> None:
    """GEOS needs seconds for these hundred corners, and no bound is known for more."""
    (fault,) = [
        f for f in lint_objects(polygon([*STAR, STAR[0]])).faults if f.fault is Fault.INVALID
    ]
    assert "crosses itself more than" in fault.text


@pytest.mark.parametrize("corners", [100, 10_000])
def test_a_tangle_is_refused_and_not_repaired_for_hours(corners: int) -> None:
    """What repairing takes grows faster than the crossings; counting them ends at the thousandth."""
    tangle = shapely.Polygon(np.random.default_rng(0).uniform(0, 1e4, (corners, 2)))
    with pytest.raises(InputError, match="crosses itself more than"):
        sound_area(tangle)


def test_figures_of_outlines_repair_no_tangle() -> None:
    tangle = shapely.Polygon(STAR)
    stitched = SimpleNamespace(outline=np.array([shapely.box(0, 0, 9, 9)], object))
    slide: Any = SimpleNamespace(
        seen=SimpleNamespace(stitched=lambda *_: stitched),
        truth=SimpleNamespace(outline=np.array([tangle], object)),
        method="views",
    )
    match: Any = SimpleNamespace(truth_of=np.array([0]))
    with pytest.raises(InputError, match="crosses itself more than"):
        outline_ious(slide, 0.5, match)


def test_a_bow_tie_is_repaired_as_ever() -> None:
    (kept,) = lint_objects(polygon([[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]])).objects
    assert kept.outline is not None
    assert kept.outline.geometry.area == pytest.approx(800)


@pytest.mark.slow
def test_a_million_vertices() -> None:
    turn = np.linspace(0, 2 * np.pi, 1_000_001)
    ring = np.column_stack([np.cos(turn), np.sin(turn)]) * 1e5
    ring[-1] = ring[0]
    assert len(lint_objects(polygon(ring.tolist())).objects) == 1


def test_compressed_text_that_grows_a_thousand_times(tmp_path: Path) -> None:
    file = tmp_path / "bomb.geojson.gz"
    file.write_bytes(gzip.compress(b"[" + b" " * 200_000_000 + b"]"))
    with pytest.raises(DamagedFileError, match=r"bomb\.geojson\.gz.*unpack"):
        load_objects(file)


def detection_run(folder: Path) -> dict[str, Any]:
    """A detection folder of one image, and its manifest."""
    tiles = np.array([[0.0, 0, 64, 64]])
    boxes = Boxes(
        np.array([[1.0, 1, 9, 9]]),
        np.array([0.9]),
        np.array([0]),
        np.zeros((1, 4), bool),
        np.array([0]),
        tiles,
        None,
    )
    SlideDetections(boxes, tiles, 1, 64, 64).save(folder / "0001_a.parquet")
    image = {"id": 1, "file": "0001_a", "mpp": 0.5, "slide_fingerprint": "0", "name": "a"}
    plan = {
        "id": 1,
        "regions": ["POLYGON ((0 0, 9 0, 9 9, 0 0))"],
        "roi_classes": [],
        "roi_sha256": "",
    }
    return {
        "kind": "detect",
        "classes": ["Glomerulus"],
        "project": "p",
        "confidence": 0.5,
        "method": "views",
        "run": "detect-001",
        "weights": {"sha256": "0"},
        "images": [{**image, "width_px": 64, "height_px": 64}],
        "plan": {"images": [plan]},
    }


@pytest.mark.parametrize("count", [100, pytest.param(MANY, marks=pytest.mark.slow)])
def test_changed_detections(tmp_path: Path, count: int) -> None:
    manifest = detection_run(tmp_path)
    project: Any = SimpleNamespace(settings=Settings(), workspace=Workspace(tmp_path / "p"))
    sound = (tmp_path / "0001_a.parquet").read_bytes()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert len(load_proposals(project, tmp_path)[0]) == 1

    @few(count)
    @given(changed_json(manifest))
    def check_manifest(text: bytes) -> None:
        (tmp_path / "manifest.json").write_bytes(text)
        outcome(lambda: load_proposals(project, tmp_path))

    @few(count)
    @given(damaged(sound))
    def check_boxes(data: bytes) -> None:
        (tmp_path / "0001_a.parquet").write_bytes(data)
        outcome(lambda: SlideDetections.load(tmp_path / "0001_a.parquet"), "0001_a.parquet")

    check_manifest()
    check_boxes()


@pytest.mark.parametrize(
    "file", ["../outside", "/etc/passwd", "a\\b", pytest.param("a" * 5000, id="too long")]
)
def test_a_manifest_names_only_files_of_its_folder(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    manifest = detection_run(folder)
    shutil.copy(folder / "0001_a.parquet", tmp_path / "outside.parquet")
    manifest["images"][0]["file"] = file
    (folder / "manifest.json").write_text(json.dumps(manifest))
    project: Any = SimpleNamespace(settings=Settings(), workspace=Workspace(tmp_path / "p"))
    with pytest.raises(DamagedFileError, match="not one of its own folder"):
        load_proposals(project, folder)


def test_golden_files_are_read(tmp_path: Path) -> None:
    """What the fuzz starts from is sound, or it would test nothing."""
    for file_name, document, read in JSON.values():
        (tmp_path / file_name).write_text(json.dumps(document))
        read(tmp_path / file_name)
    for file_name, data, read in BYTES.values():
        (tmp_path / file_name).write_bytes(data)
        read(tmp_path / file_name)
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in EVENTS))
    read_history(tmp_path / "history.jsonl")
    with Ledger.in_memory(History(tmp_path / "history.jsonl")) as ledger:
        assert [step.state for step in ledger.steps(IDS[0])] == ["proposal", "accepted"]
        assert ledger.parts() == {"P1": "train"}
    assert NativeStore.open(GOLDEN).read(1).objects


def test_names_are_values_and_no_part_of_a_statement(tmp_path: Path) -> None:
    patients = dict.fromkeys([name for name in NAMES if "\ud800" not in name], "train")
    history = History(tmp_path / "history.jsonl")
    history.append("split", patients=patients)
    with Ledger.in_memory(history) as ledger:
        assert ledger.parts() == patients
        assert all(ledger.steps(name) == [] for name in NAMES if name and "\ud800" not in name)


def test_half_a_surrogate_pair_does_not_spoil_the_history(tmp_path: Path) -> None:
    """A class of QuPath may be called so; UTF-8 has no bytes for it."""
    history = History(tmp_path / "history.jsonl")
    history.append("split", patients={"lone \ud800": "train"})
    with Ledger.in_memory(history) as ledger:
        assert ledger.parts() == {"lone ?": "train"}


def test_boxes_that_are_nowhere_are_named_with_their_file(tmp_path: Path) -> None:
    detection_run(tmp_path)
    file = tmp_path / "0001_a.parquet"
    ((key, text),) = [i for i in pl.read_parquet_metadata(file).items() if i[0] != "ARROW:schema"]
    said = json.loads(text)
    del said["columns_sha256"]  # as of a version that kept none
    about = {key: json.dumps(said)}
    table = pl.read_parquet(file).with_columns(pl.lit(float("inf"), pl.Float32).alias("left"))
    table.write_parquet(file, metadata=about)
    with pytest.raises(DamagedFileError, match=r"0001_a\.parquet.*not finite"):
        SlideDetections.load(file)
