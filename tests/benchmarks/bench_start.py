"""How long --help and status take to answer, against starting Python with NumPy and shapely.

    python tests/benchmarks/bench_start.py

Prints a table and writes results/start.json. Ratios of medians measured in one run; seconds depend
on the machine.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from glombridge.qupath import ImageServerInfo, NativeStore
from glombridge.settings import Settings
from glombridge.steps.init import init

ROUNDS = 9


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = NativeStore.create(Path(folder) / "project")
        for k in range(20):
            info = ImageServerInfo(width=1000, height=1000, mpp_x=0.5, mpp_y=0.5)
            store.add_image(Path(folder) / f"{k}.tif", metadata=info)
        init(store.project_file, settings=Settings())
        commands = {
            "python": ["-c", "pass"],
            "python with numpy and shapely": ["-c", "import numpy, shapely"],
            "python with torch": ["-c", "import torch"],
            "glombridge --help": ["-m", "glombridge", "--help"],
            "glombridge status, 20 images": ["-m", "glombridge", "status", str(store.folder)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        # Interleaved, so that other work on the machine falls on all of them alike.
        for _ in range(ROUNDS):
            for name, arguments in commands.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
                times[name].append(time.perf_counter() - started)
    base = statistics.median(times["python with numpy and shapely"])
    rows = {
        name: {
            "seconds": round(statistics.median(t), 3),
            "ratio_to_numpy_and_shapely": round(statistics.median(t) / base, 2),
        }
        for name, t in times.items()
    }
    for name, row in rows.items():
        print(f"{name:32} {row['seconds']:7.3f} s  {row['ratio_to_numpy_and_shapely']:6.2f} x")
    document = {
        "what": "median wall seconds of a whole process",
        "rounds": ROUNDS,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "results": rows,
    }
    path = Path(__file__).parent / "results" / "start.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
