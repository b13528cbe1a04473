"""``glombridge train``: its options, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, TARGET, Number, common, downloading, trusting_weights

if TYPE_CHECKING:
    from ..training import TrainResult


@cli.command()
@click.argument("project", type=PROJECT, required=False)
@click.option("--data", type=PROJECT, help="Dataset folder; the project's newest by default.")
@click.option("--out", type=TARGET, help="Run folder, needed with --data alone.")
@click.option(
    "--model", help="Architecture, weights or configuration: yolo11n, yolov5l, rtdetr-l, FILE.pt."
)
@click.option(
    "--preset",
    type=click.Choice(["paper"]),
    help="paper: YOLOv5 Large (or --model yolov5x) on tiles of 1600 x 1200 px.",
)
@click.option(
    "--from", "start_from", metavar="RUN", help="Go on from the weights of an earlier run."
)
@click.option(
    "--pretrained/--from-scratch",
    default=None,
    help="Start from published weights. Default: if they are on this machine.",
)
@downloading
@click.option("--epochs", type=click.IntRange(1), help="At most.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    help="Stop after so many epochs without a better; 0: never.",
)
@click.option(
    "--batch", type=click.IntRange(1), help="Tiles per step. Default: what fits a GPU, 8 on a CPU."
)
@click.option(
    "--learning-rate",
    type=Number(0, 1, min_open=True),
    help="At the start; 0.002 by default, 0.0005 when going on from weights.",
)
@click.option("--device", help="As torch names it: cpu, 0, 0,1.")
@click.option("--resume", is_flag=True, help="Go on with the training that was interrupted.")
@trusting_weights
@common
def train(
    project: Path | None,
    data: Path | None,
    out: Path | None,
    model: str | None,
    preset: str | None,
    start_from: str | None,
    pretrained: bool | None,
    download: bool,
    epochs: int | None,
    patience: int | None,
    batch: int | None,
    learning_rate: float | None,
    device: str | None,
    resume: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Train a detector on the newest dataset."""
    from ..errors import UsageError
    from . import console

    changes: dict[str, Any] = {
        "model": model,
        "pretrained": pretrained,
        "allow_download": download or None,
        "epochs": epochs,
        "patience": patience,
        "batch": batch,
        "learning_rate": learning_rate,
    }
    given = [name for name, value in changes.items() if value is not None]
    if resume and (given or preset or start_from or (project and (data or out))):
        msg = "--resume goes on as the training was begun; give --device beside it, or nothing"
        raise UsageError(msg)
    if project is not None and out is not None:
        msg = "--out goes with --data alone: the runs of a PROJECT lie in its glombridge/runs"
        raise UsageError(msg)
    if start_from is not None and pretrained is not None:
        msg = (
            "--from goes on from the weights of that run; leave --pretrained and --from-scratch out"
        )
        raise UsageError(msg)
    changes["device"] = device
    if project is not None:
        result = _in_project(
            project, data, changes, preset, start_from, resume=resume, reporter=reporter
        )
    elif out is not None and (data is not None or resume):
        if start_from is not None:
            msg = "--from names a run of a PROJECT; without one give --model FILE.pt"
            raise UsageError(msg)
        result = _in_folder(data, out, changes, preset, resume=resume, reporter=reporter)
    else:
        msg = (
            "give a PROJECT, or --data DATASET together with --out RUN, or --resume with --out RUN"
        )
        raise UsageError(msg)
    console.answer(result, show_training, as_json=as_json)


def _in_project(
    path: Path,
    data: Path | None,
    changes: dict[str, Any],
    preset: str | None,
    start_from: str | None,
    *,
    resume: bool,
    reporter: Reporter,
) -> TrainResult:
    from ..steps.project import Project
    from ..steps.train import options_of
    from ..steps.train import resume as resume_run
    from ..steps.train import train as run
    from ..training import paper_options

    opened = Project.open(path)
    if resume:
        return resume_run(opened, device=changes["device"], reporter=reporter)
    options = options_of(opened, start_from=start_from, **changes)
    if preset == "paper":
        options = paper_options(options, changes["model"])
    return run(opened, dataset=data, options=options, reporter=reporter)


def _in_folder(
    data: Path | None,
    out: Path,
    changes: dict[str, Any],
    preset: str | None,
    *,
    resume: bool,
    reporter: Reporter,
) -> TrainResult:
    from ..steps.train import trust_own
    from ..training import TrainOptions, paper_options
    from ..training import resume as resume_run
    from ..training import train as train_on

    if data is None or resume:
        result = resume_run(out, cache=out / "cache", device=changes["device"], reporter=reporter)
    else:
        options = TrainOptions(**{k: v for k, v in changes.items() if v is not None})
        if preset == "paper":
            options = paper_options(options, changes["model"])
        result = train_on(data, out, options, cache=out / "cache", reporter=reporter)
    trust_own(result.weights, result.run.name)
    return result


def show_training(result: TrainResult) -> None:
    """A line about a training run, and what should be known about it."""
    from . import console

    console.line(
        f"trained {result.run.name}: {result.parameters:,} parameters, {result.epochs} epochs (best: "
        f"{result.best_epoch}), {result.seconds:.0f} s -> {result.weights}"
    )
    for note in result.notes:
        console.line(f"note: {note}")
