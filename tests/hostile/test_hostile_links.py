"""Links and paths in a project's own folder that lead elsewhere: nothing is read or written there."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from glombridge.cli import main
from glombridge.errors import DamagedFileError, ProtectedError
from glombridge.ledger.workspace import Workspace
from glombridge.steps.project import Project
from glombridge.training.run_folder import RunFolder

GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden" / "v0.6.0"
links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = Path(shutil.copytree(GOLDEN, tmp_path / "project"))
    assert main(["init", str(made), "--store", "native"]) == 0
    assert main(["pull", str(made)]) == 0
    return made


def replaced_by_link(place: Path, outside: Path) -> dict[Path, bytes]:
    """What lay at a place is moved out, and a link put there; gives every file outside."""
    place.parent.mkdir(parents=True, exist_ok=True)
    outside.mkdir()
    if place.exists():
        place.rename(outside / place.name)
    else:
        (outside / place.name).write_bytes(b"{}")
    place.symlink_to(outside / place.name)
    return {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}


PLACES = {
    "settings": "glombridge.toml",
    "history": "history.jsonl",
    "index": "ledger.sqlite",
    "journal-of-the-index": "ledger.sqlite-journal",
    "lock": "lock",
    "guard-of-the-lock": "lock.guard",
    "codes": "deidentification.json",
    "runs": "runs",
    "detections": "detections",
    "snapshots": "snapshots",
    "pulls": "pulls",
    "reports": "reports",
    "datasets": "datasets",
    "cache": "cache",
    "a-run": "runs/train-001",
    "weights": "runs/train-001/weights/best.pt",
    "manifest": "runs/train-001/manifest.json",
    "work": "runs/train-001/work",
    "looks": "runs/train-001/evaluation",
    "boxes-looked-at": "runs/train-001/evaluation/1.parquet",
    "detection-run": "detections/detect-001",
    "unfinished-detection": "detections/detect-001.partial",
    "a-dataset": "datasets/tiles-001",
    "dataset-in-the-making": "datasets/.tiles-002.partial",
    "a-pull": "pulls/pull-001",
}


@links
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("command", ["status", "pull", "tile", "undo", "scripts"])
def test_a_link_out_of_the_project_is_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, command: str
) -> None:
    before = replaced_by_link(project / "glombridge" / place, tmp_path / "outside")
    capsys.readouterr()
    assert main([command, str(project)]) == 4
    said = capsys.readouterr().err
    assert "leads out of" in said
    assert place in said
    assert {p: p.read_bytes() for p in (tmp_path / "outside").rglob("*") if p.is_file()} == before


@links
@pytest.mark.parametrize("folder", ["pulls/pull-001", "detections/detect-001"])
def test_a_manifest_behind_a_link_is_not_read(project: Path, tmp_path: Path, folder: str) -> None:
    """Of folders with thousands of files each is looked at by who reads it."""
    kind = folder.split("/")[1].split("-")[0]
    replaced_by_link(project / "glombridge" / folder / "manifest.json", tmp_path / "outside")
    workspace = Project.open(project).workspace
    with pytest.raises(ProtectedError, match="leads out of"):
        workspace.finished_runs((workspace.folder / folder).parent, kind)


@links
def test_a_link_within_the_project_stays_a_link(project: Path) -> None:
    kept = project / "kept"
    kept.mkdir()
    (project / "glombridge" / "reports").symlink_to(kept)
    assert main(["status", str(project)]) == 0


@links
@pytest.mark.parametrize("what", ["work", "work/state.pt", "weights"])
def test_a_training_run_behind_a_link_is_not_gone_on_with(tmp_path: Path, what: str) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / what).parent.mkdir(parents=True)
    outside.mkdir()
    (run / what).symlink_to(outside)
    with pytest.raises(ProtectedError, match="leads out of"), RunFolder(run).begun({}):
        pass
    assert not list(outside.iterdir())


@links
def test_a_training_run_reached_by_a_link_is_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with RunFolder(tmp_path / "run").begun({"a": 1}):
        assert (tmp_path / "disk" / "work" / "plan.json").is_file()


@pytest.mark.parametrize(
    "named",
    [
        "../outside.qpdata",
        "/etc/passwd",
        "glombridge/snapshots/../../outside.qpdata",
        "glombridge/snapshots/a\\..\\b",
        "glombridge/snapshots/",
        "glombridge/history.jsonl",
        "data/1/data.qpdata",
        "C:\\x",
        "glombridge/snapshots/" + "a" * 10_000,
    ],
    ids=lambda name: name[:40],
)
def test_a_history_names_only_copies_that_are_kept(project: Path, named: str) -> None:
    with pytest.raises(DamagedFileError, match=r"history\.jsonl names the kept copy"):
        Workspace(project).snapshot(named)


@links
def test_a_kept_copy_behind_a_link_is_not_brought_back(project: Path, tmp_path: Path) -> None:
    workspace = Workspace(project)
    replaced_by_link(workspace.snapshots / "a.qpdata", tmp_path / "outside")
    with pytest.raises(ProtectedError, match="leads out of"):
        workspace.snapshot("glombridge/snapshots/a.qpdata")


def test_undo_takes_nothing_from_outside(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A history that somebody made up must not put any file of the disk into a project."""
    data = (project / "data" / "1" / "data.qpdata").read_bytes()
    outside = tmp_path / "outside.qpdata"
    outside.write_bytes((project / "data" / "2" / "data.qpdata").read_bytes())
    common = {"v": 2, "write": "write-001", "image": 1}
    events = [
        {
            **common,
            "at": "2026-01-02T00:00:00Z",
            "event": "write-begun",
            "command": "push",
            "layer": "main",
            "run": "detect-001",
            "model": "abc",
            "sha256": hashlib.sha256(data).hexdigest(),
            "replaced": hashlib.sha256(outside.read_bytes()).hexdigest(),
            "snapshot": "../outside.qpdata",
            "add": [],
        },
        {**common, "at": "2026-01-02T00:00:01Z", "event": "write-done"},
    ]
    with (project / "glombridge" / "history.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    capsys.readouterr()
    code = main(["undo", str(project)])
    said = capsys.readouterr().err
    assert code != 0
    assert "../outside.qpdata" in said
    assert (project / "data" / "1" / "data.qpdata").read_bytes() == data
