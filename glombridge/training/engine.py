"""ultralytics' training loop, made exact: what it does depends on seed and epoch alone.

This module imports ultralytics; import it after :func:`~.sandbox.load_ultralytics`. Worker processes
of a training on several GPUs import it by name.
"""

from __future__ import annotations

import io
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from ultralytics import __version__ as ultralytics_version
from ultralytics.data import build_dataloader
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import DEFAULT_CFG_DICT, RANK
from ultralytics.utils.torch_utils import torch_distributed_zero_first, unwrap_model

from ..errors import InputError, MissingComponentError
from .arguments import EACH_BATCH
from .checkpoint import load_best, load_state, save_state
from .failure import explained, keep_failure, out_of_memory
from .masks import ExactMasks
from .order import EpochSampler, SeededTiles, seed_everything
from .sandbox import quieten
from .stain import StainJitter

quieten()

REPLACED = (
    *("_build_train_pipeline", "_do_train", "_handle_nan_recovery", "_model_train", "final_eval"),
    *("get_dataloader", "optimizer_step", "resume_training", "save_model"),
)
"""Methods of ultralytics' trainer that :class:`_Exact` replaces. One that it no longer has would be one
that it no longer calls: training would go on, but could not be resumed."""

_LEFT_OUT = {
    *("batch", "cache", "cfg", "data", "device", "exist_ok", "model", "name", "plots"),
    *("pretrained", "project", "resume", "save_dir", "val", "verbose", "workers"),
}
"""Arguments that the weights file does not repeat: they say where, not how, and would give the same
weights another hash. The run's manifest has them."""


class _Exact:
    """What each trainer of ultralytics has replaced; mixed in before them.

    The state lies in the parent of ultralytics' own folder (:mod:`~.checkpoint`).
    """

    def _build_train_pipeline(self: Any) -> None:
        if self.optimizer is not None:
            # ultralytics comes here again when memory ran out, with half the batch: it would go on
            # with another training than was asked for.
            raise out_of_memory(self._batch, self.args.device, max(self.world_size, 1))
        self._batch = self.batch_size
        if self.args.nbs == EACH_BATCH:
            self.args.nbs = self.batch_size
        super()._build_train_pipeline()  # type: ignore[misc]
        # Gradients that wait for a step are no part of any checkpoint. So ultralytics is told to
        # step at each batch, and optimizer_step decides; none waits over the end of an epoch.
        self._batches_per_step, self.accumulate = self.accumulate, 1
        self._peak_memory = 0

    def get_dataloader(
        self: Any, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """As ultralytics makes it, with our order and augmentation; no tile is left out in silence."""
        if mode != "train":
            loader = super().get_dataloader(dataset_path, batch_size, rank, mode)  # type: ignore[misc]
            _check_complete(loader.dataset, dataset_path)
            return loader
        with torch_distributed_zero_first(rank):
            tiles = self.build_dataset(dataset_path, mode, batch_size)
        _check_complete(tiles, dataset_path)
        tiles.transforms.insert(0, StainJitter())
        seeded = SeededTiles(tiles, self.args.seed)
        loader = build_dataloader(
            seeded, batch_size, self.args.workers, shuffle=False, device=self.device
        )
        order = EpochSampler(
            len(seeded), self.args.seed, rank=max(rank, 0), ranks=max(self.world_size, 1)
        )
        # A loader's parts are fixed once it is made; ultralytics replaces them in the same way.
        loader.batch_sampler.sampler.sampler = order
        object.__setattr__(loader, "sampler", order)
        return loader

    def resume_training(self: Any, ckpt: Any) -> None:  # noqa: ARG002 - ultralytics' own checkpoint
        """Put everything back as it was after the last finished epoch."""
        self.best_epoch, self.best_metrics, self.seconds_before = 0, {}, 0.0
        state = load_state(self.save_dir.parent)
        if state is None:
            return
        model = unwrap_model(self.model)
        model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        for saved, group in zip(
            state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True
        ):
            saved["fused"] = group.get("fused")  # the device of today decides on its kernels
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where it was begun without mixed precision, as on a CPU
            self.scaler.load_state_dict(state["scaler"])
        self.stopper.__dict__.update(state["stopper"])
        self.best_fitness, self.fitness = state["best_fitness"], state["fitness"]
        self.metrics, self.stop = state["metrics"], state["stop"]
        self.best_epoch, self.best_metrics = state["best_epoch"], state["best_metrics"]
        self.seconds_before, self._peak_memory = state["seconds"], state["peak_memory_bytes"]
        self.loss_names = tuple(state["loss_names"])
        # A line may have been written for an epoch whose state was not.
        if RANK in {-1, 0}:
            self.csv.write_text(state["csv"], encoding="utf-8")
        self.start_epoch = state["epoch"] + 1
        self.train_loader.sampler.epoch = self.start_epoch
        if hasattr(model.init_criterion(), "update"):
            # Of end-to-end models: the loss shifts its weight from epoch to epoch.
            model.criterion = model.init_criterion()
            for _ in range(self.start_epoch):
                model.criterion.update()
        self.add_callback("on_train_start", _count_earlier_time)

    def _do_train(self: Any) -> None:
        try:
            state = load_state(self.save_dir.parent, peek=True)
            if state is not None and state["stop"]:
                # Interrupted after the last epoch, before the weights were written.
                if self.world_size > 1:
                    self._setup_ddp()
                self._setup_train()
                self.final_eval()
                return
            del state
            super()._do_train()  # type: ignore[misc]
        except Exception as error:
            # Here the batch is known that was measured, and in processes of ultralytics' launcher
            # there is nobody else to say it.
            batch = getattr(self, "_batch", int(self.batch_size))
            work = self.save_dir.parent
            said = explained(
                error,
                batch=batch,
                device=self.args.device,
                n_devices=max(self.world_size, 1),
                run=work.parent,
            )
            if said is None:
                raise
            if RANK != -1:
                keep_failure(work, said)
            raise said from error

    def _model_train(self: Any) -> None:
        # Called at the beginning of each epoch.
        self._batch_in_epoch = self._pending = 0
        seed_everything(self.args.seed, self.epoch, max(RANK, 0))
        super()._model_train()  # type: ignore[misc]

    def optimizer_step(self: Any) -> None:
        """Called after each batch; steps when enough tiles were seen, and at the end of an epoch."""
        n_batches = len(self.train_loader)
        done = self._batch_in_epoch + n_batches * self.epoch
        warmup = self._get_warmup_iterations(n_batches)
        wanted = self._batches_per_step
        if done < warmup:  # rises from each batch, as ultralytics does it
            wanted = max(1, round(np.interp(done, [0, warmup], [1, wanted])))
        self._batch_in_epoch += 1
        self._pending += 1
        if self._pending >= wanted or self._batch_in_epoch == n_batches:
            super().optimizer_step()  # type: ignore[misc]
            self._pending = 0
        self._peak_memory = max(self._peak_memory, psutil.Process().memory_info().rss)

    def _handle_nan_recovery(self: Any, epoch: int) -> bool:
        # ultralytics goes back an epoch and does the same again: with the same tiles in the same
        # order it ends in the same place.
        if self.loss is not None and not bool(torch.isfinite(self.loss)):
            msg = (
                f"training went astray in epoch {epoch + 1}: the loss is no number any more. Train "
                "with a smaller learning_rate ([train] in the settings, or --learning-rate)."
            )
            raise InputError(msg)
        return False

    def save_model(self: Any) -> bool:
        """Write the state of this epoch; the weights file is made at the end."""
        is_best = self.best_fitness == self.fitness
        metrics = {name: float(value) for name, value in self.metrics.items()}
        if is_best:
            self.best_epoch, self.best_metrics = self.epoch, metrics
        averaged = self.ema.ema.state_dict()
        state = {
            "epoch": self.epoch,
            "stop": bool(self.stop),
            "model": unwrap_model(self.model).state_dict(),
            "ema": averaged,
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": {k: _plain(v) for k, v in vars(self.stopper).items()},
            "best_fitness": _plain(self.best_fitness),
            "fitness": _plain(self.fitness),
            "metrics": metrics,
            "best_epoch": self.best_epoch,
            "best_metrics": self.best_metrics,
            "loss_names": list(self.loss_names),
            "csv": self.csv.read_text(encoding="utf-8"),
            "seconds": time.time() - self.train_time_start,
            "peak_memory_bytes": self._peak_memory,
            "peak_gpu_memory_bytes": (
                torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else None
            ),
            "batch": self.batch_size,
        }
        save_state(self.save_dir.parent, state, averaged if is_best else None)
        return True

    def final_eval(self: Any) -> None:
        """Write the weights of the best epoch where ultralytics looks for them.

        ultralytics would look at the validation tiles once more; that was done after the epoch.
        """
        if RANK not in {-1, 0}:
            return
        net = deepcopy(self.ema.ema)
        net.load_state_dict(load_best(self.save_dir.parent, self.best_epoch))
        net.criterion = None
        for module in net.modules():
            # Left over from looking at validation tiles; each use makes them anew.
            for name in ("anchors", "strides", "shape", "_end2end"):
                module.__dict__.pop(name, None)
        arguments = {
            k: v for k, v in vars(self.args).items() if k in DEFAULT_CFG_DICT and k not in _LEFT_OUT
        }
        net.args = arguments
        net.yaml = {**net.yaml, "yaml_file": Path(str(net.yaml.get("yaml_file", ""))).name}
        net.__dict__.pop("pt_path", None)
        net = net.half().to(memory_format=torch.contiguous_format)
        for parameter in net.parameters():
            parameter.requires_grad = False
        buffer = io.BytesIO()
        torch.save(
            {
                "epoch": -1,
                "model": net,
                "train_args": arguments,
                "train_metrics": self.best_metrics,
                "version": ultralytics_version,
            },
            buffer,
        )
        self.wdir.mkdir(parents=True, exist_ok=True)
        self.best.write_bytes(buffer.getvalue())


if absent := [name for name in REPLACED if not hasattr(DetectionTrainer, name)]:
    _MSG = (
        f"ultralytics {ultralytics_version} trains in another way than glombridge knows (it has no "
        f"{', '.join(absent)}). Install the version in constraints.txt."
    )
    raise MissingComponentError(_MSG)


class DetectTrainer(_Exact, DetectionTrainer):  # type: ignore[misc]
    """Of the YOLO models."""


class SegmentTrainer(_Exact, SegmentationTrainer):  # type: ignore[misc]
    """Of the YOLO models that give outlines."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """As ultralytics makes it, with masks that are as wide as the outlines."""
        tiles = super().build_dataset(img_path, mode, batch)
        steps = tiles.transforms.transforms
        steps[-1] = ExactMasks.instead_of(steps[-1])
        return tiles


class TransformerTrainer(_Exact, RTDETRTrainer):  # type: ignore[misc]
    """Of RT-DETR."""


def _count_earlier_time(trainer: Any) -> None:
    trainer.train_time_start -= trainer.seconds_before


def _check_complete(tiles: Any, folder: str) -> None:
    """Ultralytics leaves out what it cannot read, with a warning."""
    lost = sorted(set(tiles.get_img_files(folder)) - set(tiles.im_files))
    if lost:
        msg = (
            f"{len(lost)} tiles cannot be used, the first is {lost[0]}: the image or its labels are "
            "damaged. Run 'glombridge tile' again."
        )
        raise InputError(msg)


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's: only those are read back without running a program."""
    return value.item() if isinstance(value, np.generic) else value
