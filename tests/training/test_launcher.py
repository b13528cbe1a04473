"""What ultralytics hands to the processes of several GPUs arrives there.

There is no such machine here. The file its launcher would start is started once, on the CPU: our trainer,
the sandbox and the state must survive the way through a pickle into another process.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed import OPTIONS
from tiny_dataset import write_tiny_dataset

from glombridge.errors import InputError, MachineError
from glombridge.training import TrainResult, following, resume, train
from glombridge.training.arguments import train_arguments
from glombridge.training.checkpoint import load_state
from glombridge.training.dataset import open_dataset
from glombridge.training.order import epoch_order
from glombridge.training.sandbox import load_ultralytics
from glombridge.training.start import OWN_MODELS
from glombridge.training.trainer import _check_batch


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_launched_file_trains(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    load_ultralytics(tmp_path / "cache")
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

    from glombridge.training.engine import DetectTrainer

    data = open_dataset(write_tiny_dataset(tmp_path / "data"), validate=True)
    work = tmp_path / "run" / "work"
    arguments = train_arguments(replace(OPTIONS, epochs=1), data, work, "cpu", has_weights=False)
    arguments["model"] = str(OWN_MODELS["glom-pico"])
    trainer = DetectTrainer(overrides=arguments)
    file = generate_ddp_file(trainer)
    try:
        done = subprocess.run([sys.executable, file], check=False, capture_output=True, text=True)
    finally:
        ddp_cleanup(trainer, file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    state = load_state(work)
    assert state is not None
    assert state["stop"]
    assert (work / "ultralytics" / "weights" / "best.pt").is_file()


class Task:
    def __init__(self) -> None:
        self.position, self.notes = 0.0, []

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        self.position += steps
        self.notes.append(note)

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Task]:
        yield self


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainResult]:
    """Trains as on two GPUs: two processes of ultralytics' launcher, on the CPU."""
    pytest.importorskip("cloudpickle")
    load_ultralytics(tmp_path / "cache")
    from cpu_pair import PairTrainer

    from glombridge.training import engine, trainer

    monkeypatch.setattr(engine, "DetectTrainer", PairTrainer)
    monkeypatch.setattr(trainer, "training_device", lambda _: "0,1")
    monkeypatch.setattr(trainer, "hardware", lambda _: {})
    data = write_tiny_dataset(tmp_path / "data", width=128, height=96)

    def trained(name: str, *, go_on: bool = False, **changes: Any) -> TrainResult:
        run, cache = tmp_path / name / "train-001", tmp_path / "cache"
        options = replace(OPTIONS, **{"epochs": 3, "batch": 4, **changes})
        return (
            resume(run, cache=cache, reporter=told)
            if go_on
            else train(data, run, options, cache=cache, reporter=told)
        )

    told = Task()
    trained.told = told  # type: ignore[attr-defined]
    return trained


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_processes_train_one_model_and_resume_it(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = pair("whole")
    assert capfd.readouterr().out == "", "standard output belongs to --json"
    manifest = json.loads((whole.run / "manifest.json").read_text("utf-8"))
    assert (manifest["epochs"], manifest["arguments"]["batch"]) == (3, 4)
    assert "pads tiles to squares" in whole.notes[-1]
    assert (whole.run / "results.csv").read_text().count("\n") == 4
    assert pair.told.notes[-1] == "epoch 3/3"
    # In each epoch every tile was shown, half of them to each process, in the order of seed and epoch.
    lines = [(whole.run / f"seen-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    names = sorted(p.name for p in (tmp_path / "data" / "images" / "train").iterdir())
    for epoch in range(3):
        order = np.resize(epoch_order(OPTIONS.seed, epoch, 13), 14)
        for rank in (0, 1):
            seen = " ".join(x.partition(" ")[2] for x in lines[rank] if x[0] == str(epoch)).split()
            assert seen == [names[k] for k in order[rank::2]]
    # One of two processes dies; going on gives the bytes of the training that nothing happened to.
    monkeypatch.setenv("GLOMBRIDGE_TEST_FAIL", "crash")
    with pytest.raises(MachineError, match="processes of GPUs 0,1 ended with code"):
        pair("killed")
    state = load_state(tmp_path / "killed" / "train-001" / "work")
    assert state is not None
    assert state["epoch"] == 0
    del state
    monkeypatch.delenv("GLOMBRIDGE_TEST_FAIL")
    assert pair("killed", go_on=True).sha256 == whole.sha256


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("batch", "says"),
    [(6, r"out of memory on .* with batch 6\. Try --batch 2\."), (2, "a single tile each")],
)
def test_what_a_process_of_the_launcher_knows_reaches_the_user(
    pair: Any, monkeypatch: pytest.MonkeyPatch, batch: int, says: str
) -> None:
    monkeypatch.setenv("GLOMBRIDGE_TEST_FAIL", "memory")
    with pytest.raises(MachineError, match=says):
        pair("full", batch=batch)


@pytest.mark.parametrize("batch", [None, 3])
def test_gpus_share_a_batch(batch: int | None) -> None:
    with pytest.raises(InputError, match="a multiple of 2, such as 16"):
        _check_batch(replace(OPTIONS, batch=batch), "0,1")
    _check_batch(replace(OPTIONS, batch=batch), "0")
    _check_batch(replace(OPTIONS, batch=4), "0,1")


def test_processes_that_cannot_call_back_are_followed_by_their_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_EVERY_SECONDS", 0.01)
    curves = tmp_path / "ultralytics" / "results.csv"
    curves.parent.mkdir()
    task = Task()
    with following.follow(None, task, 3, tmp_path, in_workers=True):
        for n in (1, 2):
            with curves.open("w", newline="") as file:
                csv.writer(file).writerows([["epoch", "time"], *([k, 0.1] for k in range(n))])
            deadline = time.monotonic() + 30
            while task.position < n:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert task.position == 2
    assert task.notes[-1] == "epoch 2/3"


def test_workers_and_their_number_change_nothing(tmp_path: Path) -> None:
    load_ultralytics(tmp_path / "cache")
    from glombridge.training.engine import DetectTrainer

    data = open_dataset(write_tiny_dataset(tmp_path / "data"), validate=True)
    arguments = train_arguments(OPTIONS, data, tmp_path / "work", "cpu", has_weights=False)
    trainer = DetectTrainer(overrides={**arguments, "model": str(OWN_MODELS["glom-pico"])})
    trainer._setup_train()
    epochs = []
    for workers in (0, 1, 2):
        trainer.args.workers = workers  # ultralytics takes none on a CPU
        loader = trainer.get_dataloader(trainer.data["train"], 4, -1, "train")
        assert loader.num_workers == min(workers, os.cpu_count() or 1)
        loader.sampler.epoch = 2
        epochs.append([(b["img"], b["bboxes"], b["im_file"]) for _ in range(2) for b in loader])
        loader.close()
    for other in epochs[1:]:
        assert len(other) == len(epochs[0]) == 8
        for (image, boxes, names), (image0, boxes0, names0) in zip(other, epochs[0], strict=True):
            assert torch.equal(image, image0)
            assert torch.equal(boxes, boxes0)
            assert names == names0
    first, second = epochs[0][:4], epochs[0][4:]
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
