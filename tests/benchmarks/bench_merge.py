"""Seconds of the merge as it grows, and of each stage of a push into a project of real size.

    python tests/benchmarks/bench_merge.py [1000 10000 100000]

Prints tables and writes results/merge.json. Ratios within one run mean something; seconds depend on
the machine. CPU seconds of this process are measured beside wall seconds, since other work on the
machine makes the latter longer.

Merge: N objects that were pushed (of which humans accepted, rejected, moved and deleted a tenth each)
against N detections of a new run, a fifth of them elsewhere.

Push: 10,000 proposals into one image that holds 10,000 detections of another program and 300 human
annotations, in a project of 261 images; then the same again, which writes nothing; then a new run that
sees the same with a little noise, which updates all. Native store.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import shapely

import glombridge.sync.push  # noqa: F401 - its name in the package is that of the function
from glombridge.ledger import History, Ledger, PushedObject, State, Workspace, running_qupath
from glombridge.ledger import ledger as ledger_module
from glombridge.ledger.pushed import Version
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.settings import Settings
from glombridge.sync.look import look_at
from glombridge.sync.merge import Ours, merge
from glombridge.sync.proposals import Proposals, Source, as_objects
from glombridge.sync.writing import Desk

push_module = sys.modules["glombridge.sync.push"]
RESULTS = Path(__file__).parent / "results" / "merge.json"
SPACE = UUID("11111111-2222-5333-8444-666666666666")
SIZE = 200_000
SETTINGS = Settings()
IMAGES = 261
PUSHED = 10_000


def boxes(n: int, *, seed: int = 0, jitter_px: float = 0.0, elsewhere: float = 0.0) -> np.ndarray:
    """(n, 4) boxes on a jittered grid; a share of them at places of their own."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    step = (SIZE - 1000) / side
    k = np.arange(n)
    corner = np.column_stack([k % side, k // side]) * step
    size = min(0.6 * step, 400.0)
    corner = corner + rng.uniform(-jitter_px, jitter_px, (n, 2)) + 500
    moved = rng.random(n) < elsewhere
    corner[moved] += 0.8 * step
    return np.hstack([corner, corner + size])


def detections(n: int, run: int, **options: float) -> Proposals:
    """What one run sees."""
    rng = np.random.default_rng(run)
    whole = shapely.box(0, 0, SIZE, SIZE)
    xyxy = boxes(n, seed=run, **options)
    return Proposals(1, xyxy, rng.uniform(0.3, 1, n), np.zeros(n, np.int64), 0.25, "slide", whole)


@contextmanager
def timed(into: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into[name] = {
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
    }


def measure_merge(n: int) -> dict[str, Any]:
    """One merge of n detections against n objects."""
    first = as_objects(
        detections(n, 0), Source("detect-001", "a"), SETTINGS, kind=ObjectKind.ANNOTATION
    )
    base = [
        PushedObject(o.id, (Version(o),), "main", "detect-001", "a", "write-001") for o in first
    ]
    rng = np.random.default_rng(1)
    theirs: list[SlideObject] = []
    deeds = rng.choice(5, len(first), p=[0.6, 0.1, 0.1, 0.1, 0.1])
    for obj, deed in zip(first, deeds, strict=True):
        if deed == 1:
            theirs.append(replace(obj, path_class=PathClass(("Glomerulus",))))
        elif deed == 2:
            theirs.append(replace(obj, path_class=PathClass(("Rejected*",))))
        elif deed == 3:
            x0, y0, x1, y1 = obj.outline.bounds if obj.outline else (0, 0, 1, 1)
            theirs.append(replace(obj, outline=Outline.rectangle(x0 + 9, y0, x1 + 9, y1)))
        elif deed == 0:
            theirs.append(obj)
    wanted = detections(n, 2, jitter_px=5, elsewhere=0.2)
    stages: dict[str, dict[str, float]] = {}
    with timed(stages, "look"):
        look = look_at(base, {}, theirs, SETTINGS)
    with timed(stages, "objects from detections"):
        ours = as_objects(wanted, Source("detect-002", "b"), SETTINGS, kind=ObjectKind.ANNOTATION)
    with timed(stages, "merge"):
        plan = merge(look, theirs, Ours("main", ours, wanted.scanned), SETTINGS)
    total = sum(s["cpu_s"] for s in stages.values())
    return {
        "objects": len(theirs),
        "detections": len(ours),
        "plan": {
            name: len(getattr(plan, name))
            for name in ("add", "update", "withdraw", "known", "suppressed")
        },
        "stages": stages,
        "cpu_s": round(total, 3),
        "cpu_us_per_detection": round(1e6 * total / n, 1),
    }


class Shares:
    """Wall seconds in some functions while a push runs; one inside another counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[str] = []

    def watch(self, owner: Any, name: str, stage: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            self._inside.append(stage)
            try:
                return real(*arguments, **named)
            finally:
                self._inside.pop()
                spent = time.perf_counter() - started
                self.seconds[stage] += spent
                if self._inside:
                    self.seconds[self._inside[-1]] -= spent

        setattr(owner, name, measured)

    def report(self, total: float) -> dict[str, Any]:
        other = total - sum(self.seconds.values())
        stages = {**self.seconds, "other": other}
        found = {
            stage: {"wall_s": round(s, 3), "share": round(s / total, 3)}
            for stage, s in stages.items()
        }
        self.seconds.clear()
        return {"wall_s": round(total, 3), "stages": found}


def a_project(folder: Path) -> NativeStore:
    """261 images; the first one full of objects that are not ours."""
    store = NativeStore.create(folder / "project")
    info = ImageServerInfo(width=SIZE, height=SIZE, mpp_x=0.25, mpp_y=0.25)
    for k in range(IMAGES):
        store.add_image(folder / f"{k}.tif", metadata=info)
    rng = np.random.default_rng(5)
    made = []
    for k in range(10_300):
        x, y = rng.uniform(0, SIZE - 500, 2)
        human = k >= 10_000
        made.append(
            SlideObject(
                uuid5(SPACE, str(k)),
                ObjectKind.ANNOTATION if human else ObjectKind.DETECTION,
                Outline.ellipse(x, y, x + 400, y + 400)
                if human
                else Outline.rectangle(x, y, x + 12, y + 12),
                PathClass(("Glomerulus",)) if human else PathClass(("Nucleus",)),
                measurements={} if human else {f"m{j}": float(j + k) for j in range(5)},
            )
        )
    store.write(
        1,
        HierarchyEdit(add=tuple(made)),
        expected=store.stamp(1),
        snapshot_folder=folder / "elsewhere",
    )
    return store


def measure_push(folder: Path) -> dict[str, Any]:
    store = a_project(folder)
    workspace = Workspace(store.folder)
    workspace.create(SETTINGS)
    running_qupath.running_qupath = list
    shares = Shares()
    shares.watch(NativeStore, "read", "read")
    shares.watch(NativeStore, "write", "write, with proof and snapshot")
    shares.watch(Ledger, "base", "ledger")
    shares.watch(Desk, "look", "look")
    shares.watch(push_module, "as_objects", "objects from detections")
    shares.watch(push_module, "merge", "merge")
    shares.watch(History, "append", "record")
    shares.watch(ledger_module, "apply_event", "ledger")
    found = {}
    runs = [
        ("first push", detections(PUSHED, 0), "detect-001"),
        ("the same again", detections(PUSHED, 0), "detect-001"),
        ("a new run", detections(PUSHED, 0, jitter_px=3), "detect-002"),
    ]
    for name, wanted, run in runs:
        started = time.perf_counter()
        result = push_module.push(store, workspace, SETTINGS, [wanted], run=run, model=f"of {run}")
        found[name] = shares.report(time.perf_counter() - started)
        counts = ("add", "update", "withdraw", "kept", "known")
        found[name]["plan"] = {what: result.count(what) for what in counts}
    with workspace.ledger_view() as ledger:
        assert ledger.states()[1][State.PROPOSAL] > 9000
    return found


def main(sizes: list[int]) -> None:
    merges = {}
    for n in sizes:
        merges[n] = measure_merge(n)
        print(f"merge {n:>7}: {merges[n]['cpu_s']:8.3f} CPU s, {merges[n]['stages']}")
    with tempfile.TemporaryDirectory() as folder:
        pushes = measure_push(Path(folder))
    for name, told in pushes.items():
        print(f"{name}: {told['wall_s']} s {told['plan']}")
        for stage, s in told["stages"].items():
            print(f"    {stage:<32}{s['wall_s']:8.3f} s {100 * s['share']:5.1f} %")
    document = {
        "what": "see bench_merge.py; pushes into one image of a project of 261, native store",
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "merge": merges,
        "push": pushes,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [1000, 10_000, 100_000])
