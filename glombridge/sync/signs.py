"""Objects that only point at something: a detector's errors, what two readers see differently.

They are nobody's marks: never truth, never proposals, never pulled. Each new showing replaces those
of its kind that nobody has touched. Their id is a hash of everything they say, so that an object
nobody touched can be told without remembering it.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ledger import Workspace
from ..objects import ObjectKind, Outline, PathClass, SlideObject
from ..progress import SILENT, Reporter
from ..provenance import STATE
from ..qupath.store import HierarchyEdit, ImageEntry, ProjectStore
from ..settings import Settings
from .guards import Guards
from .writing import each_image, open_desk

_NAMESPACE = uuid.UUID("c2f5b0c4-3a55-5d0e-8f3e-0a1b6a4d9e77")


@dataclass(frozen=True)
class SignKind:
    """One kind of signs; a showing replaces only those of its own.

    Attributes:
        state: value of the metadata ``glombridge.state`` on each of them.
        classes: that they carry, with their colours.
        command: what ``undo`` and the history call a showing.
    """

    state: str
    classes: tuple[PathClass, ...]
    command: str


@dataclass(frozen=True)
class SignsImage:
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


def show_signs(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    wanted: Mapping[int, Mapping[uuid.UUID, SlideObject]],
    kind: SignKind,
    *,
    about: str | None = None,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> tuple[tuple[SignsImage, ...], str | None]:
    """Show signs in place of those of their kind shown before. A second identical call changes nothing.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        wanted: by entry id, then by id, made with :func:`sign`. Images that are no longer in the
            project are passed over.
        kind: of all of them.
        about: the run they are about, for the history.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Returns:
        What was done or would be per image, and the id that ``undo`` knows the write by, ``None``
        if nothing was written.

    Raises:
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    written: list[int] = []
    # Also images without signs now may show some of before.
    entries = [e for e in store.images() if e.has_data or e.id in wanted]
    with open_desk(store, workspace, settings, guards) as desk:
        write_id = desk.ledger.next_write_id()

        def show(entry: ImageEntry) -> SignsImage:
            contents = store.read(entry.id)
            image = plan_signs(entry, contents.objects, wanted.get(entry.id, {}), kind)
            edit = HierarchyEdit(add=image.add, remove=image.remove)
            if not edit.is_empty and not guards.dry_run:
                desk.record_decisions(entry.id, desk.look(contents).decisions)
                store.add_classes(kind.classes)
                desk.write(
                    contents,
                    edit,
                    command=kind.command,
                    write=write_id,
                    about=(about, None),
                    is_followed=False,
                )
                written.append(entry.id)
            return image

        title = kind.command.replace("-", " ")
        outcomes = each_image(entries, show, title=title, reporter=reporter)
        desk.prune(written)
    outcomes.raise_if_failed("changed")
    return tuple(outcomes.done), write_id if written else None


def plan_signs(
    entry: ImageEntry,
    there: Iterable[SlideObject],
    wanted: Mapping[uuid.UUID, SlideObject],
    kind: SignKind,
) -> SignsImage:
    """What to add and remove; a pure function.

    An object that a human has touched stays, whatever became of it, and is not added beside itself.
    """
    ids = set()
    remove = set()
    at = {_place(obj): key for key, obj in wanted.items()}
    for obj in there:
        # QuPath 0.3 gives new ids at each opening: there the place must do.
        ids.add(obj.id if obj.id_is_stored else at.get(_place(obj), obj.id))
        if obj.id not in wanted and is_untouched_sign(obj, kind.state):
            remove.add(obj.id)
    add = tuple(obj for key, obj in wanted.items() if key not in ids)
    return SignsImage(entry, add, frozenset(remove), len(wanted) - len(add))


def sign(
    box: Sequence[float],
    path_class: PathClass,
    *,
    state: str,
    measurements: Mapping[str, float],
    metadata: Mapping[str, str],
) -> SlideObject:
    """A sign around a place; its id is made from what it says.

    Args:
        box: left, top, right, bottom, QuPath px.
        path_class: one of its kind.
        state: of its kind.
        measurements: what else it says, in numbers.
        metadata: and in words, without the state.
    """
    # Whole pixels, around it: every QuPath version keeps them as they are.
    x0, y0 = (float(math.floor(v)) for v in box[:2])
    x1, y1 = (float(math.ceil(v)) for v in box[2:])
    return _with_id(
        SlideObject(
            id=_NAMESPACE,
            kind=ObjectKind.ANNOTATION,
            outline=Outline.rectangle(x0, y0, x1, y1),
            path_class=path_class,
            locked=True,
            measurements=measurements,
            metadata={STATE: state, **metadata},
        )
    )


def is_untouched_sign(obj: SlideObject, state: str) -> bool:
    """Whether an object is a sign of ours of a kind, and in every detail as we made it."""
    return (
        obj.metadata.get(STATE) == state
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
