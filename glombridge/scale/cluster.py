"""The driver of work on a Dask cluster: a few pieces per worker on their way, never all.

The scheduler is Dask's; there is no queue here. What is kept here is what Dask leaves to its user:
how much is handed out at once, which slide is to blame when workers die, and another try where it
was the worker's fault.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import uuid4

from ..errors import (
    GlombridgeError,
    InputError,
    MachineError,
    MissingComponentError,
    UsageError,
)
from ..progress import SILENT, Reporter
from .local import local_cluster
from .work import Facts, Outcome, Piece, R, T, Tell
from .worker import (
    WORKERS_FAULT,
    Answer,
    OtherVersionError,
    differences,
    do_piece,
    facts_here,
)

log = logging.getLogger(__name__)

GPU = "GPU"
"""Resource that a worker declares when it may hold the model: ``dask worker --resources GPU=1``."""

CONNECT_SECONDS = 30
WORKERLESS_SECONDS = 600.0
"""How long a run waits for a new worker when the last one is lost."""
_LOOK_EVERY_SECONDS = 0.5
_SPARE_PER_WORKER = 1
"""Pieces that wait on each worker, so that none is idle while the next one is on its way."""

P = TypeVar("P")


@contextmanager
def open_cluster(where: str, *, reporter: Reporter = SILENT) -> Iterator[Cluster]:
    """A Dask cluster to work on, left or taken down at the end.

    Args:
        where: ``local`` or ``local:N`` (N processes of this machine, one per core by default), the
            address of a scheduler (``tcp://host:8786``), or the path of its scheduler file.
        reporter: shown while nobody is there to work.

    Raises:
        MissingComponentError: Dask is not installed.
        UsageError: no such place.
        MachineError: no scheduler answers there.
    """
    try:
        import distributed
    except ImportError as error:
        msg = (
            f"--cluster needs Dask, which is not installed ({error}). "
            'Run: pip install "glombridge[cluster]"'
        )
        raise MissingComponentError(msg) from error
    # When imported it sets a level of its own, at which it tells of every connection.
    logging.getLogger("distributed").setLevel(logging.getLogger().getEffectiveLevel())
    with ExitStack() as stack:
        # A client that is not told otherwise becomes everybody's default; a library has no such say.
        given: dict[str, Any] = {"set_as_default": False, "timeout": CONNECT_SECONDS}
        if _is_local(where):
            given["address"] = stack.enter_context(local_cluster(_number(where)))
        elif where.endswith(".json"):
            given["scheduler_file"] = where
        else:
            given["address"] = where
        try:
            client = stack.enter_context(distributed.Client(**given))  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            msg = (
                f"no Dask scheduler answers at {where} ({error}). Start one with 'dask scheduler', or "
                "give --cluster local to use this machine's cores."
            )
            raise MachineError(msg) from error
        cluster = Cluster(client, where)
        cluster.wait(reporter)
        yield cluster


@contextmanager
def on_cluster(where: str | None, reporter: Reporter = SILENT) -> Iterator[Cluster | None]:
    """The cluster that is named; ``None`` where none is."""
    if where is None:
        yield None
        return
    with open_cluster(where, reporter=reporter) as cluster:
        yield cluster


def _is_local(where: str) -> bool:
    return where.partition(":")[0] == "local"


def _number(where: str) -> int | None:
    _, colon, text = where.partition(":")
    if not colon:
        return None
    if not text.isdigit() or int(text) < 1:
        msg = f"--cluster {where}: a number of processes, 1 or more, stands behind local: (local:4)"
        raise UsageError(msg)
    return int(text)


class Cluster:
    """Workers of a Dask scheduler.

    Args:
        client: connected to the scheduler.
        where: as the user named it.
        patience_seconds: how long to wait for a new worker when the last one is lost.
    """

    def __init__(
        self,
        client: Any,
        where: str,
        *,
        patience_seconds: float = WORKERLESS_SECONDS,
    ) -> None:
        self.where = where
        self.patience_seconds = patience_seconds
        self._client = client
        self._seen: tuple[float, dict[str, dict[str, Any]]] = (0.0, {})

    def workers(self, *, fresh: bool = True) -> dict[str, dict[str, Any]]:
        """The workers by address, as the scheduler describes them.

        Args:
            fresh: ask now, instead of taking an answer that is less than a second old.

        Raises:
            MachineError: the scheduler is gone.
        """
        if self._client.status != "running":
            raise self._gone()
        now = time.monotonic()
        if fresh or now - self._seen[0] > 1:
            self._seen = now, dict(self._client.scheduler_info(n_workers=-1)["workers"])
        return self._seen[1]

    def wait(self, reporter: Reporter = SILENT) -> None:
        """Wait until a worker is there; a batch system may take hours to start one."""
        if self.workers():
            return
        log.warning("no worker of %s is there yet; waiting for one", self.where)
        with reporter.task(f"wait for a worker of {self.where}", None):
            while not self.workers():
                time.sleep(_LOOK_EVERY_SECONDS)

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this machine that live as long as this one."""
        return _is_local(self.where)

    @property
    def has_gpus(self) -> bool:
        """Whether some worker declares a GPU; the model then goes there and nowhere else."""
        return bool(_able(self.workers(), with_gpu=True))

    def require_same(self, facts: Facts | None) -> dict[str, str]:
        """Refuse workers whose versions are not those of this process; gives these.

        Those that come later are looked at when they get their first piece.

        Raises:
            OtherVersionError: a worker has other versions; each is named.
        """
        self.wait()
        expected = facts_here(facts)
        told = self._client.run(facts_here, facts, on_error="return")
        lines = []
        for address, here in sorted(told.items()):
            if isinstance(here, OSError):
                continue  # lost in the meantime
            if isinstance(here, BaseException):
                lines.append(f"  {address} cannot run it: {type(here).__name__}: {here}")
            elif differs := differences(here, expected):
                lines.append(f"  {address} has {differs}")
        if lines:
            text = "\n".join(lines)
            msg = (
                f"{len(lines)} of {len(told)} workers of {self.where} would not give the results of "
                f"glombridge {expected['glombridge']} as it is here:\n{text}\nInstall the same "
                "versions there, and start these workers again."
            )
            raise OtherVersionError(msg)
        return expected

    def each(
        self,
        call: Callable[[T, Tell], R],
        pieces: Iterable[Piece[T]],
        on_outcome: Callable[[Outcome[T, R]], None],
        *,
        facts: Facts | None = None,
        with_model: bool = False,
        on_progress: Callable[[Piece[T], int, int], None] | None = None,
    ) -> None:
        """As :meth:`.Workplace.each`; pieces of workers that are lost go to others.

        Raises:
            OtherVersionError: a worker has other versions than this process.
            MachineError: no worker for a long time, the scheduler is gone, or two workers say that
                the machine does not let them.
        """
        expected = self.require_same(facts)
        handing: _Handing[T, R] = _Handing(
            self,
            self._client,
            lambda piece, key, topic: (call, piece, key, topic, facts, expected),
            with_gpu=with_model and self.has_gpus,
        )
        handing.run(_Waiting(pieces), on_outcome, on_progress)

    def _gone(self) -> MachineError:
        msg = (
            f"the Dask scheduler {self.where} is gone. What is finished stays; start it again, and "
            "give the same command."
        )
        return MachineError(msg)


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


class _Waiting(Generic[T]):
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


class _Handing(Generic[T, R]):
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
        self._workerless_since: float | None = None

    def run(
        self,
        waiting: _Waiting[T],
        on_outcome: Callable[[Outcome[T, R]], None],
        on_progress: Callable[[Piece[T], int, int], None] | None,
    ) -> None:
        self._client.subscribe_topic(self._topic, lambda event: self._inbox.put(("told", event[1])))
        try:
            while waiting or self._flying or self._suspects:
                self._hand_out(waiting)
                try:
                    kind, what = self._inbox.get(timeout=_LOOK_EVERY_SECONDS)
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

    def _hand_out(self, waiting: _Waiting[T]) -> None:
        able = _able(self._cluster.workers(fresh=False), with_gpu=self._with_gpu)
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

    def _submit(self, job: _Job[T], able: Mapping[str, Mapping[str, Any]]) -> None:
        self._count += 1
        key = f"{self._id}-{self._count}"
        elsewhere = _elsewhere(job.faults, able)
        job.future = self._client.submit(
            do_piece,
            *self._arguments(job.piece, key, self._topic),
            key=key,
            pure=False,
            resources={GPU: 1} if self._with_gpu else None,
            workers=elsewhere or None,
            allow_other_workers=bool(elsewhere),
        )
        self._flying[key] = job
        job.future.add_done_callback(lambda future: self._inbox.put(("done", future.key)))

    def _taken_in(self, job: _Job[T], waiting: _Waiting[T]) -> Outcome[T, R] | None:
        """What came of a piece; ``None`` if it is tried again."""
        from distributed import KilledWorker

        future, job.future = job.future, None
        try:
            if future.status in ("cancelled", "lost"):
                raise self._cluster._gone()
            answer: Answer[R] = future.result()
        except KilledWorker as error:
            if not job.was_alone:
                self._suspects.append(job)
                return None
            return Outcome(job.piece, error=_killer(error))
        except ImportError as error:
            msg = (
                f"a worker of {self._cluster.where} cannot run glombridge: {error}. Install the same "
                "versions there, and start it again."
            )
            raise OtherVersionError(msg) from error
        finally:
            future.release()
        if isinstance(answer.error, WORKERS_FAULT):
            job.faults.append(answer)
            able = _able(self._cluster.workers(), with_gpu=self._with_gpu)
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
        futures = [job.future for job in self._flying.values() if job.future is not None]
        self._flying.clear()
        if futures:
            self._client.cancel(futures, force=True)
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)


def _able(workers: Mapping[str, P], *, with_gpu: bool) -> dict[str, P]:
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
