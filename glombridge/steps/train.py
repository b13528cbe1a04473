"""``train``: from a dataset to weights."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..progress import SILENT, Reporter
from ..training import TrainOptions, TrainResult
from ..training import train as train_on
from .project import Project


def train(
    project: Project,
    *,
    dataset: Path | None = None,
    options: TrainOptions | None = None,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train on the newest dataset of a project, or on the one given.

    Raises:
        InputError: there is no dataset, or it cannot be trained on.
    """
    workspace = project.workspace
    dataset = dataset or workspace.latest_run(workspace.datasets, "tiles")
    if dataset is None:
        msg = f"project {workspace.project_folder} has no dataset. Run 'glombridge tile' first."
        raise InputError(msg)
    run = workspace.claim_run(workspace.runs, "train")
    try:
        result = train_on(
            dataset, run, options or options_of(project), cache=workspace.cache, reporter=reporter
        )
    except BaseException:
        with suppress(OSError):
            run.rmdir()  # refused before it began: nothing in it
        raise
    workspace.record(
        "train",
        run=run.name,
        weights_sha256=result.sha256,
        dataset=workspace.relative(dataset),
        seconds=round(result.seconds, 1),
    )
    return result


def options_of(project: Project, **changes: Any) -> TrainOptions:
    """What the settings say about training, with the changes given."""
    t = project.settings.train
    options = TrainOptions(
        model=t.model,
        pretrained=t.pretrained,
        epochs=t.epochs,
        batch=t.batch,
        learning_rate=t.learning_rate,
        seed=project.settings.seed,
        threads=t.threads,
        validate=t.validate_epochs,
    )
    return replace(options, **{k: v for k, v in changes.items() if v is not None})
