"""``undo`` brings back what a write replaced, and never takes a human's work away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from folders import files_in

from glombridge.cli import main
from glombridge.errors import DamagedFileError, InputError, PartlyDoneError, ProtectedError
from glombridge.ledger import ProjectLock, Workspace, running_qupath, writes
from glombridge.objects import ObjectKind, Outline, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.qupath.saving import SNAPSHOT_NAME, snapshot_name
from glombridge.settings import Settings
from glombridge.steps.project import Project
from glombridge.steps.status import status
from glombridge.steps.undo import Outcome, list_writes, undo
from glombridge.sync.guards import Guards
from glombridge.sync.push import Proposals, PushResult, push

BOX = (1000.0, 1000.0, 1400.0, 1400.0)
OTHER = (2000.0, 1000.0, 2400.0, 1400.0)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two images of one name; the second has no data file yet."""
    store = NativeStore.create(tmp_path / "project")
    Workspace(store.folder).create(Settings())
    for image_type in ("BRIGHTFIELD_OTHER", None):
        store.add_image(
            tmp_path / "a.tif",
            name="a.tif",
            metadata=ImageServerInfo(width=4000, height=3000, mpp_x=0.5, mpp_y=0.5),
            image_type=image_type,
        )
    return Project.open(store.folder)


def pushed(project: Project, *boxes: Any, run: str = "detect-001", ids: Any = (1, 2)) -> PushResult:
    xyxy = np.array(boxes, float).reshape(-1, 4)
    n = len(xyxy)
    wanted = [Proposals(i, xyxy, np.full(n, 0.8), np.zeros(n, np.int64), 0.5) for i in ids]
    return push(project.store, project.workspace, project.settings, wanted, run=run, model="abc")


def human_edit(project: Project, entry_id: int) -> None:
    obj = SlideObject(
        id=NAMED, kind=ObjectKind.ANNOTATION, outline=Outline.rectangle(10, 10, 50, 50)
    )
    contents = project.store.read(entry_id)
    project.store.write(
        entry_id,
        HierarchyEdit(add=(obj,)),
        expected=contents.stamp,
        snapshot_folder=project.store.folder / "elsewhere",
    )


NAMED = UUID("22222222-2222-4333-8444-555555555555")


def data_files(project: Project) -> dict[str, bytes]:
    folder = project.store.folder / "data"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.qpdata"))}


def test_undo_brings_back_every_byte_and_the_absence_of_a_file(project: Project) -> None:
    before = data_files(project)
    assert len(before) == 1
    result = pushed(project, BOX)
    assert (result.write, result.written) == ("write-001", (1, 2))
    after = data_files(project)
    undone = undo(project)
    assert data_files(project) == before
    assert [i.outcome for i in undone.images] == [Outcome.RESTORED] * 2
    # What undo replaced is kept in turn.
    kept = {project.store.folder / str(i.snapshot) for i in undone.images}
    assert {p.read_bytes() for p in kept} == set(after.values())


def test_undo_twice_is_undo_once(project: Project) -> None:
    pushed(project, BOX)
    undo(project)
    before = data_files(project)
    history = project.workspace.history.path.read_bytes()
    again = undo(project)
    assert again.restored == 0
    assert data_files(project) == before
    assert project.workspace.history.path.read_bytes() == history


def test_a_dry_run_writes_nothing(project: Project) -> None:
    pushed(project, BOX)
    before = files_in(project.store.folder)
    assert undo(project, guards=Guards(dry_run=True)).restored == 2
    assert files_in(project.store.folder) == before


def human_deletes(project: Project, box: tuple[float, ...]) -> None:
    contents = project.store.read(1)
    gone = frozenset(o.id for o in contents.objects if o.outline and o.outline.bounds == box)
    assert len(gone) == 1
    project.store.write(
        1,
        HierarchyEdit(remove=gone),
        expected=contents.stamp,
        snapshot_folder=project.store.folder / "elsewhere",
    )


def test_what_was_undone_is_not_deleted_by_a_human(project: Project) -> None:
    first = pushed(project, BOX, OTHER)
    undo(project)
    again = pushed(project, BOX, OTHER)
    assert again.count("suppressed") == 0
    ids = [[o.id for o in p.plan.add] for p in again.plans]
    assert ids == [[o.id for o in p.plan.add] for p in first.plans]
    assert [len(i) for i in ids] == [2, 2]
    # And the second push counts: what a human deletes of it stays away.
    human_deletes(project, BOX)
    assert [len(p.plan.suppressed) for p in pushed(project, BOX, OTHER).plans] == [1, 0]


def test_undoing_one_write_leaves_the_memory_of_the_others(project: Project) -> None:
    third = (3000.0, 1000.0, 3400.0, 1400.0)
    pushed(project, BOX, OTHER)
    human_deletes(project, BOX)
    pushed(project, OTHER, third, run="detect-002")
    undo(project)
    assert [len(p.plan.suppressed) for p in pushed(project, BOX, OTHER).plans] == [1, 0]


def test_writes_are_undone_one_after_the_other(project: Project) -> None:
    states = [data_files(project)]
    for box, run in ((BOX, "detect-001"), (OTHER, "detect-002")):
        pushed(project, box, run=run)
        states.append(data_files(project))
    with pytest.raises(ProtectedError, match="--write write-002"):
        undo(project, "write-001")
    result = undo(project)
    assert (result.write.id, result.before) == ("write-002", "write-001")
    assert data_files(project) == states[1]
    assert undo(project, "write-001").before is None
    assert data_files(project) == states[0]
    assert [w.undone for w in list_writes(project)] == [True, True]


def test_an_image_a_human_changed_is_refused(project: Project) -> None:
    pushed(project, BOX)
    human_edit(project, 1)
    before = data_files(project)
    with pytest.raises(PartlyDoneError, match="1 of 2 images") as caught:
        undo(project)
    assert "by hand" in str(caught.value)
    assert data_files(project) == {k: v for k, v in before.items() if k.startswith("1")}
    with pytest.raises(PartlyDoneError):
        undo(project)  # the same again; nothing else happens
    assert NAMED in {o.id for o in project.store.read(1).objects}


def test_nothing_left_to_undo_is_a_refusal(project: Project) -> None:
    pushed(project, BOX, ids=(1,))
    human_edit(project, 1)
    before = data_files(project)
    with pytest.raises(ProtectedError, match="changed since"):
        undo(project)
    assert data_files(project) == before


def test_killed_between_the_file_and_the_record(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = data_files(project)
    pushed(project, BOX)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("glombridge.ledger.history.History.append", killed)
        with pytest.raises(KeyboardInterrupt):
            undo(project)
    result = undo(project)
    assert [i.outcome for i in result.images] == [Outcome.ALREADY, Outcome.RESTORED]
    assert data_files(project) == before
    assert all(w.undone for w in list_writes(project))


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        pytest.param("lose", InputError, "keep_snapshots", id="copy-gone"),
        pytest.param("damage", DamagedFileError, "bytes changed", id="copy-damaged"),
        pytest.param("bkp", ProtectedError, ".bkp", id="qupath-is-saving"),
        pytest.param("lock", ProtectedError, "lock", id="somebody-writes"),
        pytest.param("qupath", ProtectedError, "QuPath is running", id="qupath-runs"),
        pytest.param("unknown", InputError, "write-999", id="no-such-write"),
    ],
)
def test_refusals_change_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, spoil: str, error: Any, says: str
) -> None:
    pushed(project, BOX, ids=(1,))
    before = data_files(project)
    (kept,) = project.workspace.snapshots.iterdir()
    write = "write-999" if spoil == "unknown" else None
    if spoil == "lose":
        kept.unlink()
    elif spoil == "damage":
        kept.write_bytes(kept.read_bytes()[:-1])
    elif spoil == "bkp":
        (project.store.folder / "data" / "1" / "data.qpdata.bkp").write_bytes(b"x")
    elif spoil == "qupath":
        monkeypatch.setattr(running_qupath, "running_qupath", lambda: [4711])
    if spoil == "lock":
        with ProjectLock(project.workspace.lock_file), pytest.raises(error, match=says):
            undo(project, write)
    else:
        with pytest.raises(error, match=says):
            undo(project, write)
    assert data_files(project) == before


def test_nothing_on_record(project: Project) -> None:
    with pytest.raises(InputError, match="nothing to undo"):
        undo(project)


def test_status_forgets_what_was_undone(project: Project) -> None:
    pushed(project, BOX, OTHER)
    assert [i["states"] for i in status(project.store.folder).images] == [{"proposal": 2}] * 2
    undo(project)
    assert [i["states"] for i in status(project.store.folder).images] == [{}, {}]


def test_old_copies_go_but_never_the_one_undo_needs(project: Project) -> None:
    project = replace(
        project,
        settings=project.settings.model_copy(
            update={"project": project.settings.project.model_copy(update={"keep_snapshots": 2})}
        ),
    )
    for k in range(5):
        box = (100.0 * k, 100.0 * k, 100.0 * k + 90, 100.0 * k + 90)
        pushed(project, box, run=f"detect-{k}", ids=(1,))
    names = [p.name for p in project.workspace.snapshots.iterdir()]
    assert len(names) == 2
    # Younger copies that no write on record made: the needed one is now the oldest of all.
    for _ in range(4):
        (project.workspace.snapshots / snapshot_name(1, "data.qpdata")).write_bytes(b"x")
    (project.workspace.snapshots / "a-human's.note").write_text("x")
    with project.workspace.ledger() as ledger:
        deleted = writes.prune_snapshots(project.workspace, ledger, {1}, keep=2)
    assert len(deleted) == 3
    left = {p.name for p in project.workspace.snapshots.iterdir()}
    assert "a-human's.note" in left
    assert sum(SNAPSHOT_NAME.fullmatch(name) is not None for name in left) == 3
    assert undo(project).restored == 1


def test_old_copies_go_by_age_too(project: Project) -> None:
    for k in range(3):
        pushed(project, (100.0 * k, 0.0, 100.0 * k + 90, 90.0), run=f"detect-{k}", ids=(1,))
    folder = project.workspace.snapshots
    now = sorted(p.name for p in folder.iterdir())
    assert len(now) == 3
    # As if the first two had been kept a year and a month ago.
    for name, day in zip(now, ("20200101", "20200201"), strict=False):
        (folder / name).rename(folder / name.replace(name.split(".")[1][:8], day))
    with project.workspace.ledger() as ledger:
        assert writes.prune_snapshots(project.workspace, ledger, {1}, keep=20) == []
        deleted = writes.prune_snapshots(project.workspace, ledger, {1}, keep=20, keep_days=30)
    assert [name.split(".")[1][:8] for name in deleted] == ["20200101", "20200201"]
    assert undo(project).restored == 1


def test_a_write_of_no_run_is_called_by_what_it_was(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(project.store.folder)
    pushed(project, BOX)
    assert main(["queue", folder]) == 0
    assert main(["undo", folder, "--dry-run"]) == 0
    assert "write-002 (queue) would be undone" in " ".join(capsys.readouterr().out.split())


def test_the_command(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(project.store.folder)
    pushed(project, BOX)
    assert main(["undo", folder, "--list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["writes"]
    assert (listed["write"], listed["run"], len(listed["images"])) == ("write-001", "detect-001", 2)
    assert main(["undo", folder, "--list"]) == 0
    assert "write-001" in capsys.readouterr().out
    assert main(["undo", folder, "--write", "write-001"]) == 0
    assert "undone" in capsys.readouterr().out
    assert main(["undo", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["restored"] == 0
    assert main(["undo", folder, "--write", "nonsense"]) == 3
