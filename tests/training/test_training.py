"""Training: what is refused, and with which way out; ultralytics stays where it was put."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_dataset import write_tiny_dataset

from glombridge.components import explain_import_error
from glombridge.errors import InputError, MissingComponentError
from glombridge.training import TrainOptions, train
from glombridge.training.arguments import EACH_BATCH, train_arguments
from glombridge.training.dataset import Dataset
from glombridge.training.devices import training_device


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        pytest.param({"model": "yolo99q"}, InputError, "yolo99q", id="unknown-model"),
        pytest.param({"model": "some/where.pt"}, InputError, "no model file", id="no-file"),
        pytest.param(
            {"model": "yolo11n", "pretrained": True},
            MissingComponentError,
            "yolo11n.pt.*--trust-weights.*--download.*--from-scratch",
            id="weights-must-be-put-there",
        ),
        pytest.param(
            {"model": "yolov5l", "pretrained": True},
            MissingComponentError,
            "yolov5lu.pt",
            id="yolov5-weights-have-another-name",
        ),
        pytest.param(
            {"model": "glom-pico", "pretrained": True},
            InputError,
            "no published weights",
            id="nothing-to-start-from",
        ),
        pytest.param(
            {"model": "yolo11n-seg", "pretrained": False},
            InputError,
            "task 'segment'.*'detect'",
            id="model-of-another-task",
        ),
        pytest.param({"preset": "paper"}, InputError, "1600 x 1200", id="not-the-papers-tiles"),
        pytest.param({"device": "7"}, InputError, "no GPU 7.*Give --device", id="no-such-gpu"),
        pytest.param({"device": "gpu"}, InputError, "no device 'gpu'", id="no-such-device"),
    ],
)
def test_refusals(
    data: Path, tmp_path: Path, options: dict, error: type[Exception], says: str
) -> None:
    run = tmp_path / "run"
    with pytest.raises(error, match=says):
        train(data, run, TrainOptions(**options), cache=tmp_path / "cache")
    assert not list(run.glob("**/*"))


def test_a_gpu_that_is_not_there_is_no_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert training_device(None) == "cpu"
    with pytest.raises(InputError, match=r"torch sees no GPU.*Give --device cpu"):
        training_device("0")


@pytest.mark.parametrize(
    ("width", "height", "imgsz", "rect"),
    [(192, 192, 192, False), (1600, 1200, 1600, True), (100, 100, 128, False)],
)
def test_tiles_are_shown_as_they_were_cut(
    tmp_path: Path, width: int, height: int, imgsz: int, rect: bool
) -> None:
    data = described(tmp_path, width, height, 100)
    arguments = train_arguments(TrainOptions(), data, tmp_path, "cpu", has_weights=False)
    assert (arguments["imgsz"], arguments["rect"]) == (imgsz, rect)
    assert arguments["mosaic"] == 0


@pytest.mark.parametrize(("n_train", "nbs"), [(300, EACH_BATCH), (2000, 64)])
def test_small_datasets_step_at_each_batch(tmp_path: Path, n_train: int, nbs: int) -> None:
    data = described(tmp_path, 64, 64, n_train)
    assert train_arguments(TrainOptions(), data, tmp_path, "cpu", has_weights=False)["nbs"] == nbs


@pytest.mark.parametrize(("device", "batch"), [("cpu", 8), ("0", -1)])
def test_the_batch_fits_the_device_unless_it_is_given(
    tmp_path: Path, device: str, batch: int
) -> None:
    data = described(tmp_path, 64, 64, 100)
    for asked, expected in ((None, batch), (3, 3)):
        options = TrainOptions(batch=asked)
        arguments = train_arguments(options, data, tmp_path, device, has_weights=False)
        assert arguments["batch"] == expected


def described(folder: Path, width: int, height: int, n_train: int) -> Dataset:
    manifest = {
        "settings": {"tile": {"width_px": width, "height_px": height}},
        "tiles": {"train": n_train, "val": 1, "test": 1},
    }
    return Dataset(folder, manifest, "", "", "")


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
