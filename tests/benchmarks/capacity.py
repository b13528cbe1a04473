"""What many slides take, projected from what one was measured to take (results/scale.json).

Pure arithmetic, so that the table in docs/scaling.md can be made again and compared:

    python tests/benchmarks/capacity.py
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "scale.json"
HOUR = 3600.0
SCALES = (10_000, 1_000_000)


@dataclass(frozen=True)
class Load:
    """What one command takes for some number of slides.

    Attributes:
        workers_h: hours of all CPU workers together.
        gpus_h: hours of all GPUs together.
        driver_h: hours of the one process that drives, beside what grows faster than the slides.
        compare_h: hours it takes to look for leaks among slides that all have one shape.
        read_tb, written_tb: on shared storage.
    """

    command: str
    slides: int
    workers_h: float
    gpus_h: float
    driver_h: float
    compare_h: float
    read_tb: float
    written_tb: float

    def hours(self, assumed: dict[str, float]) -> dict[str, float]:
        """Hours each part would take by itself; the largest is what limits."""
        moved_mb = (self.read_tb + self.written_tb) * 1e6
        return {
            "workers": self.workers_h / assumed["cpu_workers"],
            "GPUs": self.gpus_h / assumed["gpus"],
            "driver": self.driver_h,
            "comparing slides": self.compare_h,
            "storage": moved_mb / assumed["storage_mb_per_s"] / HOUR,
        }


def comparing_s(measured: dict[str, Any], slides: int) -> float:
    """Seconds of the leak check: a share per slide and one per pair, as the two largest sizes have them.

    The exponent seen is of sizes where the first share is most of it, and would promise too much.
    """
    a, b = measured["comparing"]["one_shape"]["sizes"][-2:]
    each_a, each_b = (row["cpu_s"] / row["slides"] for row in (a, b))
    per_slide_squared = (each_b - each_a) / (b["slides"] - a["slides"])
    per_slide = each_b - per_slide_squared * b["slides"]
    return float(per_slide * slides + per_slide_squared * slides**2)


def loads(measured: dict[str, Any], slides: int) -> list[Load]:
    """Tiling, and detection on CPUs and on GPUs."""
    assumed, tile, detect = measured["assumed"], measured["tile"], measured["detect"]
    tiles = assumed["tiles_per_slide"]
    handing_s = measured["driver"]["handing_out_s_per_slide"]
    opening_s = measured["driver"]["opening_s_per_slide"]
    read_tb = slides * tiles * tile["read_bytes_per_tile"] / 1e12
    compare_s = comparing_s(measured, slides)
    cut_s = tile["look_s_per_slide"] + tiles * tile["cut_s_per_tile"]
    around_s = detect["around_s_per_slide"] + tiles * detect["decode_s_per_tile"]
    on_cpu_s = around_s + tiles * detect["model_s_per_tile"]
    on_gpu_s = tiles / assumed["gpu_tiles_per_s"]
    recording_s = measured["driver"]["dataset_s_per_slide"]
    kept_bytes = measured["sizes"]["detection_bytes_per_slide"]
    return [
        Load(
            "tile",
            slides,
            slides * cut_s / HOUR,
            0.0,
            slides * (2 * handing_s + opening_s + recording_s) / HOUR,
            compare_s / HOUR,
            read_tb,
            slides * tiles * tile["written_bytes_per_tile"] / 1e12,
        ),
        Load(
            "detect, CPU workers",
            slides,
            slides * on_cpu_s / HOUR,
            0.0,
            slides * (handing_s + opening_s) / HOUR,
            0.0,
            read_tb,
            slides * kept_bytes / 1e12,
        ),
        Load(
            "detect, GPU workers",
            slides,
            # Cores of the GPU workers decode; they are counted like the other cores.
            slides * around_s / HOUR,
            slides * on_gpu_s / HOUR,
            slides * (handing_s + opening_s) / HOUR,
            0.0,
            read_tb,
            slides * kept_bytes / 1e12,
        ),
    ]


def number(value: float) -> str:
    """Two digits that count, without an exponent."""
    if value == 0:
        return "-"
    if value >= 100:
        return f"{round(value, 2 - len(str(int(value)))):,.0f}"
    return f"{value:.2g}"


def measured_table(measured: dict[str, Any]) -> str:
    """What was measured and what is assumed, as Markdown."""
    t, d, v, s = (measured[k] for k in ("tile", "detect", "driver", "sizes"))
    compared = measured["comparing"]
    every, one = compared["every_pair"], compared["one_shape"]
    times = every["cpu_s"] / one["sizes"][0]["cpu_s"]
    rows = [
        ("tile: overview of a slide (CPU s)", number(t["look_s_per_slide"])),
        ("tile: cutting, per tile (CPU ms)", number(1e3 * t["cut_s_per_tile"])),
        ("tile: read, per tile (kB)", number(t["read_bytes_per_tile"] / 1e3)),
        ("tile: written, per tile (kB)", number(t["written_bytes_per_tile"] / 1e3)),
        ("detect: decoding, per tile (ms)", number(1e3 * d["decode_s_per_tile"])),
        (f"detect: {d['model']} on one core, per tile (ms)", number(1e3 * d["model_s_per_tile"])),
        ("detect: opening, tissue, stitching, writing, per slide (s)", number(d["around_s_per_slide"])),
        ("evaluate: 99 thresholds, per slide, in the driver (ms)", number(1e3 * v["sweep_s_per_slide"])),
        ("driver and scheduler: handing a slide out (CPU ms)", number(1e3 * v["handing_out_s_per_slide"])),
        ("driver: opening a slide for its frame (CPU ms)", number(1e3 * v["opening_s_per_slide"])),
        ("driver: record, manifest, tiles.csv, per slide (CPU ms)", number(1e3 * v["dataset_s_per_slide"])),
        *(
            (
                f"driver: looking for leaks among {row['slides']:,} slides of {name} shape (CPU s)",
                number(row["cpu_s"]),
            )
            for name in ("one", "any")
            for row in compared[f"{name}_shape"]["sizes"][-1:]
        ),
        *(
            (
                f"... its growth with slides of {name} shape (exponent)",
                f"{compared[f'{name}_shape']['exponent']:.2f}",
            )
            for name in ("one", "any")
        ),
        (f"... faster than each pair, {every['slides']:,} slides of one shape (times)", number(times)),
        ("dataset: record, manifest and tiles.csv, per slide (kB)", number(s["dataset_bytes_per_slide"] / 1e3)),
        ("detection: manifest, per slide (kB)", number(s["detect_manifest_bytes_per_slide"] / 1e3)),
        ("history: one detection run, per slide (bytes)", number(s["history_bytes_per_slide"])),
    ]  # fmt: skip
    return table(["measured", "value"], rows)


def projected_table(measured: dict[str, Any]) -> str:
    """The projection, as Markdown."""
    a = measured["assumed"]
    head = [
        "slides",
        "command",
        "core hours",
        "GPU hours",
        "TB read",
        "TB written",
        f"h on {a['cpu_workers']} cores",
        f"h on {a['gpus']} GPUs",
        "h in the driver",
        "h comparing slides",
        f"h of {a['storage_mb_per_s']} MB/s",
        "limits",
    ]
    rows = []
    for slides in SCALES:
        for load in loads(measured, slides):
            hours = load.hours(a)
            limit = max(hours, key=lambda k: hours[k])
            figures = [load.workers_h, load.gpus_h, load.read_tb, load.written_tb, *hours.values()]
            rows.append((f"{slides:,}", load.command, *map(number, figures), limit))
    return table(head, rows)


def size_table(measured: dict[str, Any]) -> str:
    """How large the files become that one process reads and writes whole, as Markdown."""
    s = measured["sizes"]
    rows = [
        (
            f"{slides:,}",
            number(slides * s["dataset_manifest_bytes_per_slide"] / 1e6),
            number(slides * s["detect_manifest_bytes_per_slide"] / 1e6),
            number(slides * s["history_bytes_per_slide"] / 1e6),
        )
        for slides in SCALES
    ]
    head = [
        "slides",
        "manifest of a dataset (MB)",
        "manifest of a detection (MB)",
        "history, per detection run (MB)",
    ]
    return table(head, rows)


def document(measured: dict[str, Any]) -> str:
    """All that stands between the two marks in docs/scaling.md."""
    a, c = measured["assumed"], measured["conditions"]
    tables = (measured_table(measured), projected_table(measured), size_table(measured))
    assumed = (
        f"Assumed: {a['tiles_per_slide']} tiles of 1600 x 1200 px per slide (the paper's 35,968 tiles of "
        f"261 slides); {a['cpu_workers']} worker cores; {a['gpus']} GPUs of {a['gpu_tiles_per_s']} tiles/s, "
        "which is an estimate for YOLOv5 Large and was **not measured**; storage that moves "
        f"{a['storage_mb_per_s']} MB/s for all workers together; workers that are never idle."
    )
    measured_on = (
        f"Measured on {c['platform']}, Python {c['python']}, {c['cores']} cores, load {c['load']:.1f} from "
        f"other work when it began; a slide of {c['slide_px'][0]} x {c['slide_px'][1]} px with "
        f"{c['tiles']} tiles, its pixels from a real scan. CPU seconds unless it says otherwise. Looking for "
        "leaks was measured on drawn overviews by `bench_scale.py --only-comparing`, at a load of "
        f"{measured['comparing']['load']:.1f}; it is projected for slides of one shape."
    )
    return "\n\n".join((measured_on, tables[0], assumed, tables[1], tables[2]))


def table(head: list[str], rows: list[tuple[str, ...]]) -> str:
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.stdout.write(document(json.loads(RESULTS.read_text("utf-8"))) + "\n")
