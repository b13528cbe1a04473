"""``train``: from a dataset to weights."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, InputError, UsageError
from ..ledger.manifest import environment, sha256_of
from ..ledger.unfinished import is_later, newest_unfinished
from ..progress import SILENT, Reporter
from ..training import TrainOptions, TrainResult, finished_alike
from ..training import resume as resume_on
from ..training import train as train_on
from ..training.trust import trust
from .project import Project

log = logging.getLogger(__name__)


def train(
    project: Project,
    *,
    dataset: Path | None = None,
    options: TrainOptions | None = None,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train on the newest dataset of a project, or on the one given.

    Args:
        project: the project.
        dataset: folder of a dataset, by default the newest one.
        options: by default what the settings say; see :func:`options_of`.
        reporter: for progress.

    Raises:
        InputError: there is no dataset, or it cannot be trained on.
        GlombridgeError: as :func:`glombridge.training.train` says.
    """
    workspace = project.workspace
    dataset = dataset or workspace.latest_run(workspace.datasets, "tiles")
    if dataset is None:
        msg = f"project {workspace.project_folder} has no dataset. Run 'glombridge tile' first."
        raise InputError(msg)
    require_as_written(project, dataset)
    run = workspace.claim_run(workspace.runs, "train")
    try:
        result = train_on(
            dataset,
            run,
            options or options_of(project),
            cache=workspace.cache,
            runs=workspace.runs,
            reporter=reporter,
        )
    except BaseException:
        with suppress(OSError):
            run.rmdir()  # refused before it began: nothing in it
        raise
    _record(project, result, workspace.relative(dataset))
    return result


def require_as_written(project: Project, dataset: Path) -> None:
    """Refuse a dataset of the project whose manifest is not the one that ``tile`` put on record.

    One that lies elsewhere is on record by its name alone, which another one may have as well.

    Raises:
        InputError: it was edited: counts, patients or the sides of the split.
    """
    workspace = project.workspace
    if workspace.project_folder.resolve() not in dataset.resolve().parents:
        return
    with workspace.ledger_view() as ledger:
        told = [
            e.get("manifest_sha256")
            for e in ledger.events("tile")
            if e["dataset"] == workspace.relative(dataset)
        ]
    # Of a dataset that was cut anew in its place the last one counts; early ones are not on record.
    if told and told[-1] is not None and told[-1] != sha256_of(dataset / "manifest.json"):
        msg = (
            f"{dataset / 'manifest.json'} was changed after 'glombridge tile' wrote it. Run 'glombridge "
            "tile' again; patients, classes and the split belong into the settings."
        )
        raise InputError(msg)


def resume(
    project: Project, *, device: str | None = None, reporter: Reporter = SILENT
) -> TrainResult:
    """Go on with the newest training of a project that was interrupted.

    Args:
        project: the project.
        device: to go on with, as torch names it; ``None`` = as it began.
        reporter: for progress.

    Raises:
        InputError: there is none.
        GlombridgeError: as :func:`glombridge.training.resume` says.
    """
    workspace = project.workspace
    begun = newest_unfinished(workspace.runs)
    if begun is None:
        msg = f"project {workspace.project_folder} has no training that was interrupted"
        raise InputError(msg)
    result = resume_on(begun.folder, cache=workspace.cache, device=device, reporter=reporter)
    _record(project, result, None)
    return result


def go_on_or_train(
    project: Project,
    dataset: Path,
    *,
    options: TrainOptions | None = None,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Take the newest training, gone on with if it was interrupted, if it is this very one; else train.

    It is this very one if dataset, options (but for the device) and library versions are the same: then
    what comes out is what a training from the beginning would give.

    Args:
        project: of which.
        dataset: to train on.
        options: what is wanted, from the settings by default.
        reporter: is told of each batch.

    Raises:
        ProtectedError: another process is training this very one.
        GlombridgeError: as :func:`train` and :func:`resume` say.
    """
    workspace = project.workspace
    options = options or options_of(project)
    begun = newest_unfinished(workspace.runs)
    newest = workspace.latest_run(workspace.runs, "train")
    if begun is None or (newest is not None and is_later(newest, begun.folder)):
        done = newest and finished_alike(
            newest, dataset, options, cache=workspace.cache, runs=workspace.runs
        )
        if not done:
            return train(project, dataset=dataset, options=options, reporter=reporter)
        log.info(
            "%s is finished and was trained on just this: it is not trained again", done.run.name
        )
        if not any(e["run"] == done.run.name for e in workspace.history.events("train")):
            # Killed between the two.
            _record(project, done, workspace.relative(dataset))
        return done
    now = {
        "dataset": str(dataset.resolve()),
        "dataset_sha256": sha256_of(dataset / "manifest.json"),
        "options": {**options.as_plan(), "device": None},
        "environment": environment(),
    }
    then = {key: begun.plan.get(key) for key in now}
    then["options"] = {**(then["options"] or {}), "device": None}
    other = [key.partition("_")[0] for key in now if now[key] != then[key]]
    if other:
        log.warning(
            "training %s was interrupted, but %s changed since: training begins anew. It can still be "
            "gone on with: glombridge train %s --resume",
            begun.folder.name,
            " and ".join(dict.fromkeys(other)),
            workspace.project_folder,
        )
        return train(project, dataset=dataset, options=options, reporter=reporter)
    log.info("going on with %s, interrupted after epoch %d", begun.folder.name, begun.epochs_done)
    return resume(project, device=options.device, reporter=reporter)


def options_of(project: Project, *, start_from: str | None = None, **changes: Any) -> TrainOptions:
    """What the settings say about training, with the changes given.

    Args:
        project: whose settings.
        start_from: run id or weights file to go on from.
        changes: of :class:`TrainOptions`; ``None`` changes nothing.

    Raises:
        InputError: there is no such run.
        UsageError: a model and weights to go on from are both given.
    """
    t = project.settings.train
    if start_from is not None:
        if changes.get("model") is not None:
            msg = "--from goes on with the model of that run; leave --model out"
            raise UsageError(msg)
        changes["start_from"] = project.workspace.weights_of(start_from)
    options = TrainOptions(
        model=t.model,
        pretrained=t.pretrained,
        epochs=t.epochs,
        patience=t.patience,
        batch=t.batch,
        learning_rate=t.learning_rate,
        seed=project.settings.seed,
        threads=t.threads,
        validate=t.validate_epochs,
    )
    return replace(options, **{k: v for k, v in changes.items() if v is not None})


def trust_own(weights: Path, run: str) -> None:
    """The user of this machine trusts what was trained here, also outside the project."""
    try:
        trust(weights, f"trained here as {run}")
    except GlombridgeError as error:
        # Inside the project the run's manifest is enough.
        log.info("weights of %s are not on the user's list: %s", run, error)


def _record(project: Project, result: TrainResult, dataset: str | None) -> None:
    trust_own(result.weights, result.run.name)
    project.workspace.record(
        "train",
        run=result.run.name,
        weights_sha256=result.sha256,
        **({"dataset": dataset} if dataset else {"resumed": True}),
        seconds=round(result.seconds, 1),
    )
