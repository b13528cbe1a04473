"""The paper repeated on one's own slides, as a user types it: its tiles, its split, its own model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typed import run_json

from glombridge.cli import main


@pytest.mark.slow
def test_tile_train_and_evaluate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # No tiles beside the objects' own, and one epoch: YOLOv5 Large takes its time on a CPU.
    tiled = run_json(capsys, "tile", project, "--preset", "paper", "--background", 0)
    assert tiled["tile_px"] == [1600, 1200]
    assert all(tiled["tiles"][part] for part in ("train", "val", "test"))
    options = ["--preset", "paper", "--epochs", 1, "--batch", 1, "--from-scratch"]
    trained = run_json(capsys, "train", project, *options)
    assert trained["parameters"] == pytest.approx(53e6, rel=0.02)
    manifest = json.loads(Path(trained["weights"]).parents[1].joinpath("manifest.json").read_text())
    assert manifest["options"]["preset"] == "paper"
    assert manifest["start"]["model"] == "yolov5l.yaml"
    # Whole tiles, not squares.
    assert (manifest["arguments"]["imgsz"], manifest["arguments"]["rect"]) == (1600, True)
    assert (manifest["tiles"]["width_px"], manifest["tiles"]["height_px"]) == (1600, 1200)
    evaluated = run_json(capsys, "evaluate", project)
    assert evaluated["run"] == trained["run"]
    assert evaluated["weights_sha256"] == trained["sha256"]
    for part in ("val", "test"):
        assert evaluated["tile_level"][part]["tiles"] == tiled["tiles"][part]
        assert evaluated["results"][part]["slides"] >= 1
    # One epoch from scratch finds nothing worth having, and that is said, not hidden.
    assert evaluated["operating_point"]["reached"] is False


@pytest.mark.slow
def test_one_command_walks_it_with_any_model(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace("epochs = 40", "epochs = 1"), "utf-8")
    told = run_json(capsys, "round", project, "--preset", "paper", "--model", "glom-pico")
    assert told["tile"]["tile_px"] == [1600, 1200]
    run = project / "glombridge" / "runs" / told["train"]["run"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["options"]["preset"], manifest["options"]["model"]) == ("paper", "glom-pico")
    assert told["evaluate"]["weights_sha256"] == told["train"]["weights_sha256"]
    # The settings are the user's own and stay as they are.
    assert settings.read_text("utf-8") == text.replace("epochs = 40", "epochs = 1")


def test_other_tiles_are_refused_with_the_command_to_type(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["train", str(project), "--preset", "paper"]) == 3
    assert "glombridge tile PROJECT --preset paper" in " ".join(capsys.readouterr().err.split())
