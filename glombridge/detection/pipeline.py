"""One slide through a detector: tissue tiles, batches, boxes in slide coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import DamagedFileError
from ..progress import Task
from ..slides.reader import RgbArray, Slide
from ..slides.strips import Region, read_regions
from ..slides.tissue import tissue_mask
from ..tiles.grid import Grid, TileSpec
from .boxes import Boxes
from .detector import Detector

MIN_TISSUE_SHARE = 0.02
"""Tiles with less tissue hold no object: a glomerulus alone fills more."""

BORDER_SHARE = 0.015
"""A box that ends this close to a tile's border, as a share of the tile, ends at the border: the
detector is not exact to the pixel."""


@dataclass(frozen=True)
class SlideDetections:
    """What a model saw on one slide, before stitching and at every confidence.

    Attributes:
        boxes: of all tiles, QuPath pixels, down to the detector's lowest confidence.
        scanned: (N, 4) tiles that were shown to the model, QuPath pixels.
        tiles: number of tiles in the whole grid.
    """

    boxes: Boxes
    scanned: np.ndarray
    tiles: int

    @property
    def scanned_area(self) -> BaseGeometry:
        """Union of the tiles shown to the model, in QuPath pixels."""
        return (
            shapely.union_all(shapely.box(*self.scanned.T))
            if len(self.scanned)
            else shapely.Polygon()
        )

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        b = self.boxes
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                xyxy=b.xyxy,
                score=b.score,
                class_index=b.class_index,
                cut=b.cut,
                scanned=self.scanned,
                tiles=np.int64(self.tiles),
            )

    @classmethod
    def load(cls, path: Path) -> SlideDetections:
        """Read what :meth:`save` wrote.

        Raises:
            DamagedFileError: it is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                boxes = Boxes(data["xyxy"], data["score"], data["class_index"], data["cut"])
                return cls(boxes, data["scanned"], int(data["tiles"]))
        except (OSError, ValueError, KeyError) as error:
            msg = f"{path} does not hold the boxes of a slide: {error}. Run 'glombridge detect' again."
            raise DamagedFileError(msg) from error


def detect_slide(
    slide: Slide,
    spec: TileSpec,
    detector: Detector,
    *,
    batch: int = 16,
    task: Task | None = None,
) -> SlideDetections:
    """Show the tissue of a slide to a detector.

    Args:
        slide: open slide, in its QuPath frame.
        spec: tiles as the model was trained on.
        batch: tiles shown at once. The last batch is filled up with white tiles, so that a tile's
            result does not depend on how many neighbours it had.
        task: told about each tile, as a share of the slide.

    Raises:
        InputError: no pixel size, or the slide is damaged somewhere.
        MachineError: out of memory.
    """
    grid = Grid.of(slide.frame, spec)
    boxes_px = grid.boxes_px()
    shown = np.flatnonzero(tissue_mask(slide).shares(boxes_px) >= MIN_TISSUE_SHARE)
    regions = [
        Region(float(boxes_px[i, 0]), float(boxes_px[i, 1]), spec.width_px, spec.height_px)
        for i in shown
    ]
    parts: dict[int, Boxes] = {}
    waiting: list[tuple[int, RgbArray]] = []

    def run() -> None:
        arrays = [array for _, array in waiting]
        blank = np.full_like(arrays[0], 255)
        found = detector(arrays + [blank] * (batch - len(arrays)))
        for (place, _), (xyxy, score, class_index) in zip(waiting, found, strict=False):
            parts[place] = _to_slide(grid, int(shown[place]), xyxy, score, class_index)
        if task is not None:
            task.advance(len(waiting) / len(regions), note=f"{slide.frame.image_name}")
        waiting.clear()

    for place, array in read_regions(slide, regions, mpp=spec.mpp):
        waiting.append((place, array))
        if len(waiting) == batch:
            run()
    if waiting:
        run()
    if task is not None and not regions:
        task.advance(1, note=f"{slide.frame.image_name}: no tissue")
    merged = Boxes.concatenate([parts[place] for place in sorted(parts)])
    return SlideDetections(merged, boxes_px[shown], len(grid))


def _to_slide(
    grid: Grid, index: int, xyxy: np.ndarray, score: np.ndarray, class_index: np.ndarray
) -> Boxes:
    tile = grid[index]
    size = np.array([tile.width_target_px, tile.height_target_px], float)
    border = BORDER_SHARE * size
    image = np.array([grid.frame.width_px * grid.scale_x, grid.frame.height_px * grid.scale_y])
    start = np.array([tile.x_target_px, tile.y_target_px], float)
    # At the edge of the slide nothing is cut: there is no more of the object to see.
    inner_low = start > 0
    inner_high = start + size < image - 0.5
    cut = ((xyxy[:, :2] <= border) & inner_low).any(axis=1)
    cut |= ((xyxy[:, 2:] >= size - border) & inner_high).any(axis=1)
    scale = np.array([grid.scale_x, grid.scale_y] * 2)
    limit = np.array([grid.frame.width_px, grid.frame.height_px] * 2, float)
    placed = np.clip((xyxy + np.tile(start, 2)) / scale, 0, limit)
    # A box wholly in the padding of a tile that is larger than the slide is nothing.
    keep = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
    return Boxes(placed, score, class_index, cut).take(keep)
