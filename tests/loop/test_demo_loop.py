"""The whole loop on painted slides: what it promises about the project it leaves behind."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from glombridge.demo.run import (
    QUICK_STUDY,
    DemoResult,
    make_project,
    quick_settings,
    run_demo,
)
from glombridge.demo.slides import paint_study
from glombridge.demo.study import plan_study
from glombridge.errors import ProtectedError
from glombridge.objects import ObjectKind
from glombridge.qupath import NativeStore
from glombridge.qupath.hierarchy import DataFile
from glombridge.steps.init import init
from glombridge.steps.project import Project
from glombridge.steps.tile import tile
from glombridge.sync.roles import is_proposed


def test_every_data_file_parses_back_byte_for_byte(walked: DemoResult) -> None:
    files = sorted(walked.project_file.parent.glob("data/*/data.qpdata"))
    assert len(files) == 5
    for path in files:
        data = path.read_bytes()
        assert DataFile.parse(data, str(path)).emit() == data


def test_unannotated_slides_hold_proposals_and_only_proposals(walked: DemoResult) -> None:
    store = NativeStore.open(walked.project_file)
    unannotated = {s.name for s in walked.slides if s.group == "unannotated"}
    assert unannotated
    for entry in store.images():
        if entry.name in unannotated:
            objects = store.read(entry.id).objects
            assert objects
            for obj in objects:
                assert is_proposed(obj.path_class)
                assert obj.kind is ObjectKind.ANNOTATION
                assert 0 <= obj.measurements["Confidence"] <= 1
                assert obj.metadata["glombridge.run"] == walked.round.detect.run
                assert walked.round.train.sha256.startswith(obj.metadata["glombridge.model"])


def test_test_patients_get_no_proposals(walked: DemoResult) -> None:
    project = Project.open(walked.project_file)
    parts = project.parts()
    assert "test" in parts.values()
    for entry in project.store.images():
        if parts.get(entry.metadata["patient"]) == "test":
            assert not any(is_proposed(o.path_class) for o in project.store.read(entry.id).objects)


def test_annotations_are_as_the_pathologist_left_them(walked: DemoResult, tmp_path: Path) -> None:
    project = Project.open(walked.project_file)
    slides = walked.project_file.parent.parent / "slides"
    plans = plan_study(5, QUICK_STUDY)
    truths = paint_study(plans, tmp_path / "slides", workers=1)
    fresh = make_project(tmp_path / "fresh", slides, plans, truths, seed=5)
    for entry in fresh.images():
        before = {o.id: o for o in fresh.read(entry.id).objects}
        after = {o.id: o for o in project.store.read(entry.id).objects}
        assert before.keys() <= after.keys()
        for key, obj in before.items():
            assert after[key].outline == obj.outline
            assert after[key].path_class == obj.path_class
            assert not after[key].locked


def test_patients_never_sit_on_two_sides(walked: DemoResult) -> None:
    manifest = json.loads((walked.round.tile.dataset.folder / "manifest.json").read_text("utf-8"))
    sides = [set(patients) for patients in manifest["patients"].values()]
    assert all(sides)
    assert len(set.union(*sides)) == sum(map(len, sides))


def test_held_out_figures_are_counts_of_the_generators_truth(walked: DemoResult) -> None:
    truth = json.loads(
        (walked.project_file.parent.parent / "slides" / "truth.json").read_text("utf-8")
    )
    counts = {s["name"]: len(s["glomeruli"]) for s in truth["slides"]}
    for slide in walked.slides:
        assert slide.score.truth == counts[slide.name]
        assert slide.score.found + slide.score.missed == slide.score.truth
    # Train and validation slides are not held out.
    parts = Project.open(walked.project_file).parts()
    seen = {p for p, part in parts.items() if part in ("train", "val")}
    assert not any(slide.name.split("-")[0] in seen for slide in walked.slides)


def test_the_contact_sheet_is_a_picture(walked: DemoResult) -> None:
    with Image.open(walked.sheet) as image:
        image.load()
        assert image.width > 400
        assert len(image.getcolors(1 << 24) or []) > 1000


def test_the_run_says_what_made_it(walked: DemoResult) -> None:
    run = walked.round.train.run
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    weights = hashlib.sha256((run / "weights" / "best.pt").read_bytes()).hexdigest()
    assert manifest["weights"]["sha256"] == weights == walked.round.train.sha256
    assert manifest["environment"]["libraries"]["ultralytics"]
    assert manifest["options"]["seed"] == 5
    point = json.loads((run / "operating_point.json").read_text("utf-8"))
    assert point["chosen_on"] == "validation slides"
    assert walked.round.detect.confidence == point["confidence"]


def test_ultralytics_wrote_only_where_it_was_told(
    walked: DemoResult, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from ultralytics.utils import SETTINGS_FILE

    root = walked.project_file.parent.parent
    assert {p.name for p in root.iterdir()} == {"slides", "project", "proposals.png"}
    # It reads once per process where its settings go: the cache of the first test that needed it.
    assert Path(SETTINGS_FILE).is_file()
    assert Path(SETTINGS_FILE).is_relative_to(tmp_path_factory.getbasetemp())


def test_nothing_reached_for_the_network(walked: DemoResult, network_calls: list[str]) -> None:
    assert walked.round.train.weights.is_file()
    assert network_calls == []


def test_the_history_tells_the_steps_in_order(walked: DemoResult) -> None:
    events = [e["event"] for e in Project.open(walked.project_file).workspace.history.events()]
    steps = [e for e in events if e not in ("review", "write-begun", "write-done", "content")]
    # After its round the demo looks at the test slides, too; they get no proposals.
    walk = ["init", "pull", "split", "tile", "train", "evaluate", "detect", "pushed", "detect"]
    assert steps == walk
    # What the pathologist drew comes on record before the pull that took it in.
    assert events.index("review") < events.index("pull")
    assert events.count("write-begun") == events.count("write-done") > 0


def test_a_folder_that_is_in_use_is_refused(walked: DemoResult) -> None:
    with pytest.raises(ProtectedError, match="not empty"):
        run_demo(walked.project_file.parent.parent)


def hashes(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix != ".cache"
    }


def test_the_same_seed_gives_the_same_annotations_tiles_and_split(
    walked: DemoResult, tmp_path: Path
) -> None:
    first = Project.open(walked.project_file)
    plans = plan_study(5, QUICK_STUDY)
    truths = paint_study(plans, tmp_path / "slides", workers=1)
    slides = walked.project_file.parent.parent / "slides"
    assert hashes(tmp_path / "slides") == hashes(slides)
    store = make_project(tmp_path / "project", tmp_path / "slides", plans, truths, seed=5)
    init(store.project_file, settings=quick_settings(5))
    second = Project.open(store.project_file)
    tiled = tile(second)
    assert hashes(tiled.dataset.folder) == hashes(walked.round.tile.dataset.folder)
    assert second.parts() == first.parts()
    assert tiled.pull.sha256 == walked.round.tile.pull.sha256
