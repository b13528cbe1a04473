"""Training of the paper's models at the paper's tile size: tiles per second, memory, and an epoch.

    python tests/benchmarks/bench_train.py [DEVICE] [TILES] [BATCH] [MODEL...]

Trains YOLOv5 Large and XLarge from scratch on TILES painted tiles of 1600 x 1200 px for one epoch, as
``glombridge train`` does it, and lets the weights detect on some. The first batch is not counted: it
sets things up. From the rate follows how long one epoch over the paper's 35,968 tiles would take on
this machine; that is a calculation, no measurement. Writes results/train.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from tiny_dataset import write_tiny_dataset

from glombridge.detection.detector import Detector
from glombridge.ledger.manifest import environment
from glombridge.training import TrainOptions, train
from glombridge.training.hardware import hardware
from glombridge.training.options import PAPER_TILE_PX

PAPER_TILES = 35_968


class Watch:
    """Notes when each batch of training ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Watch]:
        yield self

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        if note is None:
            self.times.append(time.perf_counter())


def measure(folder: Path, data: Path, model: str, device: str, batch: int) -> dict[str, Any]:
    watch = Watch()
    options = TrainOptions(
        model=model, pretrained=False, epochs=1, batch=batch, device=device, validate=False
    )
    runs = folder / "runs"
    result = train(data, runs / model, options, cache=folder / "cache", runs=runs, reporter=watch)
    manifest = json.loads((result.run / "manifest.json").read_text())
    per_batch = (watch.times[-1] - watch.times[0]) / (len(watch.times) - 1)
    detector = Detector(result.weights, cache=folder / "cache", runs=runs, device=device)
    tile = cv2.imread(str(next((data / "images" / "val").iterdir())))[..., ::-1]
    shown = np.stack([np.ascontiguousarray(tile)] * (1 if device == "cpu" else batch))
    detector(shown)
    begun = time.perf_counter()
    rounds = 3
    for _ in range(rounds):
        detector(shown)
    detecting = rounds * len(shown) / (time.perf_counter() - begun)
    rate = batch / per_batch
    return {
        "model": model,
        "parameters": result.parameters,
        "batches_counted": len(watch.times) - 1,
        "training_tiles_per_second": round(rate, 4),
        "detecting_tiles_per_second": round(detecting, 4),
        "peak_memory_gb": round(manifest["peak_memory_bytes"] / 1e9, 2),
        "peak_gpu_memory_gb": (
            round(manifest["peak_gpu_memory_bytes"] / 1e9, 2)
            if manifest["peak_gpu_memory_bytes"]
            else None
        ),
        "calculated_hours_per_epoch_of_35968_tiles": round(PAPER_TILES / rate / 3600, 1),
    }


def main(device: str = "cpu", n_tiles: str = "3", batch: str = "1", *models: str) -> None:
    width, height = PAPER_TILE_PX
    rows = []
    loads = [_load()]
    with tempfile.TemporaryDirectory() as folder:
        data = write_tiny_dataset(
            Path(folder) / "data",
            width=width,
            height=height,
            tiles={"train": int(n_tiles), "val": 1, "test": 1},
        )
        for model in models or ("yolov5l", "yolov5x"):
            # Each in a process of its own: memory that one has taken is not counted for the next.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                job = pool.submit(measure, Path(folder), data, model, device, int(batch))
                rows.append(job.result())
            loads.append(_load())
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
    document = {
        "conditions": {
            "tile_px": [width, height],
            "tiles": int(n_tiles),
            "batch": int(batch),
            "load_before_and_after_each": loads,
            "memory_available_gb": round(psutil.virtual_memory().available / 1e9, 1),
            "machine": platform.machine(),
            **hardware(device),
            **environment(),
        },
        "models": rows,
    }
    path = Path(__file__).parent / "results" / "train.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


if __name__ == "__main__":
    main(*sys.argv[1:])
