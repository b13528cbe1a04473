"""What runs on a worker: one piece, after a look at whether this worker can do it.

Nothing here reads a project, its history or its ledger; a worker is given plain values and paths.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from .. import __version__
from ..errors import GlombridgeError, InputError, MachineError, MissingComponentError
from .work import Facts, Piece, R, T, Tell

TELL_EVERY_SECONDS = 1.0
"""Progress goes through the scheduler, which has more to do."""


class UnseenError(InputError):
    """This worker does not see a file that the driver sees."""


class OtherVersionError(MissingComponentError):
    """This worker would give other results than the driver."""


class WorkStoppedError(Exception):
    """Nobody waits for this work any more."""


WORKERS_FAULT = (UnseenError, OtherVersionError, MachineError)
"""Errors that another worker need not have."""


@dataclass(frozen=True)
class Answer(Generic[R]):
    """What a worker sends back.

    Attributes:
        result: of the work.
        error: why there is none. Given back, not raised: Dask would write a traceback to the log of
            the worker for each slide that cannot be read.
        host: of the worker.
        address: of the worker, as the scheduler knows it.
    """

    result: R | None
    error: GlombridgeError | None
    host: str
    address: str


def do_piece(
    call: Callable[[T, Tell], R],
    piece: Piece[T],
    key: str,
    topic: str,
    facts: Facts | None,
    expected: Mapping[str, str],
) -> Answer[R]:
    """Do a piece of work on this worker; a task of Dask.

    Args:
        call: the work.
        piece: what to do it on.
        key: of the task.
        topic: where to tell how far it is.
        facts: which versions decide the results.
        expected: what they are where the driver runs.
    """
    from distributed import get_worker

    worker = get_worker()
    host = socket.gethostname()
    try:
        check_facts(facts, expected)
        _check_needs(piece, host)
        result = call(piece.value, _Teller(worker, key, topic))
    except GlombridgeError as error:
        return Answer(None, error, host, worker.address)
    except MemoryError:
        msg = f"out of memory on {host}. Give each worker more, or let fewer run there."
        return Answer(None, MachineError(msg), host, worker.address)
    return Answer(result, None, host, worker.address)


def scratch_folder() -> Path:
    """A folder of this worker's own, gone when it ends."""
    from distributed import get_worker

    return Path(get_worker().local_directory) / "glombridge"


def facts_here(facts: Facts | None) -> dict[str, str]:
    """What must be the same wherever one run works; a task of Dask."""
    system = {
        "glombridge": __version__,
        # Work is sent pickled, which does not travel between all versions of Python.
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return {**system, **(facts() if facts is not None else {})}


def differences(here: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Where two sets of versions differ, in words; empty if nowhere."""
    return ", ".join(
        f"{name} {here.get(name, 'missing')} instead of {wanted}"
        for name, wanted in expected.items()
        if here.get(name) != wanted
    )


_agreed: set[tuple[tuple[str, str], ...]] = set()


def check_facts(facts: Facts | None, expected: Mapping[str, str]) -> None:
    """Refuse to work with other versions than the driver's; looked at once per process.

    Raises:
        OtherVersionError: they differ.
    """
    key = tuple(sorted(expected.items()))
    if key in _agreed:
        return
    told = differences(facts_here(facts), expected)
    if told:
        msg = (
            f"the worker on {socket.gethostname()} has {told}. Install the same versions there, and "
            "start the worker again."
        )
        raise OtherVersionError(msg)
    _agreed.add(key)


def _check_needs(piece: Piece[Any], host: str) -> None:
    for path in piece.needs:
        if not os.access(path, os.R_OK):
            msg = (
                f"the worker on {host} does not see {path}, which the machine that runs glombridge "
                "sees. Slides and output must lie on storage that all workers mount at the same path."
            )
            raise UnseenError(msg)


class _Teller:
    """Sends progress to the driver now and then, and ends work that nobody waits for."""

    def __init__(self, worker: Any, key: str, topic: str) -> None:
        self._worker, self._key, self._topic = worker, key, topic
        self._told: float | None = None
        self._lock = threading.Lock()

    def __call__(self, done: int, of: int) -> None:
        # Dask cannot end a thread. A task that was cancelled, or whose client is gone, stays in this
        # state until it ends by itself (distributed 2026.8).
        task = self._worker.state.tasks.get(self._key)
        if task is not None and task.state == "cancelled":
            raise WorkStoppedError
        now = time.monotonic()
        with self._lock:
            if self._told is not None and now - self._told < TELL_EVERY_SECONDS:
                return
            self._told = now
        self._worker.log_event(self._topic, {"key": self._key, "done": done, "of": of})
