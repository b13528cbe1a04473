"""What each stage takes of one slide, and what the driver of a cluster adds, for the capacity model.

    python tests/benchmarks/bench_scale.py [--size WxH] [--only-comparing]

The slide is a real scan laid out again and again (see bench_tiles.py). CPU seconds of this process are
taken where a stage runs in it alone, so that other work on the machine changes little; the stages of
the detection share a process and are wall seconds of the detection's own clock, with one thread for the
model and one that decodes. The network has random weights: its time does not depend on what it sees.
Handing out is measured with two local workers that do nothing; scheduler and driver are one process
there. Comparing slides for leaks is measured on drawn overviews; --only-comparing measures that anew
and keeps the other results, which takes minutes. Writes
results/scale.json; docs/scaling.md is made from it by capacity.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import shapely
from bench_tiles import write_slide
from capacity import RESULTS

PAPER_TILES, PAPER_SLIDES = 35_968, 261
ASSUMED = {
    "tiles_per_slide": round(PAPER_TILES / PAPER_SLIDES),
    "cpu_workers": 64,
    "gpus": 4,
    "gpu_tiles_per_s": 250,  # estimated for YOLOv5 Large in half precision, not measured
    "storage_mb_per_s": 1000,
}
MODEL = "yolo11n"
HANDED_OUT = 400
COMPARED = (4000, 12_000, 36_000)


def cpu_seconds(call: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    begun = time.process_time()
    for _ in range(times):
        result = call()
    return (time.process_time() - begun) / times, result


def measure_tiling(slide: Path, folder: Path) -> tuple[dict[str, float], Any]:
    from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
    from glombridge.slides.reader import Slide
    from glombridge.tiles.grid import PAPER
    from glombridge.tiles.labels import ClassMap
    from glombridge.tiles.leaks import look_at
    from glombridge.tiles.records import SlideRecord
    from glombridge.tiles.writer import DatasetSettings, SlideJob, write_dataset

    with Slide(slide) as opened:
        frame = opened.frame
    mark = SlideObject(
        UUID(int=1),
        ObjectKind.ANNOTATION,
        Outline.ellipse(100, 100, 500, 500),
        PathClass(("Glomerulus",)),
    )
    look_s, _ = cpu_seconds(lambda: look_at(slide), 3)
    job = SlideJob(1, slide.name, slide, frame, "p", "train", (mark,))
    settings = DatasetSettings(ClassMap.of(["Glomerulus"]), PAPER, background_ratio=1e9)
    all_s, result = cpu_seconds(lambda: write_dataset([job], folder / "data", settings, workers=1))
    (record_file,) = (folder / "data" / "slides").glob("*.json")
    record = SlideRecord.from_json(record_file.read_bytes())
    tiles = len(record.tiles)
    written = sum(t.image_bytes + t.label_bytes for t in record.tiles)
    return {
        "look_s_per_slide": look_s,
        "cut_s_per_tile": (all_s - look_s) / tiles,
        "read_bytes_per_tile": slide.stat().st_size / tiles,
        "written_bytes_per_tile": written / tiles,
        "tiles": tiles,
    }, (record, settings, result)


def measure_detection(slide: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    from glombridge.detection.detector import Detector
    from glombridge.steps.detect_targets import targets_of_files
    from glombridge.steps.detect_work import Job, detect_all
    from glombridge.tiles.grid import PAPER
    from glombridge.training.sandbox import load_ultralytics
    from glombridge.training.trust import trust

    cache = folder / "cache"
    weights = folder / "random.pt"
    load_ultralytics(cache).YOLO(f"{MODEL}.yaml").save(str(weights))
    trust(weights, "made by this benchmark")
    detector = Detector(weights, cache=cache, device="cpu", threads=1)
    out = folder / "run"
    (out / ".work").mkdir(parents=True)
    # A corner of it, since a network that size takes seconds per tile here.
    (target,) = targets_of_files([slide], regions=[(0, 0, 6000, 5000)])
    job = Job(out, weights, cache, PAPER, 0.5, "views", 1, 1, 1, False)
    events: list[dict[str, Any]] = []
    clock = detect_all([target], job, detector, events.append)
    (image,) = (e["image"] for e in events if e["event"] == "slide")
    n, s = clock.tiles, clock.seconds
    files = sum(f.stat().st_size for f in out.iterdir() if f.is_file())
    return (
        {
            "model": MODEL,
            "tiles": n,
            "decode_s_per_tile": s["decode"] / n,
            "model_s_per_tile": s["model"] / n,
            "around_s_per_slide": s["prepare"] + s["stitch"] + s["write"],
        },
        {"image": image, "plan": target.as_plan()},
        files,
    )


def measure_sweep(tiles: int) -> float:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "detection"))
    from simulation import Noise, look, make_world

    from glombridge.detection.raw import SlideDetections
    from glombridge.evaluation.slides import JudgedSlide, Truth
    from glombridge.evaluation.sweep import Sweep

    world = make_world(tiles // 2, tiles_wide=round(tiles**0.5 * 2 / 3))
    boxes, n = look(world, Noise()), len(world.xyxy)
    side = world.side_px
    seen = SlideDetections(boxes, boxes.tiles, len(boxes.tiles), side, side)
    truth = Truth(world.xyxy, np.zeros(n, np.int64), ("Glomerulus",) * n, tuple(map(str, range(n))))
    known = shapely.box(0, 0, side, side)
    slide = JudgedSlide(1, "simulated", "p", "val", truth, seen, known)
    return cpu_seconds(lambda: Sweep.over([slide], min_iou=0.5))[0]


def nothing(value: int, _: Any) -> int:
    return value


def measure_driver(slide: Path, made: Any, n: int = 300) -> dict[str, float]:
    from glombridge.scale import Piece, open_cluster
    from glombridge.slides.reader import Slide
    from glombridge.tiles.leaks import LeakCheck
    from glombridge.tiles.manifest import manifest_text
    from glombridge.tiles.records import tiles_csv

    def open_it() -> None:
        with Slide(slide) as opened:
            _ = opened.frame

    opening_s, _ = cpu_seconds(open_it, 20)
    record, settings, result = made
    records = [replace(record, entry_id=k) for k in range(n)]
    leaks = LeakCheck(n, {}, (), (), "metadata")

    def describe() -> int:
        size = sum(len(r.to_json()) for r in records)
        text = manifest_text(records, (), settings, result.spec, leaks)
        described["manifest"] = len(text) / n
        return size + len(text) + len(tiles_csv(records))

    described: dict[str, float] = {}
    dataset_s, size = cpu_seconds(describe)
    with open_cluster("local:2") as cluster:
        done: list[Any] = []
        cluster.each(nothing, [Piece("warm", 0)], done.append)
        pieces = [Piece(str(k), k) for k in range(HANDED_OUT)]
        begun = time.perf_counter()
        handing_s, _ = cpu_seconds(lambda: cluster.each(nothing, pieces, done.append))
        wall_s = time.perf_counter() - begun
    return {
        "opening_s_per_slide": opening_s,
        "dataset_s_per_slide": dataset_s / n,
        "dataset_bytes_per_slide": size / n,
        "dataset_manifest_bytes_per_slide": described["manifest"],
        "handing_out_s_per_slide": handing_s / HANDED_OUT,
        "handing_out_wall_s_per_slide": wall_s / HANDED_OUT,
    }


def drawn_biopsy(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """What an overview holds of some needle cores of any place, length, slant and texture."""
    cores = np.zeros((128, 128), np.float32)
    for _ in range(rng.integers(1, 5)):
        middle, slant = rng.uniform(20, 108, 2), rng.uniform(0, np.pi)
        along = np.linspace(-1, 1, 6) * rng.uniform(15, 60)
        across = rng.normal(0, 4, 6)
        line = middle + np.column_stack(
            [
                along * np.cos(slant) - across * np.sin(slant),
                along * np.sin(slant) + across * np.cos(slant),
            ]
        )
        width, density = int(rng.integers(4, 14)), float(rng.uniform(0.5, 1))
        cv2.polylines(cores, [line.astype(np.int32)], False, density, width)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (128, 128)).astype(np.float32), (0, 0), 1.5)
    seen = cores * (90 + 25 * texture / texture.std()) + 8 + rng.normal(0, 1, (128, 128))
    small = cv2.resize(seen.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    return np.clip(small, 0, 255).astype(np.uint8)


def every_pair(items: list[Any]) -> int:
    """What the check did before it searched: each slide with each before it."""
    from glombridge.tiles.leaks import ALIKE_LIKENESS, _detail

    cells = np.stack([_detail(i.look.thumbnail) for i in items])
    cells /= np.linalg.norm(cells, axis=1, keepdims=True)
    return sum(int((cells[:k] @ cells[k] >= ALIKE_LIKENESS).sum()) for k in range(1, len(items)))


def measure_comparing() -> dict[str, Any]:
    """Slides all of one shape, which is the worst there is, and of any, as scanned areas are."""
    from glombridge.tiles.leaks import LeakItem, SlideLook, check_leaks

    rng = np.random.default_rng(0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    looks = [drawn_biopsy(rng) for _ in range(COMPARED[-1])]
    shapes = {"one": np.full(len(looks), 1.3), "any": np.exp(rng.uniform(-1, 1, len(looks)))}
    found: dict[str, Any] = {"load": round(load, 2)}
    for name, aspects in shapes.items():
        items = [
            LeakItem(str(k), f"patient {k}", "train", SlideLook(str(k), float(aspect), look))
            for k, (aspect, look) in enumerate(zip(aspects, looks, strict=True))
        ]
        rows = []
        for n in COMPARED:
            seconds, _ = cpu_seconds(lambda items=items[:n]: check_leaks(items))
            rows.append({"slides": n, "cpu_s": seconds})
        a, b = rows[-2:]
        found[f"{name}_shape"] = {
            "sizes": rows,
            "exponent": math.log(b["cpu_s"] / a["cpu_s"]) / math.log(b["slides"] / a["slides"]),
        }
    n = COMPARED[0]
    pairs_s, _ = cpu_seconds(lambda: every_pair(items[:n]))
    found["every_pair"] = {"slides": n, "cpu_s": pairs_s}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="12000x9600")
    parser.add_argument("--only-comparing", action="store_true")
    asked = parser.parse_args()
    if asked.only_comparing:
        known = json.loads(RESULTS.read_text("utf-8"))
        write(known | {"comparing": measure_comparing()})
        return
    width, height = map(int, asked.size.split("x"))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GLOMBRIDGE_CONFIG_DIR"] = str(folder / "configuration")
        slide = folder / "slide.tif"
        write_slide(slide, width, height)
        tile, made = measure_tiling(slide, folder)
        detect, entry, files = measure_detection(slide, folder)
        driver = measure_driver(slide, made)
        driver["sweep_s_per_slide"] = measure_sweep(ASSUMED["tiles_per_slide"])
    history = len(json.dumps(list(range(10_000, 20_000)))) / 10_000
    sizes = {
        "dataset_bytes_per_slide": driver.pop("dataset_bytes_per_slide"),
        "dataset_manifest_bytes_per_slide": driver.pop("dataset_manifest_bytes_per_slide"),
        "detect_manifest_bytes_per_slide": len(json.dumps(entry, indent=2)),
        "detection_bytes_per_slide": files,
        "history_bytes_per_slide": history,
    }
    result = {
        "what": "see bench_scale.py; docs/scaling.md is made from this by capacity.py",
        "conditions": {
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": round(load, 2),
            "slide_px": [width, height],
            "tiles": tile.pop("tiles"),
            "versions": {p: version(p) for p in ("distributed", "torch", "ultralytics")},
        },
        "assumed": ASSUMED,
        "tile": tile,
        "detect": detect,
        "driver": driver,
        "comparing": measure_comparing(),
        "sizes": sizes,
    }
    write(result)


def write(result: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(rounded(result), indent=2) + "\n", "utf-8")


def rounded(value: Any) -> Any:
    """Four digits that count: more would only be noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return value


if __name__ == "__main__":
    main()
