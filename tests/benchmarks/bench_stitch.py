"""Stitching against sahi, torchvision and supervision: what comes out, how fast, in how much memory.

    python tests/benchmarks/bench_stitch.py [MOST_BOXES]

Part 1 shows simulated slides with known truth (tests/detection/simulation.py) to each method: F1,
objects lost, and boxes that are no object, for objects up to the overlap and for larger ones.
Part 2 times each method in a process of its own on 1e3, 1e5 and 1e6 boxes; a method that needs more
than the limits below is stopped, and the row says so. Those that are not installed are skipped, and
the table says that too. Writes results/stitch.json. Seconds depend on the machine, ratios less.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "detection"))
from simulation import TILE_PX, Noise, lattice, look, make_world

from glombridge.detection.boxes import Boxes
from glombridge.detection.stitch import METHODS, stitch
from glombridge.evaluation.matching import match_boxes

COUNTS = (1_000, 100_000, 1_000_000)
SECONDS_LIMIT = 90
MEMORY_LIMIT_GB = 10
ROUNDS = 3
SEEDS = range(4)
OVERLAP = 1 / 3
WORLDS = {
    "up to the overlap": {"n": 2000, "tiles_wide": 14, "sizes": (0.15, 1 / 3)},
    "0.2 to 2 tiles": {"n": 1500, "tiles_wide": 40, "sizes": (0.2, 2.0)},
}
NOISES = {
    "exact": Noise(0.0),
    "jitter 3 %": Noise(0.03),
    "jitter 3 %, slivers seen": Noise(0.03, least_visible=0.03),
    "jitter 3 %, small parts unseen": Noise(0.03, least_visible=0.3),
    "jitter 6 %": Noise(0.06),
    "jitter 3 %, 10 % of views missed": Noise(0.03, missed=0.1),
}
Method = Callable[[Boxes], np.ndarray]


def rows_of(boxes: Boxes) -> np.ndarray:
    return np.column_stack([boxes.xyxy, boxes.score, boxes.class_index]).astype(np.float32)


def own(method: str) -> Method:
    return lambda boxes: stitch(boxes, method).xyxy


def sahi_objects(kind: str) -> Method:
    """sahi as its users meet it: objects in, objects out, with its default threshold."""

    def run(boxes: Boxes) -> np.ndarray:
        from sahi.postprocess import combine
        from sahi.prediction import ObjectPrediction

        process = getattr(combine, f"{kind}Postprocess")(
            match_threshold=0.5,
            match_metric="IOU" if kind == "NMS" else "IOS",
            class_agnostic=True,
        )
        objects = [
            ObjectPrediction(bbox=xyxy, score=score, category_id=0, category_name="x")
            for xyxy, score in zip(boxes.xyxy.tolist(), boxes.score.tolist(), strict=True)
        ]
        return np.array([o.bbox.to_xyxy() for o in process(objects)], float).reshape(-1, 4)

    return run


def sahi_arrays(kind: str) -> Method:
    """Only the part of sahi that finds which boxes belong together."""

    def run(boxes: Boxes) -> np.ndarray:
        from sahi.postprocess import combine

        function = getattr(combine, kind)
        metric = "IOU" if kind == "nms" else "IOS"
        kept = function(rows_of(boxes), match_threshold=0.5, match_metric=metric)
        return boxes.xyxy[np.array(sorted(kept), int)]

    return run


def torchvision_nms(boxes: Boxes) -> np.ndarray:
    import torch
    from torchvision.ops import batched_nms

    rows = torch.from_numpy(rows_of(boxes))
    kept = batched_nms(rows[:, :4], rows[:, 4], rows[:, 5], 0.5)
    return boxes.xyxy[kept.numpy()]


def supervision(kind: str) -> Method:
    def run(boxes: Boxes) -> np.ndarray:
        from supervision.detection.utils import iou_and_nms

        if kind == "nms":
            return boxes.xyxy[iou_and_nms.box_non_max_suppression(rows_of(boxes), 0.5)]
        metric = iou_and_nms.OverlapMetric.IOS
        groups = iou_and_nms.box_non_max_merge(rows_of(boxes), 0.5, metric)
        sides = [boxes.xyxy[g] for g in groups]
        return np.array([[*s[:, :2].min(0), *s[:, 2:].max(0)] for s in sides])

    return run


RIVALS: dict[str, tuple[str, Method]] = {
    "sahi NMS": ("sahi", sahi_objects("NMS")),
    "sahi NMM": ("sahi", sahi_objects("NMM")),
    "sahi GREEDYNMM": ("sahi", sahi_objects("GreedyNMM")),
    "sahi nms, arrays": ("sahi", sahi_arrays("nms")),
    "sahi nmm, arrays": ("sahi", sahi_arrays("nmm")),
    "sahi greedy_nmm, arrays": ("sahi", sahi_arrays("greedy_nmm")),
    "torchvision batched_nms": ("torchvision", torchvision_nms),
    "supervision nms": ("supervision", supervision("nms")),
    "supervision nmm": ("supervision", supervision("nmm")),
}
ALL: dict[str, tuple[str, Method]] = {
    **{f"glombridge {name}": ("glombridge", own(name)) for name in METHODS},
    **RIVALS,
}
JUDGED = [*(f"glombridge {m}" for m in METHODS), "sahi NMS", "sahi NMM", "sahi GREEDYNMM"]


def missing(package: str) -> str | None:
    try:
        __import__(package)
    except ImportError as error:
        return f"not installed: {error}"
    return None


def judge(found: np.ndarray, truth: np.ndarray, is_small: np.ndarray) -> dict[str, int]:
    """Counts of one slide; a wrong box is small or large as its own size is."""
    boxes = Boxes(found, np.linspace(1, 0.5, len(found)), np.zeros(len(found), np.int64))
    truth_of = np.asarray(match_boxes(boxes, truth, min_iou=0.5).truth_of)
    is_hit = np.zeros(len(truth), bool)
    is_hit[truth_of[truth_of >= 0]] = True
    extent = (found[:, 2:] - found[:, :2]).max(axis=1, initial=0)
    is_wrong = truth_of < 0
    limit = OVERLAP * TILE_PX
    return {
        "small": int(is_small.sum()),
        "small lost": int((is_small & ~is_hit).sum()),
        "small extra": int((is_wrong & (extent <= limit)).sum()),
        "large": int((~is_small).sum()),
        "large lost": int((~is_small & ~is_hit).sum()),
        "large extra": int((is_wrong & (extent > limit)).sum()),
    }


def quality() -> list[dict[str, Any]]:
    rows = []
    for world_name, world_options in WORLDS.items():
        for noise_name, noise in NOISES.items():
            totals: dict[str, dict[str, int]] = {}
            for seed in SEEDS:
                world = make_world(**world_options, touching_share=0.5, seed=seed)
                boxes = look(world, noise, overlap=OVERLAP, seed=seed)
                is_small = world.extent_px <= OVERLAP * TILE_PX
                for method in JUDGED:
                    package, run = ALL[method]
                    if missing(package):
                        continue
                    counts = judge(run(boxes), world.xyxy, is_small)
                    total = totals.setdefault(method, dict.fromkeys(counts, 0))
                    for key, value in counts.items():
                        total[key] += value
            print(f"\n{world_name}, {noise_name}")
            for method, total in totals.items():
                truth = total["small"] + total["large"]
                lost = total["small lost"] + total["large lost"]
                extra = total["small extra"] + total["large extra"]
                f1 = 2 * (truth - lost) / (2 * (truth - lost) + lost + extra)
                rows.append(
                    {
                        "world": world_name,
                        "detector": noise_name,
                        "method": method,
                        "f1": round(f1, 4),
                        **total,
                    }
                )
                print(
                    f"  {method:18} F1 {f1:.4f}   of {total['small']:5} small: lost "
                    f"{total['small lost']:4}, extra {total['small extra']:4};   of "
                    f"{total['large']:5} large: lost {total['large lost']:4}, extra "
                    f"{total['large extra']:4}"
                )
    return rows


def child(method: str, path: str) -> None:
    """Time one method in this process; a line of JSON on standard output."""
    import resource

    limit = MEMORY_LIMIT_GB << 30
    data = np.load(path)
    boxes = Boxes(
        data["xyxy"], data["score"], data["index"], data["cut"], data["tile"], data["tiles"]
    )
    run = ALL[method][1]
    if run(boxes.take(np.arange(min(50, len(boxes))))) is None:  # imports and set-up
        raise AssertionError(method)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = peak_mb()
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = run(boxes)
        seconds.append(time.perf_counter() - begun)
        if sum(seconds) > SECONDS_LIMIT / 3:
            break
    row = {"seconds": min(seconds), "found": len(found), "extra_mb": peak_mb() - before}
    print(json.dumps(row))


def peak_mb() -> float:
    (line,) = [
        x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024


def speed(most: int) -> list[dict[str, Any]]:
    rows = []
    for count in (c for c in COUNTS if c <= most):
        boxes, truth = lattice(count)
        print(f"\n{len(boxes)} boxes of {truth} objects")
        base: float | None = None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "boxes.npz"
            np.savez(
                path,
                xyxy=boxes.xyxy,
                score=boxes.score,
                index=boxes.class_index,
                cut=boxes.cut_sides,
                tile=boxes.tile,
                tiles=boxes.tiles,
            )
            for method, (package, _) in ALL.items():
                row: dict[str, Any] = {"boxes": len(boxes), "objects": truth, "method": method}
                reason = missing(package)
                row |= {"skipped": reason} if reason else timed(method, path)
                if "seconds" in row:
                    base = base or row["seconds"]
                    row["ratio"] = round(row["seconds"] / base, 1)
                rows.append(row)
                print(
                    f"  {method:26}", {k: v for k, v in row.items() if k not in ("method", "boxes")}
                )
    return rows


def timed(method: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", method, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_LIMIT)
    except subprocess.TimeoutExpired:
        return {"stopped": f"not finished after {SECONDS_LIMIT} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1][:160] if done.stderr.strip() else ""
        reason = "out of memory" if "emory" in last or "alloc" in last else last
        return {"stopped": f"{reason} (limit {MEMORY_LIMIT_GB} GB)"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds": round(row["seconds"], 4),
        "found": row["found"],
        "extra_mb": round(row["extra_mb"]),
    }


def main(most: int) -> None:
    versions = {}
    for package in ("sahi", "torchvision", "supervision", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    document = {
        "what": "quality: sums over slides, one to one at IoU 0.5, small = up to the overlap; speed: "
        "best of some rounds in a process of its own, MB of 2**20 bytes beyond the boxes; ratio to "
        "glombridge views",
        "overlap": round(OVERLAP, 4),
        "seeds": len(SEEDS),
        "touching_share": 0.5,
        "seconds_limit": SECONDS_LIMIT,
        "memory_limit_gb": MEMORY_LIMIT_GB,
        "versions": versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_start": [round(x, 1) for x in os.getloadavg()],
        "quality": quality(),
        "speed": speed(most),
    }
    path = Path(__file__).parent / "results" / "stitch.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else max(COUNTS))
