"""The tables of docs/scaling.md on how steps grow, from results/growth.json and results/load.json.

python tests/benchmarks/growth.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from capacity import number, table

RESULTS = Path(__file__).parent / "results"


def rows_of(series: dict[str, Any], of: str) -> list[tuple[str, ...]]:
    """A row for each step: what it takes at each size, and its two exponents."""
    rows = []
    for step, growth in series["exponents"].items():
        taken = [
            f"{size['size']:,}: {number(row['cpu_s'])} s, {number(row['peak_mb'])} MB"
            for size in series["sizes"]
            if (row := size["steps"][step])
        ]
        exponents = (f"{growth[what]:.2f}" for what in ("cpu_s", "peak_mb"))
        name = step if " of " in step or " a " in step or step == "planning tiles" else f"`{step}`"
        rows.append((name, of, "; ".join(taken), *exponents))
    return rows


def document(measured: dict[str, Any], load: dict[str, Any]) -> str:
    """All that stands between the two marks in docs/scaling.md."""
    head = ["step", "size", "CPU seconds and peak memory at sizes", "growth, CPU", "growth, memory"]
    rows = []
    for series in measured["series"].values():
        rows += rows_of(series, series["of"])
    images, objects = (
        {
            "exponents": load["exponents"][kind],
            "sizes": [{"size": r["size"], "steps": r["commands"]} for r in load[kind]],
        }
        for kind in ("images", "objects")
    )
    rows += rows_of(images, "images of 5 detections")
    rows += rows_of(objects, "objects in one image, a tenth of them detections")
    loads = [x for s in measured["series"].values() for x in s["load"]]
    conditions = (
        f"Measured on {measured['platform']}, Python {measured['python']}, {measured['cpus']} cores, at loads "
        f"of {min(loads):.0f} to {max(loads):.0f} from this and other work. Seconds are CPU seconds of one "
        "process, memory is its peak; growth is the exponent between the last two sizes, of what is beyond "
        "an empty project: 1 is linear, 2 the square."
    )
    return f"{conditions}\n\n{table(head, rows)}"


if __name__ == "__main__":
    told = [
        json.loads((RESULTS / name).read_text("utf-8")) for name in ("growth.json", "load.json")
    ]
    sys.stdout.write(document(*told) + "\n")
