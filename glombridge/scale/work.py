"""What a piece of work is, what comes of it, and the simplest place to do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..errors import GlombridgeError, MachineError

T = TypeVar("T")
R = TypeVar("R")

Tell = Callable[[int, int], None]
"""Told how far a piece is: steps done, and steps in all. A piece that begins anew counts from 0."""

Facts = Callable[[], Mapping[str, str]]
"""What results depend on beside the work itself: versions of libraries. Driver and workers must agree."""


@dataclass(frozen=True)
class Piece(Generic[T]):
    """Work on one slide. It can be sent to another process, or another machine.

    Attributes:
        name: of the slide, for messages.
        value: what the work is given.
        needs: files and folders on shared storage without which it cannot be done.
    """

    name: str
    value: T
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What came of a piece: a result, or the reason why there is none.

    Attributes:
        piece: as it was given.
        result: of the work; ``None`` where it failed.
        error: why it failed.
        worker: host that did it; empty = this one.
    """

    piece: Piece[T]
    result: R | None = None
    error: GlombridgeError | None = None
    worker: str = ""


class Workplace(Protocol):
    """Does the same work on many slides."""

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
        """Do each piece once; one that fails does not stop the others.

        Args:
            call: the work: a function of a module, of plain values, without a memory of its own.
            pieces: what to do, taken as there is room for it.
            on_outcome: given what came of each, in the order in which they end; called in the
                thread that called this.
            facts: which versions decide the results.
            with_model: the work needs the model, so it belongs where the GPUs are.
            on_progress: told how far each is, in the same thread.

        Raises:
            MachineError: something that would happen with every piece: disk full, no worker left.
        """
        ...


class OneMachine:
    """This process: one piece after the other."""

    def each(
        self,
        call: Callable[[T, Tell], R],
        pieces: Iterable[Piece[T]],
        on_outcome: Callable[[Outcome[T, R]], None],
        *,
        facts: Facts | None = None,  # noqa: ARG002 - they agree
        with_model: bool = False,  # noqa: ARG002 - there is one place only
        on_progress: Callable[[Piece[T], int, int], None] | None = None,
    ) -> None:
        """As :meth:`Workplace.each`."""
        for piece in pieces:

            def tell(done: int, of: int, piece: Piece[T] = piece) -> None:
                if on_progress is not None:
                    on_progress(piece, done, of)

            try:
                outcome: Outcome[T, R] = Outcome(piece, call(piece.value, tell))
            except MachineError:
                raise
            except GlombridgeError as error:
                outcome = Outcome(piece, error=error)
            on_outcome(outcome)
