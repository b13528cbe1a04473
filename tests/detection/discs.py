"""A painted slide with objects that a plain function can find, as fast as a test needs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile

MPP = 1.0
WIDTH, HEIGHT = 3000, 2200
RADIUS = 40


def discs_at() -> np.ndarray:
    """Centres of the discs of the painted slide."""
    x, y = np.meshgrid(np.arange(160, WIDTH - 100, 210), np.arange(150, HEIGHT - 100, 190))
    return np.column_stack([x.ravel(), y.ravel()]).astype(float)


def paint_discs(path: Path) -> Path:
    """Dark discs on pink tissue: a tiled, JPEG-compressed pyramid."""
    rgb = np.full((HEIGHT, WIDTH, 3), (225, 170, 210), np.uint8)
    rgb[:30] = rgb[:, :30] = 245
    noise = np.random.default_rng(0).integers(-6, 7, rgb.shape[:2])
    rgb = np.clip(rgb + noise[..., None], 0, 255).astype(np.uint8)
    for x, y in discs_at():
        cv2.circle(rgb, (round(x), round(y)), RADIUS, (40, 20, 90), -1)
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "ycbcr"}
    options |= {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(rgb, **options)
        tiff.write(cv2.resize(rgb, None, fx=0.25, fy=0.25), subfiletype=1, **options)
    return path


def find_discs(tiles: np.ndarray) -> list:
    """A detector that sees what is dark; its score says how much of a disc there is."""
    seen = []
    for rgb in tiles:
        dark = (rgb.max(axis=2) < 130).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(dark)
        found = stats[1:][stats[1:, cv2.CC_STAT_AREA] > 200]
        xyxy = found[:, :4].astype(float)
        xyxy = np.column_stack([xyxy[:, :2], xyxy[:, :2] + xyxy[:, 2:]])
        score = np.minimum(1, found[:, cv2.CC_STAT_AREA] / (np.pi * RADIUS**2 * 1.1))
        seen.append((xyxy, score, np.zeros(len(xyxy), np.int64)))
    return seen


def damaged(path: Path, to: Path, *, page: int = 0, tiles: tuple[int, ...] = (40,)) -> Path:
    """A copy whose given compressed blocks of one level are rubbish."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        level = tiff.pages[page]
        for tile in tiles:
            start, length = level.dataoffsets[tile], level.databytecounts[tile]
            data[start : start + length] = b"\x00" * length
    to.write_bytes(data)
    return to
