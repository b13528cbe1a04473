"""What the review window's Groovy writes on QuPath's own objects, saved by QuPath, read back by ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from groovy_in_qupath import SCRIPTS, needs_groovy, run_job

from glombridge.qupath import NativeStore, find_installation, version_numbers

HERE = Path(__file__).parent
TABLE = json.loads((HERE / "decision_cases.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> tuple[NativeStore, dict[str, Any]]:
    """Every case made, decided and saved in one image of a copy of a golden project."""
    folder = tmp_path_factory.mktemp("decided")
    installed = find_installation()
    assert installed is not None
    goldens = HERE.parent / "data" / "qupath_golden"
    # The newest golden project that this QuPath may open.
    (*_, golden) = (
        f
        for f in sorted(goldens.glob("v0.?.?"))
        if f.is_dir() and version_numbers(f.name) <= version_numbers(installed.version)
    )
    shutil.copytree(golden, folder / "project")
    said = run_job(
        HERE / "groovy" / "decide_cases.groovy",
        folder,
        shared=str(SCRIPTS / "glombridge_shared.groovy"),
        table=str(HERE / "decision_cases.json"),
        project=str(folder / "project" / "project.qpproj"),
        image="1",
    )
    return NativeStore.open(folder / "project"), said


@pytest.mark.qupath
@needs_groovy
@pytest.mark.parametrize(
    "number", range(len(TABLE["cases"])), ids=[c["id"] for c in TABLE["cases"]]
)
def test_a_decision_leaves_what_the_table_says(
    decided: tuple[NativeStore, dict[str, Any]], number: int
) -> None:
    store, said = decided
    (found,) = [o for o in store.read(1).objects if str(o.id) == said["ids"][number]]
    assert {
        "class": str(found.path_class) if found.path_class else None,
        "locked": found.locked,
        "measurements": dict(found.measurements),
        "metadata": dict(found.metadata),
    } == TABLE["cases"][number]["expect"]


@pytest.mark.qupath
@needs_groovy
@pytest.mark.parametrize(
    "number", range(len(TABLE["refused"])), ids=[c["id"] for c in TABLE["refused"]]
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    decided: tuple[NativeStore, dict[str, Any]], number: int
) -> None:
    refusal = decided[1]["refusals"][number]
    assert TABLE["refused"][number]["says"] in (refusal["error"] or "nothing was refused")
    assert refusal["unchanged"]


@pytest.mark.qupath
@needs_groovy
def test_an_image_is_marked_as_searched(decided: tuple[NativeStore, dict[str, Any]]) -> None:
    (entry,) = [e for e in decided[0].images() if e.id == 1]
    assert entry.metadata["glombridge.searched"] == "true"
    assert entry.metadata["glombridge.searched_by"] == "Dr A"
    assert entry.metadata["glombridge.searched_at"].endswith("Z")
