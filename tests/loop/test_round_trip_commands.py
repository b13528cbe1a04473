"""The commands of the round trip, typed as a user types them, on a project that was walked once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from glombridge.cli import main
from glombridge.objects import Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.steps.history import history
from glombridge.steps.mark import mark
from glombridge.steps.project import Project


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json", "-q"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def shown(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments), "-q"]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def proposals(folder: Path) -> list[tuple[int, SlideObject]]:
    store = NativeStore.open(folder)
    return [
        (e.id, o)
        for e in store.images()
        for o in store.read(e.id).objects
        if str(o.path_class) == "Glomerulus: Proposed"
    ]


def human_saves(folder: Path, image: int, changed: Sequence[SlideObject]) -> None:
    store = NativeStore.open(folder)
    store.write(
        image,
        HierarchyEdit(replace=tuple(changed)),
        expected=store.stamp(image),
        snapshot_folder=folder.parent / "kept-elsewhere",
    )


def test_push_at_another_confidence_and_its_undo(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(project / "data")
    scores = sorted(o.measurements["Confidence"] for _, o in proposals(project))
    assert scores[0] < scores[-1]
    arguments = ("push", project, "--min-confidence", scores[-1])
    dry = run_json(capsys, *arguments, "--dry-run")
    assert files(project / "data") == before
    assert dry["counts"]["withdraw"] > 0
    told = run_json(capsys, *arguments)
    assert told["counts"] == dry["counts"]
    assert [i["withdraw"] for i in told["images"]] == [i["withdraw"] for i in dry["images"]]
    counts = told["counts"]
    assert len(proposals(project)) == len(scores) + counts["add"] - counts["withdraw"]
    assert run_json(capsys, "undo", project)["restored"] == len(told["written_images"])
    assert files(project / "data") == before


def test_a_stricter_push_withdraws_and_a_looser_one_brings_back_the_same_objects(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {o.id for _, o in proposals(project)}
    out = shown(capsys, "push", project, "--min-confidence", 1)
    rows = [line.split() for line in out.splitlines() if ".tif" in line]
    assert sum(int(row[3]) for row in rows) == len(before)
    assert {(*row[1:3], *row[4:]) for row in rows} == {("0",) * 6}
    assert proposals(project) == []
    assert "glombridge undo" in out
    shown(capsys, "push", project)
    assert {o.id for _, o in proposals(project)} == before


def test_layers_side_by_side(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n = len(proposals(project))
    told = run_json(capsys, "push", project, "--layer", "second opinion", "--as", "detection")
    assert told["counts"]["add"] == n
    assert "second opinion" in shown(capsys, "layers", project)
    compared = run_json(capsys, "layers", project, "--compare", "main", "second opinion")
    assert (compared["both"], compared["only_first"], compared["only_second"]) == (
        {"proposal": n},
        {},
        {},
    )
    assert "only main" in shown(capsys, "layers", project, "--compare", "main", "second opinion")
    dry = run_json(capsys, "withdraw", project, "--layer", "second opinion", "--dry-run")
    assert len(proposals(project)) == 2 * n
    done = run_json(capsys, "withdraw", project, "--layer", "second opinion")
    assert dry["withdrawn"] == done["withdrawn"] == n
    assert len(proposals(project)) == n
    assert run_json(capsys, "withdraw", project, "--layer", "second opinion")["withdrawn"] == 0


def test_withdraw_leaves_what_a_human_touched(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image, first), *others = proposals(project)
    human_saves(project, image, [replace(first, name="ask Dr. K.")])
    run = first.metadata["glombridge.run"]
    assert "1" in shown(capsys, "withdraw", project, "--run", run)
    assert [(i, o.id) for i, o in proposals(project)] == [(image, first.id)]
    assert len(others) > 0


def test_the_history_of_an_object(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, obj = proposals(project)[0]
    human_saves(project, image, [replace(obj, path_class=PathClass(("Glomerulus",)))])
    told = run_json(capsys, "pull", project)
    (decided,) = [d for i in told["images"] for d in i["decisions"]]
    assert (decided["id"], decided["from"], decided["to"]) == (str(obj.id), "proposal", "accepted")
    steps = run_json(capsys, "history", project, str(obj.id)[:8])["steps"]
    assert [(s["state"], s["event"]) for s in steps] == [
        ("proposal", "push"),
        ("proposal", "queue"),
        ("accepted", "review"),
    ]
    assert steps[-1]["who"] == "unknown"
    assert steps[-1]["after"] <= steps[-1]["before"]
    out = shown(capsys, "history", project, obj.id)
    assert "accepted" in out
    assert "by unknown, between" in out
    assert "init" in shown(capsys, "history", project, "-n", 1000)
    assert "write-001" in shown(capsys, "history", project, "-n", 1000)


def test_who_and_when_come_from_the_review_window(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, obj = proposals(project)[0]
    by = {"glombridge.reviewer": "Dr. K.", "glombridge.reviewed": "2026-05-01T10:00:00Z"}
    truth = PathClass(("Glomerulus",))
    human_saves(project, image, [replace(obj, path_class=truth, metadata={**obj.metadata, **by})])
    shown(capsys, "pull", project)
    step = history(Project.open(project), str(obj.id)).steps[-1]
    assert (step.who, step.after, step.before) == (
        "Dr. K.",
        "2026-05-01T10:00:00Z",
        "2026-05-01T10:00:00Z",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["history", "12"], 2, "too short", id="short-id"),
        pytest.param(["history", "ffffffff"], 3, "nothing is on record", id="unknown-object"),
        pytest.param(["withdraw"], 2, "--run RUN", id="withdraw-what"),
        pytest.param(["withdraw", "--run", "detect-077"], 3, "detect-077", id="unknown-run"),
        pytest.param(["layers", "--compare", "main", "x"], 3, "no layer 'x'", id="unknown-layer"),
        pytest.param(["mark", "x.tif", "--searched"], 3, "no image 'x.tif'", id="unknown-image"),
        pytest.param(["mark", "x.tif"], 2, "--not-searched", id="mark-as-what"),
        pytest.param(["push", "--min-confidence", "1.5"], 2, "1.5", id="confidence"),
    ],
)
def test_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    before = files(project)
    command, *others = arguments
    assert says in shown(capsys, command, project, *others, code=code)
    after = files(project)
    assert {k: v for k, v in after.items() if "lock" not in k and "sqlite" not in k} == {
        k: v for k, v in before.items() if "lock" not in k and "sqlite" not in k
    }


def test_another_slide_in_the_place_of_the_searched_one_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = proposals(project)[0]
    opened = Project.open(project)
    slide = opened.slide_path(opened.store.entry(image))
    data = slide.read_bytes()
    slide.unlink()  # a link to the slide of all tests
    slide.write_bytes(data + b"\0")
    said = shown(capsys, "push", project, code=3)
    assert "is not the slide file that was searched" in said
    assert opened.store.entry(image).name in said


def test_mark_and_what_pull_says_of_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NativeStore.open(project)
    images = {i["name"]: i for i in run_json(capsys, "pull", project)["images"]}
    unmarked = next(n for n, i in images.items() if i["searched"] == "nowhere")
    before = store.project_file.read_bytes()
    run_json(capsys, "mark", project, "--searched", unmarked, "--dry-run")
    assert store.project_file.read_bytes() == before
    assert f"marked as searched: {unmarked}" in shown(
        capsys, "mark", project, "--searched", unmarked
    )
    images = {i["name"]: i for i in run_json(capsys, "pull", project)["images"]}
    assert images[unmarked]["searched"] == "whole image"
    assert images[unmarked]["searched_by"] == "marked as searched"
    assert {i["searched_by"] for i in images.values()} == {
        "marked as searched",
        "assumed: the image has annotations",
    }
    kept = [p.read_bytes() for p in (project / "glombridge" / "snapshots").glob("entry-0.*")]
    assert kept == [before]
    assert "was searched already" in shown(capsys, "mark", project, "--searched", unmarked)
    shown(capsys, "mark", project, "--not-searched", unmarked)
    assert NativeStore.open(project).entry(images[unmarked]["id"]).metadata == (
        store.entry(images[unmarked]["id"]).metadata
    )
    events = [e for e in history(Project.open(project)).events if e["event"] == "mark"]
    assert [e["searched"] for e in events] == [True, False]


def test_mark_tells_images_of_one_name_apart(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = NativeStore.open(project)
    first, second = store.images()[:2]
    text = store.project_file.read_text("utf-8")
    store.project_file.write_text(text.replace(first.name, second.name), "utf-8")
    said = shown(capsys, "mark", project, "--searched", second.name, code=3)
    assert f"'#{first.id}', '#{second.id}'" in said
    result = mark(Project.open(project), [f"#{second.id}"])
    assert len(result.changed) == 1


def test_status_counts_what_became_of_the_proposals(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, obj = proposals(project)[0]
    human_saves(project, image, [replace(obj, path_class=PathClass(("Glomerulus",)))])
    shown(capsys, "pull", project)
    (told,) = [i for i in run_json(capsys, "status", project)["images"] if i["id"] == image]
    assert told["states"]["accepted"] == 1
    assert told["states"]["proposal"] > 0
    assert "pending" in shown(capsys, "status", project)


def test_images_of_test_patients_get_no_proposals(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Project.open(project)
    (test,) = [p for p, part in opened.parts().items() if part == "test"]
    images = [e.name for e in opened.store.images() if opened.patient(e) == test]
    assert images
    shown(capsys, "detect", project, "--image", images[0], "--include-test")
    before = files(project / "data")
    said = shown(capsys, "push", project, code=3)
    assert "is of a test patient" in said
    assert images[0] in said
    assert files(project / "data") == before
    assert run_json(capsys, "push", project, "--include-test")["images"][0]["name"] == images[0]


def test_a_run_inside_regions_withdraws_only_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = NativeStore.open(project)
    image = max({i for i, _ in proposals(project)}, key=lambda i: len(store.read(i).objects))
    entry = store.entry(image)
    middle = float(
        np.median([o.outline.bounds[0] for i, o in proposals(project) if i == image and o.outline])
    )
    before = {o.id: o for i, o in proposals(project) if i == image}
    region = f"0,0,{middle:.0f},{entry.height}"
    arguments = ("--image", entry.name, "--region", region, "--min-confidence", 1)
    assert run_json(capsys, "detect", project, *arguments)["found"] == 0
    shown(capsys, "push", project)
    left = {o.id for i, o in proposals(project) if i == image}
    # What the tiles show beyond the region was not asked for.
    beyond = {i for i, o in before.items() if o.outline and o.outline.bounds[0] > middle}
    assert beyond <= left < before.keys()


def test_annotations_that_changed_since_they_said_where_to_look(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, obj = proposals(project)[0]
    area = replace(
        obj,
        id=UUID(int=5),
        outline=Outline.rectangle(0, 0, 3000, 3000),
        path_class=PathClass(("Cortex",)),
        metadata={},
        measurements={},
    )
    store = NativeStore.open(project)
    edit = HierarchyEdit(add=(area,))
    kept = project.parent / "kept"
    store.write(image, edit, expected=store.stamp(image), snapshot_folder=kept)
    shown(capsys, "detect", project, "--roi", "Cortex")
    dry = run_json(capsys, "push", project, "--dry-run")
    assert [i["id"] for i in dry["images"]] == [image]
    human_saves(project, image, [replace(area, outline=Outline.rectangle(0, 0, 2000, 3000))])
    assert "inside annotations (Cortex) that have changed" in shown(capsys, "push", project, code=3)


def test_an_image_of_another_name_whose_slide_is_gone_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Project.open(project)
    entry = opened.store.entry(proposals(project)[0][0])
    text = opened.store.project_file.read_text("utf-8")
    renamed = text.replace(f'"imageName": "{entry.name}"', '"imageName": "renamed.tif"')
    assert renamed != text
    opened.store.project_file.write_text(renamed, "utf-8")
    run_json(capsys, "push", project, "--dry-run")  # the slide tells that it is the same
    opened.slide_path(entry).unlink()
    said = shown(capsys, "push", project, "--dry-run", code=3)
    assert f"was called {entry.name!r}" in said


def test_detections_of_slide_files_are_not_pushed_by_their_numbers(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    opened = Project.open(project)
    slide = opened.slide_path(opened.store.images()[-1])
    weights = project / "glombridge" / "runs" / "train-001" / "weights" / "best.pt"
    shown(capsys, "detect", slide, "--weights", weights, "--out", tmp_path / "out")
    assert "made from slide files" in shown(capsys, "push", project, tmp_path / "out", code=3)
