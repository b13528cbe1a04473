"""A GPU that is lost in the middle: one error that names it, what is finished is kept, the same command goes on.

No GPU here: what torch raises is raised where it would be, at the call of the network, and by every
later call as well (``lost_gpu/sitecustomize.py``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dask_processes import running, wait_until
from detecting import contents
from typed import run

from glombridge.detection.detector import Detector, device_name
from glombridge.errors import DeviceError, InputError, MachineError
from glombridge.steps import evaluate_look
from glombridge.training.devices import training_device

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOST = HERE / "lost_gpu"


def _load_lost() -> Any:
    spec = importlib.util.spec_from_file_location("lost_gpu", LOST / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lost = _load_lost()


def finished_in(partial: Path) -> set[str]:
    return {p.stem for p in (partial / ".work").glob("0*.json")}


# What torch says.


@pytest.fixture
def detector(project: Path, tmp_path: Path) -> Detector:
    weights = project / "glombridge" / "runs" / "train-001" / "weights" / "best.pt"
    return Detector(weights, cache=tmp_path / "cache", device="cpu", threads=1)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        pytest.param(lost.error_of(), True, id="illegal-access"),
        pytest.param(
            lost.error_of("CUDA error: unspecified launch failure\n..."), True, id="launch"
        ),
        pytest.param(lost.error_of("CUDA error: invalid device ordinal"), True, id="ordinal"),
        pytest.param(
            lost.error_of("CUDA error: uncorrectable ECC error encountered"), True, id="ecc"
        ),
        pytest.param(RuntimeError("CUDA error: unknown error"), True, id="plain-of-torch-2.7"),
        pytest.param(RuntimeError("CUDA driver error: unknown error"), True, id="driver"),
        pytest.param(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, id="cudnn"),
        pytest.param(
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, ...)`"
            ),
            True,
            id="cublas",
        ),
        pytest.param(
            RuntimeError("Found no NVIDIA driver on your system. Please check ..."), True, id="gone"
        ),
        pytest.param(AssertionError("Invalid device id"), True, id="device-id"),
        pytest.param(
            ValueError("Invalid CUDA 'device=0' requested. Use 'device=cpu' ..."),
            True,
            id="ultralytics",
        ),
        # Memory is another matter: a smaller batch may do.
        pytest.param(lost.error_of("CUDA error: out of memory"), False, id="memory-of-the-runtime"),
        pytest.param(
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            False,
            id="memory-of-cublas",
        ),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory."), False, id="memory-of-torch"),
    ],
)
def test_what_torch_says_is_understood(detector: Detector, error: Exception, is_lost: bool) -> None:
    def network(batch: Any) -> Any:
        raise error

    detector._net = network
    with pytest.raises(MachineError) as caught:
        detector(np.zeros((4, 96, 96, 3), np.uint8))
    assert isinstance(caught.value, DeviceError) == is_lost
    if is_lost:
        told = str(caught.value)
        assert told.startswith(f"device cpu works no more: {str(error).partition(chr(10))[0]}"[:60])
        assert "\n" not in told
        assert "nvidia-smi" in told
    else:
        assert "out of memory with a single tile" in str(caught.value)


def test_a_gpu_that_is_gone_when_page_locked_memory_is_asked_for(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is asked for by another thread than the one that runs the network."""
    detector._device = torch.device("cuda", 0)
    detector.device = "cuda:0"
    if not torch.cuda.is_available():
        # torch itself raises here.
        with pytest.raises(DeviceError, match="device cuda:0 works no more: Found no NVIDIA"):
            detector.make_batch((1, 8, 8, 3))

    def none_left(*_: Any, **__: Any) -> Any:
        text = "CUDA error: out of memory"
        raise lost.error_of(text)

    monkeypatch.setattr(torch, "empty", none_left)
    assert detector.make_batch((1, 8, 8, 3)).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("command", [device_name, training_device])
@pytest.mark.parametrize(
    ("n_gpus", "device", "says"),
    [
        (0, "cuda:0", "--device cpu"),
        (0, "0", "--device cpu"),
        (2, "2", "no GPU 2 on this machine"),
        (2, "cuda:7", "no GPU 7 on this machine"),
    ],
)
def test_a_number_that_no_gpu_has(
    monkeypatch: pytest.MonkeyPatch, command: Any, n_gpus: int, device: str, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(InputError, match=says):
        command(device)


# Detecting.

DETECT = ("detect", "--include-test", "--batch", "1", "--workers", "1", "-q")


def test_detecting(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(*DETECT, project, "--out", tmp_path / "one") == 0
    tiles = [
        i["tiles_shown"] for i in json.loads((tmp_path / "one/manifest.json").read_text())["images"]
    ]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        # In the middle of the third of five slides.
        patch.setattr(Detector, "__init__", lost.losing(tiles[0] + tiles[1] + tiles[2] // 2))
        assert run(*DETECT, project, "--out", tmp_path / "two") == 7
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0, "one error, however many slides are left"
    assert "device cpu works no more: CUDA error: an illegal memory access" in told
    assert "2 of 5 slides are finished and kept" in told
    assert "'glombridge detect' goes on" in told
    assert not (tmp_path / "two").exists()
    partial = tmp_path / "two.partial"
    assert len(finished_in(partial)) == 2
    kept = {p.name: p.stat().st_mtime_ns for p in partial.glob("*.parquet")}
    assert run(*DETECT, project, "--out", tmp_path / "two") == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert {n: (tmp_path / "two" / n).stat().st_mtime_ns for n in kept} == kept


def losing_in(folder: Path, after: int, most: int) -> dict[str, str]:
    """Environment whose processes lose their GPU after some batches, the first so many of them."""
    claims = folder / "claims"
    claims.mkdir()
    return {
        "PYTHONPATH": os.pathsep.join(map(str, (LOST, ROOT))),
        lost.CALLS: str(after),
        lost.CLAIMS: str(claims),
        lost.MOST: str(most),
    }


@pytest.mark.parametrize("n_lost", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_detecting_in_several_processes(
    project: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    n_lost: int,
) -> None:
    options = (*DETECT, "--device", "cpu,cpu", project, "--out")
    assert run(*options, tmp_path / "one") == 0
    capfd.readouterr()
    with monkeypatch.context() as patch:
        for name, value in losing_in(tmp_path, 10, n_lost).items():
            patch.setenv(name, value)
        assert run(*options, tmp_path / "two") == 7
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert told.count("glombridge: device cpu works no more") == 1
    n_kept = len(finished_in(tmp_path / "two.partial"))
    assert f"{n_kept} of 5 slides are finished and kept" in told
    # The other process does all that the lost one had not begun: it had one in hand and one ahead.
    assert n_kept in ((3, 4) if n_lost == 1 else (0, 1, 2))
    assert run(*options, tmp_path / "two") == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize("n_lost", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_detecting_on_a_cluster(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    n_lost: int,
) -> None:
    assert run(*DETECT, project, "--out", tmp_path / "one") == 0
    environment = losing_in(tmp_path, 10, n_lost)
    folder = tmp_path / "dask"
    folder.mkdir()
    capsys.readouterr()
    options = (*DETECT, project, "--out", tmp_path / "two", "--cluster")
    with running(folder, workers=0) as processes:
        for _ in range(2):
            processes.add_worker(env=environment)
        wait_until(lambda: len(processes.worker_pids()) == 2)
        code = run(*options, processes.address)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if n_lost == 1:
        # The other worker takes over: what was given to the lost one is given on, not failed.
        assert code == 0, told
        assert caplog.text.count("gets no more of this run") >= 1
    else:
        assert code == 7
        assert told.count("works no more") == 1
        n_kept = len(finished_in(tmp_path / "two.partial"))
        assert f"{n_kept} of 5 slides are finished and kept" in told
        assert n_kept <= 2
        assert run(*options, "local:2") == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_worker_that_has_no_such_gpu_gets_nothing(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It declares one; not one failure per slide, but one error for all."""
    folder = tmp_path / "dask"
    folder.mkdir()
    with running(folder, workers=0) as processes:
        processes.add_worker("--resources", "GPU=1")
        wait_until(lambda: len(processes.worker_pids()) == 1)
        options = (*DETECT, project, "--out", tmp_path / "two", "--cluster", processes.address)
        assert run(*options, "--device", "0") == 7
    assert capsys.readouterr().err.count("torch sees none on this machine") == 1
    assert not (tmp_path / "two.partial").exists()


def begun_on_a_gpu(partial: Path) -> None:
    """As a run lies there that was begun on a GPU and interrupted."""
    file = partial / ".work" / "plan.json"
    document = json.loads(file.read_text("utf-8"))
    document["plan"] |= {"device": "cuda", "half": True}
    file.write_text(json.dumps(document), "utf-8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("has_out", [True, False])
def test_detecting_does_not_begin_anew_on_a_cpu_unasked(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_out: bool,
) -> None:
    out = ("--out", tmp_path / "out") if has_out else ()
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "__init__", lost.losing(30))
        assert run(*DETECT, project, *out) == 7
    partial = (
        tmp_path / "out.partial"
        if has_out
        else next((project / "glombridge" / "detections").glob("*.partial"))
    )
    n_kept = len(finished_in(partial))
    assert n_kept >= 1
    begun_on_a_gpu(partial)
    capsys.readouterr()
    assert run(*DETECT, project, *out) == 7
    told = capsys.readouterr().err
    assert f"{partial.name} was interrupted on a GPU after {n_kept} slides" in told
    assert "--device cpu" in told
    assert len(finished_in(partial)) == n_kept
    if not has_out:
        assert run(*DETECT, project, "--device", "cpu") == 0
        assert partial.is_dir(), "it can still be gone on with when the GPU is back"


# Evaluating.


def losing_after_a_slide() -> Any:
    """``Detector.__init__`` whose network fails at the second slide that it is shown."""
    slides = 0

    def count(*given: Any, **options: Any) -> Any:
        nonlocal slides
        slides += 1
        return plan_slide(*given, **options)

    plan_slide = evaluate_look.plan_slide
    evaluate_look.plan_slide = count  # type: ignore[assignment]
    return lost.losing(0, lambda: slides > 1)


def test_evaluating(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "glombridge" / "runs" / "train-001"
    kept = folder / "evaluation"
    before = contents(kept)
    point = (folder / "operating_point.json").read_bytes()
    first = json.loads((folder / "evaluation.json").read_text("utf-8"))
    shutil.rmtree(kept)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_look, "plan_slide", evaluate_look.plan_slide)
        patch.setattr(Detector, "__init__", losing_after_a_slide())
        assert run("evaluate", project, "--no-tiles", "-q") == 7
    told = capsys.readouterr().err.strip()
    n_kept = len(list(kept.glob("*.json")))
    assert n_kept == 1
    assert told.count("\n") == 0
    assert "device cpu works no more: CUDA error" in told
    assert f"What was seen of {n_kept} of 3 slides is kept" in told
    assert (folder / "operating_point.json").read_bytes() == point
    assert run("evaluate", project, "-q") == 0
    assert contents(kept) == before
    second = json.loads((folder / "evaluation.json").read_text("utf-8"))
    assert second["results"] == first["results"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        pytest.param(lost.error_of(), "works no more", id="lost"),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory."), "smaller batch", id="memory"),
    ],
)
def test_evaluating_on_tiles(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    says: str,
) -> None:
    from ultralytics.models.yolo.detect import DetectionValidator

    def preprocess(self: Any, batch: Any) -> Any:
        raise error

    monkeypatch.setattr(DetectionValidator, "preprocess", preprocess)
    capsys.readouterr()
    assert run("evaluate", project, "-q") == 7
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert says in told
    assert "--no-tiles" in told
    assert run("evaluate", project, "-q", "--no-tiles") == 0


# Training, and the whole round.


def losing_in_epoch(epoch: int) -> Any:
    """``preprocess_batch``, which brings a batch to the device: from an epoch on it fails."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    bring = DetectionTrainer.preprocess_batch

    def preprocess_batch(self: Any, batch: Any) -> Any:
        if self.epoch >= epoch:
            raise lost.error_of()
        return bring(self, batch)

    return preprocess_batch


@pytest.mark.parametrize("epoch", [0, 1])
def test_training(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    options = ("train", project, "--epochs", "2", "-q")
    runs = project / "glombridge" / "runs"
    with monkeypatch.context() as patch:
        patch.setattr(DetectionTrainer, "preprocess_batch", losing_in_epoch(epoch))
        assert run(*options) == 7
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "device cpu works no more: CUDA error: an illegal memory access was encountered." in told
    if epoch == 0:
        assert "nothing is kept: train again" in told
        assert not (runs / "train-002").exists()
        return
    assert "train-002 learnt up to its last finished epoch is kept: go on with --resume" in told
    plan_file = runs / "train-002" / "work" / "plan.json"
    plan = json.loads(plan_file.read_text("utf-8"))
    if not torch.cuda.is_available():
        # Not on a CPU unasked, where it would take weeks.
        plan_file.write_text(json.dumps({**plan, "device": "0"}), "utf-8")
        assert run("train", project, "--resume", "-q") == 7
        assert "was begun on the GPU 0, and torch sees none now" in capsys.readouterr().err
    assert run("train", project, "--resume", "--device", "cpu", "-q") == 0
    assert run(*options) == 0
    resumed, straight = (
        json.loads((runs / name / "manifest.json").read_text("utf-8"))
        for name in ("train-002", "train-003")
    )
    assert resumed["weights"] == straight["weights"]


def test_a_round(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = contents(project / "data")
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_look, "plan_slide", evaluate_look.plan_slide)
        patch.setattr(Detector, "__init__", losing_after_a_slide())
        assert run("round", project, "-q") == 7
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "whose training, train-002, is finished: 'glombridge status' names the commands" in told
    assert contents(project / "data") == data
    assert run("status", project, "--json") == 0
    assert json.loads(capsys.readouterr().out)["next"] == f"glombridge evaluate {project}"
    for command in ("evaluate", "detect", "push"):
        assert run(command, project, "-q") == 0
