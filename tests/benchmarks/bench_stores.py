"""Seconds to add, save and read objects: natively, and in a real QuPath by three ways.

    PAQUO_QUPATH_DIR=... python tests/benchmarks/bench_stores.py [1000 10000 100000]

Each way runs in a process of its own, because QuPath is there to stay. Prints a table and writes
results/stores.json. Ratios within one run mean something; seconds depend on the machine.

The objects are detections: a rectangle or a polygon of 20 vertices in turn, a class, 5
measurements, two metadata entries; the same for all ways. ``load_geojson`` carries no metadata of
detections, and ``per object`` none at all, so these two do a little less.

"add" puts them into QuPath's hierarchy (natively: into the file's graph), "save" writes the data
file, "load" has it read, "read" makes Python values of it. The two stores are measured from call to
return, with all checks, the published file and, for paquo, the way to the worker and back.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from glombridge.objects import Color, ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import (
    HierarchyEdit,
    ImageServerInfo,
    NativeStore,
    find_installation,
    open_store,
)

SPACE = UUID("11111111-2222-5333-8444-666666666666")
CLASS = PathClass(("Glomerulus", "Proposed"), Color(0, 128, 255))
SIZES = (1000, 10000, 100000)
ROUNDS = {1000: 3, 10000: 3, 100000: 1}
WAYS = {
    "per object": "paquo: hierarchy.add_detection, iteration",
    "one event": "paquo: the same within hierarchy.no_autoflush()",
    "load_geojson": "paquo: hierarchy.load_geojson; to_geojson leaves detections out",
    "bulk": "glombridge: one transfer per image, inside the JVM's process",
    "native store": "glombridge: NativeStore.write and .read, all checks",
    "paquo store": "glombridge: PaquoStore.write and .read, all checks, worker already running",
}
LIMIT_SECONDS = 150


def objects(count: int) -> tuple[SlideObject, ...]:
    """The same objects in each process."""
    rng = np.random.default_rng(7)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    made = []
    for i in range(count):
        x, y = rng.uniform(100, 90000, 2).round(3)
        radius = float(rng.uniform(5, 15))
        if i % 2:
            outline = Outline.rectangle(x, y, x + radius, y + radius)
        else:
            ring = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
            outline = Outline.of(_polygon(ring.astype(np.float32).astype(float)))
        values = {f"Measurement {k}": float(v) for k, v in enumerate(rng.uniform(0, 100, 5))}
        made.append(
            SlideObject(
                uuid5(SPACE, str(i)),
                ObjectKind.DETECTION,
                outline,
                CLASS,
                measurements=values,
                metadata={"glombridge.run": "run-001", "glombridge.state": "proposed"},
            )
        )
    return tuple(made)


def _polygon(ring: Any) -> Any:
    from shapely.geometry import Polygon

    return Polygon(ring)


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, step: str, work: Callable[[], Any]) -> Any:
        gc.collect()
        started = time.perf_counter()
        result = work()
        self.seconds[step] = time.perf_counter() - started
        return result


def an_empty_project(folder: Path) -> NativeStore:
    store = NativeStore.create(folder / "project", "0.4.4")
    store.add_image(folder / "slide.tif", metadata=ImageServerInfo(100000, 100000, 0.25, 0.25))
    return store


def through_store(kind: Any, made: tuple[SlideObject, ...], folder: Path) -> dict[str, float]:
    store = open_store(an_empty_project(folder).project_file, kind)
    clock, stamp = Clock(), store.read(1).stamp
    edit = HierarchyEdit(add=made)
    clock.run(
        "add and save",
        lambda: store.write(1, edit, expected=stamp, snapshot_folder=folder / "kept"),
    )
    found = clock.run("load and read", lambda: store.read(1).objects)
    check(len(found), made)
    return clock.seconds


def in_jvm(way: str, made: tuple[SlideObject, ...], folder: Path) -> dict[str, float]:
    from glombridge.qupath.paquo import java, serving
    from glombridge.qupath.paquo.assembling import assemble

    store = an_empty_project(folder)
    image_data = java.read_image_data(str(store.data_file(1)))
    clock, target = Clock(), str(folder / "written.qpdata")
    if way == "bulk":
        clock.run("add", lambda: serving.add_all(java, image_data, made, {}))
    else:
        from paquo.hierarchy import QuPathPathObjectHierarchy

        hierarchy = QuPathPathObjectHierarchy(image_data.getHierarchy())
        if way == "load_geojson":
            clock.run("add", _load_geojson(hierarchy, made))
        elif way == "one event":
            with hierarchy.no_autoflush():
                clock.run("add", _per_object(hierarchy, made))
        else:
            clock.run("add", _per_object(hierarchy, made))
        check(len(hierarchy), made)
    clock.run("save", lambda: java.write_image_data(target, image_data))
    again = clock.run("load", lambda: java.read_image_data(target))
    if way == "bulk":
        ids = [obj.id for obj in made]

        def read() -> int:
            columns = serving.read_columns(java, again)
            return len(assemble(columns, ids, [True] * len(ids))[0])

        check(clock.run("read", read), made)
    elif way == "per object":
        found = QuPathPathObjectHierarchy(again.getHierarchy())

        def iterate() -> int:
            read = [(o.roi, o.path_class, dict(o.measurements)) for o in found.detections]
            return len(read)

        check(clock.run("read", iterate), made)
    return clock.seconds


def _per_object(hierarchy: Any, made: tuple[SlideObject, ...]) -> Callable[[], None]:
    from paquo.classes import QuPathPathClass

    parent = QuPathPathClass(CLASS.names[0])
    path_class = QuPathPathClass(CLASS.names[1], parent=parent)

    def add() -> None:
        for obj in made:
            hierarchy.add_detection(obj.outline.geometry, path_class, dict(obj.measurements))

    return add


def _load_geojson(hierarchy: Any, made: tuple[SlideObject, ...]) -> Callable[[], None]:
    from shapely.geometry import mapping

    def add() -> None:
        # Making the features belongs to it.
        features = [
            {
                "type": "Feature",
                "id": str(obj.id),
                "geometry": mapping(obj.outline.geometry) if obj.outline else None,
                "properties": {
                    "objectType": "detection",
                    "classification": {"names": list(CLASS.names), "color": [0, 128, 255]},
                    "measurements": dict(obj.measurements),
                },
            }
            for obj in made
        ]
        hierarchy.load_geojson(features)

    return add


def check(count: int, made: tuple[SlideObject, ...]) -> None:
    if count != len(made):
        msg = f"{count} objects came back of {len(made)}"
        raise SystemExit(msg)


def child(way: str, count: int) -> None:
    made = objects(count)
    rounds = []
    # The first round of the smallest size warms up Java; it does not count.
    for i in range(ROUNDS.get(count, 1) + 1):
        few = made if i else made[:1000]
        with tempfile.TemporaryDirectory() as folder:
            if way.endswith("store"):
                rounds.append(through_store(way.split()[0], few, Path(folder)))
            else:
                rounds.append(in_jvm(way, few, Path(folder)))
    counted = rounds[1:]
    found = {k: round(statistics.median(r[k] for r in counted), 3) for k in counted[0]}
    print("RESULT" + json.dumps(found))


def main(sizes: tuple[int, ...]) -> None:
    installed = find_installation()
    if installed is None:
        msg = "no QuPath found: set PAQUO_QUPATH_DIR"
        raise SystemExit(msg)
    table: dict[str, dict[str, Any]] = {}
    for count in sizes:
        for way in WAYS:
            arguments = [sys.executable, __file__, "--child", way, str(count)]
            row: dict[str, Any]
            try:
                done = subprocess.run(
                    arguments, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS
                )
                row = json.loads(done.stdout.split("RESULT")[1].splitlines()[0])
            except subprocess.TimeoutExpired:
                row = {"stopped after seconds": LIMIT_SECONDS}
            table.setdefault(str(count), {})[way] = row
            cells = "  ".join(f"{k} {v:8.3f}" for k, v in row.items())
            print(f"{count:7} {way:14} {cells}", flush=True)
    from importlib.metadata import version

    document = {
        "what": "median wall seconds by number of objects, way and step",
        "ways": WAYS,
        "rounds": {str(n): ROUNDS.get(n, 1) for n in sizes},
        "seconds": table,
        "qupath": installed.version,
        "versions": {p: version(p) for p in ("paquo", "jpype1", "shapely", "numpy")},
        "python": platform.python_version(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "shared": "other jobs ran on the same cores",
        },
    }
    target = Path(__file__).parent / "results" / "stores.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main(tuple(int(n) for n in sys.argv[1:]) or SIZES)
