"""Errors shown in QuPath: replaced by the next ones, never in a human's way, never part of the loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_project import SmallProject, annotation

from glombridge.evaluation.faults import Fault, FaultKind
from glombridge.objects import Outline, PathClass, SlideObject
from glombridge.progress import SILENT
from glombridge.steps.project import Project
from glombridge.steps.undo import undo
from glombridge.sync.guards import Guards
from glombridge.sync.pull import read_annotations
from glombridge.sync.push_errors import PushErrorsResult, push_errors
from glombridge.sync.signs import is_untouched_sign


def fault(kind: FaultKind, image: int, x: float, score: float | None = None) -> Fault:
    return Fault(kind, image, "a.tif", "val", (x, 10.25, x + 90.5, 110.75), (), score)


@pytest.fixture
def faults(project: SmallProject) -> list[Fault]:
    return [
        fault(FaultKind.MISSED, project.first, 100),
        fault(FaultKind.FALSE, project.first, 500.3, 0.7123456),
        fault(FaultKind.MISPLACED, project.second, 900, 0.4),
    ]


def show(project: SmallProject, faults: list[Fault], run: str = "train-001") -> PushErrorsResult:
    return push_errors(
        project.store, project.workspace, project.settings, faults, run=run, model="abc"
    )


def shown(project: SmallProject, image: int) -> list[str]:
    return sorted(str(o.path_class) for o in project.objects(image).values())


def test_they_are_there_to_look_at(project: SmallProject, faults: list[Fault]) -> None:
    result = show(project, faults)
    assert result.write == "write-001"
    assert shown(project, project.first) == ["False", "Missed"]
    assert shown(project, project.second) == ["False"]
    for obj in project.objects(project.first).values():
        assert obj.locked
        assert obj.metadata["glombridge.state"] == "error"
        assert obj.metadata["glombridge.run"] == "train-001"
        assert is_untouched_sign(obj, "error")
    (misplaced,) = project.objects(project.second).values()
    assert misplaced.metadata["glombridge.error"] == "misplaced"
    assert misplaced.measurements == {"Confidence": 0.4}
    assert {"Missed", "False"} <= {str(c) for c in project.store.classes()}


def test_a_second_identical_call_changes_nothing(
    project: SmallProject, faults: list[Fault]
) -> None:
    show(project, faults)
    before = project.bytes_of_everything()
    history = project.workspace.history.path.read_bytes()
    assert show(project, faults).write is None
    assert project.bytes_of_everything() == before
    assert project.workspace.history.path.read_bytes() == history


def test_a_dry_run_writes_nothing(project: SmallProject, faults: list[Fault]) -> None:
    before = project.bytes_of_everything()
    result = push_errors(
        project.store,
        project.workspace,
        project.settings,
        faults,
        run="r",
        model="m",
        guards=Guards(dry_run=True),
    )
    assert sum(len(i.add) for i in result.images) == 3
    assert project.bytes_of_everything() == before
    assert not project.workspace.history.path.exists()


def test_the_next_evaluation_replaces_them(project: SmallProject, faults: list[Fault]) -> None:
    show(project, faults)
    show(project, [fault(FaultKind.FALSE, project.first, 40, 0.9)], run="train-002")
    (obj,) = project.objects(project.first).values()
    assert obj.metadata["glombridge.run"] == "train-002"
    assert project.objects(project.second) == {}


TOUCHED = [
    pytest.param(lambda o: replace(o, path_class=PathClass(("Glomerulus",))), id="made-truth"),
    pytest.param(lambda o: replace(o, outline=Outline.rectangle(0, 0, 50, 60)), id="moved"),
    pytest.param(lambda o: replace(o, name="look at this"), id="named"),
    pytest.param(lambda o: replace(o, locked=False), id="unlocked"),
    pytest.param(lambda o: replace(o, measurements={"Area": 3.0}), id="measured"),
    pytest.param(lambda o: replace(o, metadata={**o.metadata, "note": "why"}), id="noted"),
]


@pytest.mark.parametrize("touch", TOUCHED)
def test_what_a_human_touched_stays(
    project: SmallProject, faults: list[Fault], touch: object
) -> None:
    show(project, faults)
    obj = next(o for o in project.objects(project.first).values() if str(o.path_class) == "False")
    changed = touch(obj)  # type: ignore[operator]
    project.edit(project.first, replace=[changed])
    for again in (faults, []):
        show(project, again)
        there: dict[object, SlideObject] = project.objects(project.first)
        assert there[obj.id].path_class == changed.path_class
        assert there[obj.id].outline == changed.outline
        assert there[obj.id].name == changed.name
    assert set(there) == {obj.id}


def test_a_humans_own_object_of_that_class_stays(
    project: SmallProject, faults: list[Fault]
) -> None:
    own = annotation("False", (0, 0, 40, 40))
    project.edit(project.first, add=[own])
    show(project, faults)
    show(project, [])
    assert set(project.objects(project.first)) == {own.id}


def test_they_are_no_part_of_the_loop(project: SmallProject, faults: list[Fault]) -> None:
    drawn = annotation("Glomerulus", (2000, 2000, 2100, 2100))
    project.edit(project.first, add=[drawn])
    show(project, faults)
    first, second = read_annotations(project.store, project.settings, reporter=SILENT)
    assert [t.object.id for t in first.roles.truth] == [drawn.id]
    assert not first.roles.pending
    assert second.searched is None, "an image with errors alone is not searched"
    with project.workspace.ledger_view() as ledger:
        assert ledger.states() == {}
        assert ledger.layers() == []
    # A later look finds no decision about them.
    look_again = show(project, [])
    assert look_again.write == "write-002"
    said = [d for e in project.workspace.history.events("review") for d in e["decisions"]]
    assert [d["id"] for d in said] == [str(drawn.id)]


def test_undo_takes_them_back(project: SmallProject, faults: list[Fault]) -> None:
    project.edit(project.first, add=[annotation("Glomerulus", (0, 0, 9, 9))])
    data = project.store.folder / "data" / str(project.first) / "data.qpdata"
    before = data.read_bytes()
    show(project, faults)
    assert data.read_bytes() != before
    undo(Project.open(project.store.project_file))
    assert data.read_bytes() == before
