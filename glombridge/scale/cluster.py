"""A Dask cluster to work on: this machine's processes, or the workers of somebody's scheduler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..errors import (
    MachineError,
    MissingComponentError,
    UsageError,
)
from ..filenames import shown_line
from ..progress import SILENT, Reporter
from .handing import LOOK_EVERY_SECONDS, Handing, Waiting, able_workers
from .local import local_cluster
from .work import Facts, Outcome, Piece, R, T, Tell
from .worker import (
    OtherVersionError,
    differences,
    facts_here,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS = 30
FILLED_SECONDS = 1
"""How long a scheduler may take to write its file, once it has begun."""

MOST_BYTES = 10_000_000
"""Of a scheduler file; it lists the workers, of which none is there when it is written."""

WORKERLESS_SECONDS = 600.0
"""How long a run waits for a new worker when the last one is lost."""


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
        DamagedFileError: the scheduler file is none.
        MachineError: no scheduler answers there, or none has written that file.
    """
    try:
        import distributed
    except ImportError as error:
        msg = (
            f"--cluster needs Dask, which is not installed ({error}). "
            'Run: pip install "glombridge[cluster]"'
        )
        raise MissingComponentError(msg) from error
    with ExitStack() as stack:
        stack.enter_context(_levels())
        # A client that is not told otherwise becomes everybody's default; a library has no such say.
        given: dict[str, Any] = {"set_as_default": False, "timeout": CONNECT_SECONDS}
        if _is_local(where):
            given["address"] = stack.enter_context(local_cluster(_number(where)))
        else:
            given["address"] = _address(where)
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


@contextmanager
def _levels() -> Iterator[None]:
    """Dask's log at the user's level; when imported it sets its own, and tells of every connection."""
    level = logging.getLogger().getEffectiveLevel()
    logging.getLogger("distributed").setLevel(level)
    # Of a scheduler that is gone these tell with tracebacks; :meth:`Cluster.gone` says it in a line.
    loggers = [logging.getLogger(name) for name in ("distributed.client", "distributed.utils")]
    before = [logger.level for logger in loggers]
    if level > logging.INFO:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, its in zip(loggers, before, strict=True):
            logger.setLevel(its)


def _is_local(where: str) -> bool:
    return where.partition(":")[0] == "local"


def _address(where: str) -> str:
    """Of a scheduler that is named by its address or its file."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    address = _written_address(Path(where)) if where.endswith(".json") else where
    try:
        # Dask would begin with anything, and take a minute to give up what cannot be an address.
        scheme, place = parse_address(address)
        get_backend(scheme)
        if scheme in {"tcp", "tls"}:  # others may have a path, or no port
            parse_host_port(place)
    except ValueError as error:
        msg = (
            f"{shown_line(address)!r} is no address of a Dask scheduler ({shown_line(str(error))}). Give "
            "--cluster HOST:PORT as 'dask scheduler' says it, its scheduler file (FILE.json), or local."
        )
        raise UsageError(msg) from error
    return address


def _written_address(file: Path) -> str:
    """What a scheduler file says, which Dask makes first and fills then."""
    end = time.monotonic() + CONNECT_SECONDS
    while not (file.is_file() and file.stat().st_size):
        if time.monotonic() > end:
            msg = (
                f"no Dask scheduler has written {file} within {CONNECT_SECONDS} s. Start one with 'dask "
                f"scheduler --scheduler-file {file}', or look whether its folder is mounted here."
            )
            raise MachineError(msg)
        time.sleep(0.05)
    end = time.monotonic() + FILLED_SECONDS
    with expecting(file, "a scheduler file of Dask", "Start the scheduler again."):
        while True:
            try:
                with file.open("rb") as stream:
                    return str(parse_json(stream.read(MOST_BYTES))["address"])
            except ValueError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


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
            raise self.gone()
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
                time.sleep(LOOK_EVERY_SECONDS)

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this machine that live as long as this one."""
        return _is_local(self.where)

    @property
    def has_gpus(self) -> bool:
        """Whether some worker declares a GPU; the model then goes there and nowhere else."""
        return bool(able_workers(self.workers(), with_gpu=True))

    def require_same(self, facts: Facts | None) -> dict[str, str]:
        """Refuse workers whose versions are not those of this process; gives these.

        Those that come later are looked at when they get their first piece.

        Raises:
            OtherVersionError: a worker has other versions; each is named.
            MachineError: the scheduler is gone.
        """
        self.wait()
        expected = facts_here(facts)
        with self.answering():
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
            MachineError: no worker for a long time, the scheduler is gone, two workers say that the
                machine does not let them, or no worker is left whose GPU works.
        """
        expected = self.require_same(facts)
        handing: Handing[T, R] = Handing(
            self,
            self._client,
            lambda piece, key, topic: (call, piece, key, topic, facts, expected),
            with_gpu=with_model and self.has_gpus,
        )
        handing.run(Waiting(pieces), on_outcome, on_progress)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """What is asked of the scheduler in here tells where it does not answer any more.

        Raises:
            MachineError: the scheduler is gone.
        """
        from distributed.client import ClosedClientError

        try:
            yield
        except (OSError, ClosedClientError) as error:
            raise self.gone() from error

    def gone(self) -> MachineError:
        """What there is to say when the scheduler does not answer any more."""
        msg = (
            f"the Dask scheduler {self.where} is gone. What is finished stays; start it again, and "
            "give the same command."
        )
        return MachineError(msg)
