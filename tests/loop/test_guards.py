"""What holds a writing command back, and the option that lifts it, for each command that writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from folders import files_in

from glombridge.cli import main
from glombridge.errors import ExitCode
from glombridge.ledger import running_qupath
from glombridge.qupath import NativeStore

GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden" / "v0.6.0"
COMMANDS = {
    "mark": ["mark", "--searched"],
    "queue": ["queue"],
    "undo": ["undo"],
    "withdraw": ["withdraw", "--layer", "main"],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "p")
    assert main(["init", str(tmp_path / "p"), "--store", "native"]) == 0
    return tmp_path / "p"


def run(command: list[str], project: Path, *more: str) -> int:
    name, *options = command
    images = [NativeStore.open(project).images()[0].name] if name == "mark" else []
    return main([name, str(project), *images, *options, *more])


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("guard", ["--while-qupath-runs", "--break-lock"])
def test_a_guard_holds_until_it_is_lifted(
    project: Path, command: list[str], guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if guard == "--break-lock":
        elsewhere = {"host": "another machine", "pid": 1, "started": 0.0}
        (project / "glombridge" / "lock").write_text(json.dumps(elsewhere), "utf-8")
    else:
        monkeypatch.setattr(running_qupath, "running_qupath", lambda: [4711])
    assert run(command, project) == ExitCode.PROTECTED
    assert run(command, project, guard) != ExitCode.PROTECTED


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_dry_run_needs_no_guard_and_writes_nothing(
    project: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_qupath, "running_qupath", lambda: [4711])
    before = files_in(project)
    assert run(command, project, "--dry-run") != ExitCode.PROTECTED
    assert files_in(project) == before
