"""Detection end to end: tiles per second against sahi, ultralytics' predict, and the slower stage alone.

    python tests/benchmarks/bench_detect.py [TILE_PX] [MODEL] [DEVICE] [TORCH_THREADS]

Paints one slide full of tissue, takes a network of random weights (time does not depend on what it
has learned), and lets every way show the same tiles to it on the same cores, in turn, in one run. On
a machine with other work give torch one thread less than there are cores, or its threads wait for
each other.

- decode alone: the tiles are read and thrown away;
- model alone: the same batch in memory again and again;
- glombridge: both together, stitching included, with 1 and 2 decoding threads;
- ultralytics: ``predict`` on the same tiles saved as JPEG files before (not counted);
- sahi: ``get_sliced_prediction`` on the whole slide as an array (reading it is counted apart).

Without sahi its row is left out and the result says so. Writes results/detect.json, or
results/detect_all_cores.json where torch has as many threads as there are cores.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from glombridge.detection.clock import StageClock
from glombridge.detection.detector import Detector
from glombridge.detection.pipeline import plan_slide, run_plan
from glombridge.slides.reader import Slide
from glombridge.slides.strips import Region, read_regions
from glombridge.tiles.grid import Grid, TileSpec
from glombridge.training.sandbox import load_ultralytics, use_threads
from glombridge.training.trust import CONFIG_VARIABLE, trust

WIDTH, HEIGHT, MPP = 6400, 4300, 0.5
ROUNDS = 3


def paint(path: Path) -> None:
    """A slide of noise in the colours of tissue: as hard to decode as tissue is."""
    rng = np.random.default_rng(0)
    small = rng.integers(-40, 41, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.float32)
    rgb = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    rgb += np.array([215, 160, 200], np.float32)
    rgb += rng.normal(0, 5, (HEIGHT, WIDTH, 1)).astype(np.float32)
    rgb[:200, :200] = 245  # some glass
    options: dict[str, Any] = {"tile": (256, 256), "compression": "jpeg", "photometric": "ycbcr"}
    options |= {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    level = np.clip(rgb, 0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        for k in range(3):
            tiff.write(level, subfiletype=1 if k else 0, **options)
            level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def nothing(tiles: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))] * len(tiles)


def main(tile_px: int, model: str, device: str, threads: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), tile_px, model, device, threads)


def measure(folder: Path, tile_px: int, model: str, device: str, given_threads: int | None) -> None:
    ultralytics = load_ultralytics(folder / "cache")
    import torch

    threads = use_threads(given_threads)
    torch.manual_seed(0)
    weights = folder / "random.pt"
    ultralytics.YOLO(model).save(str(weights))
    os.environ[CONFIG_VARIABLE] = str(folder / "configuration")
    trust(weights, "made by this benchmark")
    slide_path = folder / "slide.tif"
    paint(slide_path)
    spec = TileSpec(tile_px, tile_px, 1 / 3, MPP)
    detector = Detector(weights, cache=folder / "cache", device=device, threads=threads)
    batch = detector.fitting_batch(tile_px, tile_px)
    with Slide(slide_path) as slide:
        boxes = Grid.of(slide.frame, spec).boxes_px()
        regions = [Region(float(b[0]), float(b[1]), tile_px, tile_px) for b in boxes]
        saved = folder / "tiles"
        saved.mkdir()
        pixels = []
        for index, rgb in read_regions(slide, regions, mpp=MPP):
            cv2.imwrite(str(saved / f"{index:05d}.jpg"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
            if len(pixels) < batch:
                pixels.append(rgb.copy())
    in_memory = np.stack(pixels)
    shares: dict[str, Any] = {}

    def glombridge(workers: int, detect: Callable[[np.ndarray], Any]) -> int:
        clock = StageClock()
        with Slide(slide_path) as slide:
            plan = plan_slide(
                slide,
                spec,
                batch=batch,
                workers=workers,
                make_batch=detector.make_batch,
                clock=clock,
            )
        found = run_plan(plan, detect, clock=clock)
        found.stitched(0.25)
        if detect is not nothing:
            shares[f"{workers} threads"] = clock.as_dict(decoders=workers)
        return len(found.scanned)

    def model_alone() -> int:
        n = 0
        while n < len(boxes):
            detector(in_memory)
            n += batch
        return n

    def one_by_one_reader() -> int:
        with Slide(slide_path) as slide:
            return sum(1 for _ in read_regions(slide, regions, mpp=MPP))

    predictor = ultralytics.YOLO(str(weights))

    def predict() -> int:
        results = predictor.predict(
            str(saved),
            imgsz=tile_px,
            batch=batch,
            stream=True,
            verbose=False,
            device=device,
            conf=0.01,
            half=detector.is_half,
        )
        return sum(1 for _ in results)

    ways: dict[str, Callable[[], int]] = {
        "decode alone, one reader without jobs": one_by_one_reader,
        "decode alone, 1 thread": lambda: glombridge(1, nothing),
        "decode alone, 2 threads": lambda: glombridge(2, nothing),
        "model alone": model_alone,
        "glombridge, 1 thread": lambda: glombridge(1, detector),
        "glombridge, 2 threads": lambda: glombridge(2, detector),
        "ultralytics predict, saved tiles": predict,
    }
    skipped = {}
    read_seconds = None
    try:
        from sahi import AutoDetectionModel
        from sahi.predict import get_sliced_prediction
    except ImportError as error:
        skipped["sahi get_sliced_prediction"] = f"not installed: {error}"
    else:
        sliced = AutoDetectionModel.from_pretrained(
            model_type="ultralytics",
            model_path=str(weights),
            confidence_threshold=0.01,
            device=device,
            image_size=tile_px,
        )
        begun = time.perf_counter()
        whole = tifffile.imread(slide_path)
        read_seconds = time.perf_counter() - begun

        def sahi() -> int:
            get_sliced_prediction(
                whole,
                sliced,
                slice_height=tile_px,
                slice_width=tile_px,
                overlap_height_ratio=1 / 3,
                overlap_width_ratio=1 / 3,
                perform_standard_pred=False,
                verbose=0,
                batch_size=batch,
            )
            return len(boxes)

        ways["sahi get_sliced_prediction"] = sahi
    use_threads(threads)
    detector(in_memory)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        # Interleaved, so that other work on the machine falls on all of them alike.
        for name, way in ways.items():
            torch.set_num_threads(threads)
            begun = time.perf_counter()
            n = way()
            speeds[name].append(n / (time.perf_counter() - begun))
    median = {name: statistics.median(s) for name, s in speeds.items()}
    slower = min(median["model alone"], median["decode alone, 1 thread"])
    rows = {
        name: {
            "tiles_per_second": round(speed, 2),
            "share_of_the_slower_stage_alone": round(speed / slower, 3),
        }
        for name, speed in median.items()
    }
    # Where the model has every core, decoding takes time from it: the work of both over all cores
    # is then the most that can be.
    cores = os.cpu_count() or 1
    bound = None
    if detector.device == "cpu" and threads >= cores:
        bound = 1 / (1 / median["model alone"] + 1 / median["decode alone, 1 thread"] / cores)
        print(f"{'most that the cores allow for both':40} {bound:8.2f} tiles/s")
    for name, row in rows.items():
        print(
            f"{name:40} {row['tiles_per_second']:8.2f} tiles/s  "
            f"{row['share_of_the_slower_stage_alone']:6.1%} of the slower stage alone"
        )
    for name, reason in skipped.items():
        print(f"{name:40} skipped: {reason}")
    versions = {}
    for package in ("torch", "ultralytics", "sahi"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    document = {
        "what": "median tiles per second of some rounds, in turn in one run; the slower stage alone is "
        "the slower of the model and of decoding with one thread",
        "slide_px": [WIDTH, HEIGHT],
        "tiles": len(boxes),
        "tile_px": tile_px,
        "model": model,
        "device": detector.device,
        "batch": batch,
        "torch_threads": threads,
        "rounds": ROUNDS,
        "versions": versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_end": [round(x, 1) for x in os.getloadavg()],
        "sahi_reading_the_slide_seconds": None if read_seconds is None else round(read_seconds, 2),
        "results": rows,
        "most_that_the_cores_allow_for_both": None if bound is None else round(bound, 2),
        "skipped": skipped,
        "profile": shares,
    }
    name = "detect_all_cores.json" if bound is not None else "detect.json"
    path = Path(__file__).parent / "results" / name
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 640,
        given[1] if len(given) > 1 else "yolo11n.yaml",
        given[2] if len(given) > 2 else "cpu",
        int(given[3]) if len(given) > 3 else None,
    )
