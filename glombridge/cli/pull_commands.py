"""``glombridge pull`` and ``mark``: what is taken out of a project, and what counts as searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, TARGET, breaking_lock, common, guarding

if TYPE_CHECKING:
    from ..sync.guards import Guards
    from ..sync.pull import Pull


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--out", type=TARGET, help="Folder for the GeoJSON files.")
@click.option(
    "--objects",
    type=click.Choice(["annotations", "all"]),
    default="annotations",
    help="all: detections, cells, tiles and cores too.",
)
@breaking_lock
@common
def pull(
    project: Path,
    out: Path | None,
    objects: str,
    break_lock: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Take the annotations out as GeoJSON, one file per image. Writes nothing into QuPath's files."""
    from ..steps.project import Project
    from ..steps.pull import pull as run
    from . import console

    result = run(
        Project.open(project),
        out=out,
        every_kind=objects == "all",
        break_lock=break_lock,
        reporter=reporter,
    )
    console.answer(result, show_pull, as_json=as_json)


@cli.command()
@click.argument("project", type=PROJECT)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--searched/--not-searched", default=None, help="Every object of the image has been marked."
)
@guarding
@common
def mark(
    project: Path,
    images: tuple[str, ...],
    searched: bool | None,
    guards: Guards,
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """Say that images have been searched completely: what is not marked there is background."""
    from ..errors import UsageError
    from ..steps.mark import mark as run
    from ..steps.project import Project
    from . import console

    if searched is None:
        msg = "say what: --searched or --not-searched"
        raise UsageError(msg)
    result = run(
        Project.open(project),
        images,
        searched=searched,
        guards=guards,
    )
    if as_json:
        console.print_json(result.as_dict())
        return
    what = "searched" if searched else "not searched"
    would = "would be marked" if guards.dry_run else "marked"
    for name in result.changed:
        console.line(f"{would} as {what}: {name}")
    for name in result.unchanged:
        console.line(f"was {what} already: {name}")


def show_pull(result: Pull) -> None:
    """What was taken out, and what humans did since the last look."""
    from . import console

    columns = ["image", "objects", "truth", "pending", "rejected", "searched"]
    images = result.as_dict()["images"]
    rows = [[i["name"], *(i[c] for c in columns[1:])] for i in images]
    console.table(f"pulled to {result.folder}", columns, rows)
    for image in images:
        counts: dict[str, int] = {}
        for decision in image["decisions"]:
            what = "graded or looked at again" if decision.get("regraded") else decision["to"]
            counts[what] = counts.get(what, 0) + 1
        if counts:
            said = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
            console.line(f"since the last look: {image['name']}: {said}")
        if "lost" in counts:
            console.line(
                f"note: {image['name']}: a whole push is gone, as when QuPath saves an image that "
                "was open while it was pushed. Nobody decided anything: push again."
            )
        for name, n in image["unknown_classes"].items():
            console.line(f"note: {image['name']}: {n} of class {name!r}, which no setting mentions")
        for problem in image["problems"]:
            console.line(f"note: {image['name']}: {problem}")
    if not result.changed:
        console.line("nothing changed since that pull")
