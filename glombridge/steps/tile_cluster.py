"""Tiles cut by the workers of a cluster, on storage that all of them see."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ..errors import GlombridgeError, InputError
from ..scale import Cluster, Outcome, Piece, Tell
from ..slides.reader import fingerprint
from ..tiles.crew import OnTile, cut_slides
from ..tiles.cutting import SlideTask, machine_error, write_bytes
from ..tiles.drafts import ATTEMPTS
from ..tiles.jobs import DatasetSettings, SlideJob
from ..tiles.leaks import SlideLook, look_at
from ..tiles.manifest import versions
from ..tiles.records import FOLDER, SlideRecord

_KINDS = ("images", "labels")


class ClusterHands:
    """The workers of a cluster, as :class:`.tiles.crew.Hands`.

    Args:
        cluster: to work on.
        workers: threads that cut one slide.
    """

    def __init__(self, cluster: Cluster, workers: int | None = None) -> None:
        self._cluster = cluster
        self._workers = workers or 1

    def look(
        self, jobs: Sequence[SlideJob], known: Mapping[str, SlideLook]
    ) -> list[SlideLook | InputError]:
        """Overviews are read by the workers."""
        looks: dict[int, SlideLook | InputError] = {}
        pieces = []
        for k, job in enumerate(jobs):
            try:
                seen = known.get(fingerprint(job.slide_path)) if known else None
            except InputError as error:
                looks[k] = error
                continue
            if seen is not None:
                looks[k] = seen
            else:
                value = (k, job.slide_path)
                pieces.append(Piece(job.image_name, value, (job.slide_path,)))

        def take(outcome: Outcome[tuple[int, Path], SlideLook]) -> None:
            looks[outcome.piece.value[0]] = outcome.result or _as_input_error(outcome.error)

        if pieces:
            self._cluster.each(look_at_piece, pieces, take, facts=versions)
        return [looks[k] for k in range(len(jobs))]

    def cut(
        self,
        tasks: Sequence[SlideTask],
        settings: DatasetSettings,
        folder: Path,
        on_tile: OnTile,
    ) -> tuple[list[SlideRecord], list[tuple[SlideTask, str]]]:
        """Slides are cut by the workers; records are written here.

        Raises:
            MachineError: a file could not be written. Slides with a record are complete.
        """
        records: dict[str, SlideRecord] = {}
        failures: dict[str, str] = {}
        folder = folder.absolute()
        attempts = folder / ATTEMPTS / uuid4().hex
        pieces = [
            Piece(
                task.job.image_name,
                CutOrder(task, settings, folder, attempts, self._workers),
                (task.job.slide_path, attempts),
            )
            for task in tasks
        ]

        def take(outcome: Outcome[CutOrder, SlideRecord]) -> None:
            key, record = outcome.piece.value.task.key, outcome.result
            if record is None:
                failures[key] = str(outcome.error)
            else:
                write_bytes(record.path(folder), record.to_json())
                records[key] = record

        def told(piece: Piece[CutOrder], done: int, of: int) -> None:
            on_tile(piece.value.task, done, of)

        try:
            attempts.mkdir(parents=True)
            if pieces:
                self._cluster.each(cut_piece, pieces, take, facts=versions, on_progress=told)
        except OSError as error:
            if isinstance(error, GlombridgeError):
                raise
            raise machine_error(attempts, error) from error
        finally:
            # A worker that was given up may still be cutting; without this folder it cannot go on.
            shutil.rmtree(attempts.parent, ignore_errors=True)
        return (
            [records[task.key] for task in tasks if task.key in records],
            [(task, failures[task.key]) for task in tasks if task.key in failures],
        )


@dataclass(frozen=True)
class CutOrder:
    """One slide to cut on a worker.

    Attributes:
        folder: the dataset in the making.
        attempts: where the worker makes a folder of its own.
        workers: threads.
    """

    task: SlideTask
    settings: DatasetSettings
    folder: Path
    attempts: Path
    workers: int


def look_at_piece(value: tuple[int, Path], _: Tell) -> SlideLook:
    """What tells a slide from others.

    Raises:
        InputError: it cannot be read.
    """
    return look_at(value[1])


def cut_piece(order: CutOrder, tell: Tell) -> SlideRecord:
    """Cut one slide.

    Into a folder of this attempt first: a slide may be given to a second worker while a first one,
    which only seems to be lost, is still at it. Each moves whole files, and they are the same ones.

    Raises:
        InputError: the slide cannot be read.
        MachineError: a file cannot be written.
    """
    part = order.task.job.part
    attempt = order.attempts / uuid4().hex
    try:
        for name in (FOLDER, *(f"{kind}/{part}" for kind in _KINDS)):
            (attempt / name).mkdir(parents=True)
        records, failures = cut_slides(
            [order.task],
            order.settings,
            attempt,
            workers=order.workers,
            on_tile=lambda _, done, of: tell(done, of),
        )
        if failures:
            raise InputError(failures[0][1])
        for kind in _KINDS:
            for file in (attempt / kind / part).iterdir():
                file.replace(order.folder / kind / part / file.name)
    except OSError as error:
        if isinstance(error, GlombridgeError):
            raise
        raise machine_error(attempt, error) from error
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return records[0]


def _as_input_error(error: GlombridgeError | None) -> InputError:
    return error if isinstance(error, InputError) else InputError(str(error))
