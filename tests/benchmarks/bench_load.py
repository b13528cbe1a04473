"""Time and memory of the commands on large projects, and how they grow with the size.

    python tests/benchmarks/bench_load.py [--quick]

Two series: projects of 300 to 10,000 images (each with 3 human annotations and 5 detections), and a
project of one image with 10,000 to 1,000,000 objects of which a tenth are detections of the run that is
pushed. Each command is typed in a process of its own, which tells its peak memory. The exponent is the
slope of log(CPU seconds beyond an empty project's) over log(size) between the last two sizes: 1 is linear.
Seconds depend on the machine; exponents hardly do. Prints tables and writes results/load.json.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from glombridge.detection.boxes import Boxes
from glombridge.detection.raw import SlideDetections
from glombridge.ledger import Workspace
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.settings import PatientSettings, Settings

SPACE = UUID("33333333-2222-5333-8444-555555555555")
SIDE_PX = 100_000
SETTINGS = Settings(patients=PatientSettings(source="image"))
RESULTS = Path(__file__).parent / "results" / "load.json"
COMMANDS = ("status", "pull", "push --dry-run", "push", "undo")

TYPED = """
import sys, time
from glombridge.cli import main
code = main([*sys.argv[1:], "-q"])
import json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
lines = open("/proc/self/status").read().splitlines() if sys.platform == "linux" else []
peak = [int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")] or [used.ru_maxrss / 2**20]
print(json.dumps({"code": code, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": peak[0]}),
      file=sys.stderr)
"""


def glomeruli(n: int, seed: int, kind: ObjectKind = ObjectKind.ANNOTATION) -> Iterator[SlideObject]:
    """Squares on a grid, none touching another."""
    columns = math.ceil(math.sqrt(n))
    step = SIDE_PX / (columns + 1)
    size = min(0.5 * step, 400.0)
    for k in range(n):
        x, y = (k % columns + 0.2) * step, (k // columns + 0.2) * step
        name = ("Glomerulus",) if kind is ObjectKind.ANNOTATION else ("Cell",)
        yield SlideObject(
            id=uuid5(SPACE, f"{seed} {k} {kind}"),
            kind=kind,
            outline=Outline.rectangle(round(x), round(y), round(x + size), round(y + size)),
            path_class=PathClass(name),
        )


def detections(n: int, seed: int) -> SlideDetections:
    """A run that sees n objects beside the marked ones."""
    columns = math.ceil(math.sqrt(n))
    step = SIDE_PX / (columns + 1)
    k = np.arange(n)
    corner = np.column_stack([k % columns + 0.75, k // columns + 0.75]) * step
    score = np.random.default_rng(seed).uniform(0.5, 1, n)
    boxes = Boxes(
        np.hstack([corner, corner + min(0.2 * step, 300.0)]), score, np.zeros(n, np.int64)
    )
    whole = np.array([[0.0, 0.0, SIDE_PX, SIDE_PX]])
    return SlideDetections(boxes, whole, 1, SIDE_PX, SIDE_PX)


def make_project(folder: Path, n_images: int, n_objects: int, n_found: int) -> Path:
    """A project, and in it a finished detection run."""
    store = NativeStore.create(folder / "project")
    workspace = Workspace(store.folder)
    workspace.create(SETTINGS)
    info = ImageServerInfo(width=SIDE_PX, height=SIDE_PX, mpp_x=0.25, mpp_y=0.25)
    kind = ObjectKind.ANNOTATION if n_images > 1 else ObjectKind.DETECTION
    document = json.loads(store.project_file.read_text("utf-8"))
    first = store.add_image(folder / "slides" / "1.svs", name="1.svs", metadata=info)
    template = json.loads(store.project_file.read_text("utf-8"))["images"][0]
    images = []
    for k in range(1, n_images + 1):
        text = json.dumps(template).replace("1.svs", f"{k}.svs")
        images.append(json.loads(text) | {"entryID": k})
    document["images"] = images
    document["lastID"] = n_images
    store.project_file.write_text(json.dumps(document), "utf-8")
    store = NativeStore.open(folder / "project")
    store.write(
        first.id,
        HierarchyEdit(add=tuple(glomeruli(n_objects, 0, kind))),
        expected=store.stamp(first.id),
        snapshot_folder=folder / "kept",
    )
    data = store.data_file(first.id).read_bytes()
    for entry in store.images()[1:]:
        store.data_file(entry.id).parent.mkdir(parents=True, exist_ok=True)
        store.data_file(entry.id).write_bytes(data)
    write_run(workspace, store, "detect-001", lambda image: detections(n_found, image))
    return store.folder


def write_run(
    workspace: Workspace,
    store: NativeStore,
    name: str,
    seen: Callable[[int], SlideDetections],
    *,
    method: str = "nms",
) -> None:
    """A finished detection run over all images, as ``detect`` leaves it."""
    run = workspace.detections / name
    run.mkdir(parents=True)
    told = []
    for entry in store.images():
        seen(entry.id).save(run / f"{entry.id}.parquet")
        told.append(
            {
                "id": entry.id,
                "name": entry.name,
                "file": str(entry.id),
                "mpp": 0.25,
                "slide_fingerprint": "",
                "width_px": SIDE_PX,
                "height_px": SIDE_PX,
            }
        )
    manifest = {
        "kind": "detect",
        "run": name,
        "project": True,
        "classes": SETTINGS.class_names,
        "confidence": 0.5,
        "method": method,
        "weights": {"sha256": "0" * 64},
        "images": told,
        "plan": {
            "images": [
                {"id": e.id, "regions": [], "roi_classes": [], "roi_sha256": ""}
                for e in store.images()
            ]
        },
    }
    (run / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def typed(project: Path, command: str, *, program: str = TYPED) -> dict[str, float]:
    """One command in a process of its own; its output goes nowhere."""
    name, *options = command.split()
    words = [sys.executable, "-c", program, name, str(project), *options]
    begun = time.perf_counter()
    done = subprocess.run(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    wall = time.perf_counter() - begun
    last = done.stderr.strip().rpartition("\n")[2]
    told = json.loads(last) if done.returncode == 0 and last.startswith("{") else {"code": 1}
    if told["code"]:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(told["cpu_s"], 2),
        "peak_mb": round(told["peak_mb"]),
    }


def measure(project: Path) -> dict[str, dict[str, float]]:
    """Every command once, in the order of a user's day."""
    return {command: typed(project, command) for command in COMMANDS}


def series(name: str, sizes: list[int], options: Any) -> list[dict[str, Any]]:
    rows = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            project = make_project(Path(folder), *options(n))
            print(f"{name} {n}: made in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            rows.append({"size": n, "commands": measure(project)})
        for command, row in rows[-1]["commands"].items():
            print(f"{name:8}{n:>10}  {command:16}{row['wall_s']:9.2f} s {row['peak_mb']:7} MB")
    return rows


def exponents(rows: list[dict[str, Any]], empty: dict[str, dict[str, float]]) -> dict[str, Any]:
    """How CPU time and memory beyond an empty project's grow between the last two sizes."""
    told = {}
    a, b = rows[-2:]
    for command in COMMANDS:
        growth = {}
        for what in ("cpu_s", "peak_mb"):
            x, y = (max(r["commands"][command][what] - empty[command][what], 0.01) for r in (a, b))
            growth[what] = round(math.log(y / x) / math.log(b["size"] / a["size"]), 2)
        told[command] = growth
    return told


def main(*, quick: bool) -> None:
    images = [100, 300] if quick else [1000, 3000, 10_000]
    objects = [3000, 10_000] if quick else [10_000, 100_000, 1_000_000]
    with tempfile.TemporaryDirectory() as folder:
        empty = measure(make_project(Path(folder), 1, 1, 1))
    by_images = series("images", images, lambda n: (n, 3, 5))
    by_objects = series("objects", objects, lambda n: (1, n, n // 10))
    document = {
        "what": "each command in a process of its own, native store; MB of 2**20 bytes",
        "images": by_images,
        "objects": by_objects,
        "empty_project": empty,
        "exponents": {
            "images": exponents(by_images, empty),
            "objects": exponents(by_objects, empty),
        },
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average_at_the_end": [round(x, 1) for x in os.getloadavg()],
    }
    print(json.dumps(document["exponents"], indent=2))
    if not quick:
        RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
