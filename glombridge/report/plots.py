"""The plots of a report, each as one SVG element to stand in an HTML page."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VALIDATION, TEST, OTHER = "#8a6d1b", "#0b5fa5", "#5c6470"
"""Told apart also by those who see no red or green, and by line style in print."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: the page's own font, and it can be searched
    "svg.hashsalt": "glombridge",  # the same evaluation gives the same bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e6ea",
    "legend.frameon": False,
}


class _Plot:
    """One plot being drawn; ``svg`` holds it afterwards."""

    axes: Axes
    svg: str = ""


@contextmanager
def _plot(label: str, *, x: str, y: str) -> Iterator[_Plot]:
    """An empty plot; ``label`` is what a screen reader says."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 3.7), layout="constrained")
        plot = _Plot()
        plot.axes = figure.add_subplot()
        plot.axes.set_xlabel(x)
        plot.axes.set_ylabel(y)
        yield plot
        if plot.axes.get_legend_handles_labels()[0]:
            plot.axes.legend()
        buffer = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    text = buffer.getvalue()
    # Without the prologue of a file of its own.
    plot.svg = text[text.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{label}"', 1
    )


def over_confidence(document: Mapping[str, Any], figure: str, name: str) -> str:
    """A figure over the confidence, on validation and test slides, stitched anew at each point.

    Args:
        document: of an evaluation.
        figure: ``precision``, ``recall`` or ``f1``.
        name: as people write it.
    """
    confidence = document["operating_point"]["confidence"]
    with _plot(f"{name} over confidence", x="confidence", y=name) as plot:
        for part, color, style in (("validation", VALIDATION, "--"), ("test", TEST, "-")):
            points = [(p["confidence"], p[part][figure]) for p in document["curve"]]
            known = [(c, v) for c, v in points if v is not None]
            if known:
                plot.axes.plot(*zip(*known, strict=True), style, color=color, label=part)
        plot.axes.axvline(confidence, color=OTHER, lw=1, ls=":", label=f"chosen: {confidence:g}")
        _unit_square(plot.axes)
    return plot.svg


def precision_over_recall(document: Mapping[str, Any]) -> str:
    """Precision over recall; a point is what working at one confidence gives."""
    with _plot("precision over recall", x="recall", y="precision") as plot:
        for part, color, style in (("validation", VALIDATION, "--"), ("test", TEST, "-")):
            curve = [p[part] for p in document["curve"]]
            known = [
                (p["recall"], p["precision"])
                for p in curve
                if p["recall"] is not None and p["precision"] is not None
            ]
            if known:
                plot.axes.plot(*zip(*known, strict=True), style, color=color, label=part)
        test = document["results"]["test"]
        if test["recall"] is not None and test["precision"] is not None:
            at = ([test["recall"]], [test["precision"]])
            plot.axes.plot(*at, "o", color=TEST, label="test, as used")
        _unit_square(plot.axes)
    return plot.svg


def free_response(document: Mapping[str, Any]) -> str:
    """Recall over false objects per slide (FROC)."""
    n_slides = {"validation": "val", "test": "test"}
    with _plot("recall over false objects per slide", x="false per slide", y="recall") as plot:
        for part, color, style in (("validation", VALIDATION, "--"), ("test", TEST, "-")):
            n = document["results"][n_slides[part]]["slides"]
            points = [
                (p[part]["false"] / n, p[part]["recall"])
                for p in document["curve"]
                if n and p[part]["recall"] is not None
            ]
            if points:
                plot.axes.plot(*zip(*points, strict=True), style, color=color, label=part)
        plot.axes.set_xscale("symlog", linthresh=0.5)
        ticks = (0, 0.5, 1, 2, 4, 8, 16, 32, 64)
        plot.axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        plot.axes.set_xlim(0, 64)
        plot.axes.set_ylim(0, 1.02)
    return plot.svg


def reliability(document: Mapping[str, Any], part: str) -> str | None:
    """Share that are objects over what is claimed; ``None`` where nothing was found."""
    told = document["reliability"].get(part)
    if not told:
        return None
    label = f"reliability on {part} slides"
    with _plot(label, x="claimed probability", y="share that are objects") as plot:
        plot.axes.plot([0, 1], [0, 1], color="#b6bac2", lw=1)
        for key, name, color, style in (
            ("scores", "score as it is", OTHER, "s--"),
            ("calibrated", "calibrated", TEST, "o-"),
        ):
            if key in told:
                at = told[key]["claimed"], told[key]["true"]
                plot.axes.plot(*at, style, color=color, label=name, ms=3)
                # The larger, the more detections stand behind a point.
                area = [4 * n**0.7 for n in told[key]["n"]]
                plot.axes.scatter(*at, s=area, color=color, alpha=0.45, lw=0)
        _unit_square(plot.axes)
    return plot.svg


def training(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Losses over epochs, and what ultralytics saw on validation tiles where it looked.

    Args:
        rows: of ``results.csv``, an epoch each.
    """
    if not rows:
        return []
    epochs = [r["epoch"] for r in rows]
    plots = []
    with _plot("training losses", x="epoch", y="loss") as plot:
        for key in (k for k in rows[0] if k.startswith("train/")):
            name = key.removeprefix("train/").replace("_", " ")
            plot.axes.plot(epochs, [r[key] for r in rows], label=name)
        plot.axes.set_ylim(bottom=0)
    plots.append(plot.svg)
    # Without validation during training there is only what ultralytics says of the last epoch.
    watched = [k for k in rows[0] if k.startswith("metrics/") and sum(r[k] != 0 for r in rows) > 1]
    if watched:
        label = "ultralytics on validation tiles"
        with _plot(label, x="epoch", y="on validation tiles") as plot:
            for key in watched:
                name = key.removeprefix("metrics/").removesuffix("(B)")
                plot.axes.plot(epochs, [r[key] for r in rows], label=name)
            plot.axes.set_ylim(0, 1.02)
        plots.append(plot.svg)
    return plots


def growth(document: Mapping[str, Any]) -> list[str]:
    """Recall and F1 on the test slides, over rounds and over human decisions."""
    rounds = document["rounds"]
    plots = []
    for x, places in (
        ("round", list(range(1, len(rounds) + 1))),
        ("human decisions", [r["decisions"] for r in rounds]),
    ):
        if None in places:
            continue
        with _plot(f"growth over {x}", x=x, y="on the test slides") as plot:
            for key, name, color, style in (
                ("recall", "recall", VALIDATION, "s--"),
                ("f1", "F1", TEST, "o-"),
            ):
                told = [(p, r["figures"][key]) for p, r in zip(places, rounds, strict=True)]
                known = [(p, f) for p, f in told if f["value"] is not None]
                if not known:
                    continue
                values = [f["value"] for _, f in known]
                plot.axes.plot([p for p, _ in known], values, style, color=color, label=name)
                for p, f in known:
                    if f["interval"]:
                        plot.axes.plot([p, p], f["interval"], color=color, lw=1, alpha=0.6)
            plot.axes.set_ylim(0, 1.02)
            if x == "round":
                plot.axes.set_xticks(places)
        plots.append(plot.svg)
    return plots


def review(document: Mapping[str, Any]) -> str | None:
    """F1 of the test slides over a simulated annotator's decisions, by order of review."""
    told = document["review"]
    if not told:
        return None
    with _plot("F1 over decisions of review", x="decisions", y="F1 of the slides") as plot:
        for (name, curve), style in zip(
            told.items(), cycle((":", "-.", "--", "-", (0, (5, 1)))), strict=False
        ):
            plot.axes.plot(curve["decisions"], curve["f1"], linestyle=style, label=name)
    return plot.svg


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1.0)
    axes.set_ylim(0, 1.02)
