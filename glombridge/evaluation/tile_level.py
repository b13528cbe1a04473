"""ultralytics' own figures on tiles: for comparison with papers that report only these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..detection.detector import device_name
from ..errors import GlombridgeError, MachineError
from ..training.device_errors import device_failed, is_device_failure, is_out_of_memory
from ..training.sandbox import load_ultralytics, use_threads
from ..training.trust import require_trust

MEANING = (
    "ultralytics on overlapping tiles, at the confidence with the best F1 on these same tiles: an "
    "object counts in every tile that shows it, and the threshold knows the answer. For comparison "
    "with papers that report tiles; not the figures to believe."
)


@dataclass(frozen=True)
class TileFigures:
    """Of one part of the dataset."""

    tiles: int
    precision: float
    recall: float
    ap50: float
    ap50_95: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON, six digits."""
        p, r = self.precision, self.recall
        figures = {
            "precision": p,
            "recall": r,
            "f1": 2 * p * r / (p + r) if p + r else 0.0,
            "ap50": self.ap50,
            "ap50_95": self.ap50_95,
        }
        return {"tiles": self.tiles, **{k: round(float(v), 6) for k, v in figures.items()}}


_KEPT = (
    "What was seen of the slides is kept: the same 'glombridge evaluate' goes on, and with --no-tiles "
    "it leaves these figures out."
)

_BATCH_PX = 16 * 640 * 640
"""ultralytics' default of 16 tiles is meant for 640 px; memory grows with pixels."""


def fitting_batch(tile_px: tuple[int, int]) -> int:
    """How many tiles of a size to show at once: the figures do not depend on it, memory does."""
    return max(1, min(16, _BATCH_PX // (tile_px[0] * tile_px[1])))


def tile_figures(
    weights: Path,
    dataset: Path,
    part: str,
    *,
    n_tiles: int,
    tile_px: tuple[int, int],
    batch: int | None,
    cache: Path,
    runs: Path,
    scratch: Path,
    device: str | None = None,
    threads: int | None = None,
) -> TileFigures:
    """Let ultralytics validate weights on one part of a dataset.

    Args:
        weights: the weights file.
        dataset: folder with ``data.yaml``.
        part: ``val`` or ``test``.
        n_tiles: tiles of that part.
        tile_px: width and height of a tile.
        batch: tiles shown at once, ``None`` = by their size.
        cache: where ultralytics keeps its settings.
        runs: the project's training runs, whose weights may be loaded.
        scratch: folder it may write into.
        device: as torch names it.
        threads: of torch on a CPU.

    Raises:
        InputError: no such device.
        ProtectedError: weights that nobody answers for.
        MachineError: out of memory, or (:class:`.DeviceError`) the device works no more.
    """
    require_trust(weights, runs)
    ultralytics = load_ultralytics(cache)
    use_threads(threads)
    width, height = tile_px
    on_device, n_at_once = device_name(device), batch or fitting_batch(tile_px)
    try:
        result = ultralytics.YOLO(str(weights)).val(
            data=str((dataset / "data.yaml").resolve()),
            split=part,
            imgsz=-(-max(width, height) // 32) * 32,
            rect=width != height,
            batch=n_at_once,
            device=on_device,
            workers=0,
            plots=False,
            verbose=False,
            project=str(scratch),
            name="tiles",
            exist_ok=True,
        )
    except GlombridgeError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        if is_device_failure(error):
            raise device_failed(on_device, error, _KEPT) from error
        if is_out_of_memory(error):
            msg = (
                f"out of memory on {on_device} with {n_at_once} tiles of {width} x {height} px at once. Set "
                f"a smaller batch in [detect] of the settings. {_KEPT}"
            )
            raise MachineError(msg) from error
        raise
    box: Mapping[str, float] = result.results_dict
    return TileFigures(
        n_tiles,
        float(box["metrics/precision(B)"]),
        float(box["metrics/recall(B)"]),
        float(box["metrics/mAP50(B)"]),
        float(box["metrics/mAP50-95(B)"]),
    )
