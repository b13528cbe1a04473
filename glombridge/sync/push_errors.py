"""Showing a detector's errors in QuPath: objects of the classes ``Missed`` and ``False``.

They are nobody's marks: never truth, never proposals, never pulled. Each new call replaces the ones
before that nobody has touched.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.faults import Fault, FaultKind
from ..ledger import Workspace
from ..objects import Color, ObjectKind, Outline, PathClass, SlideObject
from ..progress import SILENT, Reporter
from ..provenance import CONFIDENCE, ERROR, ERROR_STATE, MODEL, RUN, STATE
from ..qupath.store import HierarchyEdit, ImageEntry, ProjectStore
from ..settings import Settings
from .writing import each_image, open_desk

MISSED = PathClass(("Missed",), Color(230, 150, 0))
FALSE = PathClass(("False",), Color(200, 40, 30))

_NAMESPACE = uuid.UUID("c2f5b0c4-3a55-5d0e-8f3e-0a1b6a4d9e77")


@dataclass(frozen=True)
class ErrorsImage:
    """What is shown in one image.

    Attributes:
        add: new objects.
        remove: ids of earlier ones that nobody has touched.
        kept: wanted ones that are there already.
    """

    entry: ImageEntry
    add: tuple[SlideObject, ...]
    remove: frozenset[uuid.UUID]
    kept: int

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.entry.id,
            "name": self.entry.name,
            "add": [{"id": str(o.id), "class": str(o.path_class)} for o in self.add],
            "remove": sorted(str(i) for i in self.remove),
            "kept": self.kept,
        }


@dataclass(frozen=True)
class PushErrorsResult:
    """What was shown, or would be.

    Attributes:
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
        left_out: errors on test slides, which were not asked for.
    """

    run: str
    images: tuple[ErrorsImage, ...]
    dry_run: bool
    write: str | None = None
    left_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "dry_run": self.dry_run,
            "write": self.write,
            "left_out_on_test_slides": self.left_out,
            "images": [i.as_dict() for i in self.images],
        }


def push_errors(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    faults: Sequence[Fault],
    *,
    run: str,
    model: str,
    dry_run: bool = False,
    while_qupath_runs: bool = False,
    break_lock: bool = False,
    reporter: Reporter = SILENT,
) -> PushErrorsResult:
    """Show errors in QuPath, in place of those shown before. A second identical call changes nothing.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        faults: what to show. Images that are no longer in the project are passed over.
        run: id of the training run, kept on each object.
        model: short hash of the weights, kept on each object.
        dry_run: say what would be done and write nothing.
        while_qupath_runs: the project is not open in the QuPath that runs.
        break_lock: take the project lock whoever holds it.
        reporter: for progress.

    Raises:
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    by_image: dict[int, list[Fault]] = {}
    for fault in faults:
        by_image.setdefault(fault.image, []).append(fault)
    written: list[int] = []
    # Also images without errors now may show some of before.
    entries = [e for e in store.images() if e.has_data or e.id in by_image]
    with open_desk(
        store,
        workspace,
        settings,
        dry_run=dry_run,
        while_qupath_runs=while_qupath_runs,
        break_lock=break_lock,
    ) as desk:
        write_id = desk.ledger.next_write_id()

        def show(entry: ImageEntry) -> ErrorsImage:
            contents = store.read(entry.id)
            wanted = as_objects(by_image.get(entry.id, []), run=run, model=model)
            image = plan(entry, contents.objects, wanted)
            edit = HierarchyEdit(add=image.add, remove=image.remove)
            if not edit.is_empty and not dry_run:
                desk.record_decisions(entry.id, desk.look(contents).decisions)
                store.add_classes([FALSE, MISSED])
                desk.write(
                    contents,
                    edit,
                    command="push-errors",
                    write=write_id,
                    about=(run, None),
                    is_followed=False,
                )
                written.append(entry.id)
            return image

        outcomes = each_image(entries, show, title="push errors", reporter=reporter)
        desk.prune(written)
    outcomes.raise_if_failed("changed")
    return PushErrorsResult(run, tuple(outcomes.done), dry_run, write_id if written else None)


def plan(
    entry: ImageEntry, there: Iterable[SlideObject], wanted: Mapping[uuid.UUID, SlideObject]
) -> ErrorsImage:
    """What to add and remove; a pure function.

    An object that a human has touched stays, whatever became of it, and is not added beside itself.
    """
    ids = set()
    remove = set()
    at = {_place(obj): key for key, obj in wanted.items()}
    for obj in there:
        # QuPath 0.3 gives new ids at each opening: there the place must do.
        ids.add(obj.id if obj.id_is_stored else at.get(_place(obj), obj.id))
        if obj.id not in wanted and is_untouched_error(obj):
            remove.add(obj.id)
    add = tuple(obj for key, obj in wanted.items() if key not in ids)
    return ErrorsImage(entry, add, frozenset(remove), len(wanted) - len(add))


def as_objects(faults: Iterable[Fault], *, run: str, model: str) -> dict[uuid.UUID, SlideObject]:
    """The objects that show errors, by id."""
    objects = {}
    for fault in faults:
        # Whole pixels, around it: every QuPath version keeps them as they are.
        x0, y0 = (float(math.floor(v)) for v in fault.box[:2])
        x1, y1 = (float(math.ceil(v)) for v in fault.box[2:])
        measurements = {} if fault.score is None else {CONFIDENCE: round(fault.score, 6)}
        metadata = {STATE: ERROR_STATE, ERROR: fault.kind.value, RUN: run, MODEL: model}
        obj = SlideObject(
            id=_NAMESPACE,
            kind=ObjectKind.ANNOTATION,
            outline=Outline.rectangle(x0, y0, x1, y1),
            path_class=MISSED if fault.kind is FaultKind.MISSED else FALSE,
            locked=True,
            measurements=measurements,
            metadata=metadata,
        )
        made = _with_id(obj)
        objects[made.id] = made
    return objects


def is_untouched_error(obj: SlideObject) -> bool:
    """Whether an object is an error of ours and in every detail as we made it.

    Its id is a hash of these details, so that nothing else has to be remembered.
    """
    return (
        obj.metadata.get(STATE) == ERROR_STATE
        and obj.kind is ObjectKind.ANNOTATION
        and obj.locked
        and obj.name is None
        and obj.color is None
        and obj.outline is not None
        and _with_id(obj).id == obj.id
    )


def _place(obj: SlideObject) -> tuple[str, tuple[float, ...]]:
    bounds = obj.outline.bounds if obj.outline is not None else ()
    return str(obj.path_class), tuple(round(v, 1) for v in bounds)


def _with_id(obj: SlideObject) -> SlideObject:
    assert obj.outline is not None  # noqa: S101 (the caller's part)
    said = [
        str(obj.path_class),
        obj.outline.kind.value,
        [round(v, 1) for v in obj.outline.bounds],
        sorted((k, round(v, 4)) for k, v in obj.measurements.items()),
        sorted(obj.metadata.items()),
    ]
    return SlideObject(
        id=uuid.uuid5(_NAMESPACE, repr(said)),
        kind=obj.kind,
        outline=obj.outline,
        path_class=obj.path_class,
        locked=obj.locked,
        measurements=obj.measurements,
        metadata=obj.metadata,
    )
