"""The folder of a training run: begun, continued after an interruption, finished.

While it runs everything lies in ``work/``: the plan (what was asked for), the state after the last
epoch, ultralytics' own files. At the end come the weights and the curves, ``manifest.json`` last, and
``work/`` goes. A run without a manifest is unfinished.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..documents import parse_json
from ..errors import DamagedFileError, InputError, ProtectedError
from ..filenames import refuse_ways_out
from ..ledger.manifest import write_json
from ..ledger.unfinished import LOCK, PLAN, WORK, is_unfinished
from ..qupath.saving import atomic_write
from .checkpoint import STATE


class RunFolder:
    """A training run on disk.

    Attributes:
        folder: the run.
        work: what is there until it is finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / WORK

    @property
    def is_finished(self) -> bool:
        """Whether it has all it will ever have."""
        return (self.folder / "manifest.json").is_file()

    @property
    def can_go_on(self) -> bool:
        """Whether it was begun and not finished."""
        return is_unfinished(self.folder)

    @contextmanager
    def begun(self, plan: Mapping[str, Any]) -> Iterator[None]:
        """Hold a new run while it is trained; one that fails before its first epoch leaves nothing."""
        refuse_ways_out(self.folder, self.folder, depth=4)
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            with self._held():
                write_json(self.work / PLAN, plan)
                yield
        except BaseException:
            if not (self.work / STATE).is_file():
                shutil.rmtree(self.work, ignore_errors=True)
            raise

    @contextmanager
    def continued(self) -> Iterator[dict[str, Any]]:
        """Hold an unfinished run, and read its plan.

        Raises:
            InputError: it is finished, or was never begun.
            ProtectedError: another process is at it, or a link leads out of it.
        """
        if self.is_finished:
            msg = f"{self.folder.name} is finished; there is nothing to resume"
            raise InputError(msg)
        if not self.can_go_on:
            msg = f"{self.folder} holds no training that was begun; there is nothing to resume"
            raise InputError(msg)
        with self._held():
            try:
                plan: dict[str, Any] = parse_json((self.work / PLAN).read_text("utf-8"))
            except ValueError as error:
                msg = f"{self.work / PLAN} cannot be read: {error}. Train anew."
                raise DamagedFileError(msg) from error
            yield plan

    def finish(self, weights: Path, curves: str, manifest: Mapping[str, Any]) -> Path:
        """Put the results in place, the manifest last; returns the weights file."""
        target = self.folder / "weights" / "best.pt"
        target.parent.mkdir(exist_ok=True)
        atomic_write(self.folder / "results.csv", curves.encode())
        weights.replace(target)
        write_json(self.folder / "manifest.json", manifest)
        return target

    def clear(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.work, ignore_errors=True)

    @contextmanager
    def _held(self) -> Iterator[None]:
        # The operating system's lock: a killed process holds none.
        refuse_ways_out(self.folder, self.folder, depth=4)
        lock = FileLock(self.work / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            msg = f"{self.folder.name} is being trained by another process. Wait for it."
            raise ProtectedError(msg) from None
        try:
            yield
        finally:
            lock.release()
