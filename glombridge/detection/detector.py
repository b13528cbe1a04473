"""A trained model as a function from tiles to boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MachineError
from ..training.sandbox import load_ultralytics, use_threads

RAW_CONFIDENCE = 0.01
"""Boxes below this score are not kept at all; curves and thresholds are made above it."""

MAX_BOXES_PER_TILE = 300

TILE_NMS_IOU = 0.6
"""Within one tile, boxes that overlap more are one object. Touching neighbours overlap far less."""


class Detector:
    """A trained model.

    Attributes:
        weights: the file.
        class_names: detector classes by index.
    """

    def __init__(
        self, weights: Path, *, cache: Path, device: str | None = None, threads: int | None = None
    ) -> None:
        """Load weights.

        Args:
            weights: a ``.pt`` file of ultralytics.
            cache: where ultralytics keeps its settings.
            device: as torch names it; ``None`` = a GPU if there is one.
            threads: of torch on a CPU.

        Raises:
            InputError: the file is missing or is not the weights of a detector.
            MissingComponentError: a library is not installed.
        """
        if not weights.is_file():
            msg = f"no weights file {weights}"
            raise InputError(msg)
        ultralytics = load_ultralytics(cache)
        use_threads(threads)
        self.weights = weights
        self._device = device
        try:
            self._model: Any = ultralytics.YOLO(str(weights))
        except Exception as error:  # a pickle can fail in any way
            msg = f"{weights} cannot be loaded as ultralytics weights: {error}"
            raise InputError(msg) from error
        if self._model.task != "detect":
            msg = f"{weights} are weights for the task {self._model.task!r}, not 'detect'"
            raise InputError(msg)
        names = self._model.names
        self.class_names: tuple[str, ...] = tuple(names[i] for i in range(len(names)))

    def __call__(
        self, tiles: Sequence[NDArray[np.uint8]]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]:
        """Boxes of each tile.

        Args:
            tiles: RGB arrays (height, width, 3), all of one size.

        Returns:
            Per tile: boxes (n, 4) left, top, right, bottom in tile pixels; scores (n,); classes (n,).

        Raises:
            MachineError: out of memory.
        """
        if not tiles:
            return []
        height, width = tiles[0].shape[:2]
        try:
            results = self._model.predict(
                # ultralytics takes arrays as OpenCV makes them: blue first.
                [np.ascontiguousarray(tile[..., ::-1]) for tile in tiles],
                imgsz=(_up_to_stride(height), _up_to_stride(width)),
                conf=RAW_CONFIDENCE,
                iou=TILE_NMS_IOU,
                max_det=MAX_BOXES_PER_TILE,
                device=self._device,
                verbose=False,
                save=False,
            )
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                msg = (
                    f"out of memory with {len(tiles)} tiles at once. Set a smaller batch in [detect] of "
                    "the settings."
                )
                raise MachineError(msg) from error
            raise
        out = []
        for result in results:
            boxes = result.boxes
            out.append(
                (
                    boxes.xyxy.cpu().numpy().astype(np.float64),
                    boxes.conf.cpu().numpy().astype(np.float64),
                    boxes.cls.cpu().numpy().astype(np.int64),
                )
            )
        return out


def _up_to_stride(size_px: int) -> int:
    return -(-size_px // 32) * 32
