"""``glombridge push`` and ``withdraw``: what is put into a project, and taken out of it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, Number, common, guarding, mapping_slides

if TYPE_CHECKING:
    from ..sync.guards import Guards
    from ..sync.push import PushResult
    from ..sync.push_errors import PushErrorsResult
    from ..sync.signs import SignsImage
    from ..sync.withdraw import WithdrawResult


@cli.command()
@click.argument("project", type=PROJECT)
@click.argument("detections", type=PROJECT, required=False)
@click.option("--layer", help="Whose proposals this run replaces; default: main.")
@click.option(
    "--as", "objects", type=click.Choice(["annotation", "detection"]), help="QuPath object type."
)
@click.option("--min-confidence", type=Number(0, 1), help="Instead of the run's.")
@click.option("--include-test", is_flag=True, help="Into images of test patients too.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be pushed.")
@click.option(
    "--errors", is_flag=True, help="Instead: what the newest evaluation found missed and false."
)
@click.option("--weights", metavar="RUN", help="With --errors: the evaluated run.")
@guarding
@mapping_slides
@common
def push(
    project: Path,
    detections: Path | None,
    layer: str | None,
    objects: str | None,
    min_confidence: float | None,
    include_test: bool,
    skip_bad: bool,
    errors: bool,
    weights: str | None,
    guards: Guards,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Merge detections into the project as proposals. Changes nothing a human made."""
    from ..errors import UsageError
    from ..ledger.schema import DEFAULT_LAYER
    from ..objects import ObjectKind
    from ..steps.project import Project
    from ..steps.push import push as run
    from ..steps.push_errors import push_errors
    from . import console

    about_push = (detections, layer, objects, min_confidence)
    if errors and (skip_bad or any(value is not None for value in about_push)):
        msg = (
            "--errors shows an evaluation's errors; of the options about what to push it takes only "
            "--weights and --include-test"
        )
        raise UsageError(msg)
    if weights and not errors:
        msg = "--weights names the evaluated run for --errors; give a detection run as DETECTIONS"
        raise UsageError(msg)
    opened = Project.open(project, slides=slides)
    if errors:
        shown = push_errors(
            opened,
            run=weights,
            include_test=include_test,
            guards=guards,
            reporter=reporter,
        )
        console.answer(shown, show_errors, as_json=as_json)
        return
    result = run(
        opened,
        detections,
        layer=DEFAULT_LAYER if layer is None else layer,
        objects=ObjectKind(objects) if objects else None,
        min_confidence=min_confidence,
        include_test=include_test,
        skip_bad=skip_bad,
        guards=guards,
        reporter=reporter,
    )
    console.answer(result, show_push, as_json=as_json)
    result.raise_if_skipped()


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--run", "run_id", help="Id of the detection run.")
@click.option("--layer", help="Name of the layer.")
@guarding
@common
def withdraw(
    project: Path,
    run_id: str | None,
    layer: str | None,
    guards: Guards,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Take out a run's proposals that nobody has touched; pushing it again brings them back."""
    from ..steps.project import Project
    from ..steps.push import withdraw as run
    from . import console

    result = run(
        Project.open(project),
        run=run_id,
        layer=layer,
        guards=guards,
        reporter=reporter,
    )
    console.answer(result, show_withdrawal, as_json=as_json)


def show_push(result: PushResult) -> None:
    """What was put in and what was not."""
    from . import console

    rows = []
    for image in result.plans:
        p = image.plan
        fields = (p.add, p.update, p.withdraw, p.kept, p.conflicts, p.known, p.suppressed)
        rows.append([image.entry.name, *map(len, fields)])
    verb = "would be pushed" if result.dry_run else "pushed"
    layer = "" if result.layer == "main" else f" into layer {result.layer!r}"
    columns = ["image", "+", "~", "-", "=", "!", "human's", "refused"]
    console.table(f"{result.run} {verb}{layer}", columns, rows)
    console.line(
        "+ added, ~ updated, - withdrawn, = kept as it is, ! conflict (the human's word stands); "
        "human's: seen again, refused: where a human rejected or deleted"
    )
    conflicts = [(i.entry.name, c) for i in result.plans for c in i.plan.conflicts]
    for name, conflict in conflicts[: console.MOST_LINES]:
        console.line(f"! {name}: {conflict.id}: {conflict.text}")
    if len(conflicts) > console.MOST_LINES:
        console.line(f"! and {len(conflicts) - console.MOST_LINES} more, all with --json")
    console.written_as(result.write)
    if not (result.write or result.dry_run):
        console.line("nothing to write: the project is as this run would have it")


def show_errors(result: PushErrorsResult) -> None:
    """What was put in to be looked at."""
    from . import console

    verb = "would be shown" if result.dry_run else "shown"
    show_signs(f"errors of {result.run} {verb} as Missed and False", result.images)
    if result.left_out:
        console.line(
            f"note: {result.left_out} on images of test patients are left out, so that these stay "
            "marked blind to the model; --include-test shows them"
        )
    console.written_as(result.write)


def show_signs(title: str, images: Sequence[SignsImage]) -> None:
    """What was put in to be looked at, per image where there is any."""
    from . import console

    shown = (i for i in images if i.add or i.remove or i.kept)
    rows = [[i.entry.name, len(i.add), len(i.remove), i.kept] for i in shown]
    console.table(title, ["image", "added", "removed", "there already"], rows)


def show_withdrawal(result: WithdrawResult) -> None:
    """What was taken out and what stays."""
    from . import console

    rows = [
        [i.entry.name, f"-{len(i.withdrawn)}", len(i.stays)]
        for i in result.images
        if i.withdrawn or i.stays
    ]
    verb = "would be withdrawn" if result.dry_run else "withdrawn"
    console.table(f"{result.what} {verb}", ["image", "withdrawn", "touched by a human"], rows)
    console.written_as(result.write)
