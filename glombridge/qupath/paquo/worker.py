"""The worker process as the rest of the program sees it: questions in, plain values out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import weakref
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from ...errors import MachineError, MissingComponentError
from ...filenames import shown_line
from .serving import FAILED, MISSING, serve
from .transfer import ReadRequest, RewriteRequest

_END_SECONDS = 5.0


class QuPathFailedError(Exception):
    """QuPath answered a request with an exception; the message is QuPath's."""


class Worker:
    """A QuPath in a process of its own, started at once.

    The process is spawned, not forked: a JVM does not survive a fork. As with everything that
    :mod:`multiprocessing` spawns, a script that gets here needs ``if __name__ == "__main__":``.

    Raises:
        MissingComponentError: no QuPath is found, or it does not start.
    """

    def __init__(self) -> None:
        self._log = _new_log()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=serve, args=(theirs, str(self._log)), name="glombridge-qupath", daemon=True
        )
        self._process.start()
        theirs.close()
        # Also at the end of the program, should nobody close it.
        self._end = weakref.finalize(self, _end, self._connection, self._process, self._log)
        try:
            state, *rest = self._receive()
            if state == MISSING:
                self._not_there(rest[0])
            self.version = str(rest[0])
            self.rounds_geometry = bool(rest[2])
            if not rest[1]:
                self._not_there(f"QuPath {self.version} has no object ids; 0.4 or later is needed")
        except MachineError as error:
            self._not_there(str(error))
        except BaseException:
            self.close()
            raise

    def _not_there(self, reason: str) -> NoReturn:
        self.close()
        msg = (
            f"QuPath could not be started: {reason}. Set PAQUO_QUPATH_DIR to the folder of an "
            'installed QuPath, or do without it: store = "native" in [project] of the settings.'
        )
        raise MissingComponentError(msg)

    @property
    def process_id(self) -> int | None:
        """Of the worker."""
        return self._process.pid

    def ask(self, request: ReadRequest | RewriteRequest) -> Any:
        """Send a request and wait for its answer.

        Raises:
            QuPathFailedError: QuPath raised an exception.
            MachineError: the worker is gone.
        """
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._gone() from error
        state, value = self._receive()
        if state == FAILED:
            # Java's messages may go on over several lines, with links to the web.
            raise QuPathFailedError(shown_line(str(value).partition("\n")[0].strip()))
        return value

    def _receive(self) -> tuple[Any, ...]:
        try:
            # A second end of the pipe could be held open elsewhere, so look at the process too.
            while not self._connection.poll(1.0):
                if not self._process.is_alive() and not self._connection.poll(0):
                    raise self._gone()
            answer: tuple[Any, ...] = self._connection.recv()
        except (EOFError, OSError) as error:
            if isinstance(error, MachineError):
                raise
            raise self._gone() from error
        return answer

    def _gone(self) -> MachineError:
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        said = ""
        with contextlib.suppress(OSError):
            lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
            said = f" It last said: {lines[-1][:300]!r}." if lines else said
        msg = (
            f"the process that runs QuPath has ended (exit code {code}), perhaps for want of "
            f"memory; the project is unchanged.{said} Try again, give Java more memory "
            "(PAQUO_JAVA_OPTS), or use the native store."
        )
        self.close()
        return MachineError(msg)

    def close(self) -> None:
        """End the process. Can be called twice."""
        self._end()


def _new_log() -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix="glombridge-qupath-", suffix=".log")
    except OSError as error:
        msg = f"cannot make a temporary file: {error}. Set TMPDIR to a folder with space."
        raise MachineError(msg) from error
    os.close(handle)
    return Path(name)


def _end(connection: Connection, process: BaseProcess, log: Path) -> None:
    connection.close()
    process.join(_END_SECONDS)
    if process.is_alive():
        process.kill()
        process.join(_END_SECONDS)
    with contextlib.suppress(OSError):
        log.unlink()
