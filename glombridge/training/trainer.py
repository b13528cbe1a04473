"""Training of a detector on a tile dataset."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, InputError, MachineError, MissingComponentError
from ..ledger.history import utc_now
from ..ledger.manifest import environment, sha256_of, write_json
from ..progress import SILENT, Reporter, Task
from .sandbox import load_ultralytics, use_threads

OWN_MODELS = {"glom-pico": Path(__file__).parent / "models" / "glom-pico.yaml"}
"""Models whose configuration comes with glombridge."""

SMALL_DATASET_TILES = 2000
"""Below this many training tiles gradients are not accumulated: over 64 tiles a step, as
ultralytics does, a few hundred tiles give too few steps to learn anything."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train and how long.

    Attributes:
        model: name of an architecture (``yolo11n``, ``yolov5l``, ``glom-pico``), a ``.yaml``
            configuration, or a ``.pt`` file to start from.
        pretrained: start a named architecture from its published weights.
        allow_download: those weights may be fetched from the network.
        validate: look at the validation tiles after each epoch and keep the best epoch; without
            it the last epoch is kept.
        device: as torch names it (``cpu``, ``0``, ``0,1``); ``None`` = a GPU if there is one.
    """

    model: str = "yolo11n"
    pretrained: bool = False
    allow_download: bool = False
    epochs: int = 100
    batch: int = 8
    learning_rate: float | None = None
    seed: int = 0
    threads: int | None = None
    validate: bool = True
    device: str | None = None


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes:
        run: folder of the run, holding ``weights/best.pt`` and ``manifest.json``.
        weights: the weights file.
        seconds: wall time of the training.
        parameters: number of trained parameters.
    """

    run: Path
    weights: Path
    sha256: str
    seconds: float
    parameters: int
    epochs: int


def train(
    dataset: Path,
    run: Path,
    options: TrainOptions,
    *,
    cache: Path,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a detector on a dataset written by :func:`glombridge.tiles.write_dataset`.

    Args:
        dataset: folder with ``data.yaml`` and ``manifest.json``.
        run: folder to make; it counts as finished once it holds ``manifest.json``.
        cache: where ultralytics keeps its settings.

    Raises:
        InputError: the dataset is missing, has no training tiles or a class without examples, or
            the model cannot be.
        MissingComponentError: a library or pretrained weights are not there.
        MachineError: disk full, out of memory.
    """
    manifest = _check_dataset(dataset)
    ultralytics = load_ultralytics(cache, allow_network=options.allow_download)
    threads = use_threads(options.threads)
    start = _resolve_start(options, cache)
    run.mkdir(parents=True, exist_ok=True)
    tile = manifest["settings"]["tile"]
    n_train = int(manifest["tiles"]["train"])
    arguments = _arguments(options, dataset, tile, n_train, run)
    started = time.monotonic()
    try:
        model = ultralytics.YOLO(str(start), task="detect")
        with reporter.task(f"train {Path(options.model).stem}", options.epochs) as task:
            for event, callback in _callbacks(task, options.epochs).items():
                model.add_callback(event, callback)
            model.train(**arguments)
        parameters = sum(p.numel() for p in model.model.parameters())
    except GlombridgeError:
        raise
    except OSError as error:
        msg = f"training stopped: {error}. Free space on the disk that holds {run} and try again."
        raise MachineError(msg) from error
    except RuntimeError as error:
        raise _explain_runtime_error(error, options) from error
    seconds = time.monotonic() - started
    weights = _keep_weights(run)
    result = TrainResult(run, weights, sha256_of(weights), seconds, parameters, options.epochs)
    write_json(
        run / "manifest.json",
        {
            "kind": "train",
            "run": run.name,
            "finished": utc_now(),
            "seconds": round(seconds, 1),
            "options": asdict(options),
            "threads": threads,
            "arguments": {k: v for k, v in arguments.items() if k not in ("data", "project")},
            "parameters": parameters,
            "classes": manifest["class_names"],
            "tiles": tile,
            "weights": {"file": "weights/best.pt", "sha256": result.sha256},
            "dataset": {
                "name": dataset.name,
                "manifest_sha256": sha256_of(dataset / "manifest.json"),
                "tiles": manifest["tiles"],
                "objects": manifest["objects"],
                "patients": manifest["patients"],
            },
            "environment": environment(),
        },
    )
    return result


def _check_dataset(dataset: Path) -> dict[str, Any]:
    for name in ("data.yaml", "manifest.json"):
        if not (dataset / name).is_file():
            msg = f"{dataset} is not a finished dataset: it has no {name}. Run 'glombridge tile'."
            raise InputError(msg)
    manifest: dict[str, Any] = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    if not manifest["tiles"]["train"]:
        msg = f"dataset {dataset} has no training tiles"
        raise InputError(msg)
    empty = [name for name, count in manifest["labels"]["train"].items() if not count]
    if empty:
        msg = (
            f"dataset {dataset} has no training example of class {', '.join(empty)}. Annotate some, "
            "or take the class out of [classes] in the settings."
        )
        raise InputError(msg)
    return manifest


def _resolve_start(options: TrainOptions, cache: Path) -> Path | str:
    name = options.model
    if name in OWN_MODELS:
        if options.pretrained:
            msg = f"model {name!r} has no published weights; leave pretrained out"
            raise InputError(msg)
        return OWN_MODELS[name]
    path = Path(name)
    if path.suffix in (".pt", ".yaml", ".yml") and path.parent != Path():
        if not path.is_file():
            msg = f"no model file {name}"
            raise InputError(msg)
        return path
    if options.pretrained:
        weights = cache / "weights" / f"{path.stem}.pt"
        if weights.is_file():
            return weights
        if not options.allow_download:
            msg = (
                f"pretrained weights for {path.stem!r} are not on this machine. Put the file at "
                f"{weights}, or allow the download with --download, or train from scratch."
            )
            raise MissingComponentError(msg)
        return _download(weights)
    from ultralytics.utils.checks import check_yaml

    try:
        # Only its own configurations: a name must not be looked up in the working directory.
        found = check_yaml(f"{path.stem}.yaml")
    except FileNotFoundError:
        msg = (
            f"no model {name!r}. Known are ultralytics' names (yolov5l, yolo11n, rtdetr-l, ...), "
            f"{', '.join(OWN_MODELS)}, and paths of .pt and .yaml files."
        )
        raise InputError(msg) from None
    del found  # ultralytics resolves scaled names such as yolo11n.yaml itself
    return f"{path.stem}.yaml"


def _download(weights: Path) -> Path:
    from ultralytics.utils.downloads import attempt_download_asset

    weights.parent.mkdir(parents=True, exist_ok=True)
    try:
        attempt_download_asset(str(weights))
    except Exception as error:
        msg = f"cannot download {weights.name}: {error}. Put the file at {weights} by hand."
        raise MissingComponentError(msg) from error
    if not weights.is_file():
        msg = f"{weights.name} could not be downloaded. Put the file at {weights} by hand."
        raise MissingComponentError(msg)
    return weights


def _arguments(
    options: TrainOptions, dataset: Path, tile: Mapping[str, Any], n_train: int, run: Path
) -> dict[str, Any]:
    width, height = int(tile["width_px"]), int(tile["height_px"])
    return {
        "data": str((dataset / "data.yaml").resolve()),
        "project": str(run.resolve()),
        "name": "ultralytics",
        "exist_ok": True,
        "epochs": options.epochs,
        "batch": options.batch,
        "device": options.device,
        "seed": options.seed,
        "deterministic": True,
        # Tiles are shown as they were cut: not shrunk to 640 pixels, not cropped square. The
        # stride of 32 is what every architecture here can take.
        "imgsz": 32 * math.ceil(max(width, height) / 32),
        "rect": width != height,
        "optimizer": "AdamW",
        "lr0": options.learning_rate or 0.002,
        "cos_lr": True,
        "warmup_epochs": min(3.0, max(1.0, options.epochs / 20)),
        "nbs": 64 if n_train >= SMALL_DATASET_TILES else options.batch,
        # Tissue has no up or down. Rotation by free angles is left out: it widens boxes.
        "fliplr": 0.5,
        "flipud": 0.5,
        "degrees": 0.0,
        # Stain and scanner vary in hue and strength; pathology's colours do not turn green.
        "hsv_h": 0.02,
        "hsv_s": 0.5,
        "hsv_v": 0.3,
        # The scale of a slide is known, so sizes vary only as glomeruli do.
        "scale": 0.2,
        "translate": 0.1,
        # Mosaic pastes tile borders into the middle of an image, where no real tile has one.
        "mosaic": 0.0,
        "cache": "ram" if n_train * width * height * 3 < 2 << 30 else False,
        # Small data in memory needs no workers, and starting them costs more than they bring.
        "workers": 0 if n_train < SMALL_DATASET_TILES else 8,
        "val": options.validate,
        "plots": False,
        "verbose": False,
        "pretrained": Path(options.model).suffix == ".pt" or options.pretrained,
    }


def _callbacks(task: Task, epochs: int) -> dict[str, Callable[[Any], None]]:
    done = 0.0

    def on_batch_end(trainer: Any) -> None:
        nonlocal done
        batches = len(trainer.train_loader)
        position = trainer.epoch + (getattr(trainer, "batch_i", 0) + 1) / batches
        if position > done:
            task.advance(position - done)
            done = position

    def on_epoch_end(trainer: Any) -> None:
        nonlocal done
        loss = sum(float(v) for v in trainer.tloss.values())
        task.advance(
            max(0.0, trainer.epoch + 1 - done),
            note=f"epoch {trainer.epoch + 1}/{epochs} loss {loss:.2f}",
        )
        done = max(done, trainer.epoch + 1.0)

    return {"on_train_batch_end": on_batch_end, "on_train_epoch_end": on_epoch_end}


def _keep_weights(run: Path) -> Path:
    made = run / "ultralytics" / "weights"
    best = made / "best.pt" if (made / "best.pt").is_file() else made / "last.pt"
    if not best.is_file():
        msg = f"training left no weights in {made}"
        raise MachineError(msg)
    target = run / "weights" / "best.pt"
    target.parent.mkdir(exist_ok=True)
    shutil.move(best, target)
    shutil.rmtree(made)
    return target


def _explain_runtime_error(error: RuntimeError, options: TrainOptions) -> GlombridgeError:
    text = str(error)
    if "out of memory" in text.lower():
        msg = f"out of memory with batch {options.batch}. Try --batch {max(1, options.batch // 2)}."
        return MachineError(msg)
    if "No space left" in text or "PytorchStreamWriter" in text:
        return MachineError(f"training could not write its weights: {text}")
    raise error
