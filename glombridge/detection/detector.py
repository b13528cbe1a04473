"""A trained model as a function from tiles to boxes, and to outlines where it was trained on them.

The network is called directly on batches in memory. ultralytics' ``predict`` gives the same boxes
(``tests/detection/test_detector.py``), but builds a result object, a set-up and several copies per
call, which on a GPU would take as long as the network.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MachineError
from ..tiles.labels import TASKS, Task
from ..training.device_errors import device_failed, is_device_failure, is_out_of_memory
from ..training.sandbox import load_ultralytics, use_threads
from ..training.trust import require_hash, require_trust
from .boxes import Outlines
from .masks import outlines_of

RAW_CONFIDENCE = 0.01
"""Boxes below this score are not kept at all; curves and thresholds are made above it."""

MAX_BOXES_PER_TILE = 300

TILE_NMS_IOU = 0.6
"""Within one tile, boxes that overlap more are one object. Touching neighbours overlap far less."""

_KNOWN_HEADS = {"detect": ("Detect", "v10Detect"), "segment": ("Segment", "Segment26")}
"""Heads whose answer is read here, by task."""

_STRIDE_PX = 32
_PAD_GREY = 114  # what ultralytics pads with in training and prediction
_CPU_BATCH_PX = 1 << 21  # yolo11n at 416 px: 14.7 ms per tile by 16, 13.3 by 8, 14.1 by 4
_LARGEST_BATCH = 64
_WORTH_DOUBLING = 1.05


class Seen(NamedTuple):
    """What a model sees on one tile.

    Attributes:
        xyxy: (n, 4) left, top, right, bottom in tile pixels.
        score: (n,) 0 to 1.
        class_index: (n,).
        score_sd: (n,) deviation of the score over flipped looks, ``None`` after a single one.
        outline: (n,) outlines in tile pixels, ``None`` where a mask is empty; ``None`` altogether from a
            model that gives boxes only.
    """

    xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    class_index: NDArray[np.int64]
    score_sd: NDArray[np.float64] | None = None
    outline: Outlines | None = None


class Detector:
    """A trained model.

    Attributes:
        weights: the file.
        class_names: detector classes by index.
        task: ``detect`` for boxes, ``segment`` for outlines too.
        device: where it runs, as torch names it.
        is_half: whether it runs in half precision.
        batch_limit: tiles that fit into memory at once, as found out by running out of it; ``None``
            while that has not happened.
    """

    def __init__(
        self,
        weights: Path,
        *,
        cache: Path,
        runs: Path | None = None,
        device: str | None = None,
        threads: int | None = None,
        sha256: str | None = None,
    ) -> None:
        """Load weights.

        Args:
            weights: a ``.pt`` file of ultralytics.
            cache: where ultralytics keeps its settings.
            runs: the project's training runs, whose weights may be loaded; ``None`` outside a project.
            device: as torch names it (``cpu``, ``0``, ``cuda:1``); ``None`` = a GPU if there is one.
            threads: of torch on a CPU.
            sha256: of the weights that another machine answers for, instead of this one's trust.

        Raises:
            InputError: the file is missing, no weights, weights for another task than boxes or
                outlines, or no such device.
            ProtectedError: weights that nobody answers for.
            MissingComponentError: a library is not installed.
            DeviceError: the device does not work.
            MachineError: the device has no memory left.
        """
        if sha256 is None:
            require_trust(weights, runs)
        else:
            require_hash(weights, sha256)
        ultralytics = load_ultralytics(cache)
        use_threads(threads)
        import torch

        self.weights = weights
        try:
            model: Any = ultralytics.YOLO(str(weights))
        except Exception as error:  # a pickle can fail in any way
            msg = f"{weights} cannot be loaded as ultralytics weights: {error}"
            raise InputError(msg) from error
        if model.task not in TASKS:
            msg = f"{weights} are weights for the task {model.task!r}, not for {' or '.join(TASKS)}"
            raise InputError(msg)
        self.task: Task = model.task
        names = model.names
        self.class_names: tuple[str, ...] = tuple(names[i] for i in range(len(names)))
        self.device = device_name(device)
        self._device = torch.device(self.device)
        self.is_half = self._device.type == "cuda"
        self.batch_limit: int | None = None
        self._one_at_a_time = threading.Lock()  # a worker may be at several slides
        try:
            net = model.model.to(self._device).eval()
            net = net.fuse() if hasattr(net, "fuse") else net
            net = net.half() if self.is_half else net.float()
            # Pixels come with their channels last. Left so, convolutions on these CPUs take a quarter
            # less time; ultralytics 8.4 does the same on them, and nowhere else.
            is_x86 = self.device == "cpu" and platform.machine() in ("x86_64", "AMD64")
            self._layout = torch.channels_last if is_x86 else torch.contiguous_format
            self._net: Any = net.to(memory_format=self._layout)
        except (RuntimeError, AssertionError) as error:
            if is_device_failure(error):
                raise device_failed(self.device, error) from error
            if is_out_of_memory(error):
                msg = f"out of memory on {self.device}: not even the model fits. Use another --device."
                raise MachineError(msg) from error
            msg = f"device {self.device!r} cannot be used: {error}. Give another --device."
            raise InputError(msg) from error
        # RT-DETR prepares tiles and reads its head in its own way, which differs by version.
        head = type(net.model[-1]).__name__
        self._predictor = None if head in _KNOWN_HEADS[self.task] else model
        if self._predictor is not None and self.task == "segment":
            msg = f"{weights}: outlines of a model with the head {head!r} cannot be read"
            raise InputError(msg)
        if self.is_half:
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False

    def make_batch(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An empty batch (batch, height, width, 3), page-locked where a GPU will fetch it.

        Raises:
            DeviceError: the GPU works no more.
        """
        import torch

        if self._device.type != "cuda":
            return np.empty(shape, np.uint8)
        try:
            with self._naming_failures():
                pinned: NDArray[np.uint8] = torch.empty(
                    shape, dtype=torch.uint8, pin_memory=True
                ).numpy()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return np.empty(shape, np.uint8)  # slower on its way, and else the same
        return pinned

    def fitting_batch(self, width_px: int, height_px: int) -> int:
        """How many tiles of a size to show at once.

        On a GPU by trial: doubled while that is faster and there is memory. On a CPU, where more
        brings nothing once the cores are busy, from the size of the tile alone.

        Raises:
            DeviceError: the GPU works no more.
        """
        if self._device.type != "cuda":
            wanted = max(1, _CPU_BATCH_PX // (width_px * height_px))
            return min(16, 1 << (wanted.bit_length() - 1))
        best, best_speed, size = 1, 0.0, 1
        while size <= _LARGEST_BATCH:
            blank = self.make_batch((size, height_px, width_px, 3))
            blank[:] = 255
            try:
                with self._naming_failures():
                    self._see(blank)  # the first call of a shape also sets things up
                    begun = time.perf_counter()
                    self._see(blank)
                speed = size / (time.perf_counter() - begun)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._forget_memory()
                break
            if speed < best_speed * _WORTH_DOUBLING:
                break
            best, best_speed, size = size, speed, size * 2
        return best

    def __call__(self, tiles: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[Seen]:
        """Boxes of each tile.

        Out of memory, the batch is halved until it fits, and stays so.

        Args:
            tiles: RGB arrays (height, width, 3), all of one size, or one array of them.

        Raises:
            MachineError: out of memory with a single tile.
            DeviceError: the GPU works no more.
        """
        if not len(tiles):
            return []
        pixels = tiles if isinstance(tiles, np.ndarray) else np.stack(tiles)
        with self._one_at_a_time, self._naming_failures():
            return self._see_all(pixels)

    def _see_all(self, pixels: NDArray[np.uint8]) -> list[Seen]:
        seen: list[Seen] = []
        while len(seen) < len(pixels):
            step = min(self.batch_limit or len(pixels), len(pixels))
            part = pixels[len(seen) : len(seen) + step]
            if len(part) < step:
                # Always the same number at once: results must not depend on a batch's neighbours.
                blank = np.full((step - len(part), *part.shape[1:]), 255, np.uint8)
                part = np.concatenate([part, blank])
            try:
                seen += self._see(part)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if step == 1:
                    height, width = pixels.shape[1:3]
                    msg = (
                        f"out of memory with a single tile of {width} x {height} px on "
                        f"{self.device}. Use another --device, smaller tiles or a smaller model."
                    )
                    raise MachineError(msg) from error
                self.batch_limit = step // 2
                self._forget_memory()
        return seen[: len(pixels)]

    def _see(self, pixels: NDArray[np.uint8]) -> list[Seen]:
        import torch
        from ultralytics.utils import nms

        if self._predictor is not None:
            return self._predicted(self._predictor, pixels)
        fitted, scale_xy, left, top = _letterboxed(pixels)
        with torch.inference_mode():
            batch = torch.from_numpy(fitted)
            batch = batch.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
            batch = batch.half() if self.is_half else batch.float()
            batch = batch.contiguous(memory_format=self._layout) / 255
            answer = self._net(batch)
            prototypes = None
            if self.task == "segment":
                answer, prototypes = answer[0][0], answer[0][1].float().cpu().numpy()
            found = nms.non_max_suppression(
                answer,
                RAW_CONFIDENCE,
                TILE_NMS_IOU,
                max_det=MAX_BOXES_PER_TILE,
                nc=len(self.class_names),
                end2end=getattr(self._net, "end2end", False),
            )
            rows = [r.float().cpu().numpy().astype(np.float64) for r in found]
        height, width = pixels.shape[1:3]
        limit = np.array([width, height] * 2, float)
        seen = [
            Seen(
                np.clip((r[:, :4] - np.array([left, top] * 2)) / np.tile(scale_xy, 2), 0, limit),
                r[:, 4],
                r[:, 5].astype(np.int64),
            )
            for r in rows
        ]
        if prototypes is None:
            return seen
        return [
            one._replace(
                outline=outlines_of(
                    r[:, 6:].astype(np.float32),
                    of_tile,
                    one.xyxy,
                    scale_xy=scale_xy,
                    left_top_px=(left, top),
                    input_px=(fitted.shape[2], fitted.shape[1]),
                )
            )
            for one, r, of_tile in zip(seen, rows, prototypes, strict=True)
        ]

    def _predicted(self, predictor: Any, pixels: NDArray[np.uint8]) -> list[Seen]:
        """The same through ultralytics' own ``predict``."""
        height, width = pixels.shape[1:3]
        results = predictor.predict(
            # ultralytics takes arrays as OpenCV makes them: blue first.
            [np.ascontiguousarray(tile[..., ::-1]) for tile in pixels],
            imgsz=(_up_to_stride(height), _up_to_stride(width)),
            conf=RAW_CONFIDENCE,
            iou=TILE_NMS_IOU,
            max_det=MAX_BOXES_PER_TILE,
            device=self.device,
            half=self.is_half,
            verbose=False,
            save=False,
        )
        boxes = [result.boxes for result in results]
        limit = np.array([width, height] * 2, float)
        return [
            Seen(
                # RT-DETR's boxes may reach out of the tile, where nothing was seen.
                np.clip(b.xyxy.float().cpu().numpy().astype(np.float64), 0, limit),
                b.conf.float().cpu().numpy().astype(np.float64),
                b.cls.cpu().numpy().astype(np.int64),
            )
            for b in boxes
        ]

    @contextmanager
    def _naming_failures(self) -> Iterator[None]:
        try:
            yield
        # torch says the second, ultralytics the third, of a GPU that is not there any more.
        except (RuntimeError, AssertionError, ValueError) as error:
            if not is_device_failure(error):
                raise
            raise device_failed(self.device, error) from error

    def _forget_memory(self) -> None:
        import torch

        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def device_name(device: str | None) -> str:
    """A device as torch names it: ``cpu``, ``cuda:0``; a GPU if there is one, where none is given."""
    import torch

    if device is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    name = f"cuda:{device}" if device.isdigit() else device
    try:
        torch.device(name)
    except RuntimeError as error:
        msg = f"no device {device!r}. Give cpu, or the number of a GPU: 0."
        raise InputError(msg) from error
    if name.startswith("cuda") and not torch.cuda.is_available():
        msg = f"device {device!r} is a GPU, and torch sees none on this machine. Give --device cpu."
        raise InputError(msg)
    index, n_gpus = torch.device(name).index, torch.cuda.device_count()
    if name.startswith("cuda") and index is not None and index >= n_gpus:
        msg = f"device {device!r}: there is no GPU {index} on this machine (torch sees {n_gpus}). Give --device 0."
        raise InputError(msg)
    return name


def _letterboxed(
    pixels: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], tuple[float, float], int, int]:
    """Tiles enlarged and padded to whole strides, as ultralytics does in training and prediction.

    Returns:
        The tiles, how much they were enlarged in x and y, which differ because sizes are whole pixels,
        and where they begin.
    """
    height, width = pixels.shape[1:3]
    to_height, to_width = _up_to_stride(height), _up_to_stride(width)
    if (to_height, to_width) == (height, width):
        return pixels, (1.0, 1.0), 0, 0
    scale = min(to_height / height, to_width / width)
    inner_width, inner_height = round(width * scale), round(height * scale)
    top = round((to_height - inner_height) / 2 - 0.1)
    left = round((to_width - inner_width) / 2 - 0.1)
    fitted = np.full((len(pixels), to_height, to_width, 3), _PAD_GREY, np.uint8)
    for k, tile in enumerate(pixels):
        if scale != 1:
            tile = cv2.resize(tile, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
        fitted[k, top : top + inner_height, left : left + inner_width] = tile
    return fitted, (inner_width / width, inner_height / height), left, top


def _up_to_stride(size_px: int) -> int:
    return -(-size_px // _STRIDE_PX) * _STRIDE_PX
