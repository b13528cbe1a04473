"""Write an image as a tiled JPEG pyramid in a TIFF that OpenSlide and QuPath open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

from .canvas import Image

TILE_PX = 256
MAX_LEVELS = 5

_GRAIN_STD = 3.0
"""Camera noise of level 0, in grey levels."""


def write_pyramid(
    level1: Image, path: Path, *, mpp: float, jpeg_quality: int, rng: np.random.Generator
) -> None:
    """Write an image at twice its size, itself, and halves of it, as one pyramid.

    Args:
        level1: RGB of shape (height, width, 3); becomes the pyramid's second level.
        path: a ``.tif``; replaced in one step, so that a partial file never shows.
        mpp: micrometres per pixel of the first level.
        jpeg_quality: 1 to 100.
        rng: for the grain of the first level.
    """
    temporary = path.with_name(path.name + ".part")
    height, width = level1.shape[:2]
    # The generic TIFF reader of OpenSlide 4 shows openslide.mpp-x for centimetres only.
    per_cm = 1e4 / mpp
    try:
        with tifffile.TiffWriter(temporary) as tiff:

            def write(tiles: Iterator[Image], rows: int, columns: int, level: int) -> None:
                tiff.write(
                    tiles,
                    shape=(rows, columns, 3),
                    dtype=np.uint8,
                    photometric="rgb",
                    compression="jpeg",
                    compressionargs={"level": jpeg_quality},
                    tile=(TILE_PX, TILE_PX),
                    subfiletype=1 if level else 0,
                    resolution=(per_cm / 2**level, per_cm / 2**level),
                    resolutionunit="CENTIMETER",
                    software="glombridge demo",
                    metadata=None,
                    maxworkers=1,
                )

            write(_doubled_tiles(level1, rng), 2 * height, 2 * width, 0)
            image = level1
            for level in range(1, MAX_LEVELS):
                if level > 1:
                    size = (image.shape[1] // 2, image.shape[0] // 2)
                    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
                write(_tiles(image), image.shape[0], image.shape[1], level)
                if max(image.shape) <= 2 * TILE_PX:
                    break
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _tiles(image: Image) -> Iterator[Image]:
    for top in range(0, image.shape[0], TILE_PX):
        for left in range(0, image.shape[1], TILE_PX):
            yield _whole(image[top : top + TILE_PX, left : left + TILE_PX])


def _doubled_tiles(level1: Image, rng: np.random.Generator) -> Iterator[Image]:
    """Tiles of the image at twice its size with grain, row by row."""
    height, width = level1.shape[:2]
    half = TILE_PX // 2
    gray = np.clip(rng.normal(128, _GRAIN_STD, (2 * TILE_PX, 2 * TILE_PX)), 0, 255)
    grain = cv2.merge([gray.astype(np.uint8)] * 3)
    for top in range(0, height, half):
        # One row more on each side, so that tiles meet without a seam.
        y0, y1 = max(top - 1, 0), min(top + half + 1, height)
        doubled = cv2.resize(level1[y0:y1], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        rows = np.asarray(doubled, dtype=np.uint8)[2 * (top - y0) :][:TILE_PX]
        for left in range(0, 2 * width, TILE_PX):
            tile = _whole(rows[:, left : left + TILE_PX])
            y, x = (int(v) for v in rng.integers(0, TILE_PX, 2))
            noise = grain[y : y + TILE_PX, x : x + TILE_PX]
            yield np.asarray(cv2.addWeighted(tile, 1.0, noise, 1.0, -128.0))


def _whole(tile: Image) -> Image:
    """The tile, filled up to its full size with its last row and column."""
    rows, columns = TILE_PX - tile.shape[0], TILE_PX - tile.shape[1]
    if rows or columns:
        tile = np.pad(tile, ((0, rows), (0, columns), (0, 0)), mode="edge")
    return np.ascontiguousarray(tile)
