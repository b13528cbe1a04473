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
from glombridge.errors import InputError, MissingComponentError, ProtectedError
from glombridge.training import TrainOptions, train
from glombridge.training.arguments import EACH_BATCH, train_arguments
from glombridge.training.dataset import Dataset
from glombridge.training.devices import training_device
from glombridge.training.sandbox import load_ultralytics
from glombridge.training.start import OWN_MODELS, find_start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def outlines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data", task="segment")


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


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"model": "yolov5l"}, "no variant.*yolo11n", id="yolov5-has-no-outlines"),
        pytest.param({"model": "rtdetr-l"}, "no variant.*task = .detect.", id="nor-has-rtdetr"),
        pytest.param({"preset": "paper", "model": "yolov5l"}, "1600 x 1200", id="nor-the-paper"),
        pytest.param({"model": "yolo99q"}, "no model 'yolo99q'", id="unknown-model"),
        pytest.param(
            {"model": str(OWN_MODELS["glom-pico"])},
            "task 'detect', and the dataset for 'segment'.*yolo11n-seg",
            id="a-configuration-for-boxes",
        ),
    ],
)
def test_outlines_need_a_model_that_gives_them(
    outlines: Path, tmp_path: Path, options: dict, says: str
) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match=says):
        train(outlines, run, TrainOptions(**options), cache=tmp_path / "cache")
    assert not list(run.glob("**/*"))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("yolo11n", "yolo11n-seg.yaml"),
        ("yolo11x-seg", "yolo11x-seg.yaml"),
        ("yolov8s", "yolov8s-seg.yaml"),
        ("yolo26n", "yolo26n-seg.yaml"),
        ("glom-pico", "glom-pico-seg.yaml"),
        ("glom-pico-seg", "glom-pico-seg.yaml"),
    ],
)
def test_a_name_stands_for_its_variant_with_outlines(
    tmp_path: Path, model: str, expected: str
) -> None:
    load_ultralytics(tmp_path)
    options = TrainOptions(model=model)
    start = find_start(options, ["Glomerulus"], tmp_path, None, task="segment")
    assert Path(start.model).name == expected
    assert start.kind == "scratch"
    if not model.startswith("glom"):
        assert start.note is not None
        assert f"{Path(expected).stem}.pt" in start.note


def test_published_weights_for_outlines_are_looked_for_and_must_be_trusted(tmp_path: Path) -> None:
    load_ultralytics(tmp_path)
    (tmp_path / "weights").mkdir()
    for name in ("yolo11n.pt", "yolo11n-seg.pt"):
        (tmp_path / "weights" / name).write_bytes(name.encode())
    options = TrainOptions(model="yolo11n")
    with pytest.raises(ProtectedError, match=r"yolo11n-seg\.pt is not loaded"):
        find_start(options, ["Glomerulus"], tmp_path, None, task="segment")
    with pytest.raises(ProtectedError, match=r"yolo11n\.pt is not loaded"):
        find_start(options, ["Glomerulus"], tmp_path, None)


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
