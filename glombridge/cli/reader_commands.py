"""``glombridge copy`` and ``agree``: what two readers need, and what they make of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, TARGET, common, guarding, mapping_slides
from .push_commands import show_signs

if TYPE_CHECKING:
    from ..evaluation.intervals import Interval
    from ..steps.agree import AdjudicateResult, AgreeResult
    from ..steps.copy import CopyResult
    from ..sync.guards import Guards


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--reader", required=True, metavar="NAME", help="Who will read the copy.")
@click.option("--out", type=TARGET, metavar="DIR", help="Folder of the copy: new or empty.")
@click.option(
    "--with",
    "shown",
    type=click.Choice(["proposals", "outlines", "nothing"]),
    default="proposals",
    show_default=True,
    help="Proposals and marked outlines, all to be judged; marked outlines to be graded; or the "
    "images alone.",
)
@click.option("--seed", type=int, help="Of the order; the settings' seed by default.")
@click.option(
    "--metadata",
    "metadata_keys",
    multiple=True,
    metavar="KEY",
    help="Metadata of images that goes over, beside patient and stain; may be given again.",
)
@mapping_slides
@common
def copy(
    project: Path,
    reader: str,
    out: Path | None,
    shown: str,
    seed: int | None,
    metadata_keys: tuple[str, ...],
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """A copy for one reader: the same images, nobody's marks, no scores. Slides are not copied."""
    from ..review.blinding import Shown
    from ..steps.copy import copy as run
    from ..steps.project import Project
    from . import console

    result = run(
        Project.open(project, slides=slides),
        reader,
        out=out,
        shown=Shown(shown),
        seed=seed,
        metadata_keys=metadata_keys,
        reporter=reporter,
    )
    console.answer(result, show_copy, as_json=as_json)


@cli.command()
@click.argument("projects", type=PROJECT, nargs=-1, required=True, metavar="PROJECT PROJECT...")
@click.option("--out", type=TARGET, metavar="DIR", help="Folder for the tables.")
@click.option(
    "--adjudicate",
    type=PROJECT,
    metavar="PROJECT",
    help="Show the disagreements in this project as a queue.",
)
@guarding
@common
def agree(
    projects: tuple[Path, ...],
    out: Path | None,
    adjudicate: Path | None,
    guards: Guards,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Kappa per lesion of readers who each read a copy, what they found, what to adjudicate."""
    from ..errors import UsageError
    from ..steps.agree import adjudicate as show
    from ..steps.agree import agree as run
    from ..steps.project import Project
    from ..sync.guards import Guards
    from . import console

    if adjudicate is None and guards != Guards():
        msg = "--dry-run, --while-qupath-runs and --break-lock go with --adjudicate PROJECT"
        raise UsageError(msg)
    target = None if adjudicate is None else Project.open(adjudicate)
    result = run([Project.open(p) for p in projects], out=out, reporter=reporter)
    shown = None
    if target is not None:
        shown = show(
            result,
            target,
            guards=guards,
            reporter=reporter,
        )
    if as_json:
        document = result.as_dict()
        if shown is not None:
            document["adjudicate"] = shown.as_dict()
        console.print_json(document)
        return
    show_agreement(result)
    if shown is not None:
        show_adjudication(shown)


def show_agreement(result: AgreeResult) -> None:
    """A table of lesions for every two readers, and how much there is to adjudicate."""
    from ..review.kappa import Weights
    from . import console

    for pair in result.comparison.pairs:
        first, second = result.readers[pair.first], result.readers[pair.second]
        rows = []
        for lesion in pair.lesions:
            kappas = [
                _with_interval(lesion.kappas.get(w), lesion.intervals.get(w)) for w in Weights
            ]
            agreeing = f"{lesion.agreeing} of {lesion.n}"
            rows.append([lesion.lesion, agreeing, lesion.unknown, *kappas])
        console.table(
            f"{first} and {second}, {pair.images} images",
            ["lesion", "same grade", "not graded", "kappa", "linear", "quadratic"],
            rows,
        )
        found = _with_interval(pair.found_agreement, pair.found_interval)
        console.line(
            f"glomeruli: {pair.both} by both, {pair.only_first} only by {first}, {pair.only_second} only "
            f"by {second} ({pair.rejected_by_other} of these rejected by the other); agreement {found}"
        )
        if pair.pending:
            console.line(f"note: {pair.pending} places are not judged yet by one of them: left out")
        for lesion in pair.lesions:
            if lesion.n and lesion.why_undefined:
                console.line(f"note: {lesion.lesion}: kappa is {lesion.why_undefined}")
        if pair.patients is not None and pair.has_few_patients:
            console.line(f"note: only {pair.patients} patients: intervals say little")
    for note in result.notes:
        console.line(f"note: {note}")
    console.line(f"to adjudicate: {len(result.comparison.disagreements)}")
    for file in result.files:
        console.line(f"written: {file}")


def show_adjudication(result: AdjudicateResult) -> None:
    """What was put in to be looked at."""
    from . import console

    verb = "would be shown" if result.dry_run else "shown"
    show_signs(f"disagreements {verb} as Disagreement", result.images)
    for name in result.missing:
        console.line(f"note: {name} is not in that project; its disagreements are not shown")
    console.written_as(result.write)


def _with_interval(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "-"
    span = "" if interval is None else f" ({interval.low:.2f} to {interval.high:.2f})"
    return f"{value:.2f}{span}"


def show_copy(result: CopyResult) -> None:
    """What the reader gets."""
    from . import console

    console.table(
        f"copy for {result.reader}: {result.folder}",
        ["image", "to judge"],
        [[i.name, i.objects] for i in result.images],
    )
    for note in result.notes:
        console.line(f"note: {note}")
