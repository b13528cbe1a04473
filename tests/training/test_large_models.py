"""The paper's models, and those of other families, build, learn for a few steps, and detect.

On a CPU with small tiles: what is shown is that every part fits, not how fast or how good they are
(``tests/benchmarks/bench_train.py`` measures the real tile size).
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from killed import OPTIONS
from tiny_dataset import write_tiny_dataset

from glombridge.detection.detector import Detector
from glombridge.training import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "millions"),
    # Parameters of the anchor-free "u" variants with one class, in millions, roughly.
    [("yolov5l", 53), ("yolov5x", 97), ("yolo11x", 57), ("yolo26x", 59), ("rtdetr-l", 32)],
)
def test_builds_trains_and_detects(tmp_path: Path, model: str, millions: int) -> None:
    data = write_tiny_dataset(
        tmp_path / "data", width=128, height=96, tiles={"train": 6, "val": 2, "test": 1}
    )
    options = replace(OPTIONS, model=model, pretrained=False, epochs=1, batch=2, threads=2)
    runs = tmp_path / "runs"
    result = train(data, runs / "train-001", options, cache=tmp_path / "cache", runs=runs)
    assert result.parameters == pytest.approx(millions * 1e6, rel=0.1)
    manifest = json.loads((result.run / "manifest.json").read_text())
    assert manifest["epochs"] == 1
    curves = list(csv.DictReader((result.run / "results.csv").read_text().splitlines()))
    losses = [float(v) for k, v in curves[0].items() if k.startswith("train/")]
    assert all(0 < loss < 100 for loss in losses)
    detector = Detector(
        result.weights, cache=tmp_path / "cache", runs=runs, device="cpu", threads=2
    )
    assert detector.class_names == ("Glomerulus",)
    tiles = np.stack(
        [cv2.imread(str(p))[..., ::-1] for p in sorted((data / "images" / "val").iterdir())]
    )
    seen = detector(tiles)
    assert len(seen) == len(tiles)
    # What RT-DETR's own predictor gives is not clipped to the tile.
    slack = 32 if model.startswith("rtdetr") else 0
    for tile in seen:
        assert np.all((tile.xyxy >= -slack) & (tile.xyxy <= np.add([128, 96, 128, 96], slack)))
        assert np.all((tile.score > 0) & (tile.score <= 1))
