"""``glombridge detect``: its options, the events of ``--json``, and what is printed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import SILENT, Reporter
from .main import cli
from .options import (
    PROJECT,
    TARGET,
    Number,
    common,
    mapping_slides,
    on_cluster,
    trusting_weights,
)

if TYPE_CHECKING:
    from ..steps.detect import DetectResult

EVENT_EVERY_SECONDS = 1.0


def _pair(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            msg = f"{value!r} is no KEY=VALUE"
            raise click.BadParameter(msg, ctx, param)
        pairs.append((key, text))
    return tuple(pairs)


def _region(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[float, float, float, float], ...]:
    regions = []
    for value in values:
        try:
            x, y, width, height = (float(v) for v in value.split(","))
        except ValueError:
            msg = f"{value!r} is no X,Y,WIDTH,HEIGHT in pixels of the image"
            raise click.BadParameter(msg, ctx, param) from None
        regions.append((x, y, width, height))
    return tuple(regions)


@cli.command()
@click.argument("inputs", type=PROJECT, nargs=-1, required=True, metavar="PROJECT | SLIDE...")
@click.option("--weights", help="Run id or weights file; the newest run by default.")
@click.option("--out", type=TARGET, help="Folder for the detections; slide files need one.")
@click.option("--image", "images", multiple=True, help="Only this image; may be given again.")
@click.option("--tag", "tags", multiple=True, help="Only images with this tag.")
@click.option(
    "--metadata",
    multiple=True,
    callback=_pair,
    metavar="KEY=VALUE",
    help="Only images with this metadata.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["annotated", "unannotated", "proposed", "new"]),
    help="Only images so; new: in no detection run yet.",
)
@click.option("--include-test", is_flag=True, help="Images of test patients too.")
@click.option(
    "--region",
    "regions",
    multiple=True,
    callback=_region,
    metavar="X,Y,W,H",
    help="Only here, in pixels of the image.",
)
@click.option(
    "--roi", "rois", multiple=True, metavar="CLASS", help="Only inside annotations of this class."
)
@click.option(
    "--mpp",
    type=Number(0, 100, min_open=True),
    help="µm per pixel of slide files that do not say it.",
)
@click.option("--min-confidence", type=Number(0, 1), help="Instead of the stored one.")
@click.option("--device", help="As torch names it: cpu, 0; or 0,1: one process each.")
@click.option("--workers", type=click.IntRange(1, 64), help="Threads that decode tiles.")
@click.option("--batch", type=click.IntRange(1), help="Tiles shown to the model at once.")
@click.option("--method", type=click.Choice(["views", "nms", "nmm"]), help="How to stitch.")
@click.option("--flips", is_flag=True, help="Look mirrored too, to say how sure the model is.")
@click.option(
    "--deidentify",
    is_flag=True,
    help="Also a copy for others, with codes instead of names; --out is where.",
)
@click.option("--profile", is_flag=True, help="Print where the time went.")
@on_cluster
@trusting_weights
@mapping_slides
@common
def detect(
    inputs: tuple[Path, ...],
    weights: str | None,
    out: Path | None,
    images: tuple[str, ...],
    tags: tuple[str, ...],
    metadata: tuple[tuple[str, str], ...],
    states: tuple[str, ...],
    include_test: bool,
    regions: tuple[tuple[float, float, float, float], ...],
    rois: tuple[str, ...],
    mpp: float | None,
    min_confidence: float | None,
    device: str | None,
    workers: int | None,
    batch: int | None,
    method: str | None,
    flips: bool,
    deidentify: bool,
    profile: bool,
    cluster: str | None,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Detect on a project, or on slide files, and stitch the tiles' boxes per slide.

    What an interrupted run has finished is not done again. With --json, progress comes as one JSON
    object per line on standard error.
    """
    from ..errors import InputError, PartlyDoneError, UsageError
    from ..steps.deidentify import check_free, hand_out_detections, last_detected
    from ..steps.detect import DetectOptions, detect_files
    from ..steps.detect import detect as detect_project
    from ..steps.detect_targets import Choice
    from ..steps.project import Project
    from . import console

    absent = [str(path) for path in inputs if not path.exists()]
    if absent:
        msg = f"no project and no slide file {', '.join(absent)}"
        raise InputError(msg)
    if cluster is not None and profile:
        msg = "--profile is of one machine, and does not go with --cluster"
        raise UsageError(msg)
    options = DetectOptions(min_confidence, device, workers, batch, method, flips)
    on_event = None
    copied: Path | None = None
    if as_json and reporter is not SILENT:
        reporter, on_event = SILENT, _event_writer()
    if len(inputs) == 1 and (inputs[0].is_dir() or inputs[0].suffix == ".qpproj"):
        if mpp is not None:
            msg = "--mpp is for slide files; in a project set mpp in [project] of the settings"
            raise UsageError(msg)
        project = Project.open(inputs[0], slides=slides)
        if deidentify and out is not None:
            check_free(out)
        try:
            result = detect_project(
                project,
                weights=weights,
                out=None if deidentify else out,
                choice=Choice(images, tags, metadata, states, include_test, regions, rois),
                options=options,
                cluster=cluster,
                reporter=reporter,
                on_event=on_event,
            )
        except PartlyDoneError:
            if deidentify:
                hand_out_detections(project, last_detected(project), out)
            raise
        if deidentify:
            copied = hand_out_detections(project, result.folder, out)
    else:
        for name, given in (
            ("--image", images),
            ("--tag", tags),
            ("--metadata", metadata),
            ("--state", states),
            ("--roi", rois),
            ("--slides", slides),
            ("--deidentify", deidentify),
        ):
            if given:
                msg = f"{name} is for a project, and {inputs[0]} is none"
                raise UsageError(msg)
        if weights is None or out is None:
            msg = "slide files need --weights FILE.pt and --out FOLDER; or give a project folder"
            raise UsageError(msg)
        result = detect_files(
            inputs,
            weights=Path(weights),
            out=out,
            mpp=mpp,
            regions=regions,
            options=options,
            cluster=cluster,
            reporter=reporter,
            on_event=on_event,
        )
    if as_json:
        told = {"deidentified": str(copied)} if copied is not None else {}
        console.print_json(result.as_dict() | told)
        return
    show_detections(result)
    if copied is not None:
        console.line(f"de-identified copy: {copied}")
        console.key_to_codes(project.workspace.code_key)
    if profile:
        show_profile(result)


def show_detections(result: DetectResult) -> None:
    """Detections per image."""
    from . import console

    rows = [[i.name, i.found, f"{i.tiles_shown}/{i.tiles}", i.state] for i in result.images]
    console.table(
        f"{result.run} at confidence {result.confidence} ({result.confidence_from})",
        ["image", "found", "tiles with tissue", "slide"],
        rows,
    )
    for note in result.notes:
        console.line(f"note: {note}")
    for image in result.images:
        for note in image.notes:
            console.line(f"note: {image.name}: {note}")
    if result.continued:
        console.line(f"{result.continued} slides were finished before the interruption")


def show_profile(result: DetectResult) -> None:
    """Where the time went, per device."""
    from . import console

    for device in result.profile:
        rows = [
            [stage, f"{device['seconds'][stage]:.2f}", f"{share:.0%}"]
            for stage, share in device["share"].items()
        ]
        rows += [
            [wait, f"{device['seconds'][wait]:.2f}", ""]
            for wait in device["seconds"]
            if wait not in device["share"]
        ]
        console.table(
            f"{device['device']}: {device['tiles']} tiles, {device['tiles_per_second']} tiles/s, "
            f"{device['decoders']} decoding threads",
            ["stage", "seconds", "share"],
            rows,
        )
        console.line(f"what limits: {device['limits']}")


def _event_writer() -> Callable[[dict[str, Any]], None]:
    """Events as lines of JSON on standard error; of progress no more than one a second."""
    from . import console

    told = 0.0

    def write(event: dict[str, Any]) -> None:
        nonlocal told
        now = time.monotonic()
        if event["event"] == "progress":
            if now - told < EVENT_EVERY_SECONDS:
                return
            told = now
        sys.stderr.write(console.json_text(event, sys.stderr) + "\n")
        sys.stderr.flush()

    return write
