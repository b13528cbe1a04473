"""``glombridge copy`` and ``agree``: what two readers need, and what they make of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .main import PROJECT, cli, common, mapping_slides

if TYPE_CHECKING:
    from ..steps.copy import CopyResult


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--reader", required=True, metavar="NAME", help="Who will read the copy.")
@click.option("--out", type=PROJECT, metavar="DIR", help="Folder of the copy: new or empty.")
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
    if as_json:
        console.print_json(result.as_dict())
    else:
        show_copy(result)


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
