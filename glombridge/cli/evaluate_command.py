"""``glombridge evaluate`` and ``report``: their options, and what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import Reporter
from .main import cli
from .options import (
    PROJECT,
    TARGET,
    common,
    deidentifying,
    mapping_slides,
    on_cluster,
    trusting_weights,
)

if TYPE_CHECKING:
    from ..evaluation.metrics import Score
    from ..steps.evaluate import EvaluateResult
    from ..steps.evaluate_rounds import RoundsResult

_SHOWN = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "center_recall": "recall by centre",
    "ap50": "AP50",
    "ap50_95": "AP50-95",
    "false_per_slide": "false per slide",
    "count_error": "count error per slide",
    "complete_slides": "slides with nothing missed",
    "complete_patients": "patients with nothing missed",
}


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--weights", help="Run id or weights file; the newest run by default.")
@click.option("--against", metavar="RUN", help="Other weights, compared on the same slides.")
@click.option("--rounds", is_flag=True, help="How the detector grew from round to round.")
@click.option("--tiles/--no-tiles", default=True, help="ultralytics' figures on tiles, too.")
@click.option("--device", help="As torch names it: cpu, 0.")
@on_cluster
@trusting_weights
@mapping_slides
@common
def evaluate(
    project: Path,
    weights: str | None,
    against: str | None,
    rounds: bool,
    tiles: bool,
    device: str | None,
    cluster: str | None,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Choose the confidence on validation slides and report on test slides, after stitching."""
    from ..errors import UsageError
    from ..steps.evaluate import evaluate as run
    from ..steps.evaluate_rounds import evaluate_rounds
    from ..steps.project import Project
    from . import console

    if rounds and (weights or against):
        msg = "--rounds evaluates every training run; it goes with neither --weights nor --against"
        raise UsageError(msg)
    opened = Project.open(project, slides=slides)
    if rounds:
        grown = evaluate_rounds(opened, device=device, cluster=cluster, reporter=reporter)
        console.answer(grown, show_rounds, as_json=as_json)
        return
    result = run(
        opened,
        weights=weights,
        against=against,
        tiles=tiles,
        device=device,
        cluster=cluster,
        reporter=reporter,
    )
    if as_json:
        console.print_json(result.as_dict())
    else:
        show_evaluation(result)
        console.line(f"next: glombridge report {project}")


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--weights", metavar="RUN", help="Evaluated run; the newest by default.")
@click.option("--out", type=TARGET, help="The HTML file to write.")
@deidentifying
@mapping_slides
@common
def report(
    project: Path,
    weights: str | None,
    out: Path | None,
    deidentify: bool,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """One HTML file with data, results, curves, errors and manifest; it needs no network."""
    from ..steps.project import Project
    from ..steps.report import report as run
    from . import console

    opened = Project.open(project, slides=slides)
    result = run(opened, run=weights, out=out, deidentify=deidentify, reporter=reporter)
    if as_json:
        console.print_json(result.as_dict())
        return
    console.line(f"report on {result.run}: {result.file}")
    if deidentify:
        console.key_to_codes(opened.workspace.code_key)
    for note in result.notes:
        console.line(f"note: {note}")


def show_evaluation(result: EvaluateResult) -> None:
    """Slides at the operating point, and the figures with their intervals."""
    from . import console

    rows = [[s.name, s.part, *_row(s.score)] for s in result.slides]
    rows += [[f"all {part}", part, *_row(result.total(part))] for part in ("val", "test")]
    columns = ["slide", "part", "truth", "found", "missed", "false", "precision", "recall", "F1"]
    console.table(f"{result.run} at confidence {result.point.confidence}", columns, rows)
    test = result.document["results"]["test"]
    console.table(
        f"test: {test['slides']} slides of {test['patients']} patients",
        ["figure", "value", "95 % of resampled patients"],
        [[name, *_with_interval(test["figures"][key])] for key, name in _SHOWN.items()],
    )
    if test["outlines"]:
        drawn = test["outlines"]
        console.line(
            f"outlines of {drawn['pairs']} found objects: mean IoU with what was drawn "
            f"{drawn['mean_iou']:.3f}, {drawn['above_0.75']:.0%} above 0.75"
        )
    for name, told in (result.document.get("tile_level") or {}).items():
        if name in ("val", "test") and told:
            figures = ", ".join(f"{k} {told[k]:.3f}" for k in ("precision", "recall", "f1", "ap50"))
            console.line(f"on {told['tiles']} {name} tiles, as papers report: {figures}")
    if "comparison" in result.document:
        show_comparison(result.document["comparison"])
    console.line(chosen_text(result.document["operating_point"]))


def chosen_text(point: Mapping[str, Any]) -> str:
    """How the confidence was chosen and whether it does what was wanted."""
    recall = point["validation"]["recall"]
    text = f"confidence {point['confidence']} chosen on validation slides for {point['target']}"
    if point["reached"]:
        return f"{text}; recall there {recall}"
    return f"{text}: NOT reached at any confidence, the best recall there is {recall}"


def show_comparison(told: Mapping[str, Any]) -> None:
    """Two models on the same slides."""
    from . import console

    console.table(
        f"{told['second']} minus {told['first']}, on the same {told['part']} slides",
        ["figure", "difference", "95 % of resampled patients", "second better in"],
        [
            [name, f"{f['difference']:+.3f}", _span(f["interval"]), _percent(f["second_better"])]
            for name, f in told["figures"].items()
            if f
        ],
    )


def show_rounds(result: RoundsResult) -> None:
    """A training run a row."""
    from . import console

    rows = []
    for r in result.rounds:
        f = r.figures
        shown = [" ".join(_with_interval(f[k])) for k in ("recall", "f1")]
        false = _with_interval(f["false_per_slide"])[0]
        rows.append([r.run, r.decisions, r.confidence, *shown, false])
    console.table(
        f"{result.objects} objects on {result.slides} test slides of {result.patients} patients",
        ["run", "decisions", "confidence", "recall", "F1", "false per slide"],
        rows,
    )
    for run, why in result.left_out:
        console.line(f"note: {run} is left out: {why}")


def _row(score: Score) -> list[Any]:
    figures = (score.precision, score.recall, score.f1)
    counts = [score.truth, score.found, score.missed, score.false]
    return [*counts, *(None if v is None else f"{v:.3f}" for v in figures)]


def _with_interval(figure: Mapping[str, Any]) -> tuple[str, str]:
    value = figure["value"]
    return ("-" if value is None else f"{value:.3f}", _span(figure["interval"]))


def _span(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%} of resamples"
