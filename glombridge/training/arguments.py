"""What ultralytics is told, and why: defaults for objects on stained tissue."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .dataset import Dataset
from .options import TrainOptions

SMALL_DATASET_TILES = 2000
"""Below this many training tiles gradients are not accumulated: over 64 tiles a step, as
ultralytics does, a few hundred tiles give too few steps to learn anything."""

EACH_BATCH = 1
"""Value of ``nbs`` that asks for a step at each batch, whatever its size."""

CPU_BATCH = 8

MOST_CACHED_BYTES = 2 << 30
"""Tiles of so many bytes are kept in memory, decoded; decoding them anew costs as much as learning
from them does on a small network."""


def train_arguments(
    options: TrainOptions, dataset: Dataset, work: Path, device: str, *, has_weights: bool
) -> dict[str, Any]:
    """Arguments of ultralytics' ``train``.

    Args:
        options: what is wanted.
        dataset: what is trained on.
        work: folder of the unfinished run.
        device: as torch names it, checked.
        has_weights: training starts from weights, not from chance.
    """
    width_px, height_px = dataset.tile_px
    n_train = dataset.tiles["train"]
    is_small = n_train < SMALL_DATASET_TILES
    is_gpu = device != "cpu"
    return {
        "data": str((dataset.folder / "data.yaml").resolve()),
        "project": str(work.resolve()),
        "name": "ultralytics",
        "exist_ok": True,
        "epochs": options.epochs,
        "patience": options.patience,
        # -1: ultralytics measures what fits into 60 % of the card's memory.
        "batch": options.batch or (-1 if is_gpu and "," not in device else CPU_BATCH),
        "device": device,
        "seed": options.seed,
        # The same seed must give the same weights, or two models cannot be compared.
        "deterministic": True,
        # Tiles are shown as they were cut: not shrunk to 640 px, which would make a glomerulus of a
        # 1600 px tile as small as a tubule, and not padded square. 32 is the stride of every model.
        "imgsz": 32 * math.ceil(max(width_px, height_px) / 32),
        "rect": width_px != height_px,
        # AdamW finds its way without the long tuning that SGD wants, on a few hundred tiles as well.
        "optimizer": "AdamW",
        # From weights, smaller steps: what they know already must not be washed away.
        "lr0": options.learning_rate or (0.0005 if has_weights else 0.002),
        "cos_lr": True,
        "warmup_epochs": min(3.0, max(1.0, options.epochs / 20)),
        # ultralytics begins with a bias rate of 0.1, which throws the biases of trained heads far off.
        **({"warmup_bias_lr": 0.0} if has_weights else {}),
        "nbs": EACH_BATCH if is_small else 64,
        # Tissue has no up or down.
        "fliplr": 0.5,
        "flipud": 0.5,
        # Turned by a free angle, the box around a turned box is up to 40 % too wide, and the model
        # learns wide boxes. Quarter turns would stay tight, but would not fit tiles that are not
        # square; flips already show each glomerulus in four ways.
        "degrees": 0.0,
        "shear": 0.0,
        "perspective": 0.0,
        # Stains differ in their strength, each by itself: that is StainJitter's (stain.py). Hue and
        # saturation turned as of photographs would give colours that no stain has. Scanners and
        # thick sections differ in brightness.
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.3,
        # The scale of a slide is known (µm per pixel), so sizes vary only as glomeruli do; photographs,
        # whose objects may be near or far, are scaled by 0.5.
        "scale": 0.2,
        "translate": 0.1,
        # Mosaic pastes tile borders into the middle of an image, where no real tile has one, halves
        # the size of what it shows, and cuts objects that the tiles were cut to keep whole. For tiles
        # that are not square ultralytics switches it off by itself.
        "mosaic": 0.0,
        "close_mosaic": 0,
        # Glomeruli do not lie half transparent on each other.
        "mixup": 0.0,
        "cutmix": 0.0,
        "copy_paste": 0.0,
        # An empty list: with albumentations installed ultralytics would blur, grey and equalise some
        # tiles, and the same seed would give other weights on another machine.
        "augmentations": [],
        "cache": "ram" if n_train * width_px * height_px * 3 < MOST_CACHED_BYTES else False,
        # Small data in memory needs no workers, and starting them costs more than they bring.
        "workers": 0 if is_small else 8,
        "val": options.validate,
        "plots": False,
        "verbose": False,
        "pretrained": has_weights,
    }
