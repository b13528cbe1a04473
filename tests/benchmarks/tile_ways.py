"""One way to cut a slide into 1600x1200 tiles with one third overlap; run by bench_tiles.py.

    python tile_ways.py WAY SLIDE FOLDER [PYTHON_PATH]

Prints one JSON line: tiles, megapixels of tiles written, CPU seconds of this process and those it
started, wall seconds and peak memory. Setting up (imports, finding the tiles) is outside the clock
for the other libraries; for glombridge it is inside, with labels, tissue and records.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

WIDTH, HEIGHT, STRIDE_X, STRIDE_Y = 1600, 1200, 1066, 800
QUALITY = 90


def starts(length: int, tile: int, stride: int) -> list[int]:
    return [*range(0, length - tile, stride), length - tile]


def plain_openslide(slide: Path, folder: Path) -> Callable[[], tuple[int, float]]:
    """read_region, PIL, one tile after the other: what most scripts do."""
    import openslide

    def cut() -> tuple[int, float]:
        n = 0
        with openslide.OpenSlide(slide) as source:
            width, height = source.dimensions
            for y in starts(height, HEIGHT, STRIDE_Y):
                for x in starts(width, WIDTH, STRIDE_X):
                    tile = source.read_region((x, y), 0, (WIDTH, HEIGHT)).convert("RGB")
                    tile.save(folder / f"{x}_{y}.jpg", quality=QUALITY)
                    n += 1
        return n, n * WIDTH * HEIGHT / 1e6

    return cut


def deepzoom(slide: Path, folder: Path) -> Callable[[], tuple[int, float]]:
    """OpenSlide's DeepZoomGenerator; its tiles are square, so megapixels are compared."""
    import openslide
    from openslide.deepzoom import DeepZoomGenerator

    def cut() -> tuple[int, float]:
        n, pixels = 0, 0
        with openslide.OpenSlide(slide) as source:
            # 924 px and 231 px more on each side: 1386 px, as many pixels as 1600 x 1200, and one
            # third of each side shared with the neighbour.
            tiles = DeepZoomGenerator(source, tile_size=924, overlap=231, limit_bounds=False)
            level = tiles.level_count - 1
            columns, rows = tiles.level_tiles[level]
            for row in range(rows):
                for column in range(columns):
                    tile = tiles.get_tile(level, (column, row)).convert("RGB")
                    tile.save(folder / f"{column}_{row}.jpg", quality=QUALITY)
                    n += 1
                    pixels += tile.width * tile.height
        return n, pixels / 1e6

    return cut


def sahi(slide: Path, folder: Path) -> Callable[[], tuple[int, float]]:
    """sahi.slicing.slice_image on the exported image; the export is not counted."""
    import openslide
    from PIL import Image
    from sahi.slicing import slice_image

    Image.MAX_IMAGE_PIXELS = None
    exported = folder.parent / "exported.jpg"
    with openslide.OpenSlide(slide) as source:
        source.read_region((0, 0), 0, source.dimensions).convert("RGB").save(exported, quality=95)

    def cut() -> tuple[int, float]:
        result = slice_image(
            image=str(exported),
            output_file_name="tile",
            output_dir=str(folder),
            slice_height=HEIGHT,
            slice_width=WIDTH,
            overlap_height_ratio=1 / 3,
            overlap_width_ratio=1 / 3,
            out_ext=".jpg",
            exif_fix=False,
        )
        n = len(result)
        return n, n * WIDTH * HEIGHT / 1e6

    return cut


def pure(slide: Path, folder: Path) -> Callable[[], tuple[int, float]]:
    """Every JPEG block of level 0 decoded once, every tile encoded once, and nothing else."""
    import imagecodecs
    import numpy as np
    import tifffile

    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        tables, photometric = page.jpegtables, int(page.photometric)
        width, height = page.imagewidth, page.imagelength
        pixels = page.asarray()
    colours = {2: "RGB", 6: "YCBCR"}[photometric]
    corners = [
        (x, y) for y in starts(height, HEIGHT, STRIDE_Y) for x in starts(width, WIDTH, STRIDE_X)
    ]

    def cut() -> tuple[int, float]:
        with slide.open("rb") as file:
            for offset, size in places:
                file.seek(offset)
                imagecodecs.jpeg8_decode(
                    file.read(size), tables=tables, colorspace=colours, outcolorspace="RGB"
                )
        for x, y in corners:
            tile = np.ascontiguousarray(pixels[y : y + HEIGHT, x : x + WIDTH])
            imagecodecs.jpeg8_encode(tile, level=QUALITY)
        return len(corners), len(corners) * WIDTH * HEIGHT / 1e6

    return cut


def glombridge(slide: Path, folder: Path, workers: int) -> Callable[[], tuple[int, float]]:
    """The whole of write_dataset: labels, tissue, choice, tiles, records, manifest."""
    from uuid import UUID

    from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
    from glombridge.slides.reader import Slide
    from glombridge.tiles.grid import PAPER
    from glombridge.tiles.labels import ClassMap
    from glombridge.tiles.writer import DatasetSettings, SlideJob, write_dataset

    with Slide(slide) as opened:
        frame = opened.frame
    mark = SlideObject(
        UUID(int=1),
        ObjectKind.ANNOTATION,
        Outline.ellipse(5000, 5000, 5400, 5400),
        PathClass(("Glomerulus",)),
    )
    job = SlideJob(1, slide.name, slide, frame, "p", "train", (mark,))
    settings = DatasetSettings(
        ClassMap.of(["Glomerulus"]), PAPER, background_ratio=1e9, jpeg_quality=QUALITY
    )

    def cut() -> tuple[int, float]:
        result = write_dataset([job], folder / "data", settings, workers=workers)
        n = result.tiles["train"]
        return n, n * WIDTH * HEIGHT / 1e6

    return cut


def _half(slide: Path, folder: Path, first: int) -> None:
    import imagecodecs

    from glombridge.slides.reader import Slide
    from glombridge.slides.strips import Region, read_regions
    from glombridge.tiles.grid import PAPER, Grid

    with Slide(slide) as opened:
        grid = Grid.of(opened.frame, PAPER)
        half = len(grid.y_starts) // 2 * len(grid.x_starts)
        boxes = grid[:half] if first else grid[half:]
        regions = [Region(t.x_px, t.y_px, WIDTH, HEIGHT) for t in boxes]
        for k, rgb in read_regions(opened, regions, mpp=None):
            data = imagecodecs.jpeg8_encode(rgb, level=QUALITY)
            (folder / f"{first}_{k}.jpg").write_bytes(data)


def two_processes(slide: Path, folder: Path) -> Callable[[], tuple[int, float]]:
    """Two spawned processes, half of the tiles each, without labels: the other way to use two cores."""

    def cut() -> tuple[int, float]:
        spawn = multiprocessing.get_context("spawn")
        both = [spawn.Process(target=_half, args=(slide, folder, k)) for k in (0, 1)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        n = len(list(folder.glob("*.jpg")))
        return n, n * WIDTH * HEIGHT / 1e6

    return cut


def peak_mb() -> float:
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        # On Linux ru_maxrss begins with the peak of the process that started this one.
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def cpu_seconds() -> float:
    import os

    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def main(way: str, slide: Path, folder: Path) -> None:
    ways: dict[str, Callable[[], Callable[[], tuple[int, float]]]] = {
        "plain OpenSlide loop": lambda: plain_openslide(slide, folder),
        "OpenSlide DeepZoom": lambda: deepzoom(slide, folder),
        "sahi slice_image": lambda: sahi(slide, folder),
        "decode and encode only": lambda: pure(slide, folder),
        "glombridge, 1 worker": lambda: glombridge(slide, folder, 1),
        "glombridge, 2 workers": lambda: glombridge(slide, folder, 2),
        "two processes": lambda: two_processes(slide, folder),
    }
    cut = ways[way]()
    before, wall = cpu_seconds(), time.perf_counter()
    tiles, megapixels = cut()
    row = {
        "tiles": tiles,
        "megapixels": round(megapixels, 1),
        "cpu_seconds": round(cpu_seconds() - before, 3),
        "wall_seconds": round(time.perf_counter() - wall, 3),
        # Of spawned processes it would have to be asked while they run.
        "peak_mb": None if way == "two processes" else round(peak_mb(), 1),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
