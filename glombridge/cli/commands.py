"""One function per command: read the options, call the step, print the result.

Imports of the steps stand inside the functions: ``--help`` and ``status`` must answer at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .detect_command import show_detections
from .evaluate_command import show_evaluation
from .main import cli
from .options import PROJECT, common, downloading, mapping_slides, size_px, while_qupath_runs
from .push_commands import show_push
from .queue_command import show_queue
from .tile_command import show_tiles
from .train_command import show_training

if TYPE_CHECKING:
    from ..evaluation.metrics import Score
    from ..qupath import StoreKind
    from ..steps.doctor import DoctorResult
    from ..steps.lint import LintResult


@cli.command()
@click.argument("project", type=PROJECT)
@mapping_slides
@common
def status(
    project: Path,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """What is there, and what comes next. Reads no image data."""
    from ..steps.status import status as run
    from . import console

    result = run(project, slides=slides)
    if as_json:
        console.print_json(result.as_dict())
        return
    console.table(
        f"{result.project} (QuPath {result.qupath_version})",
        ["image", "slide", "truth", "pending", "judged", "away"],
        [
            [
                i["name"],
                "found" if i["slide_found"] else "MISSING",
                i["truth"],
                *_proposals(i["states"]),
            ]
            for i in result.images
        ],
    )
    missing = sum(not i["slide_found"] for i in result.images)
    if missing:
        console.line(f"slides missing: {missing} of {len(result.images)}")
    if result.parts:
        parts = ", ".join(f"{n} {part}" for part, n in sorted(result.parts.items()))
        console.line(f"patients: {parts}")
    newest = ", ".join(str(run) for run in result.newest.values() if run) or "nothing yet"
    console.line(f"newest: {newest}")
    if result.unfinished is not None:
        console.line(result.unfinished.text(project))
    console.line(result.review.text())
    console.line(f"next: {result.next_step}")


@cli.command()
@click.argument("project", type=PROJECT)
@click.option(
    "--store",
    type=click.Choice(["paquo", "native"]),
    help="How image data is read and written: by an installed QuPath, or without one. "
    "Default: by QuPath if one is found that is not older than the project.",
)
@click.option("--scheme", help="How glomeruli are graded: lupus, oxford, three-grade or FILE.toml.")
@common
def init(
    project: Path,
    store: StoreKind | None,
    scheme: str | None,
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """Write the settings file of a QuPath project, and the review scripts into it."""
    from ..steps.init import init as run
    from . import console

    result = run(project, store_kind=store, scheme=scheme)
    if as_json:
        console.print_json(result.as_dict())
        return
    done = "written" if result.created else "already there"
    console.line(f"settings {done}: {result.settings_file}")
    for name, aliases in result.settings.classes.items():
        console.line(f"class {name}: {', '.join(aliases)}")
    if result.settings.scheme is not None:
        graded = ", ".join(result.settings.graded_classes)
        console.line(f"grading scheme {result.settings.scheme.stamp}; it adds the classes {graded}")
    for note in result.notes:
        console.line(f"note: {note}")


@cli.command()
@click.argument("project", type=PROJECT, required=False)
@mapping_slides
@common
def doctor(
    project: Path | None, slides: tuple[str, ...], as_json: bool, reporter: Reporter
) -> None:
    """What is installed, found and reachable, here and in a project."""
    from ..steps.doctor import doctor as run
    from . import console

    result = run(project, slides=slides, reporter=reporter)
    console.answer(result, show_health, as_json=as_json)
    result.raise_if_ill()


@cli.command()
@click.argument("files", type=PROJECT, nargs=-1, required=True)
@click.option("--fix", is_flag=True, help="Write NAME.fixed.geojson beside each faulty file.")
@click.option("--slide", type=PROJECT, help="The slide: what lies off it is a fault.")
@click.option("--size", callback=size_px, metavar="WxH", help="The slide's size in pixels instead.")
@common
def lint(
    files: tuple[Path, ...],
    fix: bool,
    slide: Path | None,
    size: tuple[int, int] | None,
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """Check the objects of any QuPath GeoJSON; --fix writes a repaired copy."""
    from ..errors import InputError
    from ..steps.lint import lint as run
    from . import console

    result = run(files, fix=fix, slide=slide, size_px=size)
    console.answer(result, show_lint, as_json=as_json)
    if result.problems:
        is_repairable = not fix and any(f.is_repairable for f in result.files)
        out = "'--fix' writes a repaired copy." if is_repairable else "A person has to decide."
        msg = f"{result.problems} problems in {len(files)} files. {out}"
        raise InputError(msg)


@cli.command(name="round")
@click.argument("project", type=PROJECT)
@click.option("--device", help="As torch names it: cpu, 0.")
@click.option(
    "--preset",
    type=click.Choice(["paper"]),
    help="paper: its tiles, its split and its model, YOLOv5 Large (or --model yolov5x).",
)
@click.option("--model", help="As of 'train'; that of the settings by default.")
@downloading
@while_qupath_runs
@mapping_slides
@common
def round_(
    project: Path,
    device: str | None,
    preset: str | None,
    model: str | None,
    download: bool,
    while_qupath_runs: bool,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Pull, tile, train, evaluate, detect, push and queue, once."""
    from ..steps.project import Project
    from ..steps.round import paper_round, walk_round
    from ..steps.train import options_of
    from . import console

    opened = Project.open(project, slides=slides)
    options = options_of(opened, device=device, model=model, allow_download=download or None)
    if preset == "paper":
        opened, options = paper_round(opened, options, model)
    result = walk_round(
        opened,
        options=options,
        device=device,
        while_qupath_runs=while_qupath_runs,
        reporter=reporter,
    )
    if as_json:
        console.print_json(result.as_dict())
        return
    show_tiles(result.tile)
    show_training(result.train)
    show_evaluation(result.evaluate)
    show_detections(result.detect)
    show_push(result.push)
    show_queue(result.queue)
    console.line(f"next: open {opened.store.project_file} in QuPath and review the proposals")


@cli.command()
@click.argument("folder", type=PROJECT, default=Path("demo"))
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="The same seed paints the same slides.",
)
@click.option("--quick", is_flag=True, help="Five small slides, to try the commands in seconds.")
@common
def demo(folder: Path, seed: int, quick: bool, as_json: bool, reporter: Reporter) -> None:
    """The whole loop on slides it paints itself, into FOLDER. No GPU, no QuPath, no network."""
    from ..demo.run import run_demo
    from . import console

    result = run_demo(folder, seed=seed, quick=quick, reporter=reporter)
    if as_json:
        console.print_json(result.as_dict())
        return
    show_tiles(result.round.tile)
    show_training(result.round.train)
    show_evaluation(result.round.evaluate)
    show_push(result.round.push)
    rows = [
        [s.name, s.group, s.score.truth, s.score.found, s.score.missed, s.score.false]
        for s in result.slides
    ]
    total = result.held_out
    rows.append(["all held-out slides", "", total.truth, total.found, total.missed, total.false])
    console.table(
        "Held-out slides against what was painted",
        ["slide", "", "truth", "found", "missed", "false"],
        rows,
    )
    console.line(f"held out: {_figures(total)} (one to one, IoU >= 0.5, after stitching)")
    console.line(f"took {result.seconds:.0f} s")
    console.line(f"look at: {result.sheet}")
    console.line(f"open in QuPath: {result.project_file}")
    console.line(f"next: glombridge status {result.project_file.parent}")


def show_health(result: DoctorResult) -> None:
    """One line per check; of sound images only how many there are."""
    from ..steps.doctor import summary
    from . import console

    for check in result.checks:
        way_out = f" -> {check.way_out}" if check.way_out else ""
        console.line(f"{check.state.value:<8}{check.name}: {check.text}{way_out}")
    if result.images:
        console.line(summary(result.images))


def show_lint(result: LintResult) -> None:
    """What is wrong with each object, and what was or can be done."""
    from . import console

    for file in result.files:
        if file.result is None:
            console.line(f"{file.path}: {file.error}")
            continue
        for finding in file.result.findings:
            kind = "note: " if finding.is_note else ""
            done = finding.done or ("" if finding.is_note else "to be decided by a person")
            if done and not finding.is_note and file.fixed is None and finding.done:
                done = f"can be fixed: {done}"
            arrow = f" -> {done}" if done else ""
            console.line(f"{file.path}: {finding.where}: {kind}{finding.text}{arrow}")
        count = f"{len(file.result.faults)} faults, {len(file.result.objects)} objects kept"
        console.line(f"{file.path}: {count if file.result.faults else 'no faults'}")
        if file.fixed is not None:
            console.line(f"{file.path}: repaired copy {file.fixed}")
            for what in file.result.lost:
                console.line(f"{file.path}: note: not in the copy: {what}")


def _proposals(states: dict[str, int]) -> tuple[int, int, int]:
    """Proposals that nobody has judged, that somebody has, and that are not there at present."""
    pending = states.get("proposal", 0)
    away = states.get("withdrawn", 0) + states.get("lost", 0)
    return pending, sum(states.values()) - pending - away, away


def _figures(score: Score) -> str:
    values = {"precision": score.precision, "recall": score.recall, "F1": score.f1}
    return ", ".join(f"{k} {'-' if v is None else f'{v:.3f}'}" for k, v in values.items())
