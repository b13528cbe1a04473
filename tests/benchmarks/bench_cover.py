"""The area under a slide's tiles: as glombridge unites them, and as shapely unites any polygons.

    python tests/benchmarks/bench_cover.py

Tiles of the paper's preset over a slide of 100,000 px, all of them or where some tissue is. Each way gives
the same area, which is checked. Beside them stands what else ``push`` does of a slide before it merges:
reading the run's file and stitching what it holds. Prints a table and writes results/cover.json. CPU
seconds are the best of some rounds and depend on the machine, ratios less.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from bench_growth import TILES_PX, tiled
from bench_load import SIDE_PX
from shapely.geometry.base import BaseGeometry

from glombridge.detection.cover import united_boxes
from glombridge.detection.raw import SlideDetections
from glombridge.objects import box_polygons

ROUNDS = 5


def tissue(tiles: np.ndarray, pieces: int = 12) -> np.ndarray:
    """Tiles whose middle lies in one of some ellipses."""
    rng = np.random.default_rng(0)
    middle = (tiles[:, :2] + tiles[:, 2:]) / 2
    is_tissue = np.zeros(len(tiles), bool)
    for _ in range(pieces):
        radii = rng.uniform(0.03, 0.18, 2) * SIDE_PX
        is_tissue |= (((middle - rng.uniform(0, SIDE_PX, 2)) / radii) ** 2).sum(axis=1) < 1
    return tiles[is_tissue]


def some(tiles: np.ndarray, share: float) -> np.ndarray:
    return tiles[np.random.default_rng(0).random(len(tiles)) < share]


CASES = {
    "all of a slide": TILES_PX,
    "12 pieces of tissue": tissue(TILES_PX),
    "70 % at random": some(TILES_PX, 0.7),
    "5 % at random": some(TILES_PX, 0.05),
}
WAYS: dict[str, Callable[[np.ndarray], BaseGeometry]] = {
    "glombridge": united_boxes,
    "shapely.union_all": lambda tiles: shapely.union_all(box_polygons(tiles)),
}


def cpu_of(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        call()
        taken.append(time.process_time() - begun)
    return min(taken)


def united() -> list[dict[str, Any]]:
    rows = []
    for case, tiles in CASES.items():
        areas = {name: way(tiles) for name, way in WAYS.items()}
        first, second = areas.values()
        if not (first.is_valid and first.equals(second)):
            raise AssertionError(case)
        seconds = {name: cpu_of(partial(way, tiles)) for name, way in WAYS.items()}
        a, b = seconds.values()
        rows.append(
            {
                "tiles": case,
                "number": len(tiles),
                "cpu_ms": {name: round(1000 * s, 2) for name, s in seconds.items()},
                "times_faster": round(b / a, 1),
                "corners": {n: int(shapely.get_num_coordinates(x)) for n, x in areas.items()},
            }
        )
        print(" ", rows[-1])
    return rows


def the_rest() -> dict[str, float]:
    """Of a slide with as many objects as the paper's have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.parquet"
        tiled(12, 0).save(path)
        seen = SlideDetections.load(path)
        told = {
            "reading": cpu_of(lambda: SlideDetections.load(path)),
            "stitching": cpu_of(lambda: seen.stitched(0.5)),
            "scanned_area": cpu_of(lambda: seen.scanned_area),
        }
    return {name: round(1000 * s, 2) for name, s in told.items()}


def main() -> None:
    document = {
        "what": "the area under tiles of 1600 x 1200 px that overlap by a third, on a slide of "
        f"{SIDE_PX} px; CPU milliseconds, the best of {ROUNDS} rounds; whole_slide: what push does of each "
        "slide of a run, all of whose tiles were shown, before it merges",
        "shapely": shapely.__version__,
        "geos": shapely.geos_version_string,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_start": [round(x, 1) for x in os.getloadavg()],
        "united": united(),
        "whole_slide_cpu_ms": the_rest(),
    }
    print(" ", document["whole_slide_cpu_ms"])
    path = Path(__file__).parent / "results" / "cover.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
