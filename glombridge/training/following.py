"""How a reporter is told what ultralytics is doing."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from ..progress import Task

LOOK_EVERY_SECONDS = 2.0


class _Progress:
    """Advances a task to a position, counted in epochs, and never back."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._done = 0.0

    def reach(self, position: float, note: str | None = None) -> None:
        step = max(0.0, position - self._done)
        if step or note:
            self._task.advance(step, note=note)
        self._done += step


@contextmanager
def follow(
    model: Any, task: Task, epochs: int, work: Path, *, in_workers: bool = False
) -> Iterator[None]:
    """Keep a task informed while a model trains.

    Args:
        model: of ultralytics, not yet training.
        task: counted in epochs.
        epochs: how many there are.
        work: folder of the unfinished run.
        in_workers: it trains in processes of its own, which cannot call back: the curves they write
            are read instead.
    """
    progress = _Progress(task)
    if not in_workers:
        for event, callback in _callbacks(progress, epochs).items():
            model.add_callback(event, callback)
        yield
        return
    stop = Event()
    watcher = Thread(
        target=_watch, args=(progress, epochs, work / "ultralytics" / "results.csv", stop)
    )
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _callbacks(progress: _Progress, epochs: int) -> dict[str, Any]:
    batches_done = 0

    def on_train_start(trainer: Any) -> None:
        progress.reach(trainer.start_epoch)

    def on_epoch_start(_trainer: Any) -> None:
        nonlocal batches_done
        batches_done = 0

    def on_batch_end(trainer: Any) -> None:
        nonlocal batches_done
        batches_done += 1
        progress.reach(trainer.epoch + batches_done / len(trainer.train_loader))

    def on_fit_epoch_end(trainer: Any) -> None:
        note = (
            f"epoch {trainer.epoch + 1}/{epochs} loss {sum(map(float, trainer.tloss.values())):.2f}"
        )
        if trainer.args.val:
            note += f" tile mAP50 {trainer.metrics.get('metrics/mAP50(B)', 0):.3f}"
        progress.reach(trainer.epoch + 1, note)

    return {
        "on_train_start": on_train_start,
        "on_train_epoch_start": on_epoch_start,
        "on_train_batch_end": on_batch_end,
        "on_fit_epoch_end": on_fit_epoch_end,
    }


def _watch(progress: _Progress, epochs: int, curves: Path, stop: Event) -> None:
    while not stop.wait(LOOK_EVERY_SECONDS):
        if curves.is_file():
            rows = list(csv.DictReader(curves.read_text("utf-8").splitlines()))
            if rows:
                progress.reach(len(rows), f"epoch {len(rows)}/{epochs}")
