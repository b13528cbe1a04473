"""A training that is killed: run as a program, so that nothing of it can clean up after itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from glombridge.training import RunFolder, TrainOptions, resume, train

OPTIONS = TrainOptions(model="glom-pico", epochs=4, batch=4, threads=1, device="cpu", seed=3)


class Killer:
    """Kills its own process when the work has reached a position, in epochs."""

    def __init__(self, at: float) -> None:
        self._at, self._position = at, 0.0

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Killer]:
        yield self

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        self._position += steps
        # A whole number means: when that epoch has been saved, which is told with a note.
        is_there = note is not None or not self._at.is_integer()
        if self._position >= self._at - 1e-9 and is_there:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder, place = Path(sys.argv[1]), float(sys.argv[2])
    options = OPTIONS if len(sys.argv) < 4 else replace(OPTIONS, **json.loads(sys.argv[3]))
    run = folder / "killed"
    if RunFolder(run).can_go_on:
        resume(run, cache=folder / "cache", reporter=Killer(place))
    else:
        train(folder / "data", run, options, cache=folder / "cache", reporter=Killer(place))
