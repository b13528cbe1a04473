"""Push into a small project from a process of its own, which a test may stop or kill.

python pusher.py PROJECT RUN            push and end with the exit code of the command line
python pusher.py PROJECT RUN kill OUT N SEED
    copy the project N times and push into each copy in a process that is killed at a moment
    drawn at random; prints the moments as JSON
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from glombridge.errors import GlombridgeError
from glombridge.ledger import Workspace, running_qupath
from glombridge.qupath import NativeStore
from glombridge.sync.push import Proposals, PushResult, push

SIZE = 8000
IMAGES = 4
PER_IMAGE = 12
PLACED = "a file is put in place"


def proposals(run: str) -> list[Proposals]:
    """The same for the same run; runs agree on most places."""
    made = []
    for image in range(1, IMAGES + 1):
        r = random.Random(f"{run} {image}")
        boxes = []
        for k in range(PER_IMAGE):
            if r.random() < 0.8:
                x, y = 500.0 * k + r.uniform(-9, 9), 1000.0 * image + r.uniform(-9, 9)
                boxes.append((x, y, x + 300, y + 300))
        xyxy = np.clip(np.array(boxes, float), 0, SIZE)
        n = len(xyxy)
        whole = shapely.box(0, 0, SIZE, SIZE)
        scores = np.array([r.uniform(0.3, 0.9) for _ in range(n)])
        made.append(Proposals(image, xyxy, scores, np.zeros(n, np.int64), 0.5, "slide", whole))
    return made


def run_push(folder: Path, run: str) -> PushResult:
    running_qupath.running_qupath = list
    workspace = Workspace(folder)
    store = NativeStore.open(folder)
    return push(store, workspace, workspace.settings(), proposals(run), run=run, model=f"of {run}")


def watched(work: Callable[[], Any], on_step: Callable[[int, str], None]) -> None:
    """Run something and be told of every function call in it, Python's and C's."""
    count = 0

    def profile(_frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            on_step(count, PLACED if argument is os.replace else "")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)


def forked(work: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_random(project: Path, run: str, out: Path, n: int, seed: int) -> None:
    steps: list[tuple[int, str]] = []
    warm = out / "warm"
    for _ in range(2):  # the first push also loads what it needs, which no later one does again
        steps.clear()
        shutil.copytree(project, warm)
        watched(lambda: run_push(warm, run), lambda k, name: steps.append((k, name)))
        shutil.rmtree(warm)
    # Half of the moments anywhere, half between the first and the last file put in place.
    placed = [k for k, name in steps if name == PLACED]
    r = random.Random(seed)
    moments = []
    for k in range(n):
        low, high = (1, len(steps)) if k % 2 else (placed[0] - 2000, placed[-1] + 3000)
        moment = r.randrange(max(1, low), min(high, len(steps)))
        folder = out / str(k)
        shutil.copytree(project, folder)

        def die(step: int, _: str, moment: int = moment) -> None:
            if step == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        code = forked(lambda folder=folder, die=die: watched(lambda: run_push(folder, run), die))
        moments.append({"moment": moment, "of": len(steps), "code": code})
    print(json.dumps(moments))


def pausing(file: Path) -> Callable[[int, str], None]:
    """Wait once, at the first file that is put in place."""
    paused = False

    def on_step(_: int, name: str) -> None:
        nonlocal paused
        if name == PLACED and not paused:
            paused = True
            file.touch()
            while file.exists():
                time.sleep(0.01)

    return on_step


def main(project: str, run: str, *more: str) -> int:
    if more[:1] == ("kill",):
        kill_at_random(Path(project), run, Path(more[1]), int(more[2]), int(more[3]))
        return 0
    try:
        if more:
            watched(lambda: run_push(Path(project), run), pausing(Path(more[1])))
        else:
            run_push(Path(project), run)
    except GlombridgeError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
