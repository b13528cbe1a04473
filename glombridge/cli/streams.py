"""Standard input, output and error as a shell may hand them over: closed, full, left, or ASCII.

The exit code says how the work ended. Whether anybody reads of it must not decide how it ends.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def prepare() -> None:
    """Make the three streams usable, whatever they are, before a command runs."""
    _occupy_closed()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    # A result that cannot be written is an error; of progress that cannot be shown nothing is lost.
    sys.stdout = _patient(sys.stdout, 1, BrokenPipeError)
    sys.stderr = _patient(sys.stderr, 2, OSError)


def knows_every_letter(stream: TextIO) -> bool:
    """Whether all of Unicode can be written to a stream, for others to read as UTF-8."""
    encoding = getattr(stream, "encoding", None)  # that of a text in memory is None
    return encoding is None or codecs.lookup(encoding).name == "utf-8"


class _Patient(io.FileIO):
    """An open file that leads nowhere once it could not be written: no error is told twice.

    Harmless ones are not told at all: `| head` closes the pipe after ten lines, a terminal goes away
    under a program in the background, the disk that holds a log fills up. A push or a training does
    not end for that.
    """

    def __init__(self, descriptor: int, harmless: type[OSError]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._harmless = harmless

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, self._harmless):
                return memoryview(data).nbytes
            raise


def _patient(stream: TextIO | None, descriptor: int, harmless: type[OSError]) -> TextIO:
    if stream is not None:
        stream.flush()
        if os.name == "nt" and stream.isatty():
            return stream  # Windows' console takes text, not bytes, and never closes before us
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(descriptor, harmless)),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace",  # not every terminal and no old locale knows all letters of names
        line_buffering=True,
    )


def _occupy_closed() -> None:
    """Open what is closed of the descriptors 0, 1 and 2.

    Otherwise the next files that are opened, an image's data among them, get these numbers, and what
    a library says to "standard error" is written into them.
    """
    while True:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened > 2:
            os.close(opened)
            return
        os.set_inheritable(opened, True)
