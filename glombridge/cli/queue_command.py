"""``glombridge queue``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, common, guarding

if TYPE_CHECKING:
    from ..review.queue_writing import QueueResult
    from ..sync.guards import Guards


@cli.command()
@click.argument("project", type=PROJECT)
@click.option(
    "--strategy",
    type=click.Choice(["uncertainty", "disagreement", "random"]),
    default="uncertainty",
    show_default=True,
    help="uncertainty: nearest to the operating point; disagreement: seen by one layer and not by another.",
)
@click.option("--seed", type=click.IntRange(0), help="Of the random order; that of the settings.")
@click.option("--clear", is_flag=True, help="Take every rank and reason away.")
@click.option("--include-test", is_flag=True, help="Those of test patients too.")
@click.option("--skip-bad", is_flag=True, help="Leave out images of test patients.")
@guarding
@common
def queue(
    project: Path,
    strategy: str,
    seed: int | None,
    clear: bool,
    include_test: bool,
    skip_bad: bool,
    guards: Guards,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Rank what to review next, with the reason: on proposals that nobody has touched."""
    from ..steps.project import Project
    from ..steps.queue import queue as run
    from . import console

    result = run(
        Project.open(project),
        strategy=strategy,
        seed=seed,
        clear=clear,
        include_test=include_test,
        skip_bad=skip_bad,
        guards=guards,
        reporter=reporter,
    )
    console.answer(result, show_queue, as_json=as_json)


def show_queue(result: QueueResult) -> None:
    """The first of the queue, and what was written."""
    from ..provenance import CONFIDENCE
    from . import console

    would = "would be " if result.dry_run else ""
    if result.cleared:
        console.line(f"{would}taken out of the queue: {result.changed}")
    else:
        rows = [
            [
                r.rank,
                result.names[r.candidate.image],
                r.candidate.object.measurements.get(CONFIDENCE),
                r.reason,
            ]
            for r in result.ranked[: console.MOST_LINES]
        ]
        console.table(
            f"to review, by {result.strategy}: {len(result.ranked)}",
            ["rank", "image", "confidence", "reason"],
            rows,
        )
        if len(result.ranked) > console.MOST_LINES:
            console.line(f"and {len(result.ranked) - console.MOST_LINES} more, all with --json")
        console.line(f"{would}given another place: {result.changed}")
    for name in result.left_out:
        console.line(f"note: left out, as its patient is for testing: {name}")
    console.written_as(result.write)
    if not (result.write or result.dry_run):
        console.line("nothing to write: the project is as this queue would have it")
