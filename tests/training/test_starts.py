"""What a training starts from, when it ends, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import OPTIONS
from tiny_dataset import write_tiny_dataset

from glombridge.errors import InputError, MachineError, ProtectedError
from glombridge.ledger.manifest import sha256_of
from glombridge.training import TrainOptions, TrainResult, train
from glombridge.training.trust import trust


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("starts")
    write_tiny_dataset(base / "data")
    return base


@pytest.fixture(scope="module")
def learned(base: Path) -> TrainResult:
    """A detector that finds most of the discs, in a project's folder of runs."""
    options = replace(OPTIONS, epochs=30, batch=2, learning_rate=0.004)
    return train(base / "data", base / "runs" / "train-001", options, cache=base / "cache")


def go_on(base: Path, name: str, **changes: Any) -> TrainResult:
    options = replace(OPTIONS, **changes)
    return train(
        base / "data", base / "runs" / name, options, cache=base / "cache", runs=base / "runs"
    )


def manifest_of(result: TrainResult) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((result.run / "manifest.json").read_text())
    return document


def test_going_on_with_a_run_begins_where_it_ended_and_stops_where_nothing_gets_better(
    base: Path, learned: TrainResult
) -> None:
    before = manifest_of(learned)["tile_metrics_of_best_epoch"]["metrics/mAP50-95(B)"]
    assert before > 0.1, "the first training has learnt nothing, so this test shows nothing"
    # With a rate of almost nothing no epoch is better than the first.
    result = go_on(
        base, "train-002", start_from=learned.weights, epochs=9, patience=2, learning_rate=1e-9
    )
    manifest = manifest_of(result)
    after = manifest["tile_metrics_of_best_epoch"]["metrics/mAP50-95(B)"]
    assert after == pytest.approx(before, abs=0.05)
    assert manifest["start"] == {"kind": "run", "model": "train-001", "sha256": learned.sha256}
    assert manifest["stopped_early"]
    lines = (result.run / "results.csv").read_text().splitlines()
    assert manifest["epochs"] == result.epochs == len(lines) - 1 < 9


def test_going_on_takes_smaller_steps(base: Path, learned: TrainResult) -> None:
    fresh = go_on(base, "train-003", epochs=1)
    tuned = go_on(base, "train-004", epochs=1, start_from=learned.weights)
    assert manifest_of(tuned)["arguments"]["lr0"] < manifest_of(fresh)["arguments"]["lr0"]
    assert manifest_of(fresh)["start"]["kind"] == "scratch"


def test_going_on_needs_the_same_classes(base: Path, learned: TrainResult, tmp_path: Path) -> None:
    manifest = learned.run / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"Glomerulus"\n  ]', '"Tubule"\n  ]'))
    try:
        with pytest.raises(
            InputError, match=r"detects Tubule; the dataset has Glomerulus.*--model"
        ):
            go_on(base, "train-x", start_from=learned.weights)
    finally:
        manifest.write_text(text)
    with pytest.raises(InputError, match="lies in no training run"):
        go_on(base, "train-x", start_from=tmp_path / "any.pt")


def test_weights_from_elsewhere_are_not_loaded(
    base: Path, learned: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(ProtectedError, match="--trust-weights"):
        train(
            base / "data",
            tmp_path / "run",
            replace(OPTIONS, model=str(learned.weights)),
            cache=tmp_path / "cache",
        )
    assert not (tmp_path / "run").exists()


def test_the_manifest_says_what_was_done(base: Path, learned: TrainResult) -> None:
    manifest = manifest_of(learned)
    assert manifest["weights"]["sha256"] == sha256_of(learned.weights) == learned.sha256
    assert manifest["dataset"]["manifest_sha256"] == sha256_of(base / "data" / "manifest.json")
    assert len(manifest["dataset"]["annotations_sha256"]) == 64
    assert manifest["seed"] == manifest["arguments"]["seed"] == OPTIONS.seed
    assert manifest["environment"]["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert manifest["hardware"]["cpu"]
    assert manifest["peak_memory_bytes"] > 50 << 20
    assert 0 < manifest["seconds"] == round(learned.seconds, 1)
    assert {p.name for p in learned.run.iterdir()} == {"manifest.json", "results.csv", "weights"}
    assert str(base) not in json.dumps(manifest), "a path of this machine"
    assert str(base).encode() not in learned.weights.read_bytes()


def test_out_of_gpu_memory_names_the_batch_to_try(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The error is raised where the network would; from there on everything is ultralytics' own.
    from ultralytics.models.yolo.detect import DetectionTrainer

    def full(self: Any, batch: dict) -> dict:
        msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
        raise torch.OutOfMemoryError(msg)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", full)
    with pytest.raises(MachineError, match=r"out of memory on cpu with batch 4\. Try --batch 2\."):
        train(base / "data", tmp_path / "run", OPTIONS, cache=base / "cache")
    options = replace(OPTIONS, batch=1)
    with pytest.raises(MachineError, match="with a single tile"):
        train(base / "data", tmp_path / "run", options, cache=base / "cache")
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize(
    ("text", "where", "epoch"),
    [
        pytest.param("CUDA out of memory.", "DetectionTrainer.preprocess_batch", 1, id="later"),
        pytest.param(
            "CUDNN_STATUS_INTERNAL_ERROR", "DetectionTrainer.preprocess_batch", 1, id="libraries"
        ),
        pytest.param("CUDA out of memory.", "DetectionTrainer.validate", 0, id="validation"),
    ],
)
def test_memory_that_runs_out_at_any_time_names_the_batch_that_was_measured(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, where: str, epoch: int
) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    from glombridge.training import arguments

    # As on a GPU: ultralytics measures the batch. On a CPU its answer is its default, 16.
    monkeypatch.setattr(arguments, "CPU_BATCH", -1)
    name = where.partition(".")[2]
    original = getattr(DetectionTrainer, name)

    def full(self: Any, *given: Any) -> Any:
        if self.epoch == epoch:
            raise torch.cuda.OutOfMemoryError(text)
        return original(self, *given)

    monkeypatch.setattr(DetectionTrainer, name, full)
    options = replace(OPTIONS, batch=None)
    with pytest.raises(MachineError, match=r"out of memory on cpu with batch 16\. Try --batch 8\."):
        train(base / "data", tmp_path / "run", options, cache=base / "cache")


def test_the_batch_that_was_measured_is_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.engine.trainer import BaseTrainer

    from glombridge.training import arguments

    monkeypatch.setattr(arguments, "CPU_BATCH", -1)
    options = replace(OPTIONS, batch=None, epochs=1)
    result = train(base / "data", tmp_path / "run", options, cache=base / "cache")
    assert manifest_of(result)["arguments"]["batch"] == 16
    given = replace(options, batch=16)
    same = train(base / "data", tmp_path / "given", given, cache=base / "cache")
    assert same.sha256 == result.sha256, "a step at each batch, whoever chose it"

    def none_fits(self: Any, *_: Any, **__: Any) -> int:
        msg = "AutoBatch: no usable batch size found while profiling batch=[1, 2, 4]."
        raise RuntimeError(msg)

    monkeypatch.setattr(BaseTrainer, "auto_batch", none_fits)
    with pytest.raises(MachineError, match="out of memory on cpu with a single tile"):
        train(base / "data", tmp_path / "none", options, cache=base / "cache")


def test_a_loss_that_is_no_number_ends_the_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    original = DetectionTrainer.preprocess_batch

    def spoilt(self: Any, batch: dict) -> dict:
        batch = original(self, batch)
        batch["img"] *= float("nan")
        return batch

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", spoilt)
    with pytest.raises(InputError, match=r"epoch 1: the loss is no number.*smaller learning_rate"):
        train(base / "data", tmp_path / "run", OPTIONS, cache=base / "cache")


def test_a_start_from_scratch_is_said(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = TrainOptions(model="yolo11n", epochs=1, batch=4, device="cpu")
    result = train(base / "data", tmp_path / "run", options, cache=base / "cache")
    assert "from scratch" in caplog.text
    assert any("from scratch" in note for note in result.notes)
    assert manifest_of(result)["notes"] == list(result.notes)


def test_everything_we_replace_is_there_and_called(base: Path) -> None:
    from ultralytics.engine import trainer

    from glombridge.training.engine import REPLACED, _Exact

    text = Path(trainer.__file__).read_text(encoding="utf-8")
    assert set(REPLACED) <= set(vars(_Exact))
    assert [name for name in REPLACED if f"self.{name}(" not in text] == []
    own = {name for name in vars(_Exact) if not name.startswith("__")}
    assert own == set(REPLACED), "a method of ours that ultralytics never calls"


def random_weights(folder: Path, name: str, cache: Path) -> Path:
    """Weights as ultralytics saves them, which know nothing."""
    from glombridge.training.sandbox import load_ultralytics

    file = folder / f"{name}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    load_ultralytics(cache).YOLO(f"{name}.yaml").save(str(file))
    return file


def test_published_weights_that_are_here_are_used_once_they_are_trusted(
    base: Path, tmp_path: Path
) -> None:
    # 80 classes, as published weights have them; the dataset has one.
    file = random_weights(tmp_path / "cache" / "weights", "yolo11n", base / "cache")
    options = TrainOptions(model="yolo11n", epochs=1, batch=4, device="cpu", threads=1)
    with pytest.raises(ProtectedError, match="--trust-weights"):
        train(base / "data", tmp_path / "run", options, cache=tmp_path / "cache")
    sha256 = trust(file, "made by this test")
    result = train(base / "data", tmp_path / "run", options, cache=tmp_path / "cache")
    manifest = manifest_of(result)
    assert manifest["start"] == {"kind": "published", "model": "yolo11n.pt", "sha256": sha256}
    assert manifest["classes"] == ["Glomerulus"]
    assert result.notes == ()


def test_weights_of_another_task_are_refused(base: Path, tmp_path: Path) -> None:
    file = random_weights(tmp_path, "yolo11n-seg", base / "cache")
    trust(file, "made by this test")
    options = replace(OPTIONS, model=str(file))
    with pytest.raises(InputError, match=r"task 'segment'.*'detect'"):
        train(base / "data", tmp_path / "run", options, cache=base / "cache")


def test_a_file_that_is_no_weights_is_refused(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "letter.pt"
    file.write_text("Dear colleague, here are the weights.")
    trust(file, "made by this test")
    options = replace(OPTIONS, model=str(file))
    with pytest.raises(InputError, match=r"letter\.pt cannot be loaded as ultralytics weights"):
        train(base / "data", tmp_path / "run", options, cache=base / "cache")
    assert not (tmp_path / "run" / "work").exists()
