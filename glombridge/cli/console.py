"""What a person sees: progress on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..filenames import shown_line, shown_text
from ..progress import SILENT, Reporter, Task
from . import streams

LOG_EVERY_SECONDS = 15.0
MOST_LINES = 20
"""Of what is listed one by one; the rest is counted and stands in ``--json``."""

MOST_ROWS = 1000
"""Of a table that is shown. Nobody reads ten thousand, and rich would take seconds to set them."""

FOLDED_CHARS = 16
"""A column is at least so wide, or as wide as what is in it."""

NO_EDGE = 10_000

OUT = Console(highlight=False, emoji=False)
ERR = Console(stderr=True, highlight=False, emoji=False)


class Result(Protocol):
    """What a command has to say."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        ...


R = TypeVar("R", bound=Result)


class RichReporter:
    """Progress bars on standard error; without a terminal, a line now and then."""

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[Task]:
        """Show a bar while the block runs."""
        if not ERR.is_terminal:
            yield _Lines(description, total)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}", markup=True),
        )
        with Progress(*columns, console=ERR) as progress:
            task_id = progress.add_task(shown_line(description), total=total, note="")
            yield _Bar(progress, task_id)
            progress.update(task_id, completed=total or 0, note="")


class _Bar:
    def __init__(self, progress: Progress, task_id: TaskID) -> None:
        self._progress = progress
        self._task_id = task_id

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """Move the bar."""
        if note is None:
            self._progress.update(self._task_id, advance=steps)
        else:
            self._progress.update(self._task_id, advance=steps, note=escape(shown_line(note)))


class _Lines:
    """For log files: a line when a task begins, when it ends, and now and then between."""

    def __init__(self, description: str, total: float | None) -> None:
        self._description = description
        self._total = total
        self._done = 0.0
        self._started = self._told = time.monotonic()
        self._tell("...")

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """Say how far it is, if the last word is a while ago."""
        self._done += steps
        now = time.monotonic()
        if self._total and self._done >= self._total - 1e-6:
            self._tell(f"done in {now - self._started:.0f} s")
            self._total = None
        elif now - self._told >= LOG_EVERY_SECONDS:
            share = (
                f"{100 * self._done / self._total:.0f} %" if self._total else f"{self._done:.0f}"
            )
            self._tell(share + (f", {note}" if note else ""))

    def _tell(self, text: str) -> None:
        self._told = time.monotonic()
        ERR.print(shown_line(f"{self._description}: {text}"), markup=False, soft_wrap=True)


def reporter(*, quiet: bool) -> Reporter:
    """Where progress goes."""
    return SILENT if quiet else RichReporter()


def print_json(document: Any) -> None:
    """One JSON document on standard output, and nothing else there."""
    sys.stdout.write(json_text(document, sys.stdout, indent=2) + "\n")
    sys.stdout.flush()


def json_text(document: Any, stream: TextIO, *, indent: int | None = None) -> str:
    """A document as a stream can take it: in a terminal that knows no umlauts they are spelt out."""
    ascii_only = not streams.knows_every_letter(stream)
    # What is spelt out stands inside strings, where JSON reads it as the same character.
    return shown_text(json.dumps(document, indent=indent, ensure_ascii=ascii_only))


def answer(result: R, show: Callable[[R], None], *, as_json: bool) -> None:
    """A command's result, as one JSON document or as people read it."""
    if as_json:
        print_json(result.as_dict())
    else:
        show(result)


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table on standard output; columns after the first are numbers, set right.

    Of more than :data:`MOST_ROWS` the first are shown and the rest is counted. Long texts are folded
    where the screen is narrow; words and numbers never, and a table of too many goes over its edge.
    """
    made = Table(
        title=Text(shown_line(title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    cells = [[Text("-" if v is None else shown_line(str(v))) for v in r] for r in rows[:MOST_ROWS]]
    for k, column in enumerate(columns):
        head = Text(shown_line(column))
        words = [len(word) for word in head.plain.split()]
        widest = max((row[k].cell_len for row in cells), default=0)
        made.add_column(
            head,
            justify="left" if k == 0 else "right",
            overflow="fold",
            min_width=min(max([widest, *words]), FOLDED_CHARS),
        )
    for row in cells:
        made.add_row(*row)
    if _narrowest(made) > OUT.width:
        made.pad_edge, made.collapse_padding = False, True
        if (needed := _narrowest(made)) > OUT.width:
            made.width = needed
    OUT.print(made, crop=False)
    if len(rows) > MOST_ROWS:
        line(f"... and {len(rows) - MOST_ROWS} more rows, all with --json")


def _narrowest(made: Table) -> int:
    return Measurement.get(OUT, OUT.options.update(width=NO_EDGE), made).minimum


def line(text: str) -> None:
    """One line on standard output, whatever names are in it."""
    OUT.print(shown_line(text), markup=False, soft_wrap=True)


def key_to_codes(file: Path) -> None:
    """Where the names behind the codes of what was just written are."""
    line(f"key to the codes: {file}; keep it, and never hand it out")


def written_as(write: str | None) -> None:
    """By what id a write is known, where there was one."""
    if write:
        line(f"written as {write}; 'glombridge undo' takes it back")
