"""``status`` tells who comes back after a week what waits for a review, and which command is next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glombridge.cli import main
from glombridge.objects import PathClass
from glombridge.qupath import HierarchyEdit, NativeStore


def status(project: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    capsys.readouterr()
    assert main(["status", str(project), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["status", str(project)]) == 0
    return document, capsys.readouterr().out


def middle(project: Path) -> float:
    """A confidence that half of the proposals do not reach."""
    store = NativeStore.open(project)
    scores = [
        o.measurements["Confidence"]
        for e in store.images()
        for o in store.read(e.id).objects
        if str(o.path_class).endswith(": Proposed")
    ]
    return float(sorted(scores)[len(scores) // 2])


def reject_all(project: Path, folder: Path) -> int:
    store = NativeStore.open(project)
    n = 0
    for entry in store.images():
        found = [
            o for o in store.read(entry.id).objects if str(o.path_class).endswith(": Proposed")
        ]
        edit = HierarchyEdit(
            replace=tuple(replace(o, path_class=PathClass(("Rejected*",))) for o in found)
        )
        n += len(found)
        if found:
            store.write(
                entry.id, edit, expected=store.stamp(entry.id), snapshot_folder=folder / "elsewhere"
            )
    return n


def test_what_waits_and_what_comes_next(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("-q",)
    told, text = status(project, capsys)
    # The demo's round ended with a queue.
    n = sum(told["review"]["waiting"].values())
    assert n == sum(i["states"].get("proposal", 0) for i in told["images"]) > 0
    queue = told["review"]["queue"]
    assert queue["write"].startswith("write-")
    assert f"to review: {n} proposals on" in text
    assert queue["write"] in text
    assert told["next"].startswith(f"review the {n} proposals in QuPath")
    # Taken back, or overtaken by a push, it is no queue to review by.
    assert main(["undo", str(project), *run]) == 0
    told, text = status(project, capsys)
    assert told["review"]["queue"] is None
    assert "not ranked" in text
    assert told["next"] == f"glombridge queue {project}"
    assert main(["queue", str(project), *run]) == 0
    assert status(project, capsys)[0]["next"].startswith("review the")
    assert main(["push", str(project), "--min-confidence", f"{middle(project)}", *run]) == 0
    told, text = status(project, capsys)
    assert told["review"]["queue_is_outdated"]
    assert "a push has changed them since" in text
    assert told["next"] == f"glombridge queue {project}"
    # Reviewed, and looked at: nothing waits.
    assert reject_all(project, tmp_path) == sum(told["review"]["waiting"].values())
    assert main(["pull", str(project), *run]) == 0
    told, text = status(project, capsys)
    assert told["review"]["waiting"] == {}
    assert "to review: nothing" in text
    assert told["next"] == f"glombridge round {project}"
