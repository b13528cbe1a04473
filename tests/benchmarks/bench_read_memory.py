"""Time and memory to read 100,000 detections with 20 measurements and 20 vertices each.

    python tests/benchmarks/bench_read_memory.py [COUNT]

One process writes the project, a fresh one reads it with ``NativeStore`` and tells its own peak
resident memory. Prints a table and writes results/read_memory.json. Seconds depend on the machine;
the memory hardly does.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COUNT = 100_000
MEASUREMENTS = 20
VERTICES = 20
ROUNDS = 3

WRITE = """
import random, sys
from pathlib import Path
from uuid import UUID
import numpy as np
import shapely
from glombridge.objects import ObjectKind, Outline, OutlineKind, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
folder, count, measurements, vertices = Path(sys.argv[1]), *map(int, sys.argv[2:])
chance = np.random.default_rng(0)
ids = random.Random(0)
names = [f"Nucleus: measurement {k} um" for k in range(measurements)]
angle = np.arange(vertices) * 2 * np.pi / vertices
circle = np.column_stack([np.cos(angle), np.sin(angle)])
def detection():
    ring = chance.uniform(0, 50_000, 2) + 6 * circle + chance.uniform(-0.5, 0.5, circle.shape)
    outline = Outline(shapely.Polygon(ring), OutlineKind.POLYGON)
    values = dict(zip(names, chance.normal(size=measurements).tolist()))
    return SlideObject(UUID(int=ids.getrandbits(128), version=4), ObjectKind.DETECTION, outline,
                       PathClass(("Tubule", "Positive")), measurements=values)
store = NativeStore.create(folder)
entry = store.add_image(folder / "slide.svs")
store.write(entry.id, HierarchyEdit(add=tuple(detection() for _ in range(count))),
            expected=store.stamp(entry.id), snapshot_folder=folder / "kept")
"""

READ = """
import json, resource, sys, time
from glombridge.qupath import NativeStore
from pathlib import Path
def peak_mb():
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux ru_maxrss begins with the peak of the process that started this one.
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    # macOS counts bytes, others kibibytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
store = NativeStore.open(Path(sys.argv[1]))
before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
found = store.read(store.images()[0].id)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
assert not found.problems
last = found.objects[-1]
print(json.dumps({"objects": len(found.objects), "wall_seconds": wall, "cpu_seconds": cpu,
                  "mb_before": before, "peak_mb": peak_mb(),
                  "measurements": len(last.measurements),
                  "vertices": len(last.outline.geometry.exterior.coords) - 1}))
"""


def in_a_process(code: str, *arguments: object) -> str:
    """Run code in a fresh interpreter and give what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(folder: Path, count: int) -> Path:
    """Write a project with one image of ``count`` detections."""
    in_a_process(WRITE, folder, count, MEASUREMENTS, VERTICES)
    return folder


def read(folder: Path) -> dict[str, Any]:
    """Read it in a fresh process and measure that."""
    found: dict[str, Any] = json.loads(in_a_process(READ, folder))
    return found


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = build(Path(temporary) / "project", count)
        size = (folder / "data" / "1" / "data.qpdata").stat().st_size
        rounds = [read(folder) for _ in range(ROUNDS)]
    row = {
        key: round(statistics.median(r[key] for r in rounds), 2)
        for key in ("wall_seconds", "cpu_seconds", "mb_before", "peak_mb")
    }
    print(f"{count} detections, file of {size / 1e6:.1f} MB")
    print(f"  wall time   {row['wall_seconds']:8.2f} s")
    print(f"  CPU time    {row['cpu_seconds']:8.2f} s")
    print(f"  peak memory {row['peak_mb']:8.0f} MB, of which before {row['mb_before']:.0f} MB")
    document = {
        "what": "NativeStore.read of one image in a fresh process; medians, MB of 2**20 bytes",
        "objects": count,
        "measurements_each": MEASUREMENTS,
        "vertices_each": VERTICES,
        "file_bytes": size,
        "rounds": ROUNDS,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_end": [round(x, 1) for x in os.getloadavg()],
        "results": row,
    }
    path = Path(__file__).parent / "results" / "read_memory.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
