"""How the steps that work on whole projects grow: time and memory at three sizes or more each.

    python tests/benchmarks/bench_growth.py [--quick] [SERIES ...]

Commands are typed, and functions called, in a process of their own that tells CPU seconds and peak
memory. Projects are those of bench_load.py; what they need besides is made here: slides of empty glass,
raw boxes as a grid of tiles sees them, a training run whose evaluation needs no network, a long history.
The exponent is the slope of log(CPU seconds beyond the empty case's) over log(size) between the last two
sizes. Each series named is measured anew in results/growth.json, the others stay; docs/scaling.md is made
from it by growth.py.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import bench_load
import numpy as np
from bench_load import SETTINGS, SIDE_PX, SPACE

from glombridge.detection.boxes import Boxes, touching_pairs
from glombridge.detection.raw import SlideDetections
from glombridge.detection.views import cut_sides
from glombridge.frames import Frame
from glombridge.ledger import Workspace
from glombridge.ledger.manifest import environment, sha256_of
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import NativeStore
from glombridge.tiles.grid import PAPER, Grid, TileSpec

RESULTS = Path(__file__).parent / "results" / "growth.json"
TILES_PX = Grid.of(Frame("", SIDE_PX, SIDE_PX), PAPER).boxes_px()

FUNCTION = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import bench_growth, json, resource
seconds = bench_growth.FUNCTIONS[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))
peak = [int(x.split()[1]) / 1024 for x in open("/proc/self/status") if x.startswith("VmHWM")]
print(json.dumps({{"code": 0, "cpu_s": seconds, "peak_mb": peak[0]}}), file=sys.stderr)
"""

Row = dict[str, dict[str, float]]

# One thread of BLAS: two that wait for each other on busy cores count CPU seconds in which nothing is done.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def seen_in_tiles(xyxy: np.ndarray, score: np.ndarray, *, tiles: np.ndarray) -> SlideDetections:
    """What a detector reports of objects: in each tile the part that it shows, if it is a good part."""
    item, tile = touching_pairs(xyxy, tiles)
    part = np.hstack(
        [np.maximum(xyxy[item, :2], tiles[tile, :2]), np.minimum(xyxy[item, 2:], tiles[tile, 2:])]
    )
    share = np.prod(part[:, 2:] - part[:, :2], axis=1) / np.prod(
        xyxy[item, 2:] - xyxy[item, :2], axis=1
    )
    order = np.lexsort((item, tile))
    order = order[share[order] >= 0.1]
    part, item, tile = part[order], item[order], tile[order]
    boxes = Boxes(
        part,
        score[item],
        np.zeros(len(item), np.int64),
        cut_sides(part, tiles[tile], (SIDE_PX, SIDE_PX)),
        tile,
        tiles,
    )
    return SlideDetections(boxes, tiles, len(tiles), SIDE_PX, SIDE_PX)


def on_a_grid(n: int, place: float = 0.75) -> np.ndarray:
    """(n, 4) boxes, none touching another; at 0.75 beside the objects of bench_load.py."""
    columns = math.ceil(math.sqrt(n))
    step = SIDE_PX / (columns + 1)
    k = np.arange(n)
    corner = np.column_stack([k % columns + place, k // columns + place]) * step
    return np.hstack([corner, corner + min(0.2 * step, 300.0)])


def tiled(n: int, seed: int) -> SlideDetections:
    """A run of real size over one slide: n objects, each seen in every tile that shows it."""
    score = np.random.default_rng(seed).uniform(0.5, 1, n)
    return seen_in_tiles(on_a_grid(n), score, tiles=TILES_PX)


def detections_project(folder: Path, n_images: int, n_found: int) -> Path:
    """Three marks an image, and a run that sees n_found objects in all, stitched over tiles."""
    project = bench_load.make_project(folder, n_images, 3, 1)
    store, workspace = NativeStore.open(project), Workspace(project)
    each = n_found // n_images
    bench_load.write_run(workspace, store, "detect-002", lambda i: tiled(each, i), method="views")
    return project


def write_glass(path: Path) -> Path:
    """A slide of the projects' size that shows nothing and takes no space."""
    import tifffile

    tile_px = 512
    white = np.full((tile_px, tile_px, 3), 240, np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for downsample in (1, 16):
            side = SIDE_PX // downsample
            n_tiles = (-(-side // tile_px)) ** 2
            tiff.write(
                (white if k == 0 else None for k in range(n_tiles)),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                compression="jpeg",
                photometric="rgb",
                resolution=(1e4 / 0.25 / downsample,) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),
                metadata=None,
            )
    return path


OBJECTS = 12
"""On each slide that is evaluated; the paper has as many."""


def evaluated_project(folder: Path, n_images: int) -> Path:
    """Half validation and half test, two slides a patient, and raw boxes as an evaluation keeps them."""
    from glombridge.ledger import Ledger
    from glombridge.steps.evaluate_look import FOLDER, _keep, _sight
    from glombridge.steps.project import Project
    from glombridge.sync.pull import read_annotations

    path = bench_load.make_project(folder, n_images, OBJECTS, 1)
    glass = write_glass(folder / "glass.tif")
    (folder / "slides").mkdir(exist_ok=True)
    for k in range(1, n_images + 1):
        os.link(glass, folder / "slides" / f"{k}.svs")
    project_file = path / "project.qpproj"
    document = json.loads(project_file.read_text("utf-8"))
    for image in document["images"]:
        image["metadata"] = {"patient": f"P{image['entryID'] // 2}"}
    project_file.write_text(json.dumps(document), "utf-8")
    settings = Workspace(path).settings_file
    text = settings.read_text("utf-8").replace('source = "image"', 'source = "metadata"')
    # The recall asked for by default is out of reach here, and chance would choose where to work.
    settings.write_text(text.replace('target = "recall"', 'target = "f1"'), "utf-8")
    project = Project.open(path)
    with Ledger.open(project.workspace.folder) as ledger:
        patients = {f"P{k // 2}": ("val", "test")[k // 2 % 2] for k in range(1, n_images + 1)}
        ledger.record("split", patients=patients, seed=0, patient_from="metadata")
    run = project.workspace.runs / "train-001"
    weights = run / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"never loaded: every slide was seen")
    manifest = {
        "kind": "train",
        "run": run.name,
        "classes": SETTINGS.class_names,
        "weights": {"sha256": sha256_of(weights)},
        "tiles": {"width_px": 1600, "height_px": 1200, "overlap": 1 / 3, "mpp": None},
    }
    (run / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    same = {
        "weights_sha256": manifest["weights"]["sha256"],  # type: ignore[index]
        "tiles": manifest["tiles"],
        "environment": environment(),
    }
    for image in read_annotations(project.store, project.settings):
        _, plan = _sight(project, image, same)
        outlines = [t.object.outline for t in image.roles.truth]
        truth = np.array([o.bounds for o in outlines if o is not None])
        seen = honest_look(truth, image.entry.id)
        _keep(run / FOLDER, image.entry.id, plan, seen)
    return path


def honest_look(truth: np.ndarray, seed: int) -> SlideDetections:
    """Most objects found, a little off, and much that scores low, as a detector leaves it."""
    rng = np.random.default_rng(seed)
    # About as many tiles as the paper cut from a slide: those with objects, and others.
    _, holding = touching_pairs(truth, TILES_PX)
    tiles = TILES_PX[np.union1d(holding, np.linspace(0, len(TILES_PX) - 1, 100).astype(int))]
    found = truth[rng.random(len(truth)) < 0.9]
    near = found + rng.uniform(-20, 20, found.shape)
    middle = tiles[rng.integers(len(tiles), size=100), :2] + rng.uniform(300, 800, (100, 2))
    false = np.hstack([middle, middle + rng.uniform(100, 400, (100, 2))])
    low = rng.exponential(0.05, len(false)).clip(0.01, 1)
    score = np.concatenate([rng.uniform(0.3, 1, len(near)), low])
    return seen_in_tiles(np.vstack([near, false]), score, tiles=tiles)


def pushed_twice(folder: Path, n_images: int, n_found: int) -> Path:
    """Proposals of two layers that see half of it alike."""
    project = bench_load.make_project(folder, n_images, 3, n_found)
    bench_load.typed(project, "push")
    store, workspace = NativeStore.open(project), Workspace(project)

    def other(image: int) -> SlideDetections:
        whole = bench_load.detections(n_found, image)
        xyxy = whole.boxes.xyxy.copy()
        xyxy[::2] += 2.5 * (xyxy[0, 2] - xyxy[0, 0])
        b = whole.boxes
        moved = Boxes(xyxy.clip(0, SIDE_PX), b.score, b.class_index)
        return SlideDetections(moved, whole.scanned, 1, SIDE_PX, SIDE_PX)

    bench_load.write_run(workspace, store, "detect-002", other)
    bench_load.typed(project, "push --layer other")
    return project


def long_history(folder: Path, n_pushes: int, n_images: int = 200) -> Path:
    """A project whose history holds what so many real pushes of five proposals would have left."""
    from glombridge.ledger import Ledger

    project = bench_load.make_project(folder, n_images, 3, 5)
    one = folder / "one"
    one.mkdir()
    pattern = bench_load.make_project(one, 1, 3, 5)
    bench_load.typed(pattern, "push")
    lines = (Workspace(pattern).history.path).read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    with Workspace(project).history.path.open("w", encoding="utf-8") as file:
        for k in range(1, n_pushes + 1):
            for event in events:
                told = json.loads(json.dumps(event).replace("write-001", f"write-{k:03d}"))
                if "image" in told:
                    told["image"] = k % n_images + 1
                for record in told.get("add", ()):
                    record["id"] = str(uuid5(SPACE, f"{k} {record['id']}"))
                file.write(json.dumps(told) + "\n")
    with Ledger.open(Workspace(project).folder):
        pass  # as the last push left it
    return project


def leak_items(n: int, *, one_shape: bool) -> list[Any]:
    """Drawn biopsies, each in the eight ways a square can lie: drawing is slow, and knows no direction."""
    from bench_scale import drawn_biopsy

    from glombridge.tiles.leaks import LeakItem, SlideLook

    rng = np.random.default_rng(0)
    items: list[Any] = []
    while len(items) < n:
        drawn = drawn_biopsy(rng)
        for turns in range(4):
            turned = np.rot90(drawn, turns)
            for look in (turned, turned[:, ::-1]):
                k = len(items)
                aspect = 1.3 if one_shape else float(np.exp(rng.uniform(-1, 1)))
                cells = np.ascontiguousarray(look)
                items.append(
                    LeakItem(f"{k}.svs", f"p{k}", "train", SlideLook(str(k), aspect, cells))
                )
    return items[:n]


def check_leaks(shape: str, n: int) -> float:
    from glombridge.tiles import leaks

    items = leak_items(n, one_shape=shape == "one")
    return cpu_of(lambda: leaks.check_leaks(items))


def read_detections(project: str) -> float:
    from glombridge.steps.detect_proposals import load_proposals
    from glombridge.steps.project import Project

    opened = Project.open(Path(project))
    return cpu_of(lambda: load_proposals(opened))


def plan_tiles(_: str, n: int) -> float:
    """Lay, label and choose the tiles of one slide of which half is searched, with 2000 marks."""
    import shapely

    from glombridge.tiles.labels import Areas, ClassMap, label_tiles
    from glombridge.tiles.selection import choose_tiles

    side = math.isqrt(n) * 64 + 16
    frame = Frame("large.svs", side, side, 0.25, 0.25)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, side - 60, (2000, 2))
    marks = [
        SlideObject(
            UUID(int=k),
            ObjectKind.ANNOTATION,
            Outline.ellipse(x, y, x + 40, y + 40),
            PathClass(("Glomerulus",)),
        )
        for k, (x, y) in enumerate(corner.tolist())
    ]
    spec, classes = TileSpec(80, 80, 16), ClassMap.of(["Glomerulus"])
    areas = Areas(searched=shapely.Point(side / 2, side / 2).buffer(0.4 * side))

    def plan() -> None:
        grid = Grid.of(frame, spec)
        labels = label_tiles(grid, marks, classes, areas=areas)
        tissue = np.ones(len(labels))
        choose_tiles(
            labels,
            tissue,
            [],
            background_ratio=1.0,
            background_empty_slide=10,
            seed=0,
            slide_key="k",
        )

    return cpu_of(plan)


def cpu_of(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


FUNCTIONS: dict[str, Callable[..., float]] = {
    "check_leaks": check_leaks,
    "read_detections": read_detections,
    "plan_tiles": plan_tiles,
}


def called(function: str, about: object, *numbers: int) -> dict[str, float]:
    """A function of this file in a process of its own."""
    command = " ".join([function, *map(str, numbers)])
    return bench_load.typed(Path(str(about)), command, program=FUNCTION)


def evaluating(folder: Path, n: int) -> Row:
    project = evaluated_project(folder, n)
    row = {c: bench_load.typed(project, c) for c in ("evaluate --no-tiles", "report")}
    page = project / "glombridge" / "reports" / "train-001.html"
    row["report"]["page_mb"] = round(page.stat().st_size / 2**20, 1)
    return row


def queueing(project: Path) -> Row:
    row = {}
    for strategy in ("uncertainty", "disagreement", "random"):
        told = bench_load.typed(project, f"queue --strategy {strategy} --dry-run")
        row[f"queue --strategy {strategy} --dry-run"] = told
    row["queue"] = bench_load.typed(project, "queue")
    return row


def detecting(project: Path) -> Row:
    return {
        "reading a run": called("read_detections", project),
        "push --dry-run": bench_load.typed(project, "push --dry-run"),
    }


def leaks(shape: str, n: int) -> Row:
    return {f"looking for leaks, slides of {shape} shape": called("check_leaks", shape, n)}


@dataclass(frozen=True)
class Series:
    """A step at several sizes.

    Attributes:
        of: what the sizes count.
        measure: one of them, in an empty folder.
        empty: the size of what costs nothing but the start of the process; 0 = there is none.
    """

    of: str
    measure: Callable[[Path, int], Row]
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    empty: int = 1


SERIES = {
    "evaluate": Series("images", evaluating, (300, 1000, 3000, 10_000), (60, 240), 4),
    "queue over images": Series(
        "images of 10 proposals",
        lambda f, n: queueing(pushed_twice(f, n, 5)),
        (300, 1000, 3000, 10_000),
        (200, 1000),
    ),
    "queue in an image": Series(
        "proposals in one image",
        lambda f, n: queueing(pushed_twice(f, 1, n // 2)),
        (10_000, 30_000, 100_000),
        (4000, 16_000),
        4,
    ),
    "detections in an image": Series(
        "detections in one image",
        lambda f, n: detecting(detections_project(f, 1, n)),
        (30_000, 100_000, 1_000_000),
        (10_000, 40_000),
    ),
    "leaks of one shape": Series(
        "slides",
        lambda _, n: leaks("one", n),
        (10_000, 36_000, 100_000, 300_000),
        (4000, 16_000),
        0,
    ),
    "leaks of any shape": Series(
        "slides",
        lambda _, n: leaks("any", n),
        (10_000, 36_000, 100_000, 300_000),
        (4000, 16_000),
        0,
    ),
    "tiles": Series(
        "tiles of one slide",
        lambda f, n: {"planning tiles": called("plan_tiles", f, n)},
        (20_000, 200_000, 2_000_000),
        (5000, 50_000),
        0,
    ),
    "pushes": Series(
        "pushes on record",
        lambda f, n: {"status": bench_load.typed(long_history(f, n), "status")},
        (100, 1000, 10_000),
        (200, 2000),
        1,
    ),
}


def measure(series: Series, n: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        return series.measure(Path(folder), n)


def exponents(rows: list[dict[str, Any]], empty: Row) -> dict[str, dict[str, float]]:
    """Growth of CPU seconds and memory beyond the empty case's, between the last two sizes.

    What two runs of the same may differ by counts as that much, or chance would seem to grow.
    """
    a, b = rows[-2:]
    told = {}
    for step in b["steps"]:
        told[step] = {}
        for what, least in (("cpu_s", 0.05), ("peak_mb", 5.0)):
            less = empty[step][what] if step in empty else 0.0
            x, y = (max(r["steps"][step][what] - less, least) for r in (a, b))
            told[step][what] = round(math.log(y / x) / math.log(b["size"] / a["size"]), 2)
    return told


def measured(name: str, *, quick: bool) -> dict[str, Any]:
    series = SERIES[name]
    begun = os.getloadavg()[0]
    empty = measure(series, series.empty) if series.empty else {}
    rows = []
    for n in series.quick if quick else series.sizes:
        rows.append({"size": n, "steps": measure(series, n)})
        for step, row in rows[-1]["steps"].items():
            print(
                f"{name:24}{n:>10}  {step:44}{row['wall_s']:9.2f} s {row['cpu_s']:9.2f} CPU s "
                f"{row['peak_mb']:7} MB",
                flush=True,
            )
    growth = exponents(rows, empty)
    print(json.dumps(growth), flush=True)
    return {
        "of": series.of,
        "load": [round(begun, 1), round(os.getloadavg()[0], 1)],
        "empty": {"size": series.empty, "steps": empty},
        "sizes": rows,
        "exponents": growth,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("series", nargs="*", help=f"of {', '.join(SERIES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing")
    asked = parser.parse_args()
    for name in asked.series or SERIES:
        told = measured(name, quick=asked.quick)
        if asked.quick:
            continue
        known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        document = {
            "what": "see bench_growth.py; native store; MB of 2**20 bytes; docs/scaling.md is made from it",
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "series": {
                k: v for k, v in {**known.get("series", {}), name: told}.items() if k in SERIES
            },
        }
        RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
