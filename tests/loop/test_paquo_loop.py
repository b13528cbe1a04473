"""The same push, its repetition and its undo, through a real QuPath."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glombridge.cli import main
from glombridge.qupath import NativeStore
from glombridge.qupath.paquo.installation import find_installation, version_numbers


def data_files(project: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(project.glob("data/*/data.qpdata"))}


@pytest.mark.qupath
def test_push_repeat_and_undo_through_real_qupath(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(project)
    installation = find_installation()
    assert installation is not None
    made_with = NativeStore.open(project).qupath_version
    if version_numbers(installation.version) < version_numbers(made_with):
        pytest.skip(f"QuPath {installation.version} is older than the project, and refuses it")
    native = NativeStore.open(project)
    pushed = {e.id: {o.id for o in native.read(e.id).objects} for e in native.images()}
    # Take queue and native push back, so that the same detections can be pushed through QuPath.
    assert main(["undo", folder, "--write", "write-002"]) == 0
    assert main(["undo", folder, "--write", "write-001"]) == 0
    before = data_files(project)
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    assert 'store = "native"' in text
    settings.write_text(text.replace('store = "native"', 'store = "paquo"'), "utf-8")
    capsys.readouterr()

    assert main(["push", folder, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["counts"]["add"] > 0
    assert {e.id: {o.id for o in native.read(e.id).objects} for e in native.images()} == pushed

    after = data_files(project)
    assert main(["push", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["add"] == 0
    assert data_files(project) == after

    assert main(["undo", folder]) == 0
    assert data_files(project) == before
