"""Many slides cut by a few threads: each slide in parts, a bounded number of slides at a time.

Threads, not processes: decoding, copying and encoding give up Python's lock, so that two threads
cut as fast as two processes (``tests/benchmarks/results/tiles.json``) and share one slide's blocks,
one interpreter's memory and no start-up. Nothing is forked, whatever runs in this process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import InputError, UsageError
from .cutting import SlideCut, SlideTask, StoppedError, write_bytes
from .jobs import DatasetSettings, SlideJob
from .leaks import SlideLook, look_at
from .records import SlideRecord, TileEntry

_MOST_WORKERS = 16
_ALL_BYTES = 320 * 1024 * 1024
"""Decoded pixels kept by all threads together."""
_MOST_BYTES = 64 * 1024 * 1024

OnTile = Callable[[SlideTask, int, int], None]
"""Told about each tile: the slide, tiles done of it, tiles it gets. One call at a time."""


def default_workers() -> int:
    """Threads to cut with: as many as this process may use cores, 16 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    return min(_MOST_WORKERS, os.cpu_count() or 1)


@dataclass
class _InWork:
    cut: SlideCut
    open_parts: int = 0
    entries: dict[int, TileEntry] = field(default_factory=dict)
    failure: str | None = None


_Found = list[list[int]] | dict[int, TileEntry]  # of a plan, of a part


class _Crew:
    """Threads, the slides they are at, and what came of the others."""

    def __init__(
        self, settings: DatasetSettings, folder: Path, workers: int, pieces: int, on_tile: OnTile
    ) -> None:
        self.records: dict[str, SlideRecord] = {}
        self.failures: dict[str, str] = {}
        self._settings = settings
        self._folder = folder
        self._pieces = pieces
        self._max_bytes = min(_MOST_BYTES, _ALL_BYTES // workers)
        self._on_tile = on_tile
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._running: dict[Future[_Found], _InWork] = {}
        self._open: list[_InWork] = []
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")

    @property
    def open_slides(self) -> int:
        """Slides that are neither complete nor given up."""
        return len(self._open)

    def start(self, task: SlideTask) -> None:
        """Begin with a slide."""

        def tell(done: int, tiles: int) -> None:
            with self._telling:
                self._on_tile(task, done, tiles)

        work = _InWork(SlideCut(task, self._settings, self._folder, self._stop, tell), 1)
        self._open.append(work)
        self._run(work, lambda: work.cut.plan(self._pieces, self._max_bytes))

    def settle(self) -> None:
        """Wait until something is done, and go on from there.

        Raises:
            MachineError: a file could not be written.
        """
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            work = self._running.pop(future)
            work.open_parts -= 1
            try:
                found = future.result()
            except InputError as error:
                work.failure = work.failure or str(error)
                work.cut.has_failed = True
            except StoppedError:
                pass  # another part of the slide failed, and says why
            else:
                if isinstance(found, dict):
                    work.entries.update(found)
                else:
                    for part in found:
                        work.open_parts += 1
                        self._run(work, partial(work.cut.cut, part))
            if work.open_parts == 0:
                self._finish(work)

    def disband(self) -> None:
        """Give up what is not complete, and end the threads."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for work in self._open:
            work.cut.close()

    def _run(self, work: _InWork, call: Callable[[], _Found]) -> None:
        self._running[self._pool.submit(call)] = work

    def _finish(self, work: _InWork) -> None:
        task = work.cut.task
        if work.failure is None:
            record = work.cut.record(work.entries)
            write_bytes(record.path(self._folder), record.to_json())
            self.records[task.key] = record
        else:
            work.cut.discard()
            self.failures[task.key] = work.failure
        self._open.remove(work)
        work.cut.close()


class Hands(Protocol):
    """Who does the work on slides: the threads of this process, or other machines."""

    def look(
        self, jobs: Sequence[SlideJob], known: Mapping[str, SlideLook]
    ) -> list[SlideLook | InputError]:
        """What tells each slide from others, or why it cannot be read, in the order of ``jobs``.

        Args:
            jobs: the images.
            known: looks by the fingerprint of their file, which need not be taken again.
        """
        ...

    def cut(
        self,
        tasks: Sequence[SlideTask],
        settings: DatasetSettings,
        folder: Path,
        on_tile: OnTile,
    ) -> tuple[list[SlideRecord], list[tuple[SlideTask, str]]]:
        """Cut slides and write a record of each that is complete, as :func:`cut_slides`."""
        ...


class Threads:
    """This process.

    Args:
        workers: threads; as many as there are cores by default.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            msg = f"tiles are cut by 1 or more workers, got {workers}"
            raise UsageError(msg)
        self._workers = workers or default_workers()

    def look(
        self, jobs: Sequence[SlideJob], known: Mapping[str, SlideLook]
    ) -> list[SlideLook | InputError]:
        """One slide after the other."""
        looks: list[SlideLook | InputError] = []
        for job in jobs:
            try:
                looks.append(look_at(job.slide_path, known))
            except InputError as error:
                looks.append(error)
        return looks

    def cut(
        self,
        tasks: Sequence[SlideTask],
        settings: DatasetSettings,
        folder: Path,
        on_tile: OnTile,
    ) -> tuple[list[SlideRecord], list[tuple[SlideTask, str]]]:
        """All threads at a few slides at a time."""
        return cut_slides(tasks, settings, folder, workers=self._workers, on_tile=on_tile)


def cut_slides(
    tasks: Sequence[SlideTask],
    settings: DatasetSettings,
    folder: Path,
    *,
    workers: int,
    on_tile: OnTile,
) -> tuple[list[SlideRecord], list[tuple[SlideTask, str]]]:
    """Cut slides and write a record of each that is complete.

    Args:
        tasks: what to cut.
        settings: of the dataset.
        folder: the dataset's folder in the making.
        workers: threads.
        on_tile: progress.

    Returns:
        Records, and the slides that could not be read with the reason; both in the order of
        ``tasks``. A slide that failed has left nothing.

    Raises:
        MachineError: a file could not be written. Slides with a record are complete.
    """
    waiting = deque(tasks)
    # Few slides are cut in as many parts as there are threads, so that none is idle; where slides
    # are plenty, each in one part decodes least twice.
    pieces = 1 if len(tasks) >= 4 * workers else workers
    crew = _Crew(settings, folder, workers, pieces, on_tile)
    try:
        while waiting or crew.open_slides:
            while waiting and crew.open_slides <= workers // pieces:
                crew.start(waiting.popleft())
            crew.settle()
    finally:
        crew.disband()
    return (
        [crew.records[task.key] for task in tasks if task.key in crew.records],
        [(task, crew.failures[task.key]) for task in tasks if task.key in crew.failures],
    )
