"""A finished training that is the very one asked for: what came of it is what another would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..ledger.manifest import environment, sha256_of
from .options import TrainOptions, TrainResult
from .run_folder import RunFolder
from .sandbox import load_ultralytics
from .start import OWN_MODELS, find_start

_ELSEWHERE = {"device", "allow_download"}
"""Options that decide where, not what; whether a download changed the start is seen of the start."""


def finished_alike(
    run: Path, dataset: Path, options: TrainOptions, *, cache: Path, runs: Path
) -> TrainResult | None:
    """What a finished run gave, if a training as asked for would only do the same once more.

    That is so with the same dataset, options, start and library versions, and with the weights still
    there. Of a model in a file of one's own nobody knows whether it was edited: it is trained anew.

    Args:
        run: folder of the run.
        dataset: to train on.
        options: what is wanted.
        cache: as for :func:`glombridge.training.train`.
        runs: the project's training runs, whose weights may be loaded.

    Raises:
        DamagedFileError: the run's manifest is none.
        GlombridgeError: there is nothing to start from, as :func:`glombridge.training.train` says.
    """
    manifest = run / "manifest.json"
    with expecting(manifest, "the manifest of a training run", f"Remove {run}, and train again."):
        told: dict[str, Any] = parse_json(manifest.read_text("utf-8"))
        result = TrainResult(
            run,
            run / "weights" / "best.pt",
            str(told["weights"]["sha256"]),
            float(told["seconds"]),
            int(told["parameters"]),
            int(told["epochs"]),
            int(told["best_epoch"]),
            tuple(map(str, told["notes"])),
        )
        then = {
            "dataset": told["dataset"]["manifest_sha256"],
            "options": _deciding(told["options"]),
            "environment": told["environment"],
        }
        classes = [str(name) for name in told["classes"]]
    now = {
        "dataset": sha256_of(dataset / "manifest.json"),
        "options": _deciding(options.as_dict()),
        "environment": environment(),
    }
    if now != then or not result.weights.is_file() or sha256_of(result.weights) != result.sha256:
        return None
    load_ultralytics(cache, allow_network=options.allow_download)
    # Published weights may lie there by now that did not then.
    start = find_start(options, classes, cache, runs, task=told.get("task", "detect"))
    is_own_file = isinstance(start.model, Path) and start.model not in OWN_MODELS.values()
    if start.as_dict() != told["start"] or (is_own_file and not start.has_weights):
        return None
    # It may have been killed between its manifest and this.
    RunFolder(run).clear()
    return result


def _deciding(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in _ELSEWHERE}
