"""Slides and objects to cut, written on the spot."""

from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest
import tifffile

from glombridge.frames import Frame
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.slides.reader import Slide
from glombridge.tiles.writer import SlideJob


def tissue_image(width: int, height: int, seed: int) -> np.ndarray:
    """Grainy pink tissue in the middle of white glass."""
    rng = np.random.default_rng(seed)
    noise = rng.random((height // 25 + 1, width // 25 + 1, 3), np.float32)
    grain = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    rgb = np.array([205, 150, 200]) - grain * 50
    tissue = np.zeros((height, width), np.uint8)
    cv2.ellipse(
        tissue, (width // 2, height // 2), (width * 2 // 5, height * 2 // 5), 0, 0, 360, 1, -1
    )
    rgb[tissue == 0] = 243
    return np.clip(rgb, 0, 255).astype(np.uint8)


def write_slide(path: Path, *, seed=0, mpp=0.5, size=(1600, 1200)) -> Path:
    rgb = tissue_image(*size, seed)
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    if mpp is not None:
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(2):
            tiff.write(rgb, subfiletype=level, **options)
            rgb = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return path


def ball(number: int, x: float, y: float, size: float = 100, cls: str | None = "Glomerulus"):
    """A round object with its left top corner at x, y."""
    return SlideObject(
        UUID(int=number),
        ObjectKind.ANNOTATION,
        Outline.ellipse(x, y, x + size, y + size),
        PathClass.parse(cls) if cls else None,
    )


def square(number: int, x: float, y: float, size: float = 100, cls: str | None = "Glomerulus"):
    outline = Outline.rectangle(x, y, x + size, y + size)
    path_class = PathClass.parse(cls) if cls else None
    return SlideObject(UUID(int=number), ObjectKind.ANNOTATION, outline, path_class)


@pytest.fixture
def make():
    """Factories of objects: ``make.ball(...)`` and ``make.square(...)``."""

    class Make:
        pass

    Make.ball, Make.square = staticmethod(ball), staticmethod(square)
    return Make


@pytest.fixture
def make_job(tmp_path):
    """A job with two glomeruli on a slide of its own."""

    def job(entry_id=1, name=None, part="train", patient=None, **options) -> SlideJob:
        name = name or f"K{entry_id}.tif"
        path = tmp_path / f"slide-{entry_id}.tif"
        if not path.exists():
            write_slide(path, seed=entry_id, **options.pop("slide", {}))
        with Slide(path) as slide:
            frame = Frame(name, *_size(slide.frame), slide.frame.mpp_x, slide.frame.mpp_y)
        objects = (ball(10 * entry_id, 500, 400), ball(10 * entry_id + 1, 900, 600, 120))
        options = {"objects": objects, **options}
        return SlideJob(
            entry_id, name, path, frame, patient or f"patient {entry_id}", part, **options
        )

    return job


def _size(frame: Frame) -> tuple[int, int]:
    return frame.width_px, frame.height_px
