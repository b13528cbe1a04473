"""Training: what is refused, and with which way out; ultralytics stays where it was put."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glombridge.components import explain_import_error
from glombridge.errors import InputError, MissingComponentError
from glombridge.training import TrainOptions, train
from glombridge.training.trainer import _arguments


def dataset(folder: Path, **changes: Any) -> Path:
    manifest = {
        "class_names": ["Glomerulus"],
        "tiles": {"train": 3, "val": 1, "test": 1},
        "labels": {"train": {"Glomerulus": 2}},
        "objects": {},
        "patients": {},
        "settings": {"tile": {"width_px": 64, "height_px": 64, "overlap": 0.3, "mpp": 4.0}},
        **changes,
    }
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: G}\n")
    return folder


@pytest.mark.parametrize(
    ("changes", "options", "error", "says"),
    [
        pytest.param({"tiles": {"train": 0}}, {}, InputError, "no training tiles", id="no-tiles"),
        pytest.param(
            {"labels": {"train": {"Glomerulus": 0}}},
            {},
            InputError,
            "no training example of class Glomerulus",
            id="class-without-example",
        ),
        pytest.param({}, {"model": "yolo99q"}, InputError, "yolo99q", id="unknown-model"),
        pytest.param({}, {"model": "some/where.pt"}, InputError, "no model file", id="no-file"),
        pytest.param(
            {},
            {"model": "yolo11n", "pretrained": True},
            MissingComponentError,
            "yolo11n.pt",
            id="weights-must-be-put-there",
        ),
        pytest.param(
            {},
            {"model": "glom-pico", "pretrained": True},
            InputError,
            "no published weights",
            id="nothing-to-start-from",
        ),
    ],
)
def test_refusals(
    tmp_path: Path, changes: dict, options: dict, error: type[Exception], says: str
) -> None:
    data = dataset(tmp_path / "data", **changes)
    run = tmp_path / "run"
    with pytest.raises(error, match=says):
        train(data, run, TrainOptions(**options), cache=tmp_path / "cache")
    assert not run.exists()


def test_an_unfinished_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="glombridge tile"):
        train(tmp_path, tmp_path / "run", TrainOptions(), cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("width", "height", "imgsz", "rect"),
    [(192, 192, 192, False), (1600, 1200, 1600, True), (100, 100, 128, False)],
)
def test_tiles_are_shown_as_they_were_cut(
    tmp_path: Path, width: int, height: int, imgsz: int, rect: bool
) -> None:
    tile = {"width_px": width, "height_px": height}
    arguments = _arguments(TrainOptions(), tmp_path, tile, 100, tmp_path)
    assert (arguments["imgsz"], arguments["rect"]) == (imgsz, rect)
    assert arguments["mosaic"] == 0


@pytest.mark.parametrize(("n_train", "nbs"), [(300, 8), (2000, 64)])
def test_small_datasets_step_at_each_batch(tmp_path: Path, n_train: int, nbs: int) -> None:
    tile = {"width_px": 64, "height_px": 64}
    assert _arguments(TrainOptions(), tmp_path, tile, n_train, tmp_path)["nbs"] == nbs


@pytest.mark.parametrize(
    ("text", "ways_out"),
    [
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            ["apt-get install libgl1", "opencv-python-headless"],
        ),
        ("operator torchvision::nms does not exist", ["--force-reinstall torch torchvision"]),
        ("No module named 'ultralytics'", ["pip install"]),
    ],
)
def test_libraries_that_do_not_load_say_what_to_do(text: str, ways_out: list[str]) -> None:
    error = ModuleNotFoundError(text) if text.startswith("No module") else ImportError(text)
    message = explain_import_error(error)
    assert message is not None
    assert text in message
    for way in ways_out:
        assert way in message


def test_a_fault_of_our_own_is_not_explained_away() -> None:
    ours = ModuleNotFoundError("No module named 'glombridge.x'", name="glombridge.x")
    assert explain_import_error(ours) is None
    assert explain_import_error(ImportError("cannot import name 'x' from 'y'")) is None


def test_a_machine_without_libgl_gets_the_message_and_no_traceback(tmp_path: Path) -> None:
    # A cv2 that fails exactly as the real one does without libGL stands before the real one.
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "glombridge", "demo", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(fake)},
    )
    assert done.returncode == 5, done.stderr
    assert "apt-get install libgl1" in done.stderr
    assert "opencv-python-headless" in done.stderr
    assert "Traceback" not in done.stderr
