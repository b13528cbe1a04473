"""Pieces handed out to the workers of a cluster: a few per worker on their way, never all.

The scheduler is Dask's; there is no queue here. What is kept here is what Dask leaves to its user:
how much is handed out at once, which slide is to blame when workers die, and another try where it
was the worker's fault.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from ..errors import DeviceError, GlombridgeError, InputError, MachineError
from .work import Outcome, Piece, R, T
from .worker import WORKERS_FAULT, Answer, OtherVersionError, do_piece

if TYPE_CHECKING:
    from .cluster import Cluster

log = logging.getLogger(__name__)

GPU = "GPU"
"""Resource that a worker declares when it may hold the model: ``dask worker --resources GPU=1``."""

LOOK_EVERY_SECONDS = 0.5
_SPARE_PER_WORKER = 1
"""Pieces that wait on each worker, so that none is idle while the next one is on its way."""

P = TypeVar("P")


@dataclass
class _Job(Generic[T]):
    """A piece on its way.

    Attributes:
        faults: what workers could not do for it, with their hosts and addresses.
        was_alone: whether nothing else was being worked on in its last try.
    """

    piece: Piece[T]
    future: Any = None
    faults: list[Answer[Any]] = field(default_factory=list)
    was_alone: bool = False


class Waiting(Generic[T]):
    """Pieces nobody works on, taken from their source only when there is room."""

    def __init__(self, pieces: Iterable[Piece[T]]) -> None:
        self._again: deque[_Job[T]] = deque()
        self._source = iter(pieces)

    def put_back(self, job: _Job[T]) -> None:
        """It comes next."""
        self._again.appendleft(job)

    def __bool__(self) -> bool:
        if not self._again:
            piece = next(self._source, None)
            if piece is not None:
                self._again.append(_Job(piece))
        return bool(self._again)

    def take(self) -> _Job[T]:
        """The next one, where there is one."""
        return self._again.popleft()


class Handing(Generic[T, R]):
    """Hands pieces out and takes answers in, until there are none left."""

    def __init__(
        self,
        cluster: Cluster,
        client: Any,
        arguments: Callable[[Piece[T], str, str], tuple[Any, ...]],
        *,
        with_gpu: bool,
    ) -> None:
        self._cluster, self._client = cluster, client
        self._arguments = arguments
        self._with_gpu = with_gpu
        self._id = f"glombridge-{uuid4().hex[:12]}"
        # One topic for all runs: the scheduler keeps the last events of each topic for ever.
        self._topic = "glombridge"
        self._flying: dict[str, _Job[T]] = {}
        self._suspects: deque[_Job[T]] = deque()
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._count = 0
        # Workers whose GPU was lost; whatever they are given fails at once, and takes the next.
        self._without_device: set[str] = set()
        self._workerless_since: float | None = None

    def run(
        self,
        waiting: Waiting[T],
        on_outcome: Callable[[Outcome[T, R]], None],
        on_progress: Callable[[Piece[T], int, int], None] | None,
    ) -> None:
        """Until nothing waits and nothing is on its way.

        Raises:
            MachineError, OtherVersionError: as :meth:`.Cluster.each`.
        """
        with self._cluster.answering():
            self._client.subscribe_topic(
                self._topic, lambda event: self._inbox.put(("told", event[1]))
            )
        try:
            while waiting or self._flying or self._suspects:
                self._hand_out(waiting)
                try:
                    kind, what = self._inbox.get(timeout=LOOK_EVERY_SECONDS)
                except queue.Empty:
                    continue
                if kind == "told":
                    job = self._flying.get(what["key"])
                    if job is not None and on_progress is not None:
                        on_progress(job.piece, what["done"], what["of"])
                    continue
                job = self._flying.pop(what, None)
                if job is not None:
                    outcome = self._taken_in(job, waiting)
                    if outcome is not None:
                        on_outcome(outcome)
        finally:
            self._give_up()

    def _hand_out(self, waiting: Waiting[T]) -> None:
        able = self._able(fresh=False)
        self._watch(able)
        room = _room(able, with_gpu=self._with_gpu)
        while waiting and len(self._flying) < room:
            self._submit(waiting.take(), able)
        # A slide that was there when workers died is tried once more with nothing beside it: Dask
        # also counts the deaths against pieces that only waited on those workers.
        if self._suspects and not waiting and not self._flying:
            job = self._suspects.popleft()
            job.was_alone = True
            self._submit(job, able)

    def _able(self, *, fresh: bool) -> dict[str, dict[str, Any]]:
        """Workers that can take a piece now."""
        able = able_workers(self._cluster.workers(fresh=fresh), with_gpu=self._with_gpu)
        return {a: w for a, w in able.items() if a not in self._without_device}

    def _submit(self, job: _Job[T], able: Mapping[str, Mapping[str, Any]]) -> None:
        self._count += 1
        key = f"{self._id}-{self._count}"
        elsewhere = _elsewhere(job.faults, able)
        if self._without_device and not elsewhere:
            elsewhere = list(able)
        arguments = self._arguments(job.piece, key, self._topic)
        with self._cluster.answering():
            job.future = self._client.submit(
                do_piece,
                *arguments,
                key=key,
                pure=False,
                resources={GPU: 1} if self._with_gpu else None,
                workers=elsewhere or None,
                allow_other_workers=bool(elsewhere),
            )
        self._flying[key] = job
        job.future.add_done_callback(lambda future: self._inbox.put(("done", future.key)))

    def _taken_in(self, job: _Job[T], waiting: Waiting[T]) -> Outcome[T, R] | None:
        """What came of a piece; ``None`` if it is tried again."""
        from distributed import CancelledError, KilledWorker

        future, job.future = job.future, None
        try:
            if future.status in ("cancelled", "lost"):
                raise self._cluster.gone()
            answer: Answer[R] = future.result()
        except KilledWorker as error:
            if not job.was_alone:
                self._suspects.append(job)
                return None
            return Outcome(job.piece, error=_killer(error))
        except (OSError, CancelledError) as error:
            # The connection broke while the answer was on its way; a worker's own errors are in the answer.
            raise self._cluster.gone() from error
        except ImportError as error:
            msg = (
                f"a worker of {self._cluster.where} cannot run glombridge: {error}. Install the same "
                "versions there, and start it again."
            )
            raise OtherVersionError(msg) from error
        finally:
            future.release()
        if isinstance(answer.error, DeviceError):
            self._without_device.add(answer.address)
            if not self._able(fresh=True):
                raise answer.error
            log.warning(
                "the worker at %s gets no more of this run: %s", answer.address, answer.error
            )
            waiting.put_back(job)
            return None
        if isinstance(answer.error, WORKERS_FAULT):
            job.faults.append(answer)
            able = self._able(fresh=True)
            if len(job.faults) == 1 and _elsewhere(job.faults, able):
                log.warning("%s: %s; tried on another worker", job.piece.name, answer.error)
                waiting.put_back(job)
                return None
            if isinstance(answer.error, MachineError):
                raise answer.error
        return Outcome(job.piece, answer.result, answer.error, answer.host)

    def _watch(self, able: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if able:
            self._workerless_since = None
            return
        if self._workerless_since is None:
            log.warning("no worker of %s is left; waiting for one", self._cluster.where)
            self._workerless_since = now
        if now - self._workerless_since > self._cluster.patience_seconds:
            msg = (
                f"no worker of {self._cluster.where} came for {self._cluster.patience_seconds:.0f} s "
                f"after the last one was lost{' (with a GPU)' if self._with_gpu else ''}. What is "
                "finished stays; start workers, and give the same command again."
            )
            raise MachineError(msg)

    def _give_up(self) -> None:
        """Nothing of this run is left with the scheduler, whatever ended it."""
        from distributed.client import ClosedClientError

        futures = [job.future for job in self._flying.values() if job.future is not None]
        self._flying.clear()
        # A scheduler that is gone has nothing of this run, and what ended the run is to be told.
        with contextlib.suppress(OSError, ClosedClientError):
            if futures:
                self._client.cancel(futures, force=True)
            self._client.unsubscribe_topic(self._topic)


def able_workers(workers: Mapping[str, P], *, with_gpu: bool) -> dict[str, P]:
    """Workers that can take a piece."""
    if not with_gpu:
        return dict(workers)
    return {a: w for a, w in workers.items() if _gpus(w) >= 1}


def _gpus(worker: Any) -> float:
    return float((worker.get("resources") or {}).get(GPU, 0))


def _room(able: Mapping[str, Mapping[str, Any]], *, with_gpu: bool) -> int:
    """How many pieces may be on their way: one per thread, and one that waits per worker."""
    slots = 0
    for worker in able.values():
        threads = int(worker["nthreads"])
        slots += min(threads, int(_gpus(worker))) if with_gpu else threads
    return slots + _SPARE_PER_WORKER * len(able)


def _elsewhere(faults: Iterable[Answer[Any]], able: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Workers that need not have the faults of others; what a host does not see, no worker there sees."""
    answers = list(faults)
    if not answers:
        return []
    addresses = {a.address for a in answers}
    hosts = {
        able[a.address]["host"]
        for a in answers
        if a.address in able and not isinstance(a.error, OtherVersionError)
    }
    return [a for a, w in able.items() if a not in addresses and w["host"] not in hosts]


def _killer(error: Any) -> GlombridgeError:
    msg = (
        f"{error.allowed_failures + 1} workers ended while they worked on it and on nothing else, the "
        f"last at {error.last_worker.address}: out of memory, or a file that crashes what reads it. "
        "Look at the logs of the workers."
    )
    return InputError(msg)
