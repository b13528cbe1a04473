"""Decisions of a human, written into a project from Python: a review that needs no window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from ..errors import InputError, UsageError
from ..ledger import Workspace
from ..objects import SlideObject
from ..progress import SILENT, Reporter
from ..qupath.store import HierarchyEdit, ImageContents, ImageEntry, ProjectStore
from ..settings import Settings
from ..sync.guards import Guards
from ..sync.look import Decision
from ..sync.writing import each_image, open_desk

Deed = Callable[[SlideObject], SlideObject]
"""From an object to the object as decided, by the functions of :mod:`.decisions`."""


@dataclass(frozen=True)
class ReviewSession:
    """What a human decided.

    Attributes:
        decisions: by entry id, as they went on record; what was found on the way too.
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
    """

    decisions: Mapping[int, tuple[Decision, ...]]
    write: str | None


def write_decisions(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    deeds: Mapping[int, Mapping[UUID, Deed]],
    *,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> ReviewSession:
    """Write what a human decided onto objects, as the review window does, and put it on record.

    Nothing else in glombridge changes an object that a human made or judged: this is for people who
    script their own review. The decisions are the human's, not a push; ``undo`` takes them back.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        deeds: by entry id and object id, what is decided of an object, for example
            ``lambda obj: accept(obj, Reader("Dr A"), Rules.of(settings))``.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: no such image or object.
        UsageError: a deed that changes more of an object than a decision does.
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    entries = {e.id: e for e in store.images()}
    for image in deeds:
        if image not in entries:
            msg = f"there is no image with entry id {image} in {store.project_file}"
            raise InputError(msg)
    decided: dict[int, tuple[Decision, ...]] = {}
    written: list[int] = []
    with open_desk(store, workspace, settings, guards) as desk:
        write_id = desk.ledger.next_write_id()

        def decide(entry: ImageEntry) -> None:
            contents = store.read(entry.id)
            found = desk.look(contents).decisions
            changed = _changed(contents, deeds[entry.id])
            if guards.dry_run:
                there = {o.id: o for o in (*contents.objects, *changed)}
                would_be = replace(contents, objects=tuple(there.values()))
                decided[entry.id] = tuple(desk.look(would_be).decisions)
                return
            desk.record_decisions(entry.id, found)
            if changed:
                store.add_classes(sorted({o.path_class for o in changed if o.path_class}, key=str))
                edit = HierarchyEdit(replace=changed)
                desk.write(contents, edit, command="decide", write=write_id, is_followed=False)
                written.append(entry.id)
            made = desk.look(store.read(entry.id)).decisions
            desk.record_decisions(entry.id, made)
            decided[entry.id] = (*found, *made)

        outcomes = each_image(
            [entries[i] for i in sorted(deeds)], decide, title="decide", reporter=reporter
        )
        desk.prune(written)
    outcomes.raise_if_failed("changed")
    return ReviewSession(decided, write_id if written else None)


def _changed(contents: ImageContents, deeds: Mapping[UUID, Deed]) -> tuple[SlideObject, ...]:
    there = {o.id: o for o in contents.objects}
    changed = []
    for object_id, deed in sorted(deeds.items()):
        before = there.get(object_id)
        if before is None:
            msg = f"there is no object {object_id}"
            raise InputError(msg)
        after = deed(before)
        only_decided = replace(
            before,
            path_class=after.path_class,
            locked=after.locked,
            measurements=after.measurements,
            metadata=after.metadata,
        )
        if after != only_decided:
            msg = (
                f"the decision on object {object_id} changes more than class, lock, measurements and "
                "metadata. Use the functions of glombridge.review.decisions, or edit it in QuPath"
            )
            raise UsageError(msg)
        if after != before:
            changed.append(after)
    return tuple(changed)
