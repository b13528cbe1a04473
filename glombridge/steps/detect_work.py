"""Slides through a detector, one after the other, without the model waiting between two of them.

While one slide is shown to the model, the next is opened and its first tiles decoded, and the one
before is stitched and written. A slide that fails does not stop the others. With several devices
each has a process of its own that takes the next slide when it is free.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from ..detection.boxes import Boxes
from ..detection.clock import StageClock
from ..detection.detector import Detector
from ..detection.flips import with_flips
from ..detection.pipeline import SlideDetections, SlidePlan, plan_slide, run_plan
from ..errors import GlombridgeError, MachineError
from ..evaluation.calibration import Calibration
from ..frames import Frame
from ..geojson_codec import write_geojson
from ..ledger.manifest import write_json
from ..objects import ObjectKind, Outline, PathClass, SlideObject
from ..provenance import AREA_UM2, BOX, CONFIDENCE, PROBABILITY, PROPOSED, SCORE_SD
from ..slides.reader import fingerprint
from ..tiles.grid import TileSpec
from .detect_run import DetectedImage, record_path
from .detect_targets import Target

log = logging.getLogger(__name__)

SCANNED = "Scanned*"
"""Class of the area that was looked at. The star keeps it out of QuPath's measurements."""

_NAMESPACE = UUID("0d2bd6a5-6c39-5b0e-9a62-7b8f2f0f5a11")

Emit = Callable[[dict[str, Any]], None]
"""Told what happens, as events: ``tiles``, ``slide``, ``failed``, ``profile``."""


@dataclass(frozen=True)
class Job:
    """Everything that is the same for all slides of a run. It can be sent to another process."""

    folder: Path
    weights: Path
    cache: Path
    spec: TileSpec
    confidence: float
    method: str
    batch: int
    workers: int
    threads: int | None
    flips: bool
    calibration: Calibration | None = None
    runs: Path | None = None


def detect_all(targets: Iterable[Target], job: Job, detector: Detector, emit: Emit) -> StageClock:
    """Detect on slides and write their files; what fails is told and left out.

    Args:
        targets: located slides.
        job: what is the same for all.
        detector: of the job's weights.
        emit: told what happens, from several threads.

    Raises:
        MachineError: disk full, out of memory, a lost GPU (:class:`.DeviceError`): it would happen with
            every slide. What is finished stays.
    """
    clock = StageClock()
    look = with_flips(detector) if job.flips else detector

    def prepare(target: Target) -> tuple[SlidePlan, Frame, Path]:
        with clock.measure("prepare"), target.open() as slide:
            plan = plan_slide(
                slide,
                job.spec,
                batch=job.batch,
                workers=job.workers,
                region=target.region,
                make_batch=detector.make_batch,
                clock=clock,
            )
            return plan, slide.frame, slide.path

    with ThreadPoolExecutor(1, "finish") as finisher, ExitStack() as stack:
        finishing: Future[None] | None = None
        ahead = stack.enter_context(closing(_one_ahead(prepare, targets)))
        for target, prepared in ahead:
            try:
                plan, frame, path = prepared.result()
                count = len(plan.shown)
                emit({"event": "begin", **about(target), "tiles": count})

                def on_tiles(n: int, _: int, target: Target = target, count: int = count) -> None:
                    emit({"event": "tiles", **about(target), "n": n, "of": count})

                seen = run_plan(plan, look, clock=clock, on_tiles=on_tiles)
            except MachineError:
                raise  # it would happen again with every slide; what is finished stays
            except GlombridgeError as error:
                emit({"event": "failed", **about(target), "reason": str(error)})
                continue
            if finishing is not None:
                finishing.result()  # no more than one slide waits to be written
            finishing = finisher.submit(
                _finish, target, job, detector, frame, path, plan, seen, clock, emit
            )
        if finishing is not None:
            finishing.result()
    return clock


def about(target: Target) -> dict[str, Any]:
    """How events name a slide; names need not be unique."""
    return {"id": target.id, "slide": target.name}


def detect_on_devices(targets: list[Target], job: Job, devices: list[str], emit: Emit) -> None:
    """The same with one process per device.

    What stops one process (a lost GPU, a full disk) does not stop the others; they do what is left to do.

    Raises:
        MachineError: what stopped a process, when slides are left over by it.
    """
    context = multiprocessing.get_context("spawn")
    todo: Any = context.Queue()
    events: Any = context.Queue()
    for target in targets:
        todo.put(target)
    for _ in devices:
        todo.put(None)
    processes = [
        context.Process(target=_work_on_device, args=(job, device, todo, events), daemon=True)
        for device in devices
    ]
    for process in processes:
        process.start()
    left = {target.id: target for target in targets}
    stopped: list[MachineError] = []
    try:
        while any(p.is_alive() for p in processes) or not events.empty():
            try:
                event = events.get(timeout=0.2)
            except queue.Empty:
                continue
            if event["event"] == "stopped":
                log.warning("%s: %s", event["device"], event["error"])
                stopped.append(event["error"])
                continue
            if event["event"] in ("slide", "failed"):
                left.pop(event["id"], None)
            emit(event)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if left and stopped:
        raise stopped[0]
    for target in left.values():
        codes = ", ".join(f"{d}: {p.exitcode}" for d, p in zip(devices, processes, strict=True))
        reason = f"its process ended before it was finished (exit codes {codes})"
        emit({"event": "failed", **about(target), "reason": reason})


def _work_on_device(job: Job, device: str, todo: Any, events: Any) -> None:
    # Ctrl-C in a terminal goes to every process there; this one is ended by the one that began it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        detector = Detector(
            job.weights, cache=job.cache, runs=job.runs, device=device, threads=job.threads
        )
        clock = detect_all(iter(todo.get, None), job, detector, events.put)
        events.put({"event": "profile", "device": device, **clock.as_dict(decoders=job.workers)})
    except MachineError as error:
        events.put({"event": "stopped", "device": device, "error": error})
    events.close()
    events.join_thread()


def _end_with_parent() -> None:
    """Nobody waits any more once the process that began this one is gone, by kill -9 as well."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _one_ahead(
    prepare: Callable[[Target], tuple[SlidePlan, Frame, Path]], targets: Iterable[Target]
) -> Generator[tuple[Target, Future[tuple[SlidePlan, Frame, Path]]], None, None]:
    """Each target with its preparation, which begins while the one before is worked on."""
    with ThreadPoolExecutor(1, "prepare") as helper:
        ahead: tuple[Target, Future[tuple[SlidePlan, Frame, Path]]] | None = None
        try:
            for target in targets:
                following = (target, helper.submit(prepare, target))
                if ahead is not None:
                    yield ahead
                ahead = following
            if ahead is not None:
                yield ahead
                ahead = None
        finally:
            if ahead is not None and ahead[1].exception() is None:
                ahead[1].result()[0].feed.close()


def _finish(
    target: Target,
    job: Job,
    detector: Detector,
    frame: Frame,
    path: Path,
    plan: SlidePlan,
    seen: SlideDetections,
    clock: StageClock,
    emit: Emit,
) -> None:
    with clock.measure("stitch"):
        found = seen.stitched(job.confidence, job.method)
    with clock.measure("write"):
        image = _write(target, job, detector, frame, path, plan, seen, found)
    emit({"event": "slide", **about(target), "image": image.as_dict()})


def _write(
    target: Target,
    job: Job,
    detector: Detector,
    frame: Frame,
    path: Path,
    plan: SlidePlan,
    seen: SlideDetections,
    found: Boxes,
) -> DetectedImage:
    slide = fingerprint(path)
    notes = [*frame.notes]
    if not plan.tissue_is_known:
        notes.append(
            "the overview of the slide is damaged: tissue could not be found, all was shown"
        )
    elif not len(plan.shown):
        where = " in the regions asked for" if target.regions else ""
        notes.append(f"no tissue found{where}")
    if detector.batch_limit is not None:
        notes.append(f"out of memory: only {detector.batch_limit} tiles were shown at once")
    mpp = None if frame.mpp_x is None or frame.mpp_y is None else (frame.mpp_x + frame.mpp_y) / 2
    image = DetectedImage(
        target.id,
        target.name,
        len(found),
        len(seen.scanned),
        seen.tiles,
        target.file,
        mpp,
        slide,
        frame.width_px,
        frame.height_px,
        tuple((b[0], b[1], b[2], b[3]) for b in np.round(seen.unreadable, 2).tolist()),
        tuple(notes),
    )
    folder = job.folder
    seen.save(folder / f"{target.file}.parquet")
    objects = as_objects(
        found, f"{target.id}|{slide}", detector.class_names, mpp, calibration=job.calibration
    )
    write_geojson(folder / f"{target.file}.geojson", objects)
    write_geojson(folder / f"{target.file}.scanned.geojson", _scanned(seen, f"{target.id}|{slide}"))
    write_json(record_path(folder, target.file), image.as_dict())
    return image


def _scanned(seen: SlideDetections, image: str) -> list[SlideObject]:
    area = seen.scanned_area
    if area.is_empty:
        return []
    return [
        SlideObject(
            id=uuid5(_NAMESPACE, f"{image}|scanned|{area.wkt}"),
            kind=ObjectKind.ANNOTATION,
            outline=Outline.of(area),
            path_class=PathClass((SCANNED,)),
            name="scanned" if seen.is_complete else "scanned, partial: the slide is damaged",
            locked=True,
        )
    ]


def as_objects(
    found: Boxes,
    image: str,
    class_names: tuple[str, ...],
    mpp: float | None = None,
    *,
    calibration: Calibration | None = None,
) -> list[SlideObject]:
    """Detections as QuPath objects, for a GeoJSON file that QuPath can import by itself.

    Args:
        found: stitched boxes in QuPath pixels, with outlines where the model gives them.
        image: what the image is known by; with the place it makes an object's id.
        class_names: by class index.
        mpp: µm per QuPath pixel, ``None`` = unknown: then no area is measured.
        calibration: of the scores, if the weights have one.
    """
    objects = []
    probability = None if calibration is None else calibration.probability(found.score)
    for k in range(len(found)):
        x0, y0, x1, y1 = np.round(found.xyxy[k], 2).tolist()
        name = class_names[int(found.class_index[k])]
        measurements = {CONFIDENCE: round(float(found.score[k]), 6)}
        if probability is not None:
            measurements[PROBABILITY] = round(float(probability[k]), 6)
        if found.score_sd is not None:
            measurements[SCORE_SD] = round(float(found.score_sd[k]), 6)
        area = None if found.outline is None else found.outline[k]
        outline = Outline.rectangle(x0, y0, x1, y1) if area is None else Outline.rounded(area)
        if area is not None and mpp is not None:
            measurements[AREA_UM2] = round(outline.geometry.area * mpp**2, 2)
        objects.append(
            SlideObject(
                id=uuid5(_NAMESPACE, f"{image}|{name}|{(x0, y0, x1, y1)}"),
                kind=ObjectKind.ANNOTATION,
                outline=outline,
                path_class=PathClass.parse(name).derive(PROPOSED),
                locked=True,
                measurements=measurements,
                metadata={BOX: "true"} if area is None else {},
            )
        )
    return objects
