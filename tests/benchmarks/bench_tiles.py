"""Cutting a JPEG slide into the paper's tiles: glombridge against other ways, in one run.

    python tests/benchmarks/bench_tiles.py [--other-python PYTHON] [--size WxH] [--rounds N]

The slide is a real scan (tests/data/slides/CMU-1-Small-Region.svs) laid out again and again over
20,000 x 15,000 px, as a tiled JPEG pyramid. Every way writes 1600x1200 JPEG tiles of quality 90
with one third overlap (DeepZoom square ones of as many pixels), in a process of its own, in turn.
``--other-python`` is an interpreter that has sahi, which is not a dependency of glombridge; without
one, sahi is left out and the result says so. Prints a table and writes results/tiles.json. Compared
are CPU seconds per gigapixel of tiles; wall seconds only tell something where cores are free.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HUGE = HERE.parent / "tiles" / "huge_slide.py"
SCAN = HERE.parent / "data" / "slides" / "CMU-1-Small-Region.svs"
PLAIN, PURE = "plain OpenSlide loop", "decode and encode only"
ONE, TWO = "glombridge, 1 worker", "glombridge, 2 workers"
OTHERS = ("OpenSlide DeepZoom", "sahi slice_image")
WAYS = (PLAIN, *OTHERS, PURE, ONE, TWO, "two processes")
NO_HISTOLAB = (
    "histolab 0.7 wants scikit-image < 0.19.4, which has no wheel for Python 3.11 and later and "
    "did not build here"
)


def write_slide(path: Path, width: int, height: int) -> None:
    """The scan over and over, as a pyramid of five levels with blocks of 256 px."""
    import cv2
    import numpy as np
    import tifffile

    with tifffile.TiffFile(SCAN) as tiff:
        scan = tiff.pages[0].asarray()
    repeats = -(-height // scan.shape[0]), -(-width // scan.shape[1]), 1
    rgb = np.tile(scan, repeats)[:height, :width]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(5):
            tiff.write(
                rgb,
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": 80},
                photometric="rgb",
                subfiletype=int(level > 0),
                resolution=(2e4 / 2**level, 2e4 / 2**level),
                resolutionunit="CENTIMETER",
                maxworkers=1,
            )
            rgb = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def measure(way: str, python: str, slide: Path) -> dict[str, Any]:
    folder = slide.parent / "tiles"
    folder.mkdir()
    try:
        command = [python, str(HERE / "tile_ways.py"), way, str(slide), str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        shutil.rmtree(folder)


def measure_huge(width: int, height: int, workers: int, folder: Path) -> dict[str, Any]:
    """Tile a sparsely written slide (tests/tiles/huge_slide.py) and take the peak memory."""
    sys.path.insert(0, str(HUGE.parent))
    from huge_slide import write_huge_slide

    slide = write_huge_slide(folder / f"{width}.tif", width, height)
    tiles = folder / f"{width} {workers}"
    tiles.mkdir()
    command = [sys.executable, str(HUGE), str(slide), str(tiles), str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    shutil.rmtree(tiles)
    found = json.loads(done.stdout)
    row = {"size_px": [width, height], "workers": workers, "tiles": found["tiles"]}
    return {**row, "peak_mb": round(found["peak_mb"], 1)}


def has(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--other-python", default=sys.executable)
    parser.add_argument("--size", default="20000x15000")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    skipped = {"histolab": NO_HISTOLAB}
    ways = list(WAYS)
    if not has(options.other_python, "sahi"):
        skipped["sahi slice_image"] = "sahi is not installed; give --other-python"
        ways.remove("sahi slice_image")
    pythons = {way: options.other_python if way in OTHERS else sys.executable for way in ways}
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as temporary:
        slide = Path(temporary) / "slide.tif"
        write_slide(slide, width, height)
        slide_bytes = slide.stat().st_size
        # Interleaved, so that other work on the machine falls on all of them alike.
        for _ in range(options.rounds):
            for way in ways:
                rounds[way].append(measure(way, pythons[way], slide))
        memory = [
            measure_huge(*size, workers, Path(temporary))
            for size in ((24_000, 19_200), (100_000, 80_000))
            for workers in (1, 2)
        ]
    rows: dict[str, dict[str, Any]] = {}
    for way, found in rounds.items():
        row = {
            k: statistics.median(r[k] for r in found) if found[0][k] is not None else None
            for k in found[0]
        }
        row["cpu_seconds_per_gigapixel"] = round(row["cpu_seconds"] / row["megapixels"] * 1000, 2)
        row["wall_seconds_per_gigapixel"] = round(row["wall_seconds"] / row["megapixels"] * 1000, 2)
        rows[way] = row
    cpu = {way: row["cpu_seconds_per_gigapixel"] for way, row in rows.items()}
    wall = {way: row["wall_seconds_per_gigapixel"] for way, row in rows.items()}
    best = min((way for way in OTHERS if way in rows), key=lambda way: cpu[way])
    ratios = {
        "plain loop to glombridge, per core (CPU)": cpu[PLAIN] / cpu[ONE],
        "plain loop to glombridge with 2 workers (wall)": wall[PLAIN] / wall[TWO],
        f"best of the others ({best}) to glombridge, per core (CPU)": cpu[best] / cpu[ONE],
        "glombridge to decoding and encoding alone (CPU)": cpu[ONE] / cpu[PURE],
        "1 worker to 2 workers (wall)": wall[ONE] / wall[TWO],
        "2 processes to 2 workers (wall)": wall["two processes"] / wall[TWO],
    }
    for way, row in rows.items():
        print(
            f"{way:24} {row['tiles']:5.0f} tiles {row['cpu_seconds']:7.2f} s CPU "
            f"{row['wall_seconds']:7.2f} s wall {row['peak_mb'] or math.nan:7.0f} MB"
        )
    for name, ratio in ratios.items():
        print(f"{name:66} {ratio:6.2f}")
    for row in memory:
        print(f"sparse slide of {row['size_px']} px, {row['workers']} workers: {row['peak_mb']} MB")
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    document = {
        "what": "tiles of 1600x1200 px with one third overlap from a tiled JPEG pyramid; medians",
        "slide": {"size_px": [width, height], "bytes": slide_bytes, "jpeg_quality": 80},
        "rounds": options.rounds,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_end": [round(x, 1) for x in os.getloadavg()],
        "versions": {
            name: version(name)
            for name in ("imagecodecs", "numpy", "openslide-python", "pillow", "tifffile")
        },
        "results": rows,
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "sparse_slides": memory,
        "left_out": skipped,
    }
    path = HERE / "results" / "tiles.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
