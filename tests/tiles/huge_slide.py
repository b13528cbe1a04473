"""A slide of any size, most of it empty glass that takes no space in the file.

    python huge_slide.py SLIDE FOLDER WORKERS

tiles one and prints how many tiles came out and the peak memory of the process in MB.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np

BLOCK_PX = 512
DOWNSAMPLES = (1, 4, 16)


def write_huge_slide(path: Path, width: int, height: int, *, mpp: float = 0.25) -> Path:
    """A band of tissue from the left top to the right bottom corner; other blocks are not stored."""
    import tifffile

    rng = np.random.default_rng(0)
    noise = rng.random((24, 24, 3), np.float32)
    grain = cv2.resize(noise, (BLOCK_PX, BLOCK_PX), interpolation=cv2.INTER_CUBIC)
    tissue = np.clip(np.array([205, 150, 200]) - grain * 60, 0, 255).astype(np.uint8)

    def blocks(columns: int, rows: int) -> Iterator[np.ndarray | None]:
        for row in range(rows):
            for column in range(columns):
                is_tissue = abs(column / columns - row / rows) < 0.12
                yield tissue if is_tissue else None

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for downsample in DOWNSAMPLES:
            shape = height // downsample, width // downsample, 3
            columns, rows = -(-shape[1] // BLOCK_PX), -(-shape[0] // BLOCK_PX)
            tiff.write(
                blocks(columns, rows),
                shape=shape,
                dtype=np.uint8,
                tile=(BLOCK_PX, BLOCK_PX),
                compression="jpeg",
                photometric="rgb",
                resolution=(1e4 / mpp / downsample, 1e4 / mpp / downsample),
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),
                metadata=None,
            )
    return path


def tile(slide: Path, folder: Path, workers: int) -> dict[str, float]:
    from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
    from glombridge.slides.reader import Slide
    from glombridge.tiles.grid import PAPER
    from glombridge.tiles.labels import ClassMap
    from glombridge.tiles.writer import DatasetSettings, SlideJob, write_dataset

    with Slide(slide) as opened:
        frame, direct = opened.frame, len(opened.direct_levels)
    mark = SlideObject(
        UUID(int=1),
        ObjectKind.ANNOTATION,
        Outline.ellipse(100, 100, 500, 500),
        PathClass(("Glomerulus",)),
    )
    job = SlideJob(1, slide.name, slide, frame, "p", "train", (mark,))
    settings = DatasetSettings(ClassMap.of(["Glomerulus"]), PAPER, background_ratio=1e9)
    result = write_dataset([job], folder / "data", settings, workers=workers)
    return {"tiles": result.tiles["train"], "direct_levels": direct, "peak_mb": peak_mb()}


def peak_mb() -> float:
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        # On Linux ru_maxrss begins with the peak of the process that started this one.
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    print(json.dumps(tile(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
