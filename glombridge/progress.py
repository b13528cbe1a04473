"""How a long step tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """Say that ``steps`` more of the total are done; ``note`` is shown beside the bar."""
        ...


class Reporter(Protocol):
    """Receives the progress of a command: a terminal, a log, or nobody."""

    def task(self, description: str, total: float | None) -> AbstractContextManager[Task]:
        """Open a task of ``total`` steps (``None`` = unknown), to be used with ``with``."""
        ...


class _SilentTask:
    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """Nobody listens."""


class SilentReporter:
    """A reporter for library use and tests."""

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Task]:  # noqa: ARG002
        """A task nobody watches."""
        yield _SilentTask()


SILENT = SilentReporter()
