"""``task = "segment"``: the whole road with outlines, by a network that has learnt what it is asked for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import ellipses
import numpy as np
import pytest
import shapely
from detecting import contents, detected
from typed import run

from glombridge.demo.run import QUICK_STUDY, DemoResult, quick_settings, run_demo
from glombridge.detection.detector import Detector
from glombridge.detection.raw import SlideDetections
from glombridge.geojson_codec import load_objects
from glombridge.objects import OutlineKind, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.steps.init import init
from glombridge.steps.project import Project
from glombridge.steps.round import walk_round
from glombridge.tiles.reading_back import read_labels

NEW = "new.tif"
TRUTH = ellipses.ellipses(9)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three marked slides and one that nobody has marked, once round; the folder of the project."""
    folder = tmp_path_factory.mktemp("ellipses")
    worlds = {f"w{k}": ellipses.ellipses(k) for k in range(3)} | {"new": TRUTH}
    project = ellipses.make_project(folder, worlds, unmarked={"new"})
    init(project, settings=ellipses.settings())
    walk_round(Project.open(project))
    return project


@pytest.fixture
def project(walked: Path, tmp_path: Path) -> Path:
    """A copy to write into; its slides stay where they are."""
    shutil.copytree(walked, tmp_path / "project")
    return tmp_path / "project"


def weights_of(project: Path) -> Path:
    return project / "glombridge" / "runs" / "train-001" / "weights" / "best.pt"


def proposals_on_new(project: Path) -> list[SlideObject]:
    store = NativeStore.open(project)
    entry = next(e for e in store.images() if e.name == NEW)
    return list(store.read(entry.id).objects)


def test_proposed_outlines_are_right_to_a_pixel_or_two(walked: Path) -> None:
    """On a slide that nobody marked, by a network of 0.1 million parameters and half a minute."""
    found = proposals_on_new(walked)
    truth = shapely.STRtree(TRUTH)
    ious, off_px, wider_px, is_large, objects = [], [], [], [], []
    for obj in found:
        assert obj.outline is not None
        outline = obj.outline.geometry
        near = truth.query(outline, predicate="intersects")
        shared = [outline.intersection(TRUTH[k]).area / outline.union(TRUTH[k]).area for k in near]
        if not shared or max(shared) < 0.5:
            continue
        shape = TRUTH[near[int(np.argmax(shared))]]
        objects.append(id(shape))
        ious.append(max(shared))
        off_px.append(shapely.hausdorff_distance(outline.boundary, shape.boundary))
        wider_px.append((outline.area - shape.area) / shape.length)
        is_large.append(max(np.subtract(shape.bounds[2:], shape.bounds[:2])) > 48)
    # Pairs that touch are two, fragments of large ones are one, and hardly anything else is there.
    assert len(set(objects)) == len(objects) >= len(TRUTH) - 2
    assert len(found) - len(objects) <= 3
    small = ~np.array(is_large)
    assert np.count_nonzero(~small) >= 5
    # Masks have cells of four pixels. One pixel all round is 9 % of the area of a disc of 46 px.
    assert np.median(np.array(ious)[small]) > 0.91
    assert np.min(np.array(ious)[small]) > 0.8
    assert np.median(np.array(off_px)[small]) < 2
    # ultralytics' own masks would make them 0.8 px wider all round.
    assert abs(np.mean(np.array(wider_px)[small])) < 0.6
    assert np.median(np.array(ious)[~small]) > 0.85


def test_every_file_on_the_way_says_outlines(walked: Path) -> None:
    memory = walked / "glombridge"
    trained = json.loads((memory / "runs" / "train-001" / "manifest.json").read_text("utf-8"))
    assert trained["task"] == "segment"
    assert trained["tile_metrics_of_best_epoch"] is not None
    folder = memory / "detections" / "detect-001"
    told = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert (told["task"], told["notes"]) == ("segment", [])
    image = next(i for i in told["images"] if i["name"] == NEW)
    objects = load_objects(folder / f"{image['file']}.geojson").objects
    assert len(objects) == image["found"] == len(proposals_on_new(walked))
    for obj in objects:
        assert obj.outline is not None
        assert obj.outline.kind in (OutlineKind.POLYGON, OutlineKind.GEOMETRY)
        assert obj.outline.geometry.is_valid
        assert "glombridge.box" not in obj.metadata
        area_um2 = obj.outline.geometry.area * ellipses.MPP**2
        assert obj.measurements["Area um2"] == pytest.approx(area_um2, abs=0.01)
    assert run("lint", folder / f"{image['file']}.geojson", "-q") == 0
    figures = json.loads((memory / "runs" / "train-001" / "evaluation.json").read_text("utf-8"))
    drawn = figures["results"]["test"]["outlines"]
    assert drawn["pairs"] == figures["results"]["test"]["found"]
    assert 0.85 < drawn["mean_iou"] <= 1
    assert figures["tile_level"]["test"]["ap50"] > 0.5


def test_outlines_do_not_depend_on_threads_or_processes(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    for k, (device, workers) in enumerate([("cpu", 1), ("cpu", 2), ("cpu", 4), ("cpu,cpu", 2)]):
        out = tmp_path / f"run{k}"
        options = ("--include-test", "--device", device, "--workers", workers, "--out", out)
        detected(capsys, project, *options)
        made.append(contents(out))
    assert any(b"MultiPolygon" in data or b"Polygon" in data for data in made[0].values())
    assert made[0] == made[1] == made[2] == made[3]


def test_batches_of_1_4_and_16_give_the_same_outlines(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--image", NEW, "--min-confidence", 0.3, "--batch")
    runs = [detected(capsys, project, *options, n) for n in (1, 4, 16)]
    stitched = []
    for document in runs:
        path = Path(document["folder"]) / f"{document['images'][0]['file']}.parquet"
        stitched.append(SlideDetections.load(path).stitched(0.3))
    one = stitched[0]
    for other in stitched[1:]:
        tree = shapely.STRtree(other.outline)
        for outline, score in zip(one.outline, one.score, strict=True):  # type: ignore[arg-type]
            if score < 0.301:
                continue
            near = other.outline[tree.query(outline)]  # type: ignore[index]
            shared = [outline.intersection(o).area / outline.union(o).area for o in near]
            assert max(shared) > 0.99


def test_the_network_called_directly_gives_the_boxes_and_masks_of_predict(walked: Path) -> None:
    import ultralytics

    from glombridge.slides.reader import Slide

    detector = Detector(weights_of(walked), cache=walked / "glombridge" / "cache", device="cpu")
    with Slide(walked.parent / NEW) as slide:
        places = [(x, y) for x in (60, 180, 600, 800) for y in (60, 300)]
        tiles = np.stack([slide.read_region(x, y, 120, 100, mpp=4.0) for x, y in places])
    results = ultralytics.YOLO(str(weights_of(walked))).predict(
        [np.ascontiguousarray(t[..., ::-1]) for t in tiles],
        imgsz=(128, 128),
        conf=0.01,
        iou=0.6,
        max_det=300,
        device="cpu",
        retina_masks=True,
        verbose=False,
    )
    compared = 0
    for ours, theirs in zip(detector(tiles), results, strict=True):
        assert ours.outline is not None
        kept = np.array([o is not None for o in ours.outline], bool)
        for box, outline, score in zip(
            ours.xyxy[kept], ours.outline[kept], ours.score[kept], strict=True
        ):
            if score < 0.3:
                continue
            apart = np.abs(theirs.boxes.xyxy.numpy() - box).max(axis=1)
            k = int(apart.argmin())
            assert apart[k] < 0.1
            assert float(theirs.boxes.conf[k]) == pytest.approx(score, abs=1e-5)
            area_px = float(theirs.masks.data[k].sum())
            # They count whole pixels: half a pixel of the way round, at the most.
            assert abs(area_px - outline.area) < 0.5 * outline.length
            compared += 1
    assert compared > 10


def test_a_second_push_changes_no_byte(project: Path) -> None:
    before = {p: p.read_bytes() for p in project.glob("data/**/*") if p.is_file()}
    history = (project / "glombridge" / "history.jsonl").read_bytes()
    assert before
    assert run("push", project, "-q") == 0
    assert {p: p.read_bytes() for p in project.glob("data/**/*") if p.is_file()} == before
    assert (project / "glombridge" / "history.jsonl").read_bytes() == history


def test_accepted_outlines_teach_the_next_round(project: Path, tmp_path: Path) -> None:
    store = NativeStore.open(project)
    entry = next(e for e in store.images() if e.name == NEW)
    now = store.read(entry.id)
    # A human accepts what is right; a fragment would be a view of its object to who reads labels back.
    accepted = [
        replace(o, path_class=PathClass(("Glomerulus",))) for o in now.objects if _is_right(o)
    ]
    store.write(
        entry.id,
        HierarchyEdit(replace=tuple(accepted)),
        expected=now.stamp,
        snapshot_folder=tmp_path / "kept",
    )
    assert run("tile", project, "--out", tmp_path / "tiles", "-q") == 0
    labels = read_labels(tmp_path / "tiles")[NEW]
    taught = shapely.STRtree([o.outline.geometry for o in labels if o.outline])
    small = [o for o in accepted if o.outline and max(_size(o)) < 46]
    assert len(small) > 30
    for obj in small:
        outline = obj.outline.geometry  # type: ignore[union-attr]
        near = taught.geometries[taught.query(outline, predicate="intersects")]
        shared = max(outline.intersection(o).area / outline.union(o).area for o in near)
        assert shared > 0.99
    assert run("train", project, "--data", tmp_path / "tiles", "--epochs", 1, "-q") == 0


def _is_right(obj: SlideObject) -> bool:
    assert obj.outline is not None
    outline = obj.outline.geometry
    return any(outline.intersection(t).area > 0.5 * outline.union(t).area for t in TRUTH)


def _size(obj: SlideObject) -> tuple[float, float]:
    assert obj.outline is not None
    x0, y0, x1, y1 = obj.outline.bounds
    return x1 - x0, y1 - y0


def test_boxes_and_outlines_are_not_mixed_up(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The settings turned to boxes: these weights still give outlines, and are no start for boxes."""
    file = project / "glombridge" / "glombridge.toml"
    file.write_text(file.read_text("utf-8").replace('task = "segment"', 'task = "detect"'), "utf-8")
    (note,) = detected(capsys, project, "--image", NEW)["notes"]
    assert "the settings ask for boxes, but the weights were trained on outlines" in note
    assert run("tile", project, "-q") == 0
    assert run("train", project, "--from", "train-001", "-q") == 3
    assert "finds outlines, and the dataset is for boxes" in capsys.readouterr().err
    assert run("train", project, "--model", weights_of(project), "-q") == 3
    assert "is for the task 'segment', and the dataset for 'detect'" in capsys.readouterr().err


# The painted demo slides, with hardly any training: nothing on the road breaks.


@pytest.fixture(scope="module")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    settings = quick_settings(5)
    changes = {
        "tiles": settings.tiles.model_copy(update={"task": "segment"}),
        "train": settings.train.model_copy(update={"epochs": 20, "batch": 2}),
    }
    folder = tmp_path_factory.mktemp("tiny") / "demo"
    return run_demo(
        folder, seed=5, options=QUICK_STUDY, settings=settings.model_copy(update=changes)
    )


def test_the_tiny_demo_in_outlines(
    tiny_demo: DemoResult, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tiny_demo.project_file.parent
    manifest = project / "glombridge" / "runs" / "train-001" / "manifest.json"
    assert json.loads(manifest.read_text("utf-8"))["options"]["model"] == "glom-pico"
    assert json.loads(manifest.read_text("utf-8"))["start"]["model"] == "glom-pico-seg.yaml"
    # A few seconds of training teach little: whatever is seen at all is pushed.
    assert run("detect", project, "--min-confidence", 0.01, "-q") == 0
    assert run("push", project, "-q") == 0
    capsys.readouterr()
    assert run("pull", project, "--json", "-q") == 0
    images = json.loads(capsys.readouterr().out)["images"]
    pending = sum(image["pending"] for image in images)
    assert pending > 0
    store = NativeStore.open(project)
    proposed = [
        o
        for e in store.images()
        for o in store.read(e.id).objects
        if str(o.path_class) == "Glomerulus: Proposed"
    ]
    assert len(proposed) == pending
    drawn = [o for o in proposed if "glombridge.box" not in o.metadata]
    assert drawn
    assert all(o.outline and o.outline.geometry.is_valid for o in drawn)
    assert run("pull", project, "--out", project.parent / "pulled", "-q") == 0
    pulled = [o for p in (project.parent / "pulled").glob("*.geojson") for o in read(p)]
    by_id = {o.id: o for o in pulled}
    for obj in drawn:
        again = by_id[obj.id].outline
        assert again is not None
        assert again.geometry.symmetric_difference(obj.outline.geometry).area < 0.1  # type: ignore[union-attr]


def read(path: Path) -> list[SlideObject]:
    return list(load_objects(path).objects)
