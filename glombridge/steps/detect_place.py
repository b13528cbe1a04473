"""Where a detection runs: this machine's devices, or the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..detection.detector import Detector, device_name
from ..progress import Reporter
from ..scale import Cluster, open_cluster
from ..tiles.grid import TileSpec
from ..tiles.labels import Task
from ..training.trust import require_trust
from .detect_cluster import detect_on_cluster
from .detect_targets import Target
from .detect_work import Emit, Job, detect_all, detect_on_devices
from .held_model import ask, model_on


class DetectionPlace(Protocol):
    """Holds a model and shows it slides.

    Attributes:
        task: ``detect`` or ``segment``.
        class_names: of the model, by index.
        device: the first it runs on, as torch names it.
        is_half: whether in half precision.
        threads: of torch on a CPU.
    """

    task: Task
    class_names: tuple[str, ...]
    device: str
    is_half: bool
    threads: int | None

    def fitting_batch(self) -> int:
        """Tiles that are best shown at once."""
        ...

    def detect(self, targets: list[Target], job: Job, emit: Emit) -> None:
        """Detect on slides; what fails is told."""
        ...


class Here:
    """This machine, one process per device."""

    def __init__(
        self,
        weights: Path,
        spec: TileSpec,
        *,
        cache: Path,
        runs: Path | None,
        device: str | None,
        threads: int | None,
    ) -> None:
        self._devices = [device_name(d.strip()) for d in (device or "").split(",") if d.strip()]
        first = self._devices[0] if self._devices else None
        detector = Detector(weights, cache=cache, runs=runs, device=first, threads=threads)
        self._detector: Detector | None = detector
        self._size = spec.width_px, spec.height_px
        self.task = detector.task
        self.class_names = detector.class_names
        self.device, self.is_half, self.threads = detector.device, detector.is_half, threads

    def fitting_batch(self) -> int:
        """As the detector finds."""
        return self._detector.fitting_batch(*self._size) if self._detector is not None else 1

    def detect(self, targets: list[Target], job: Job, emit: Emit) -> None:
        """One slide after the other on each device."""
        if len(self._devices) > 1:
            self._detector = None  # the processes need the memory
            detect_on_devices(targets, job, self._devices, emit)
        elif targets and self._detector is not None:
            clock = detect_all(targets, job, self._detector, emit)
            event = {"event": "profile", "device": self.device}
            emit({**event, **clock.as_dict(decoders=job.workers)})


class There:
    """The workers of a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        weights: Path,
        sha256: str,
        spec: TileSpec,
        *,
        device: str | None,
        threads: int | None,
        workers: int | None,
    ) -> None:
        model = model_on(cluster, weights, sha256, device, threads)
        facts = ask(cluster, model, spec)
        self._cluster, self._workers, self._batch = cluster, workers, facts.batch
        self._model = model.of_kind(facts.kind)
        self.task = facts.task
        self.class_names = facts.class_names
        self.device, self.is_half = facts.device, facts.is_half
        self.threads: int | None = model.threads

    def fitting_batch(self) -> int:
        """As the worker that was asked first found; the same for all."""
        return self._batch

    def detect(self, targets: list[Target], job: Job, emit: Emit) -> None:
        """Each slide on whatever worker is free."""
        if targets:
            detect_on_cluster(targets, job, self._model, self._workers, self._cluster, emit)


@contextmanager
def open_place(
    weights: Path,
    sha256: str,
    spec: TileSpec,
    *,
    cache: Path,
    runs: Path | None,
    device: str | None,
    threads: int | None,
    workers: int | None,
    cluster: str | None,
    reporter: Reporter,
) -> Iterator[DetectionPlace]:
    """The model, ready to be shown slides.

    Args:
        weights: the file.
        sha256: of the file.
        spec: tiles as it was trained on.
        cache: where ultralytics keeps its settings on this machine.
        runs: training runs of the project, whose weights are trusted.
        device: as torch names it.
        threads: of torch on a CPU.
        workers: threads that decode, where they are given.
        cluster: as :func:`.open_cluster` names it; ``None`` = this machine.
        reporter: shown while no worker is there.

    Raises:
        ProtectedError: weights that nobody answers for.
        InputError: no weights, or no such device.
        MissingComponentError: Dask is missing, or a worker lacks what is asked for.
    """
    if cluster is None:
        yield Here(weights, spec, cache=cache, runs=runs, device=device, threads=threads)
        return
    require_trust(weights, runs)  # the workers take this machine's word for it
    with open_cluster(cluster, reporter=reporter) as opened:
        yield There(
            opened,
            weights.absolute(),
            sha256,
            spec,
            device=device,
            threads=threads,
            workers=workers,
        )
