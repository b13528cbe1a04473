"""The workspace: runs are numbered in order, weights are found by name or path."""

from __future__ import annotations

from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glombridge.errors import InputError, MachineError, MissingComponentError
from glombridge.ledger import ProjectLock, Workspace
from glombridge.settings import Settings


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.create(Settings(seed=7))
    return made


def finish(folder: Path) -> None:
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").write_bytes(b"w")
    (folder / "manifest.json").write_text("{}")


def test_existing_settings_are_never_touched(workspace: Workspace) -> None:
    assert not workspace.create(Settings(seed=8))
    assert workspace.settings().seed == 7


def test_runs_are_numbered_and_only_finished_ones_count(workspace: Workspace) -> None:
    assert workspace.latest_run(workspace.runs, "train") is None
    assert workspace.new_run(workspace.runs, "train").name == "train-001"
    finish(workspace.runs / "train-001")
    finish(workspace.runs / "train-009")
    finish(workspace.runs / "train-010")
    (workspace.runs / "train-011").mkdir()  # interrupted
    (workspace.runs / "train-099.partial").mkdir()
    assert workspace.latest_run(workspace.runs, "train") == workspace.runs / "train-010"
    assert workspace.new_run(workspace.runs, "train").name == "train-012"


def test_weights_by_run_path_or_newest(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingComponentError, match="no trained weights"):
        workspace.weights_of(None)
    finish(workspace.runs / "train-001")
    finish(workspace.runs / "train-002")
    assert workspace.weights_of(None).parent.parent.name == "train-002"
    assert workspace.weights_of("train-001").parent.parent.name == "train-001"
    other = tmp_path / "other.pt"
    other.write_bytes(b"")
    assert workspace.weights_of(str(other)) == other
    with pytest.raises(InputError, match=r"known: train-001, train-002"):
        workspace.weights_of("train-007")


def test_history_keeps_relative_paths(workspace: Workspace, tmp_path: Path) -> None:
    assert workspace.relative(tmp_path / "glombridge" / "x") == "glombridge/x"
    assert workspace.relative(Path("/elsewhere/secret/y")) == "y"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "glombridge").write_text("a file in the way")
    with pytest.raises(MachineError):
        Workspace(tmp_path).create(Settings())


def test_two_claims_never_get_one_folder(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: workspace.claim_run(workspace.runs, "train"), range(40)))
    assert len(set(claims)) == 40
    assert all(c.is_dir() for c in claims)


def test_a_record_waits_for_the_lock(workspace: Workspace) -> None:
    with ProjectLock(workspace.lock_file), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(workspace.record, "train", run="train-001")
        with pytest.raises(futures.TimeoutError):
            waiting.result(0.3)
        workspace.lock_file.unlink()  # as when the other one is done
        waiting.result(5)
    assert [e["event"] for e in workspace.history.events()] == ["train"]
