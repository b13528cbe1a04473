"""Each kind of head that ultralytics has is read as its own ``predict`` reads it; made, not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glombridge.detection.detector import Detector
from glombridge.detection.flips import with_flips
from glombridge.errors import InputError
from glombridge.training.sandbox import load_ultralytics
from glombridge.training.trust import trust

TILES = np.random.default_rng(0).integers(0, 255, (2, 160, 128, 3), np.uint8)

SMALL_RTDETR = """
nc: 1
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]] # 2 stride 8
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[2, 3, 4], 1, RTDETRDecoder, [nc, 64, 50, 4, 4, 2]]
"""


def made(folder: Path, model: str, *, sure: float = 8.0) -> Path:
    """Weights by chance, but for the class scores, which are raised so that something is seen."""
    import torch

    ultralytics = load_ultralytics(folder / "cache")
    torch.manual_seed(0)
    if model == "small-rtdetr":
        (folder / f"{model}.yaml").write_text(SMALL_RTDETR, "utf-8")
        network = ultralytics.RTDETR(str(folder / f"{model}.yaml"))
    else:
        network = ultralytics.YOLO(f"{model}.yaml")
    head = network.model.model[-1]
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith("bias") and parameter.shape == (head.nc,):
                parameter += sure
    file = folder / f"{model}.pt"
    network.save(file)
    trust(file, "made by a test")
    return file


def predicted(file: Path, **options: Any) -> Any:
    import ultralytics

    return ultralytics.YOLO(str(file)).predict(
        [np.ascontiguousarray(t[..., ::-1]) for t in TILES],
        imgsz=(160, 128),
        conf=0.01,
        iou=0.6,
        max_det=300,
        device="cpu",
        verbose=False,
        **options,
    )


@pytest.mark.parametrize("model", ["yolov8n-seg", "yolo11n-seg", "yolo26n-seg"])
def test_outlines_are_those_of_predict(tmp_path: Path, model: str) -> None:
    file = made(tmp_path, model)
    detector = Detector(file, cache=tmp_path / "cache", device="cpu")
    assert detector.task == "segment"
    compared = 0
    for seen, result in zip(detector(TILES), predicted(file, retina_masks=True), strict=True):
        assert seen.outline is not None
        # ultralytics leaves out what has an empty mask; here it stays, as a box.
        assert len(seen.score) >= len(result.boxes) > 0
        theirs = {
            tuple(b): m for b, m in zip(result.boxes.xyxy.numpy(), result.masks.data, strict=True)
        }
        corners = np.array(list(theirs))
        for box, outline in zip(seen.xyxy, seen.outline, strict=True):
            apart = np.abs(corners - box).max(axis=1)
            if outline is None or apart.min() > 0.1:
                continue
            mask = theirs[tuple(corners[apart.argmin()])]
            assert abs(float(mask.sum()) - outline.area) < 0.6 * outline.length + 2
            compared += 1
    assert compared > 5


def test_outlines_stay_with_their_boxes_when_looked_at_mirrored(tmp_path: Path) -> None:
    detector = Detector(made(tmp_path, "yolo11n-seg"), cache=tmp_path / "cache", device="cpu")
    for plain, flipped in zip(detector(TILES), with_flips(detector)(TILES), strict=True):
        assert flipped.score_sd is not None
        assert plain.outline is not None
        assert flipped.outline is not None
        assert [o and o.wkb for o in plain.outline] == [o and o.wkb for o in flipped.outline]


def test_boxes_of_rtdetr_end_at_the_tile(tmp_path: Path) -> None:
    """They are drawn around a centre, and untrained ones reach far out of the tile."""
    file = made(tmp_path, "small-rtdetr")
    detector = Detector(file, cache=tmp_path / "cache", device="cpu")
    raw = np.concatenate([r.boxes.xyxy.numpy() for r in predicted(file)])
    limit = np.array([128, 160, 128, 160])
    assert ((raw < 0) | (raw > limit)).any(), "nothing reaches out, so this test shows nothing"
    for seen in detector(TILES):
        assert len(seen.xyxy) > 0
        assert (seen.xyxy >= 0).all()
        assert (seen.xyxy <= limit).all()
        assert seen.outline is None


@pytest.mark.parametrize("model", ["yolo11n-pose", "yolo11n-obb"])
def test_weights_for_another_task_are_refused(tmp_path: Path, model: str) -> None:
    file = made(tmp_path, model, sure=0)
    with pytest.raises(InputError, match="not for detect or segment"):
        Detector(file, cache=tmp_path / "cache", device="cpu")
