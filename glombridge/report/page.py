"""The page: a template filled with an evaluation. Every number on it comes from the evaluation's JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import plots

PAPER = (
    ("YOLOv5 Large", 0.908, 0.923, 0.915),
    ("YOLOv5 XLarge", 0.901, 0.926, 0.913),
    ("earlier study it compares with", 0.931, 0.831, 0.878),
)
"""Precision, recall and F1 of Table 2 of the paper that this program follows: glomeruli on 261 slides
of lupus nephritis biopsies, counted on overlapping tiles."""

FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "center_precision": "precision, by centre",
    "center_recall": "recall, by centre",
    "center_f1": "F1, by centre",
    "ap50": "AP at IoU 0.5",
    "ap50_95": "AP at IoU 0.5 to 0.95",
    "froc_0.5": "recall at 0.5 false per slide",
    "froc_1": "recall at 1 false per slide",
    "froc_2": "recall at 2 false per slide",
    "froc_4": "recall at 4 false per slide",
    "froc_8": "recall at 8 false per slide",
    "false_per_slide": "false per slide",
    "count_error": "count error per slide (mean of absolute)",
    "count_bias": "count bias per slide (found minus there)",
    "complete_slides": "slides with nothing missed",
    "complete_patients": "patients with nothing missed",
}
"""Names of the figures of an evaluation, in order."""

FAULTS = {
    "missed": ("Missed", "an object (green) that nothing was found on"),
    "misplaced": (
        "Badly placed",
        "a detection (red) whose centre lies in an object (green), but whose box overlaps it too little",
    ),
    "false": ("False", "a detection (red) on nothing that was marked"),
}


@dataclass(frozen=True)
class Picture:
    """A thumbnail of one fault.

    Attributes:
        number: of the fault in the evaluation's list.
        kind: of the fault.
        uri: the picture; ``None`` = the slide could not be read.
    """

    number: int
    kind: str
    uri: str | None


@dataclass(frozen=True)
class Model:
    """An evaluated run of the project, a row of the table of models.

    Attributes:
        document: its evaluation.
    """

    run: str
    architecture: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        evaluation: the evaluation's document.
        manifest: of the training run.
        training: rows of ultralytics' ``results.csv``.
        models: every evaluated run of the project.
        pictures: of faults, in the order shown.
        rounds: the learning curve's document, if there is one.
        notes: what a reader should know.
    """

    project: str
    evaluation: Mapping[str, Any]
    manifest: Mapping[str, Any]
    training: Sequence[Mapping[str, float]] = ()
    models: Sequence[Model] = ()
    pictures: Sequence[Picture] = ()
    rounds: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default=())


def render(content: Content) -> str:
    """The report as one HTML document that needs nothing beside it.

    Names of slides, patients and classes are escaped, whatever they hold.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("glombridge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    document = content.evaluation

    def svg(text: str | None) -> Markup | None:
        return None if text is None else Markup(text)  # noqa: S704 (made by us, names escaped)

    environment.filters["fixed"] = fixed
    environment.filters["pointer"] = escaped_pointer
    environment.globals["value"] = lambda pointer: resolve(document, pointer)
    curves = [
        ("Precision over recall", plots.precision_over_recall(document)),
        ("Precision over confidence", plots.over_confidence(document, "precision", "precision")),
        ("Recall over confidence", plots.over_confidence(document, "recall", "recall")),
        ("F1 over confidence", plots.over_confidence(document, "f1", "F1")),
        ("Recall over false objects per slide (FROC)", plots.free_response(document)),
    ]
    template = environment.get_template("report.html")
    return template.render(
        content=content,
        e=document,
        figures=FIGURES,
        fault_kinds=FAULTS,
        paper=PAPER,
        curves=[(name, svg(text)) for name, text in curves],
        reliability=[
            (name, svg(text))
            for part, name in (("val", "Validation slides"), ("test", "Test slides"))
            if (text := plots.reliability(document, part)) is not None
        ],
        review=svg(plots.review(document)),
        training=[svg(text) for text in plots.training(content.training)],
        growth=[svg(text) for text in plots.growth(content.rounds)] if content.rounds else [],
        facts=_facts(content.manifest, document),
        manifest_text=json.dumps(content.manifest, indent=1, ensure_ascii=False),
    )


def _facts(manifest: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What of a run's manifest people ask for first; ``None`` = the manifest does not say."""
    options, tiles = manifest.get("options", {}), manifest.get("tiles", {})
    size = f"{tiles['width_px']} x {tiles['height_px']} px" if "width_px" in tiles else None
    return [
        ("run", manifest.get("run")),
        ("model", options.get("model")),
        ("parameters", manifest.get("parameters")),
        ("weights SHA-256", document["weights_sha256"]),
        ("tiles", size and f"{size} at {tiles.get('mpp') or 'the slide’s own'} µm per px"),
        ("epochs", options.get("epochs")),
        ("seed", options.get("seed")),
        ("seconds of training", manifest.get("seconds")),
        ("finished", manifest.get("finished")),
    ]


def fixed(value: float | str | None, digits: int = 3) -> str:
    """A number as the page shows it: whole ones as they are, others with so many digits."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def escaped_pointer(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")


def resolve(document: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) points at.

    Raises:
        KeyError, IndexError: there is no such value: the template asks for what is not there.
    """
    at = document
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        at = at[int(key)] if isinstance(at, list) else at[key]
    return at
