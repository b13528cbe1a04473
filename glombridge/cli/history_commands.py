"""``glombridge layers``, ``history`` and ``undo``: what was done, and taking it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, common, guarding

if TYPE_CHECKING:
    from ..ledger.writes import Write
    from ..review.times import ReviewTime
    from ..steps.history import HistoryResult
    from ..steps.layers import Comparison, LayerRow
    from ..sync.guards import Guards


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
        console.answer(comparison, show_comparison, as_json=as_json)
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
    console.answer(result, show_history, as_json=as_json)


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
    of_run = f" of {result.write.run}" if result.write.run else ""
    console.table(
        f"{result.write.id} ({result.write.event}{of_run}) {would}",
        ["image", "entry", "data file"],
        [[i.name, i.image, i.outcome.value] for i in result.images],
    )
    if not result.restored:
        console.line("nothing to do: it was undone before")
    if result.before:
        console.line(f"to go back further: glombridge undo {project} --write {result.before}")


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
