"""Slides written on the spot: tiled JPEG pyramids that OpenSlide opens."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile


def write_pyramid(path: Path, rgb: np.ndarray, *, mpp: float | None = 0.5, levels: int = 3) -> Path:
    """Write an image as a tiled JPEG pyramid, each level half the one before."""
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    if mpp is not None:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            tiff.write(rgb, subfiletype=int(level > 0), **options)
            rgb = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return path


def paint(width: int = 1300, height: int = 1000, seed: int = 0) -> np.ndarray:
    """A smooth pink field with structure at every scale, on white."""
    noise = np.random.default_rng(seed).random((height // 20 + 1, width // 20 + 1, 3))
    texture = cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    rgb = np.full((height, width, 3), 243.0) - np.clip(texture, 0, 1) * (60, 140, 70)
    inside = np.zeros((height, width), np.uint8)
    axes = (width * 2 // 5, height * 2 // 5)
    cv2.ellipse(inside, (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
    rgb[inside == 0] = 243
    return rgb.astype(np.uint8)


@pytest.fixture(scope="session")
def painted() -> np.ndarray:
    return paint()


@pytest.fixture(scope="session")
def pyramid(tmp_path_factory, painted) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("slides") / "painted.tif", painted)


@pytest.fixture
def make_slide(tmp_path):
    def make(name: str = "slide.tif", rgb: np.ndarray | None = None, **options) -> Path:
        return write_pyramid(tmp_path / name, paint() if rgb is None else rgb, **options)

    return make
