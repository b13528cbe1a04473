"""``evaluate`` on a walked loop: what it writes, compares and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import files_in
from killed_moves import KILL_AT_MOVE
from typed import run_json

from glombridge.cli import main
from glombridge.demo.run import DemoResult
from glombridge.detection import detector
from glombridge.errors import InputError, MachineError, ProtectedError
from glombridge.evaluation.sweep import FALSE_PER_SLIDE, THRESHOLDS
from glombridge.objects import PathClass
from glombridge.qupath import HierarchyEdit
from glombridge.settings import EvaluateSettings
from glombridge.steps.detect import detect
from glombridge.steps.evaluate import evaluate
from glombridge.steps.evaluate_rounds import count_decisions
from glombridge.steps.project import Project
from glombridge.sync.roles import is_proposed

ROOT = Path(__file__).parents[2]
KILLED = (
    KILL_AT_MOVE
    + """
from glombridge.cli import main
sys.exit(main(["evaluate", sys.argv[1], "--no-tiles", "-q"]))
"""
)


def run_folder(project: Path) -> Path:
    return project / "glombridge" / "runs" / "train-001"


def set_evaluate(opened: Project, **changes: Any) -> Project:
    settings = opened.settings.model_copy(update={"evaluate": EvaluateSettings(**changes)})
    return Project(opened.store, opened.workspace, settings, opened.slides)


def test_the_walked_loop_was_evaluated(walked: DemoResult) -> None:
    told = walked.round.evaluate.as_dict()
    written = json.loads((walked.round.train.run / "evaluation.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(told))
    for part in ("val", "test"):
        results = told["results"][part]
        of_part = [s for s in told["slides"] if s["part"] == part]
        for key in ("truth", "found", "missed", "false"):
            assert results[key] == sum(s[key] for s in of_part)
            assert results[key] == sum(g[key] for g in results["by_patient"].values())
            assert results[key] == sum(g[key] for g in results["by_stain"].values())
        assert results["slides"] == len(of_part)
        assert results["truth"] == sum(g["truth"] for g in results["by_class"].values())
        assert {f"froc_{k:g}" for k in FALSE_PER_SLIDE} <= set(results["figures"])
    assert [p["confidence"] for p in told["curve"]] == list(THRESHOLDS)
    assert told["tile_level"]["test"]["tiles"] == walked.round.tile.dataset.tiles["test"]


def test_the_threshold_reaches_the_target_or_says_that_none_does(walked: DemoResult) -> None:
    told = walked.round.evaluate.as_dict()
    point = told["operating_point"]
    recall = {p["confidence"]: p["validation"]["recall"] for p in told["curve"]}
    chosen = recall[point["confidence"]]
    assert point["validation"]["recall"] == chosen
    assert point["reached"] == (max(recall.values()) >= 0.98)
    if point["reached"]:
        assert chosen >= 0.98
    else:
        assert chosen == max(recall.values())
    higher = [r for c, r in recall.items() if c > point["confidence"]]
    assert all(r < min(0.98, chosen) for r in higher), "the highest that does"
    test = told["results"]["test"]["figures"]["recall"]
    assert test["value"] is not None
    assert "interval" in test


@pytest.mark.parametrize(
    ("target", "reached"), [(0.05, True), (1.0, None)], ids=["easy", "all-of-them"]
)
def test_any_target(project: Path, target: float, reached: bool | None) -> None:
    opened = set_evaluate(Project.open(project), target="recall", target_recall=target)
    point = evaluate(opened, tiles=False).point
    assert point.reached == ((point.validation.recall or 0) >= target)
    if reached is not None:
        assert point.reached is reached
    stored = json.loads((run_folder(project) / "operating_point.json").read_text("utf-8"))
    assert stored["confidence"] == point.confidence
    assert stored["target"] == f"recall >= {target}"


def evaluation_files(project: Path) -> dict[str, Any]:
    """The two files that an evaluation writes, those that are there."""
    paths = (run_folder(project) / name for name in ("evaluation.json", "operating_point.json"))
    return {p.name: json.loads(p.read_text("utf-8")) for p in paths if p.is_file()}


@pytest.mark.parametrize("moves", range(4))
def test_its_files_stay_as_they_were_if_they_cannot_all_be_replaced(
    project: Path, moves: int, replacing_fails: Callable[[int], None]
) -> None:
    before = files_in(run_folder(project))
    opened = set_evaluate(Project.open(project), target="recall", target_recall=0.05)
    replacing_fails(moves)
    with pytest.raises(MachineError):
        evaluate(opened, tiles=False)
    assert files_in(run_folder(project)) == before


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
def test_a_kill_leaves_no_files_of_two_evaluations(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    for moves in range(5):
        target = f"recall = {0.05 + 0.1 * moves:.2f}"
        settings.write_text(text.replace("recall = 0.98", target), "utf-8")
        done = subprocess.run(
            [sys.executable, "-c", KILLED, project, str(moves)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == (0 if moves == 4 else -signal.SIGKILL)
        there = evaluation_files(project)
        if len(there) == 2:
            assert there["evaluation.json"]["operating_point"] == there["operating_point.json"]
        elif there:
            assert there.keys() == {"evaluation.json"}
            told = run_json(capsys, "status", project)
            assert told["next"].startswith("glombridge evaluate ")
        if moves < 4:
            # The next call has two files to replace again.
            evaluate(Project.open(project), tiles=False)
    assert there["operating_point.json"]["target"] == "recall >= 0.45"
    assert not list(run_folder(project).glob(".*"))


def test_an_unreachable_target_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # An object where no detector will ever find one.
    opened = Project.open(project)
    parts = opened.parts()
    entry = next(e for e in opened.store.images() if parts.get(e.metadata["patient"]) == "val")
    contents = opened.store.read(entry.id)
    drawn = next(o for o in contents.objects if str(o.path_class) == "Glomerulus")
    far = type(drawn.outline).rectangle(0, 0, 3, 3)  # type: ignore[union-attr]
    edit = HierarchyEdit(replace=(type(drawn)(**{**vars(drawn), "outline": far}),))
    opened.store.write(
        entry.id, edit, expected=contents.stamp, snapshot_folder=opened.workspace.snapshots
    )
    assert main(["evaluate", str(project), "--no-tiles"]) == 0
    assert "NOT reached at any confidence" in capsys.readouterr().out
    told = json.loads((run_folder(project) / "evaluation.json").read_text("utf-8"))
    assert told["operating_point"]["reached"] is False
    assert told["operating_point"]["validation"]["recall"] < 0.98
    assert main(["report", str(project)]) == 0
    page = (project / "glombridge" / "reports" / "train-001.html").read_text("utf-8")
    assert "is not reached on the validation slides at any confidence" in page


def test_detect_works_at_the_stored_threshold(project: Path) -> None:
    opened = set_evaluate(Project.open(project), target="recall", target_recall=0.05)
    point = evaluate(opened, tiles=False).point
    unannotated = [e.name for e in opened.store.images() if e.metadata["patient"] == "P04"][:1]
    found = detect(opened, images=unannotated or [opened.store.images()[0].name])
    assert found.confidence == point.confidence


def test_a_second_look_needs_no_model(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_json(capsys, "evaluate", project, "--no-tiles")

    def refuse(*_: object, **__: object) -> None:
        msg = "the model was loaded though every slide had been seen"
        raise AssertionError(msg)

    monkeypatch.setattr(detector.Detector, "__init__", refuse)
    second = run_json(capsys, "evaluate", project, "--no-tiles")
    assert {**first, "finished": ""} == {**second, "finished": ""}


def test_kept_boxes_of_another_slide_file_are_not_used(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Project.open(project)
    evaluate(opened, tiles=False)
    for record in (run_folder(project) / "evaluation").glob("*.json"):
        record.write_text(record.read_text("utf-8").replace('"slide": "', '"slide": "0'), "utf-8")
    looked = []
    real = detector.Detector.__init__
    monkeypatch.setattr(
        detector.Detector,
        "__init__",
        lambda self, *a, **k: (looked.append(1), real(self, *a, **k))[1],
    )
    evaluate(opened, tiles=False)
    assert looked == [1]


def test_proposals_do_not_hide_a_models_own_errors(walked: DemoResult, project: Path) -> None:
    """What was false on a validation slide stays false when it has been pushed there."""
    opened = Project.open(project)
    parts = opened.parts()
    pending = {
        e.id: sum(is_proposed(o.path_class) for o in opened.store.read(e.id).objects)
        for e in opened.store.images()
        if parts.get(e.metadata["patient"]) == "val"
    }
    assert sum(pending.values()), "the round pushed proposals onto the validation slide"
    again = evaluate(opened, tiles=False)
    assert again.total("val") == walked.round.evaluate.total("val")
    assert again.point == walked.round.evaluate.point
    assert again.document["results"]["val"]["not_counted"] == 0


def second_run(project: Path) -> None:
    """The same network with its last weights halved, as a second run of the project."""
    import torch

    first = run_folder(project)
    second = first.with_name("train-002")
    shutil.copytree(first, second)
    shutil.rmtree(second / "evaluation")
    for name in ("evaluation.json", "operating_point.json"):
        (second / name).unlink()
    file = second / "weights" / "best.pt"
    checkpoint = torch.load(file, weights_only=False)
    with torch.no_grad():
        for parameter in list(checkpoint["model"].parameters())[-2:]:
            parameter.mul_(0.5)
    torch.save(checkpoint, file)
    import hashlib

    manifest = json.loads((second / "manifest.json").read_text("utf-8"))
    manifest["run"] = "train-002"
    manifest["weights"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (second / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def test_two_models_on_the_same_slides(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second_run(project)
    told = run_json(capsys, "evaluate", project, "--weights", "train-001", "--against", "train-002")
    compared = told["comparison"]
    assert (compared["first"], compared["second"]) == ("train-001", "train-002")
    other = run_json(capsys, "evaluate", project, "--weights", "train-002", "--no-tiles")
    for name in ("precision", "recall", "f1", "ap50"):
        a, b = (d["results"]["test"]["figures"][name]["value"] for d in (told, other))
        expected = None if None in (a, b) else pytest.approx(b - a, abs=2e-6)
        got = compared["figures"][name]
        assert (got and got["difference"]) == expected
    capsys.readouterr()
    assert main(["evaluate", str(project), "--weights", "train-001", "--against", "train-001"]) == 2
    assert "the very weights" in capsys.readouterr().err


def test_rounds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second_run(project)
    told = run_json(capsys, "evaluate", project, "--rounds")
    assert [r["run"] for r in told["rounds"]] == ["train-001", "train-002"]
    alone = run_json(capsys, "evaluate", project, "--weights", "train-001", "--no-tiles")
    figures = alone["results"]["test"]["figures"]
    for name, figure in told["rounds"][0]["figures"].items():
        assert figure == figures[name]
    assert told["objects"] == alone["results"]["test"]["truth"]
    opened = Project.open(project)
    parts = opened.parts()
    drawn = sum(
        str(o.path_class).startswith("Glomerulus") and not is_proposed(o.path_class)
        for e in opened.store.images()
        if parts.get(e.metadata["patient"]) in ("train", "val")
        for o in opened.store.read(e.id).objects
    )
    assert told["rounds"][0]["decisions"] == drawn
    assert told["rounds"][1]["decisions"] is None, "the copy is in no history"
    saved = opened.workspace.reports / "learning_curve.json"
    assert json.loads(saved.read_text("utf-8"))["rounds"] == told["rounds"]


def test_decisions_are_counted_up_to_the_tiles_that_taught() -> None:
    def review(image: int, *to: str) -> dict[str, Any]:
        return {"event": "review", "image": image, "decisions": [{"to": t} for t in to]}

    def tile(name: str) -> dict[str, Any]:
        return {"event": "tile", "dataset": name}

    def train(run: str, dataset: str) -> dict[str, Any]:
        return {"event": "train", "run": run, "dataset": dataset}

    events = [
        review(1, "added", "added"),
        review(9, "added"),  # a test image teaches nothing
        tile("d1"),
        review(1, "accepted", "lost"),  # lost is nobody's decision
        train("t1", "d1"),
        tile("d2"),
        train("t2", "d2"),
        train("t3", "d1"),
        train("t4", "elsewhere"),
    ]
    assert count_decisions(events, {1, 2}) == {"t1": 2, "t2": 3, "t3": 2}


def test_a_validation_set_without_objects(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Project.open(project)
    parts = opened.parts()
    (patient,) = [p for p, part in parts.items() if part == "val"]
    for entry in opened.store.images():
        if entry.metadata["patient"] == patient:
            contents = opened.store.read(entry.id)
            gone = {o.id for o in contents.objects if o.path_class != PathClass(("Region*",))}
            opened.store.write(
                entry.id,
                HierarchyEdit(remove=frozenset(gone)),
                expected=contents.stamp,
                snapshot_folder=opened.workspace.snapshots,
            )
    before = (run_folder(project) / "operating_point.json").read_bytes()
    assert main(["evaluate", str(project)]) == 3
    said = capsys.readouterr().err
    assert "the validation slides hold no objects" in said
    assert patient in said
    assert "Annotate" in said
    assert (run_folder(project) / "operating_point.json").read_bytes() == before
    with pytest.raises(InputError, match="hold no objects"):
        evaluate(opened)


def test_a_model_is_not_tested_on_patients_that_taught_it(project: Path) -> None:
    """The split was lost and drawn anew, so that a patient has changed sides."""
    opened = Project.open(project)
    opened.workspace.record("split", patients={"P02": "train", "P03": "test"}, seed=0)
    with pytest.raises(ProtectedError, match="train-001 was trained on what is held out now: P03"):
        evaluate(opened, tiles=False)
    second_run(project)
    file = project / "glombridge" / "runs" / "train-002" / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    first = json.loads((run_folder(project) / "manifest.json").read_text("utf-8"))
    manifest["dataset"]["patients"]["train"] = ["P02"]
    manifest["start"] = {"kind": "run", "model": "train-001", "sha256": first["weights"]["sha256"]}
    file.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ProtectedError, match="train-002 was trained on what is held out now: P03"):
        evaluate(opened, weights="train-002", tiles=False)


def test_patients_of_another_project_s_dataset_are_other_people(project: Path) -> None:
    """Its P02 is not ours, however they are called."""
    opened = Project.open(project)
    second_run(project)
    file = project / "glombridge" / "runs" / "train-002" / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    manifest["dataset"] |= {"patients": {"train": ["P02"]}, "manifest_sha256": "0" * 64}
    file.write_text(json.dumps(manifest), "utf-8")
    opened.workspace.record("train", run="train-002", dataset="glombridge/datasets/tiles-009")
    with pytest.raises(ProtectedError, match="trained on what is held out now: P02"):
        evaluate(opened, weights="train-002", tiles=False)
    # As what lies outside of the project is put on record.
    opened.workspace.record("train", run="train-002", dataset="tiles-009")
    assert evaluate(opened, weights="train-002", tiles=False).run == "train-002"


def test_a_model_is_not_tested_on_an_image_that_taught_it_under_another_patient(
    project: Path,
) -> None:
    opened = Project.open(project)
    assert (opened.parts()["P03"], opened.parts()["P02"]) == ("train", "test")
    opened.store.set_image_metadata(3, {"patient": "P02"})
    with pytest.raises(ProtectedError, match=r"train-001 was trained .* now: P03-1_PAS\.tif"):
        evaluate(Project.open(project), tiles=False)


def test_a_dataset_that_is_gone_costs_only_the_tile_figures(project: Path) -> None:
    shutil.rmtree(project / "glombridge" / "datasets")
    told = evaluate(Project.open(project)).document
    assert "no longer there" in told["tile_level"]["missing"]
    assert told["results"]["test"]["truth"]


def test_errors_go_into_qupath_and_out_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run_json(capsys, "push", project, "--errors", "--include-test")
    faults = json.loads((run_folder(project) / "evaluation.json").read_text("utf-8"))["faults"]
    assert sum(len(i["add"]) for i in told["images"]) == len(faults) > 0
    data = {p: p.read_bytes() for p in project.glob("data/*/data.qpdata")}
    again = run_json(capsys, "push", project, "--errors", "--include-test")
    assert again["write"] is None
    assert {p: p.read_bytes() for p in data} == data
    # Without the test slides' errors those there are taken out again.
    blind = run_json(capsys, "push", project, "--errors")
    on_test = sum(f["part"] == "test" for f in faults)
    assert blind["left_out_on_test_slides"] == on_test
    assert sum(len(i["remove"]) for i in blind["images"]) == on_test
    # The loop goes on as if nothing were there.
    status = run_json(capsys, "status", project)
    assert all("reclassified" not in i["states"] for i in status["images"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--errors", "--min-confidence", "0.3"],
        ["--errors", "--skip-bad"],
        ["--weights", "train-001"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(project: Path, arguments: list[str]) -> None:
    assert main(["push", str(project), *arguments]) == 2


def test_a_gpu_that_is_not_there_is_no_cpu(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What was seen is kept, so no slide is looked at; the tiles would be.
    before = (run_folder(project) / "evaluation.json").read_bytes()
    assert main(["evaluate", str(project), "--device", "99"]) == 3
    assert "GPU" in capsys.readouterr().err
    assert (run_folder(project) / "evaluation.json").read_bytes() == before


def test_weights_of_other_classes_are_not_evaluated(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "glombridge" / "glombridge.toml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("[classes]", '[classes]\nVessel = ["Vessel"]'), "utf-8")
    assert main(["evaluate", str(project)]) == 3
    assert "Vessel" in capsys.readouterr().err
