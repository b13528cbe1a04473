"""The model of a run on a worker: loaded once per process, shown one slide after the other."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

from ..detection.detector import Detector, device_name
from ..detection.pipeline import default_workers
from ..errors import DeviceError, InputError, MissingComponentError, UsageError
from ..ledger.manifest import environment
from ..scale import Cluster, Outcome, Piece, Tell, scratch_folder
from ..tiles.grid import TileSpec
from ..tiles.labels import Task
from ..tiles.manifest import versions

CPU = "cpu"


@dataclass(frozen=True)
class HeldModel:
    """Which model, and where it runs.

    Attributes:
        weights: the file, on storage that all workers see.
        sha256: of the file that the driver trusts.
        device: as torch names it; ``None`` = a GPU if the worker has one.
        threads: of torch on a CPU.
        kind: the device's kind on the worker that was asked first, which all others must have too;
            empty = not known yet.
    """

    weights: Path
    sha256: str
    device: str | None
    threads: int
    kind: str = ""

    def of_kind(self, kind: str) -> HeldModel:
        """The same, on one kind of device only."""
        return replace(self, kind=kind)


@dataclass(frozen=True)
class ModelFacts:
    """What a loaded model says of itself.

    Attributes:
        task: ``detect`` or ``segment``.
        class_names: by index.
        device: where it runs.
        is_half: in half precision.
        batch: tiles of the size asked for that are best shown at once.
    """

    task: Task
    class_names: tuple[str, ...]
    device: str
    is_half: bool
    batch: int

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.device.split(":")[0]


_loading = threading.Lock()
_held: dict[HeldModel, Detector] = {}
_ANY = ""


def held(model: HeldModel) -> Detector:
    """The model on this worker.

    Raises:
        ProtectedError: the file is not the one that the driver trusts.
        DeviceError: the device works no more, or this worker would run it on another kind of device.
    """
    try:
        device_name(model.device)
    except InputError as error:
        raise DeviceError(str(error)) from error  # the others have one
    with _loading:
        key = model.of_kind(_ANY)
        if key not in _held:
            _held.clear()  # one at a time fits into a GPU
            _held[key] = Detector(
                model.weights,
                cache=scratch_folder() / "cache",
                device=model.device,
                threads=model.threads,
                sha256=model.sha256,
            )
        detector = _held[key]
    kind = detector.device.split(":")[0]
    if model.kind not in (_ANY, kind):
        msg = (
            f"this worker runs the model on {kind!r}, the others of this run on {model.kind!r}, which "
            "gives other results. Let only workers that have a GPU declare one, or say --device cpu."
        )
        raise DeviceError(msg)
    return detector


def decoders_beside(detector: Detector) -> int:
    """Threads that decode on a worker: one beside a CPU model, what a GPU can take otherwise."""
    return 1 if detector.device == CPU else default_workers()


def model_versions() -> dict[str, str]:
    """Libraries that decide what is detected."""
    libraries: dict[str, str] = environment()["libraries"]
    return {**libraries, **versions()}


def model_on(
    cluster: Cluster, weights: Path, sha256: str, device: str | None, threads: int | None
) -> HeldModel:
    """The model as the workers of a cluster are to hold it.

    Where some worker declares a GPU, only such workers are given the model. A CPU gives other last
    digits with another number of threads, so it is fixed here: one, where nobody has said it.

    Raises:
        MissingComponentError: a GPU is asked for, and no worker declares one.
        UsageError: the processes of this machine, which use its cores, where it has a GPU.
    """
    if cluster.is_local and device is None and device_name(None) != CPU:
        msg = (
            f"--cluster {cluster.where} works on this machine's cores, and the machine has a GPU. Leave "
            "--cluster away (--device 0,1 uses two GPUs), or say --device cpu."
        )
        raise UsageError(msg)
    cluster.wait()
    if not cluster.has_gpus and device not in (None, CPU):
        msg = (
            f"--device {device} asks for a GPU, and no worker of {cluster.where} declares one. Start "
            'workers with --resources "GPU=1", or say --device cpu.'
        )
        raise MissingComponentError(msg)
    return HeldModel(weights, sha256, device if cluster.has_gpus else CPU, threads or 1)


def ask(cluster: Cluster, model: HeldModel, spec: TileSpec) -> ModelFacts:
    """Load the model on one worker, and have it say what it is.

    Raises:
        GlombridgeError: it cannot be loaded there.
    """
    found: list[Outcome[tuple[HeldModel, TileSpec], ModelFacts]] = []
    cluster.each(
        facts_of,
        [Piece("the model", (model, spec), (model.weights,))],
        found.append,
        facts=model_versions,
        with_model=True,
    )
    outcome = found[0]
    if outcome.error is not None:
        raise outcome.error
    if outcome.result is None:
        msg = "a piece without an error has a result"
        raise RuntimeError(msg)
    return outcome.result


def facts_of(value: tuple[HeldModel, TileSpec], _: Tell) -> ModelFacts:
    """What the model says of itself; runs on a worker."""
    model, spec = value
    detector = held(model)
    return ModelFacts(
        detector.task,
        detector.class_names,
        detector.device,
        detector.is_half,
        detector.fitting_batch(spec.width_px, spec.height_px),
    )
