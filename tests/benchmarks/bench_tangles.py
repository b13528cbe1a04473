"""What outlines that cross themselves cost: to repair with shapely, and to refuse as glombridge does.

    python tests/benchmarks/bench_tangles.py

Part 1 times ``shapely.make_valid`` in a process of its own on outlines of more and more crossings,
and stops it after a minute: the reason for ``objects.MOST_CROSSINGS``. Part 2 times ``sound_area``
on tangles that it refuses. Prints a table and writes results/tangles.json. Seconds depend on the
machine, the ratios between the rows less.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from glombridge.errors import InputError
from glombridge.objects import MOST_CROSSINGS, sound_area

SECONDS_LIMIT = 60
REPAIRED = (("at random", 90), ("star", 71), ("star", 151), ("star", 301))
REFUSED = (1_000, 10_000, 100_000)


def tangle(kind: str, corners: int) -> shapely.Polygon:
    """Corners at random in a square, or an odd number of a star whose edges cross nearly all others."""
    if kind == "at random":
        return shapely.Polygon(np.random.default_rng(0).uniform(0, 1000, (corners, 2)))
    angle = 2 * np.pi * (corners // 2) * np.arange(corners) / corners
    return shapely.Polygon(500 + 400 * np.column_stack([np.cos(angle), np.sin(angle)]))


def crossings(polygon: shapely.Polygon) -> int:
    """Pairs of edges that cross, counted one by one."""
    corners = shapely.get_coordinates(polygon)
    edges = shapely.linestrings(np.stack([corners[:-1], corners[1:]], axis=1))
    first, second = shapely.STRtree(edges).query(edges, predicate="crosses")
    return int((first < second).sum())


def repair(kind: str, corners: int) -> None:
    """Time one repair in this process; seconds on standard output."""
    polygon = tangle(kind, corners)
    begun = time.perf_counter()
    shapely.make_valid(polygon)
    print(time.perf_counter() - begun)


def repaired() -> list[dict[str, Any]]:
    rows = []
    for kind, corners in REPAIRED:
        row: dict[str, Any] = {
            "outline": kind,
            "corners": corners,
            "crossings": crossings(tangle(kind, corners)),
        }
        command = [sys.executable, __file__, "--repair", kind, str(corners)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS_LIMIT, check=True
            )
            row["seconds"] = round(float(done.stdout), 2)
        except subprocess.TimeoutExpired:
            row["stopped"] = f"not finished after {SECONDS_LIMIT} s"
        rows.append(row)
        print(" ", row)
    return rows


def refused() -> list[dict[str, Any]]:
    rows = []
    for corners in REFUSED:
        polygon = tangle("at random", corners)
        begun = time.perf_counter()
        try:
            sound_area(polygon)
        except InputError:
            rows.append({"corners": corners, "seconds": round(time.perf_counter() - begun, 2)})
        else:
            raise AssertionError(f"a tangle of {corners} corners was not refused")
        print(" ", rows[-1])
    return rows


def main() -> None:
    print("shapely.make_valid")
    document = {
        "what": "seconds of shapely.make_valid on outlines that cross themselves, and of "
        "glombridge.objects.sound_area until it refuses one at random",
        "most_crossings": MOST_CROSSINGS,
        "seconds_limit": SECONDS_LIMIT,
        "shapely": shapely.__version__,
        "geos": shapely.geos_version_string,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_start": [round(x, 1) for x in os.getloadavg()],
        "repaired": repaired(),
    }
    print("glombridge refuses")
    document["refused"] = refused()
    path = Path(__file__).parent / "results" / "tangles.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--repair"]:
        repair(sys.argv[2], int(sys.argv[3]))
    else:
        main()
