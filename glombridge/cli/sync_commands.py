"""The commands between QuPath project and program: pull, push, withdraw, undo, and what they left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import Reporter
from .main import (
    PROJECT,
    breaking_lock,
    cli,
    common,
    guarding,
    mapping_slides,
)

if TYPE_CHECKING:
    from ..ledger.writes import Write
    from ..review.times import ReviewTime
    from ..steps.history import HistoryResult
    from ..steps.layers import Comparison, LayerRow
    from ..sync.guards import Guards
    from ..sync.pull import Pull
    from ..sync.push import PushResult
    from ..sync.push_errors import PushErrorsResult
    from ..sync.withdraw import WithdrawResult

MOST_LINES = 20
"""Of what is listed object by object; the rest is counted and stands in ``--json``."""


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--out", type=PROJECT, help="Folder for the GeoJSON files.")
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
    if as_json:
        console.print_json(result.as_dict())
    else:
        show_pull(result)


@cli.command()
@click.argument("project", type=PROJECT)
@click.argument("detections", type=PROJECT, required=False)
@click.option("--layer", default="main", help="Whose proposals this run replaces; default: main.")
@click.option(
    "--as", "objects", type=click.Choice(["annotation", "detection"]), help="QuPath object type."
)
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Instead of the run's.")
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
    layer: str,
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
    from ..objects import ObjectKind
    from ..steps.project import Project
    from ..steps.push import push as run
    from ..steps.push_errors import push_errors
    from . import console

    if errors and (detections or objects or min_confidence is not None or skip_bad):
        msg = (
            "--errors shows an evaluation's errors; of the options about what to push it takes only "
            "--weights and --include-test"
        )
        raise UsageError(msg)
    if weights and not errors:
        msg = "--weights names the evaluated run for --errors; give a detection run's folder as DETECTIONS"
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
        if as_json:
            console.print_json(shown.as_dict())
        else:
            show_errors(shown)
        return
    result = run(
        opened,
        detections,
        layer=layer,
        objects=ObjectKind(objects) if objects else None,
        min_confidence=min_confidence,
        include_test=include_test,
        skip_bad=skip_bad,
        guards=guards,
        reporter=reporter,
    )
    if as_json:
        console.print_json(result.as_dict())
    else:
        show_push(result)
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
    if as_json:
        console.print_json(result.as_dict())
    else:
        show_withdrawal(result)


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--list", "only_list", is_flag=True, help="Show the writes on record, newest last.")
@click.option("--write", help="Id of the write; the newest by default.")
@guarding
@common
def undo(
    project: Path,
    only_list: bool,
    write: str | None,
    guards: Guards,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Bring back the data files that the last write replaced."""
    from ..steps.project import Project
    from ..steps.undo import list_writes
    from ..steps.undo import undo as run
    from . import console

    opened = Project.open(project)
    if only_list:
        show_writes(list_writes(opened), as_json=as_json)
        return
    result = run(
        opened,
        write,
        guards=guards,
        reporter=reporter,
    )
    if as_json:
        console.print_json(result.as_dict())
        return
    would = "would be undone" if guards.dry_run else "undone"
    console.table(
        f"{result.write.id} ({result.write.event} of {result.write.run}) {would}",
        ["image", "entry", "data file"],
        [[i.name, i.image, i.outcome.value] for i in result.images],
    )
    if not result.restored:
        console.line("nothing to do: it was undone before")
    if result.before:
        console.line(f"to go back further: glombridge undo {project} --write {result.before}")


@cli.command()
@click.argument("project", type=PROJECT)
@click.option(
    "--compare", nargs=2, metavar="LAYER LAYER", help="What two layers have in common, and not."
)
@common
def layers(
    project: Path,
    compare: tuple[str, str] | None,
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """What each run has in the project and what became of it, as of the last pull or push."""
    from ..steps.layers import compare as compare_layers
    from ..steps.layers import layers as run
    from ..steps.project import Project
    from . import console

    opened = Project.open(project)
    if compare:
        comparison = compare_layers(opened, *compare)
        if as_json:
            console.print_json(comparison.as_dict())
        else:
            show_comparison(comparison)
        return
    rows = run(opened)
    if as_json:
        console.print_json({"layers": [row.as_dict() for row in rows]})
    else:
        show_layers(rows)


@cli.command()
@click.argument("project", type=PROJECT)
@click.argument("object_id", metavar="[ID]", required=False)
@click.option("-n", "--newest", type=click.IntRange(1), default=20, help="Events; default: 20.")
@click.option(
    "--times", "of_readers", is_flag=True, help="Seconds per glomerulus, by reader and round."
)
@common
def history(
    project: Path,
    object_id: str | None,
    newest: int,
    of_readers: bool,
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """Who did what to an object, when; without ID, what was done to the project."""
    from ..errors import UsageError
    from ..steps.history import history as run
    from ..steps.history import times
    from ..steps.project import Project
    from . import console

    if of_readers:
        if object_id is not None:
            msg = "--times is about the whole project; leave the ID out, or --times"
            raise UsageError(msg)
        spent = times(Project.open(project))
        if as_json:
            console.print_json({"times": [t.as_dict() for t in spent]})
        else:
            show_times(spent)
        return
    result = run(Project.open(project), object_id, newest=newest)
    if as_json:
        console.print_json(result.as_dict())
    else:
        show_history(result)


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
    for name, conflict in conflicts[:MOST_LINES]:
        console.line(f"! {name}: {conflict.id}: {conflict.text}")
    if len(conflicts) > MOST_LINES:
        console.line(f"! and {len(conflicts) - MOST_LINES} more, all with --json")
    if result.write:
        console.line(f"written as {result.write}; 'glombridge undo' takes it back")
    elif not result.dry_run:
        console.line("nothing to write: the project is as this run would have it")


def show_errors(result: PushErrorsResult) -> None:
    """What was put in to be looked at."""
    from . import console

    rows = [
        [i.entry.name, len(i.add), len(i.remove), i.kept]
        for i in result.images
        if i.add or i.remove or i.kept
    ]
    verb = "would be shown" if result.dry_run else "shown"
    console.table(
        f"errors of {result.run} {verb} as Missed and False",
        ["image", "added", "removed", "there already"],
        rows,
    )
    if result.left_out:
        console.line(
            f"note: {result.left_out} on images of test patients are left out, so that these stay "
            "marked blind to the model; --include-test shows them"
        )
    if result.write:
        console.line(f"written as {result.write}; 'glombridge undo' takes it back")


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
    if result.write:
        console.line(f"written as {result.write}; 'glombridge undo' takes it back")


def show_layers(rows: list[LayerRow]) -> None:
    """A run a row."""
    from . import console

    if not rows:
        console.line("nothing was ever pushed")
        return
    states = sorted({s for row in rows for s in row.states}, key=lambda s: s.value)
    console.table(
        "layers, as of the last look at each image",
        ["layer", "run", "images", *(s.value for s in states)],
        [[r.layer, r.run, r.images, *(r.states.get(s, 0) for s in states)] for r in rows],
    )


def show_comparison(result: Comparison) -> None:
    """Objects that both layers have, and those that one has, by what humans made of them."""
    from . import console

    groups = {
        "both": result.both,
        f"only {result.first}": result.only_first,
        f"only {result.second}": result.only_second,
    }
    states = sorted({s for counts in groups.values() for s in counts}, key=lambda s: s.value)
    console.table(
        f"{result.first} and {result.second}",
        ["objects", "all", *(s.value for s in states)],
        [
            [name, sum(counts.values()), *(counts.get(s, 0) for s in states)]
            for name, counts in groups.items()
        ],
    )


def show_history(result: HistoryResult) -> None:
    """An object's life, or the project's events."""
    from . import console

    if result.object is None:
        for event in result.events:
            if event["event"] not in (
                "write-done",
                "content",
            ):  # they only confirm what stands before
                console.line(_event(event, result.images))
        return
    where = result.images.get(result.steps[0].image, "?")
    console.line(f"object {result.object} in {where}")
    for step in result.steps:
        by = (
            f"{step.event}{f' of {of}' if (of := step.run or step.layer) else ''} ({step.write})"
            if step.write
            else f"by {step.who}, between {step.after or 'ever'} and {step.before}"
        )
        score = "" if step.score is None else f", confidence {step.score:.3f}"
        undone = ", undone" if step.undone else ""
        console.line(
            f"{step.at}  {step.state.value:<13}{step.path_class or '-'}{score}: {by}{undone}"
        )
        grades = ", ".join(f"{name} {value:g}" for name, value in step.grades.items())
        if said := "; ".join(
            [
                *([grades] if grades else []),
                *([f"graded by {step.graded}"] if step.graded else []),
                *([f"{step.seconds:g} s in all"] if step.seconds is not None else []),
            ]
        ):
            console.line(f"{'':<22}{said}")


def show_times(times: list[ReviewTime]) -> None:
    """A reader and round a row."""
    from . import console

    if not times:
        console.line("nothing was decided yet, as of the last pull")
        return
    console.table(
        "seconds per glomerulus, by reader and the run that proposed it",
        ["reader", "round", "decided", "time known", "unknown", "median s", "total s"],
        [
            [
                t.reader,
                t.round,
                t.objects,
                t.known,
                t.objects - t.known,
                t.median_seconds,
                t.total_seconds,
            ]
            for t in times
        ],
    )


def _event(event: dict[str, Any], images: dict[int, str]) -> str:
    """One event of the project as one line."""
    what = event["command"] if event["event"] == "write-begun" else event["event"]
    keys = ("run", "layer", "write", "undoes", "pull", "dataset", "searched")
    said = {k: event[k] for k in keys if event.get(k) is not None}
    if event.get("image") is not None:
        said["image"] = images.get(event["image"], event["image"])
    signs = {"add": "+", "update": "~", "withdraw": "-", "decisions": "decisions "}
    said["changes"] = " ".join(f"{s}{event[k]}" for k, s in signs.items() if event.get(k))
    return f"{event['at']}  {what:<13}" + ", ".join(f"{k} {v}" for k, v in said.items() if v)


def show_writes(writes: list[Write], *, as_json: bool) -> None:
    """The writes on record, for who wants to undo one."""
    from . import console

    if as_json:
        console.print_json({"writes": [w.as_dict() for w in writes]})
        return
    if not writes:
        console.line("no write on record")
        return
    console.table(
        "writes on record",
        ["write", "when", "what", "run", "images", "undone"],
        [[w.id, w.at, w.event, w.run, len(w.images), "yes" if w.undone else "no"] for w in writes],
    )
