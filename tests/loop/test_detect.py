"""``detect`` as a user runs it: the model, threads, inputs, regions, what is told."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import shapely
from detecting import contents, detected, entries_of, slides_of, weights_of
from typed import run

from glombridge.detection.detector import Detector
from glombridge.detection.raw import SlideDetections
from glombridge.errors import MachineError
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.slides.reader import Slide


@pytest.fixture
def detector(project: Path, tmp_path: Path) -> Detector:
    return Detector(weights_of(project), cache=tmp_path / "cache", device="cpu", threads=2)


def tiles_of(slide: Path, width: int, height: int, n: int = 12) -> np.ndarray:
    with Slide(slide) as opened:
        step = (opened.frame.width_px - 1500) / n
        places = [(500 + k * step, 300 + 90 * (k % 5)) for k in range(n)]
        return np.stack([opened.read_region(x, y, width, height, mpp=6.0) for x, y in places])


# The model itself.


@pytest.mark.parametrize("size", [(128, 128), (100, 100), (150, 120), (120, 100)], ids=str)
def test_the_network_called_directly_sees_what_predict_sees(
    project: Path, detector: Detector, size: tuple[int, int]
) -> None:
    import ultralytics

    width, height = size
    tiles = tiles_of(slides_of(project)[0], width, height)
    model = ultralytics.YOLO(str(weights_of(project)))
    results = model.predict(
        [np.ascontiguousarray(t[..., ::-1]) for t in tiles],
        imgsz=(-(-height // 32) * 32, -(-width // 32) * 32),
        conf=0.01,
        iou=0.6,
        max_det=300,
        device="cpu",
        verbose=False,
    )
    seen = detector(tiles)
    assert sum(len(s.score) for s in seen) > 20
    for ours, theirs in zip(seen, results, strict=True):
        assert len(ours.score) == len(theirs.boxes)
        assert ours.xyxy == pytest.approx(theirs.boxes.xyxy.numpy(), abs=0.1)
        assert ours.score == pytest.approx(theirs.boxes.conf.numpy(), abs=1e-5)


def test_batches_of_1_4_and_16_agree(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One to one with IoU >= 0.99 and scores within 0.001; at the threshold either may keep one."""
    runs = {
        n: detected(capsys, project, "--include-test", "--batch", n, "--min-confidence", 0.2)
        for n in (1, 4, 16)
    }
    for image in runs[1]["images"]:
        one = SlideDetections.load(Path(runs[1]["folder"]) / f"{image['file']}.parquet")
        first = one.stitched(0.2)
        for n in (4, 16):
            path = Path(runs[n]["folder"]) / f"{image['file']}.parquet"
            other = SlideDetections.load(path).stitched(0.2)
            boxes_a, boxes_b = shapely.box(*first.xyxy.T), shapely.box(*other.xyxy.T)
            partners = []
            for k, box in enumerate(boxes_a):
                iou = shapely.area(shapely.intersection(box, boxes_b)) / shapely.area(
                    shapely.union(box, boxes_b)
                )
                best = int(iou.argmax())
                if first.score[k] > 0.201:
                    assert iou[best] >= 0.99
                    assert abs(first.score[k] - other.score[best]) <= 0.001
                partners.append(best)
            assert max(Counter(partners).values(), default=1) == 1


def test_out_of_memory_halves_the_batch_and_goes_on(detector: Detector) -> None:
    """No GPU to fill here: the network is made to refuse more than three tiles."""
    tiles = np.random.default_rng(0).integers(0, 255, (11, 96, 96, 3), np.uint8)
    expected = detector(tiles)
    net, sizes = detector._net, []

    def small(batch: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 3:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise RuntimeError(msg)
        return net(batch)

    detector._net = small
    seen = detector(tiles)
    assert sizes[:3] == [11, 5, 2]
    assert set(sizes[2:]) == {2}
    assert detector.batch_limit == 2
    for a, b in zip(seen, expected, strict=True):
        assert a.xyxy == pytest.approx(b.xyxy, abs=1e-3)

    def nothing(batch: Any) -> Any:
        msg = "CUDA out of memory"
        raise RuntimeError(msg)

    detector._net = nothing
    with pytest.raises(MachineError, match="single tile of 96 x 96 px"):
        detector(tiles)

    def broken(batch: Any) -> Any:
        msg = "shapes differ"
        raise RuntimeError(msg)

    detector._net = broken
    with pytest.raises(RuntimeError, match="shapes differ"):
        detector(tiles)


# Determinism.


def test_workers_and_processes_give_the_same_bytes(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1, 2 and 4 threads, and two processes of their own (as with two GPUs)."""
    options = ("--include-test", "--batch", 4, "--device")
    made = []
    for k, (device, workers) in enumerate([("cpu", 1), ("cpu", 2), ("cpu", 4), ("cpu,cpu", 2)]):
        out = tmp_path / f"run{k}"
        detected(capsys, project, *options, device, "--workers", workers, "--out", out)
        made.append(contents(out))
    assert len(made[0]) == 5 * 3 + 1
    assert made[0] == made[1] == made[2] == made[3]


def test_ids_are_stable_and_files_fit_together(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = []
    for k in range(2):
        out = tmp_path / f"run{k}"
        document = detected(capsys, project, "--include-test", "--out", out)
        image = max(document["images"], key=lambda i: i["found"])
        features = json.loads((out / f"{image['file']}.geojson").read_text("utf-8"))["features"]
        ids.append([f["id"] for f in features])
        assert len(features) == image["found"] > 0
        area = json.loads((out / f"{image['file']}.scanned.geojson").read_text("utf-8"))
        (scanned,) = area["features"]
        outline = shapely.geometry.shape(scanned["geometry"])
        raw = SlideDetections.load(out / f"{image['file']}.parquet")
        assert outline.equals(raw.scanned_area)
        assert (raw.width_px, raw.height_px) == (image["width_px"], image["height_px"])
        assert outline.within(shapely.box(0, 0, image["width_px"], image["height_px"]))
        assert raw.boxes.score.min() < 0.1
    assert ids[0] == ids[1]
    assert document["images"][0]["state"] == "complete"


# Inputs.


def test_images_are_chosen_by_name_tag_metadata_and_state(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = entries_of(project)
    file = project / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    document["images"][1]["tags"] = ["night"]
    document["images"][2]["tags"] = ["night", "urgent"]
    file.write_text(json.dumps(document), "utf-8")
    names = [i["imageName"] for i in document["images"]]
    patients = {n: e.metadata["patient"] for n, e in entries.items()}

    def chosen(*options: str) -> list[str]:
        found = detected(capsys, project, "--include-test", *options)
        return [i["name"] for i in found["images"]]

    assert chosen("--tag", "night") == names[1:3]
    assert chosen("--tag", "urgent", "--image", names[2]) == [names[2]]
    patient = patients[names[0]]
    of_patient = [n for n in names if patients[n] == patient]
    assert chosen("--metadata", f"patient={patient}") == of_patient
    assert run("pull", project, "--json") == 0
    pulled = json.loads(capsys.readouterr().out)["images"]
    without = [i["name"] for i in pulled if not i["truth"]]
    assert len(without) == 1
    assert chosen("--state", "unannotated") == without
    assert chosen("--state", "annotated") == [n for n in names if n not in without]
    pending = [i["name"] for i in pulled if i["pending"]]
    assert chosen("--state", "proposed") == pending != names
    assert run("detect", project, "--tag", "no such") == 3
    assert run("detect", project, "--metadata", "patient") == 2
    capsys.readouterr()
    shutil.rmtree(project / "glombridge" / "detections")
    chosen("--image", names[0])
    assert chosen("--state", "new") == names[1:]


def test_test_patients_are_left_out_unless_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everyone = detected(capsys, project, "--include-test")
    others = detected(capsys, project)
    assert 0 < len(others["images"]) < len(everyone["images"])


def test_only_inside_given_regions_and_annotations(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = detected(capsys, project, "--include-test")
    image = max(everything["images"], key=lambda i: i["found"])
    raw = SlideDetections.load(Path(everything["folder"]) / f"{image['file']}.parquet")
    x0, y0, x1, y1 = raw.stitched(everything["confidence"]).xyxy[0]
    region = (x0 - 50, y0 - 50, x1 - x0 + 100, y1 - y0 + 100)
    options = ("--include-test", "--image", image["name"])
    text = ",".join(f"{v:.1f}" for v in region)
    inside = detected(capsys, project, *options, "--region", text)
    (one,) = inside["images"]
    assert 1 <= one["found"] < image["found"]
    assert one["tiles_shown"] < image["tiles_shown"]
    loaded = SlideDetections.load(Path(inside["folder"]) / f"{one['file']}.parquet")
    box = shapely.box(region[0], region[1], region[0] + region[2], region[1] + region[3])
    assert loaded.scanned_area.within(box.buffer(0.1))
    # The same area, drawn in QuPath.
    store = NativeStore.open(project)
    entry = entries_of(project)[image["name"]]
    roi = SlideObject(
        id=uuid4(),
        kind=ObjectKind.ANNOTATION,
        outline=Outline.rectangle(*box.bounds),
        path_class=PathClass(("Region*",)),
    )
    store.write(
        entry.id,
        HierarchyEdit(add=(roi,)),
        expected=store.read(entry.id).stamp,
        snapshot_folder=project / "kept",
    )
    drawn = detected(capsys, project, "--include-test", "--roi", "Region*")
    assert [i["name"] for i in drawn["images"]] == [image["name"]]
    assert drawn["images"][0]["found"] == one["found"]
    assert run("detect", project, "--roi", "Cortex") == 3
    assert run("detect", project, "--region", "1,2,3") == 2
    assert run("detect", project, "--region", "1,2,0,5") == 2
    assert run("detect", project, "--region", "nan,2,5,5") == 2
    assert run("detect", project, "--region", "1,2,inf,5") == 2


@pytest.mark.parametrize("option", ["--mpp=nan", "--mpp=0", "--mpp=inf", "--min-confidence=nan"])
def test_numbers_that_are_none(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert run("detect", "slide.tif", "--weights", "w.pt", "--out", "nowhere", option) == 2
    assert option.partition("=")[0] in capsys.readouterr().err


def test_slide_files_need_no_project(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_project = detected(capsys, project, "--include-test", "--device", "cpu")
    files = slides_of(project)[:2]
    alone = tmp_path / "elsewhere"
    shutil.copytree(project / "glombridge" / "runs" / "train-001", alone)
    weights = alone / "weights" / "best.pt"
    out = tmp_path / "out"
    document = detected(capsys, *files, "--weights", weights, "--out", out, "--device", "cpu")
    assert [i["name"] for i in document["images"]] == [f.name for f in files]
    assert document["confidence"] == in_project["confidence"]
    by_name = {i["name"]: i for i in in_project["images"]}
    for image in document["images"]:
        other = by_name[image["name"]]
        assert image["found"] == other["found"]
        theirs = Path(in_project["folder"]) / f"{other['file']}.parquet"
        assert (out / f"{image['file']}.parquet").read_bytes() == theirs.read_bytes()
    for arguments, says in [
        ([files[0]], "--weights"),
        ([files[0], "--weights", weights, "--out", tmp_path / "o", "--tag", "x"], "--tag"),
    ]:
        assert run("detect", *arguments) == 2
        assert says in capsys.readouterr().err
    assert run("detect", tmp_path / "no.svs", "--weights", weights, "--out", tmp_path / "o") == 3
    assert run("detect", files[0], "--weights", weights, "--out", out) == 4


def test_flips_add_a_measurement(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = detected(capsys, project, "--include-test")
    flipped = detected(capsys, project, "--include-test", "--flips")
    assert [i["found"] for i in flipped["images"]] == [i["found"] for i in plain["images"]]
    image = max(flipped["images"], key=lambda i: i["found"])
    path = Path(flipped["folder"]) / f"{image['file']}.geojson"
    for feature in json.loads(path.read_text("utf-8"))["features"]:
        assert 0 <= feature["properties"]["measurements"]["Confidence sd over flips"] <= 0.5
    # And the reviewer sees it: how sure the model is stands on each proposal.
    assert run("push", project, "--include-test", "-q") == 0
    proposals = [
        o
        for e in NativeStore.open(project).images()
        for o in NativeStore.open(project).read(e.id).objects
        if o.metadata.get("glombridge.run") == flipped["run"]
    ]
    assert len(proposals) > 0
    assert all(0 <= o.measurements["Confidence sd over flips"] <= 0.5 for o in proposals)


def test_a_calibrated_model_says_how_probable_each_object_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = weights_of(project).parent.parent / "operating_point.json"
    stored = json.loads(point.read_text("utf-8"))
    calibration = {"method": "temperature", "temperature": 2.0, "steps": []}
    calibration |= {"detections": 40, "objects": 9, "chosen_on": "validation slides"}
    point.write_text(json.dumps({**stored, "calibration": calibration}), "utf-8")
    first = detected(capsys, project, "--include-test")

    def shown(told: dict[str, Any]) -> list[dict[str, float]]:
        files = [Path(told["folder"]) / f"{i['file']}.geojson" for i in told["images"]]
        features = [f for path in files for f in json.loads(path.read_text("utf-8"))["features"]]
        return [f["properties"]["measurements"] for f in features]

    def pushed(told: dict[str, Any]) -> list[Any]:
        store = NativeStore.open(project)
        objects = [o for e in store.images() for o in store.read(e.id).objects]
        return [o for o in objects if o.metadata.get("glombridge.run") == told["run"]]

    def probable(score: float) -> float:
        odds = np.log(score / (1 - score))
        return float(1 / (1 + np.exp(-odds / 2.0)))

    values = shown(first)
    assert values
    for measurements in values:
        expected = probable(measurements["Confidence"])
        assert measurements["Probability"] == pytest.approx(expected, abs=1e-5)
    assert run("push", project, "--include-test", "-q") == 0
    assert pushed(first)
    for obj in pushed(first):
        expected = probable(obj.measurements["Confidence"])
        assert obj.measurements["Probability"] == pytest.approx(expected, abs=1e-5)
    # The run keeps how its scores were read: evaluating in between makes no second push different.
    point.write_text(json.dumps({**stored, "calibration": None}), "utf-8")
    data = project / "data"
    before = {p: p.read_bytes() for p in data.rglob("*.qpdata")}
    assert run("push", project, "--include-test", "-q") == 0
    assert {p: p.read_bytes() for p in data.rglob("*.qpdata")} == before
    # Weights without a calibration say nothing about probabilities.
    second = detected(capsys, project, "--include-test")
    assert [m["Confidence"] for m in shown(second)] == [m["Confidence"] for m in values]
    assert not any("Probability" in m for m in shown(second))
    assert run("push", project, "--include-test", "-q") == 0
    assert pushed(second)
    assert not any("Probability" in o.measurements for o in pushed(second))
    point.write_text("[]", "utf-8")
    assert run("detect", project, "--include-test") == 3
    assert "Run 'glombridge evaluate' again" in capsys.readouterr().err


def test_events_and_profile(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("detect", project, "--include-test", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    events = [json.loads(line) for line in captured.err.splitlines()]
    kinds = Counter(e["event"] for e in events)
    assert (kinds["start"], kinds["slide"], kinds["profile"]) == (1, 5, 1)
    last = [e for e in events if e["event"] == "slide"][-1]
    assert (last["slides_done"], last["slides"], last["found"]) == (5, 5, document["found"])
    assert last["tiles"] == sum(i["tiles_shown"] for i in document["images"])
    assert last["tiles_per_second"] > 0
    assert last["seconds_left"] == 0
    (profile,) = document["profile"]
    assert sum(profile["share"].values()) == pytest.approx(1, abs=0.01)
    assert profile["limits"] in ("decode", "model")
    assert run("detect", project, "--include-test", "--profile", "-q") == 0
    out = capsys.readouterr().out
    assert "what limits:" in out
    assert "decoders wait" in out
