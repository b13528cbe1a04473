"""What a training starts from: an architecture, published weights, or an earlier run."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..errors import InputError, MissingComponentError
from ..filenames import shown_line
from ..tiles.labels import Task
from .options import TrainOptions
from .trust import config_folder, require_trust, trust

OWN_MODELS = {
    name: Path(__file__).parent / "models" / f"{name}.yaml"
    for name in ("glom-pico", "glom-pico-seg")
}
"""Models whose configuration comes with glombridge."""

_OUTLINES = "-seg"
"""How names end of models that give outlines."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        model: what ultralytics is given: a file, or the name of one of its configurations.
        kind: ``scratch``, ``published``, ``run`` or ``file``.
        sha256: of the weights, if there are any.
        note: what the user should know.
    """

    model: Path | str
    kind: str
    sha256: str | None = None
    note: str | None = None

    @property
    def has_weights(self) -> bool:
        """Whether anything has been learnt already."""
        return self.sha256 is not None

    def as_dict(self) -> dict[str, Any]:
        """For manifests; of a file only its name, of a run its id."""
        path = Path(self.model)
        name = path.parent.parent.name if self.kind == "run" else path.name
        return {"kind": self.kind, "model": name, "sha256": self.sha256}


def find_start(
    options: TrainOptions,
    class_names: list[str],
    cache: Path,
    runs: Path | None,
    *,
    task: Task = "detect",
) -> Start:
    """What to start from.

    Args:
        options: what is wanted.
        class_names: of the dataset.
        cache: holds ``weights/`` with published weights, as does the user's configuration folder.
        runs: the project's training runs.
        task: of the dataset. For ``"segment"`` the name of a model for boxes stands for its variant
            that gives outlines: ``yolo11n`` for ``yolo11n-seg``.

    Raises:
        InputError: there is no such model, or weights for other classes or another task.
        MissingComponentError: published weights that must be there are not.
        ProtectedError: weights that nobody answers for.
    """
    if options.start_from is not None:
        _check_run(options.start_from, class_names, task)
        return Start(options.start_from, "run", require_trust(options.start_from, runs))
    name = options.model
    if task == "segment" and name in OWN_MODELS and not name.endswith(_OUTLINES):
        name += _OUTLINES
    if name in OWN_MODELS:
        if options.pretrained:
            msg = f"model {name!r} has no published weights; leave pretrained out"
            raise InputError(msg)
        return Start(OWN_MODELS[name], "scratch")
    path = Path(name)
    if path.suffix in (".pt", ".yaml", ".yml") and (path.parent != Path() or path.is_file()):
        if not path.is_file():
            msg = f"no model file {name}"
            raise InputError(msg)
        if path.suffix == ".pt":
            return Start(path, "file", require_trust(path, runs))
        return Start(path, "scratch")
    if task == "segment" and not path.stem.endswith(_OUTLINES):
        path = _with_outlines(path)
    configuration = _configuration(path)
    if options.pretrained is False:
        return Start(configuration, "scratch")
    return _published(options, path.stem, configuration, cache, runs)


def _published(
    options: TrainOptions, stem: str, configuration: str, cache: Path, runs: Path | None
) -> Start:
    # yolov5l.pt is a file of the original YOLOv5 repository, which ultralytics cannot load; its own
    # weights of the same architecture, with a newer head, are called yolov5lu.pt.
    file = f"{stem}u.pt" if stem.startswith("yolov5") and not stem.endswith("u") else f"{stem}.pt"
    places = [cache / "weights" / file, config_folder() / "weights" / file]
    for place in places:
        if place.is_file():
            return Start(place, "published", require_trust(place, runs))
    if options.allow_download:
        sha256 = _download(places[0])
        return Start(places[0], "published", sha256)
    if options.pretrained:
        msg = (
            f"pretrained weights for {stem!r} are not on this machine. Put the file at {places[0]} and "
            f"say --trust-weights {places[0]}, or allow the download with --download, or train "
            "--from-scratch."
        )
        raise MissingComponentError(msg)
    note = (
        f"training starts from scratch: {file}, the pretrained weights of {stem}, is not on this machine. "
        "From pretrained weights fewer slides are needed. Allow the download with --download, put "
        f"the file at {places[0]}, or say --from-scratch if this is meant."
    )
    log.warning(note)
    return Start(configuration, "scratch", note=note)


def _configuration(path: Path) -> str:
    """Name of one of ultralytics' own configurations."""
    from ultralytics.utils import ROOT

    if not _is_known(path.stem, ROOT / "cfg" / "models"):
        msg = (
            f"no model {path.stem!r}. Known are ultralytics' names (yolov5l, yolo11n, rtdetr-l, ...), "
            f"{', '.join(OWN_MODELS)}, and paths of .pt and .yaml files."
        )
        raise InputError(msg)
    return f"{path.stem.removesuffix('u') if path.stem.startswith('yolov5') else path.stem}.yaml"


def _is_known(stem: str, folder: Path) -> bool:
    known = {p.stem for p in folder.rglob("*.yaml")}
    # One file holds all sizes of a model: yolo11n is yolo11.yaml, yolov5l6 is yolov5-p6.yaml.
    without_size = re.sub(r"(\d)[ntslmxbce](6?)(?=-|u?$)", r"\1\2", stem).removesuffix("u")
    return bool(known & {stem, without_size, re.sub(r"(yolov[58])6$", r"\1-p6", without_size)})


def _with_outlines(path: Path) -> Path:
    """The variant of a model for boxes that gives outlines.

    Raises:
        InputError: there is no such model, or it has no such variant.
    """
    from ultralytics.utils import ROOT

    _configuration(path)
    variant = path.with_name(f"{path.stem}{_OUTLINES}{path.suffix}")
    if not _is_known(variant.stem, ROOT / "cfg" / "models"):
        msg = (
            f"model {path.stem!r} finds boxes, and ultralytics has no variant of it that finds outlines, "
            "for which the dataset was cut. Take yolo11n (to yolo11x), yolov8n or yolo26n, or set "
            "task = \"detect\" in [tiles] of the settings and run 'glombridge tile' again."
        )
        raise InputError(msg)
    log.info("the dataset is for outlines: %s stands for %s", path.stem, variant.stem)
    return variant


def _download(weights: Path) -> str:
    """Fetch published weights because the user asked for just that; returns the SHA-256."""
    from ultralytics.utils.downloads import attempt_download_asset

    weights.parent.mkdir(parents=True, exist_ok=True)
    try:
        attempt_download_asset(str(weights))
    except Exception as error:
        msg = f"cannot download {weights.name}: {error}. Put the file at {weights} by hand."
        raise MissingComponentError(msg) from error
    if not weights.is_file():
        msg = f"{weights.name} could not be downloaded. Put the file at {weights} by hand."
        raise MissingComponentError(msg)
    return trust(weights, "downloaded from ultralytics by --download")


def _check_run(weights: Path, class_names: list[str], task: Task) -> None:
    """Going on with an earlier run means going on with its classes, and with its task."""
    manifest = weights.parent.parent / "manifest.json"
    if not manifest.is_file():
        msg = (
            f"{weights} lies in no training run. To start from any weights, give --model {weights}."
        )
        raise InputError(msg)
    with expecting(manifest, "the manifest of a training run", "Train again."):
        document = parse_json(manifest.read_text("utf-8"))
        theirs = [str(name) for name in document["classes"]]
        learnt = str(document.get("task", "detect"))
    if learnt != task:
        finds = {"detect": "boxes", "segment": "outlines"}
        msg = (
            f"run {weights.parent.parent.name} finds {finds.get(learnt, learnt)}, and the dataset is "
            f"for {finds[task]}. Train anew with --model."
        )
        raise InputError(msg)
    if theirs != class_names:
        msg = (
            f"run {weights.parent.parent.name} detects {', '.join(map(shown_line, theirs))}; the dataset has "
            f"{', '.join(map(shown_line, class_names))}. To take over its features only, give --model {weights}."
        )
        raise InputError(msg)
