"""Putting detections into a QuPath project as proposals. Adds only; never changes or removes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ..detection.boxes import Floats, pair_overlaps
from ..errors import GlombridgeError, InputError, PartlyDoneError
from ..ledger import ProjectLock, Workspace
from ..ledger.running_qupath import refuse_while_qupath_runs
from ..ledger.writes import UNDO, new_write_id, prune_snapshots, write_record
from ..objects import Color, ObjectKind, Outline, PathClass, SlideObject
from ..progress import SILENT, Reporter
from ..provenance import BOX, CONFIDENCE, DIAMETER_UM, MODEL, RUN, STATE
from ..qupath.store import HierarchyEdit, ImageEntry, ProjectStore
from ..settings import Settings
from .roles import Roles, assign_roles

PROPOSED_COLOR = Color(255, 165, 0)
SAME_IOU = 0.5
"""A detection that overlaps an object this much is that object, whoever drew it."""

_PLACE_GRID_PX = 4.0
_NAMESPACE = uuid.UUID("6f0f9a0e-6d2f-5c0b-9a51-6b1f3a5d7c21")


@dataclass(frozen=True)
class Proposals:
    """What one detection run wants to put into one image.

    Attributes:
        entry_id: of the image.
        xyxy: (N, 4) boxes in QuPath pixels.
        score, class_index: (N,).
        mpp: µm per QuPath pixel, ``None`` = unknown.
        slide: fingerprint of the slide file: with the place and the run it makes an object's id,
            which must not change when slides or projects are moved.
    """

    entry_id: int
    xyxy: Floats
    score: Floats
    class_index: np.ndarray
    mpp: float | None
    slide: str = ""


@dataclass(frozen=True)
class ImagePlan:
    """What a push does in one image, and why the rest is not done.

    Attributes:
        add: new proposals.
        kept: detections that are already there as our own proposal.
        known: detections that are a human's object.
        rejected: detections a human has said are not one.
        gone: detections that were proposed before and that a human has deleted.
    """

    entry: ImageEntry
    add: tuple[SlideObject, ...]
    kept: int = 0
    known: int = 0
    rejected: int = 0
    gone: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.entry.id,
            "name": self.entry.name,
            "add": len(self.add),
            "kept": self.kept,
            "known": self.known,
            "rejected": self.rejected,
            "deleted": self.gone,
        }


@dataclass(frozen=True)
class PushResult:
    """What was put in, or would be.

    Attributes:
        written: entry ids of the images that were written.
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
    """

    run: str
    plans: tuple[ImagePlan, ...]
    dry_run: bool
    written: tuple[int, ...] = field(default=())
    write: str | None = None

    @property
    def added(self) -> int:
        """New proposals over all images."""
        return sum(len(p.add) for p in self.plans)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "dry_run": self.dry_run,
            "added": self.added,
            "written_images": list(self.written),
            "write": self.write,
            "images": [p.as_dict() for p in self.plans],
        }


def push(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    proposals: Sequence[Proposals],
    *,
    run: str,
    model: str,
    dry_run: bool = False,
    while_qupath_runs: bool = False,
    break_lock: bool = False,
    reporter: Reporter = SILENT,
) -> PushResult:
    """Add proposals to a project.

    A detection that matches any object already there adds nothing. So a second identical push
    writes nothing, and what a human accepted, edited, moved, rejected or deleted stays as it is.

    Args:
        run: id of the detection run, kept on each object.
        model: short hash of the weights, kept on each object.

    Raises:
        InputError: proposals for an image that is not in the project, or with numbers that cannot be.
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    entries = {e.id: e for e in store.images()}
    _check(proposals, entries, settings)
    if not dry_run:
        refuse_while_qupath_runs(allow=while_qupath_runs)
    plans: list[ImagePlan] = []
    written: list[int] = []
    failed: list[str] = []
    lock = ProjectLock(workspace.lock_file, break_lock=break_lock)
    with _NoLock() if dry_run else lock, reporter.task("push", len(proposals)) as task:
        pushed_before = _pushed_before(workspace)
        write_id = new_write_id(workspace.history)
        for wanted in sorted(proposals, key=lambda p: p.entry_id):
            entry = entries[wanted.entry_id]
            try:
                contents = store.read(entry.id)
                plan = plan_image(
                    entry,
                    wanted,
                    contents.objects,
                    settings,
                    run=run,
                    model=model,
                    pushed_before=pushed_before.get(entry.id, {}),
                )
                plans.append(plan)
                if plan.add and not dry_run:
                    classes = {o.path_class for o in plan.add if o.path_class}
                    store.add_classes(sorted(classes, key=str))
                    # The project first, then the record: a kill in between leaves proposals that
                    # say themselves what they are. The other way round, the record would hold
                    # objects that look as if a human had deleted them.
                    receipt = store.write(
                        entry.id,
                        HierarchyEdit(add=plan.add),
                        expected=contents.stamp,
                        snapshot_folder=workspace.snapshots,
                    )
                    workspace.history.append(
                        "push",
                        run=run,
                        model=model,
                        write=write_id,
                        **write_record(workspace, receipt, contents.stamp),
                        objects=[_record(o) for o in plan.add],
                    )
                    written.append(entry.id)
            except GlombridgeError as error:
                failed.append(f"  image {entry.name!r} (entry {entry.id}): {error}")
                last = error
            task.advance(note=entry.name)
        if not dry_run:
            workspace.history.append(
                "pushed",
                run=run,
                images=len(plans),
                failed=len(failed),
                write=write_id if written else None,
            )
            prune_snapshots(workspace, written, keep=settings.project.keep_snapshots)
    result = PushResult(run, tuple(plans), dry_run, tuple(written), write_id if written else None)
    if failed:
        if len(failed) == len(proposals):
            raise last
        msg = f"{len(failed)} of {len(proposals)} images were not pushed:\n" + "\n".join(failed)
        raise PartlyDoneError(msg)
    return result


def plan_image(
    entry: ImageEntry,
    wanted: Proposals,
    objects: Sequence[SlideObject],
    settings: Settings,
    *,
    run: str,
    model: str,
    pushed_before: Mapping[str, tuple[float, float, float, float]],
) -> ImagePlan:
    """Decide what to add to one image; a pure function.

    Args:
        objects: everything in the image now.
        pushed_before: id -> box of what was ever pushed into this image.
    """
    roles = assign_roles(objects, settings)
    present = {str(o.id) for o in objects}
    deleted = np.array([b for i, b in pushed_before.items() if i not in present]).reshape(-1, 4)
    matched = {
        "known": _matches(wanted.xyxy, _human_boxes(objects, roles)),
        "rejected": _matches(wanted.xyxy, _boxes(roles.rejected)),
        "kept": _matches(wanted.xyxy, _boxes(roles.pending)),
        "gone": _matches(wanted.xyxy, deleted),
    }
    free = np.ones(len(wanted.score), np.bool_)
    counts = {}
    for reason, hit in matched.items():
        counts[reason] = int((hit & free).sum())
        free &= ~hit
    add = [
        _proposal(entry, wanted, int(k), settings, run=run, model=model)
        for k in np.flatnonzero(free)
    ]
    # The same place seen twice in one run would be one id; the better score stands first.
    unique: dict[uuid.UUID, SlideObject] = {}
    for obj in sorted(add, key=lambda o: (-o.measurements[CONFIDENCE], str(o.id))):
        if str(obj.id) not in present:
            unique.setdefault(obj.id, obj)
    return ImagePlan(entry, tuple(unique.values()), **counts)


def _proposal(
    entry: ImageEntry, wanted: Proposals, k: int, settings: Settings, *, run: str, model: str
) -> SlideObject:
    # QuPath shows positions to a hundredth of a pixel and older ones keep 32-bit vertices; the
    # detector is not that exact either.
    x0, y0, x1, y1 = (round(float(v), 2) for v in wanted.xyxy[k])
    class_name = settings.class_names[int(wanted.class_index[k])]
    measurements = {CONFIDENCE: round(float(wanted.score[k]), 6)}
    if wanted.mpp is not None:
        measurements[DIAMETER_UM] = round((x1 - x0 + y1 - y0) / 2 * wanted.mpp, 2)
    place = [round(v / _PLACE_GRID_PX) for v in (x0, y0, x1, y1)]
    return SlideObject(
        id=uuid.uuid5(_NAMESPACE, f"{entry.id}|{wanted.slide}|{run}|{class_name}|{place}"),
        kind=ObjectKind.ANNOTATION,
        outline=Outline.rectangle(x0, y0, x1, y1),
        path_class=PathClass(settings.proposed_class(class_name).names, PROPOSED_COLOR),
        locked=True,
        measurements=measurements,
        metadata={STATE: "proposal", RUN: run, MODEL: model, BOX: "true"},
    )


def _check(
    proposals: Sequence[Proposals], entries: Mapping[int, ImageEntry], settings: Settings
) -> None:
    problems = []
    for p in proposals:
        entry = entries.get(p.entry_id)
        if entry is None:
            problems.append(f"  entry {p.entry_id} is not in the project")
            continue
        where = f"  image {entry.name!r} (entry {entry.id}): "
        if not (np.isfinite(p.xyxy).all() and np.isfinite(p.score).all()):
            problems.append(where + "a box or score is not a finite number")
        elif ((p.score < 0) | (p.score > 1)).any():
            problems.append(where + "a score lies outside 0 to 1")
        if ((p.class_index < 0) | (p.class_index >= len(settings.class_names))).any():
            problems.append(where + f"a class is not one of {settings.class_names}")
        if entry.width and entry.height and len(p.xyxy):
            inside = shapely.box(*p.xyxy.T)
            outside = ~shapely.intersects(inside, shapely.box(0, 0, entry.width, entry.height))
            if outside.any():
                problems.append(where + f"{int(outside.sum())} boxes lie outside the image")
    if problems:
        msg = "detections that cannot be pushed; nothing was written:\n" + "\n".join(problems)
        raise InputError(msg)


def _matches(found: Floats, there: Floats) -> np.ndarray:
    hit = np.zeros(len(found), np.bool_)
    i, _, shared, union = pair_overlaps(found, there)
    hit[i[shared >= SAME_IOU * union]] = True
    return hit


def _boxes(objects: Sequence[SlideObject]) -> Floats:
    boxes = [o.outline.bounds for o in objects if o.outline is not None]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _human_boxes(objects: Sequence[SlideObject], roles: Roles) -> Floats:
    # Any human annotation of that place and size counts, whatever its class: a proposal over a
    # mark the settings do not know would only ask the human the same thing again.
    others = {o.id for o in (*roles.pending, *roles.rejected, *roles.regions)}
    human = [o for o in objects if o.kind is ObjectKind.ANNOTATION and o.id not in others]
    return _boxes([o for o in human if o.outline is not None and o.outline.is_area])


def _pushed_before(workspace: Workspace) -> dict[int, dict[str, tuple[float, float, float, float]]]:
    pushed: dict[int, dict[str, tuple[float, float, float, float]]] = {}
    of_write: dict[tuple[int, str], list[str]] = {}
    for event in workspace.history.events("push", UNDO):
        boxes = pushed.setdefault(int(event["image"]), {})
        if event["event"] == UNDO:
            # We took these out again, not a human: they may be proposed anew.
            for object_id in of_write.pop((int(event["image"]), event["undoes"]), []):
                boxes.pop(object_id, None)
            continue
        place = (int(event["image"]), event.get("write", ""))
        for record in event["objects"]:
            boxes[record["id"]] = tuple(record["box"])
            of_write.setdefault(place, []).append(record["id"])
    return pushed


def _record(obj: SlideObject) -> dict[str, Any]:
    return {
        "id": str(obj.id),
        "box": [*obj.outline.bounds] if obj.outline else [],
        "class": str(obj.path_class),
        "score": obj.measurements[CONFIDENCE],
    }


class _NoLock:
    def __enter__(self) -> None:
        """A dry run writes nothing and holds nobody up."""

    def __exit__(self, *exc: object) -> None:
        """Nothing to release."""


def newest_detections(workspace: Workspace) -> Path:
    """Folder of the newest finished detection run.

    Raises:
        InputError: there is none.
    """
    run = workspace.latest_run(workspace.detections, "detect")
    if run is None:
        msg = (
            f"project {workspace.project_folder} has no detections. Run 'glombridge detect' first."
        )
        raise InputError(msg)
    return run
