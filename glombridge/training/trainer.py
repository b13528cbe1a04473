"""Training of a detector on a tile dataset."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import (
    DeviceError,
    InputError,
    MachineError,
    MissingComponentError,
    ProtectedError,
)
from ..ledger.history import utc_now
from ..ledger.manifest import environment, sha256_of
from ..progress import SILENT, Reporter
from ..tiles.labels import Task
from .arguments import train_arguments
from .checkpoint import STATE, load_state
from .dataset import Dataset, open_dataset
from .devices import training_device
from .failure import explained, forget_failure, kept_failure
from .following import follow
from .hardware import hardware
from .options import PAPER_TILE_PX, TrainOptions, TrainResult
from .run_folder import RunFolder
from .sandbox import load_ultralytics, use_threads
from .stain import described
from .start import Start, find_start

log = logging.getLogger(__name__)

CPU = "cpu"


def train(
    dataset: Path,
    run: Path,
    options: TrainOptions,
    *,
    cache: Path,
    runs: Path | None = None,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a detector on a dataset written by :func:`glombridge.tiles.write_dataset`.

    On a CPU the same options, dataset and library versions give the same bytes, however often the
    training was interrupted and resumed on the way.

    Args:
        dataset: folder with ``data.yaml`` and ``manifest.json``.
        run: folder to make; it counts as finished once it holds ``manifest.json``.
        options: what to train.
        cache: where ultralytics keeps its settings, and published weights lie in ``weights/``.
        runs: the project's training runs, whose weights may be loaded.
        reporter: is told of each batch.

    Raises:
        InputError: the dataset cannot be trained on, there is no such model or device, weights are for
            another task or other classes, or training went astray.
        ProtectedError: weights that nobody answers for, or a run in this place.
        MissingComponentError: a library or pretrained weights are not there.
        MachineError: disk full, out of memory.
    """
    folder = RunFolder(run)
    if folder.is_finished or folder.can_go_on:
        way_out = (
            "Choose another folder" if folder.is_finished else "Give --resume to go on with it"
        )
        msg = f"{run} holds a training already. {way_out}."
        raise ProtectedError(msg)
    data = open_dataset(dataset, validate=options.validate)
    _check_preset(options, data)
    load_ultralytics(cache, allow_network=options.allow_download)
    device = training_device(options.device)
    _check_batch(options, device)
    start = find_start(options, data.class_names, cache, runs, task=data.task)
    plan = {
        "options": options.as_plan(),
        "start": {**start.as_dict(), "model": str(start.model), "note": start.note},
        "dataset": str(dataset.resolve()),
        "dataset_sha256": data.manifest_sha256,
        "files_sha256": data.files_sha256,
        "environment": environment(),
        "device": device,
    }
    with folder.begun(plan):
        result = _train(folder, data, options, start, device, cache, [], reporter)
    folder.clear()
    return result


def resume(
    run: Path, *, cache: Path, device: str | None = None, reporter: Reporter = SILENT
) -> TrainResult:
    """Go on with a training that was interrupted, from its last finished epoch.

    Args:
        run: folder of the run.
        cache: as in :func:`train`.
        device: in place of the one it was begun on.
        reporter: is told of each batch.

    Raises:
        InputError: it is finished or was never begun, its dataset has changed, or whatever
            :func:`train` raises.
        DeviceError: it was begun on a GPU that is gone, and no other device is given.
        ProtectedError: another process is training it.
    """
    folder = RunFolder(run)
    with folder.continued() as plan:
        options = TrainOptions(**{**plan["options"], "start_from": None})
        options = replace(options, device=device or options.device)
        data = open_dataset(Path(plan["dataset"]), validate=options.validate)
        if (data.manifest_sha256, data.files_sha256) != (
            plan["dataset_sha256"],
            plan["files_sha256"],
        ):
            msg = (
                f"dataset {data.folder} is not the one that {run.name} was begun with: its files have "
                "changed. Train anew."
            )
            raise InputError(msg)
        load_ultralytics(cache)
        on_device = training_device(options.device)
        begun_on = plan.get("device", CPU)  # runs of earlier versions do not say it
        if options.device is None and on_device == CPU != begun_on:
            msg = (
                f"{run.name} was begun on the GPU {begun_on}, and torch sees none now. See what 'nvidia-smi' "
                "and 'glombridge doctor' say of it, and give --resume again when it is back; or give "
                "--resume --device cpu, which goes on there, much slower."
            )
            raise DeviceError(msg)
        start = Start(**plan["start"])
        if start.has_weights and (
            not Path(start.model).is_file() or sha256_of(Path(start.model)) != start.sha256
        ):
            msg = (
                f"{run.name} was begun from {start.model}, which is not there any more. Train anew."
            )
            raise InputError(msg)
        notes = []
        if plan["environment"] != environment():
            note = (
                "other versions of libraries than it was begun with: not the weights an uninterrupted "
                "training would have given"
            )
            log.warning("%s goes on with %s", run.name, note)
            notes.append(f"resumed with {note}")
        result = _train(folder, data, options, start, on_device, cache, notes, reporter)
    folder.clear()
    return result


def _train(
    folder: RunFolder,
    data: Dataset,
    options: TrainOptions,
    start: Start,
    device: str,
    cache: Path,
    notes: list[str],
    reporter: Reporter,
) -> TrainResult:
    ultralytics = load_ultralytics(cache)
    threads = use_threads(options.threads)
    from .engine import DetectTrainer, SegmentTrainer, TransformerTrainer

    arguments = train_arguments(options, data, folder.work, device, has_weights=start.has_weights)
    state = load_state(folder.work, peek=True)
    if state is not None:
        # What was measured at the beginning may come out otherwise today.
        arguments["batch"] = state["batch"]
    resumed_at = 0 if state is None else state["epoch"] + 1
    del state
    forget_failure(folder.work)
    machine = hardware(device)  # before: afterwards a GPU may not be there to be asked
    try:
        model = _load_start(ultralytics, start, data.task)
        if "RTDETR" in type(model).__name__:
            trainer = TransformerTrainer
        else:
            trainer = SegmentTrainer if data.task == "segment" else DetectTrainer
        with (
            reporter.task(f"train {Path(start.model).stem}", options.epochs) as task,
            follow(model, task, options.epochs, folder.work, in_workers="," in device),
        ):
            model.train(trainer=trainer, **arguments)
    except KeyboardInterrupt:
        if (folder.work / STATE).is_file():
            log.warning("interrupted; --resume goes on after the last finished epoch")
        raise
    except subprocess.CalledProcessError as error:
        said = kept_failure(folder.work) or MachineError(
            f"the training processes of GPUs {device} ended with code {error.returncode}; see above. "
            "--resume goes on after the last finished epoch, if there is one."
        )
        raise said from error
    except Exception as error:
        known = explained(
            error,
            batch=arguments["batch"],
            device=device,
            n_devices=len(device.split(",")),
            run=folder.folder,
        )
        if known is None or known is error:
            raise
        raise known from error
    if start.note:
        notes.append(start.note)
    return _finish(
        folder, data, options, start, device, machine, threads, arguments, resumed_at, notes, model
    )


def _load_start(ultralytics: Any, start: Start, task: Task) -> Any:
    # Of weights ultralytics' YOLO class finds out by itself that they are RT-DETR's.
    is_transformer = not start.has_weights and "rtdetr" in Path(start.model).stem.lower()
    kind = ultralytics.RTDETR if is_transformer else ultralytics.YOLO
    try:
        model = kind(str(start.model))
    except Exception as error:
        if not start.has_weights:
            raise
        msg = f"{start.model} cannot be loaded as ultralytics weights: {error}"
        raise InputError(msg) from error
    if model.task != task:
        learns = {
            "detect": "boxes are learnt by a model for 'detect', such as yolo11n or yolov5l",
            "segment": "outlines are learnt by a model for 'segment', such as yolo11n-seg",
        }
        msg = (
            f"{start.model} is for the task {model.task!r}, and the dataset for {task!r}: "
            f"{learns[task]}. Or set task in [tiles] of the settings, and tile again."
        )
        raise InputError(msg)
    return model


def _finish(
    folder: RunFolder,
    data: Dataset,
    options: TrainOptions,
    start: Start,
    device: str,
    machine: Mapping[str, Any],
    threads: int,
    arguments: Mapping[str, Any],
    resumed_at: int,
    notes: list[str],
    model: Any,
) -> TrainResult:
    state = load_state(folder.work, peek=True)
    made = folder.work / "ultralytics" / "weights" / "best.pt"
    if state is None or not made.is_file():
        msg = f"training left no weights in {folder.work}"
        raise MachineError(msg)
    if "," in device and arguments["rect"]:
        notes.append("on several GPUs ultralytics pads tiles to squares")
    sha256 = sha256_of(made)
    parameters = sum(p.numel() for p in model.model.parameters())
    epochs, best_epoch = state["epoch"] + 1, state["best_epoch"] + 1
    where = ("data", "project", "name", "exist_ok")
    document = {
        "kind": "train",
        "run": folder.folder.name,
        "finished": utc_now(),
        "seconds": round(state["seconds"], 1),
        "options": options.as_dict(),
        "seed": options.seed,
        "threads": threads,
        "arguments": {k: v for k, v in arguments.items() if k not in where}
        | {"batch": state["batch"]},
        "stain_jitter": described(),
        "start": start.as_dict(),
        "parameters": parameters,
        "epochs": epochs,
        "best_epoch": best_epoch,
        "stopped_early": epochs < options.epochs,
        "resumed_after_epoch": resumed_at or None,
        # As ultralytics counts them: per tile, before stitching, an object once per tile it is on.
        "tile_metrics_of_best_epoch": state["best_metrics"],
        "task": data.task,
        "classes": data.class_names,
        "tiles": data.manifest["settings"]["tile"],
        "weights": {"file": "weights/best.pt", "sha256": sha256},
        "dataset": {
            "name": data.folder.name,
            "manifest_sha256": data.manifest_sha256,
            "files_sha256": data.files_sha256,
            "annotations_sha256": data.annotations_sha256,
            "tiles": data.manifest["tiles"],
            "objects": data.manifest["objects"],
            "patients": data.manifest["patients"],
        },
        "peak_memory_bytes": state["peak_memory_bytes"],
        "peak_gpu_memory_bytes": state["peak_gpu_memory_bytes"],
        "hardware": machine,
        "environment": environment(),
        "notes": notes,
    }
    weights = folder.finish(made, state["csv"], document)
    return TrainResult(
        folder.folder,
        weights,
        sha256,
        state["seconds"],
        parameters,
        epochs,
        best_epoch,
        tuple(notes),
    )


def _check_preset(options: TrainOptions, data: Dataset) -> None:
    if options.preset == "paper" and data.tile_px != PAPER_TILE_PX:
        width, height = PAPER_TILE_PX
        msg = (
            f"the paper's tiles are {width} x {height} px, those of dataset {data.folder} are "
            f"{data.tile_px[0]} x {data.tile_px[1]} px. Run 'glombridge tile PROJECT --preset paper' first."
        )
        raise InputError(msg)


def _check_batch(options: TrainOptions, device: str) -> None:
    n_devices = len(device.split(","))
    if n_devices == 1:
        return
    if options.batch is None or options.batch % n_devices:
        msg = (
            f"{n_devices} GPUs share a batch, and batch {options.batch} cannot be shared: give --batch, a "
            f"multiple of {n_devices}, such as {8 * n_devices}"
        )
        raise InputError(msg)
    if find_spec("cloudpickle") is None:
        msg = (
            "training on several GPUs needs the library cloudpickle, with which ultralytics hands the "
            "training to its processes: 'pip install cloudpickle'"
        )
        raise MissingComponentError(msg)
