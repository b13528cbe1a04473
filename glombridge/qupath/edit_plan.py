"""What an edit asks for, checked against the objects of a file before anything is changed.

Pure: no nodes are touched here. The result says where each object must end up, independently of
how the nodes are rearranged, so that it can be compared with what is read back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from uuid import UUID

from ..errors import InputError, ProtectedError
from ..objects import ObjectKind, SlideObject
from .decoding import Decoded
from .store import HierarchyEdit
from .stored_form import as_stored, differences

_EMPTY: dict[str, Any] = {
    "outline": None,
    "nucleus": None,
    "path_class": None,
    "color": None,
    "measurements": {},
    "metadata": {},
}
"""Fields that are checked, and a value that passes."""


@dataclass(frozen=True)
class EditPlan:
    """A checked edit.

    Attributes:
        added: new objects in stored form, in the order given.
        removed: ids to take out.
        changed: by id, the stored form an existing object must take and the parts that differ;
            objects that already are as asked are left out.
        parents: by id, the parent each object must end up under, ``None`` = the image.
    """

    added: tuple[SlideObject, ...]
    removed: frozenset[UUID]
    changed: dict[UUID, tuple[SlideObject, list[str]]]
    parents: dict[UUID, UUID | None]


def plan_edit(
    edit: HierarchyEdit, found: list[Decoded], wide: dict[UUID, bool], name: str
) -> EditPlan:
    """Check an edit against the objects of a file.

    Args:
        edit: what was asked for.
        found: every object of the file.
        wide: by id, whether the measurements of an existing object that is understood have 64 bits.
        name: what messages call the file.

    Raises:
        InputError: an object that QuPath could not read back, or an edit that contradicts itself.
        ProtectedError: an edit of something that is not understood or must not be touched.
    """
    by_id = {entry.id: entry for entry in found}
    replaced = [obj.id for obj in edit.replace]
    _no_repeats(replaced, "replaced twice", name)
    both = edit.remove.intersection(replaced)
    if both:
        _bad(name, f"object {min(both)} is to be removed and replaced at once; choose one")
    for object_id in sorted(edit.remove):
        _check_removal(_existing(object_id, by_id, name, "removed"), name)
    changed = {}
    for obj in edit.replace:
        entry = _existing(obj.id, by_id, name, "replaced")
        asked, parts = _compared(obj, entry, wide[obj.id], name)
        if parts:
            changed[obj.id] = asked, parts
    added = tuple(_checked_new(obj, name) for obj in edit.add)
    parents = _final_parents(edit, found, by_id, name)
    return EditPlan(added, edit.remove, changed, parents)


def _existing(object_id: UUID, by_id: dict[UUID, Decoded], name: str, verb: str) -> Decoded:
    entry = by_id.get(object_id)
    if entry is None:
        _bad(name, f"object {object_id} is to be {verb} but is not there; read the image again")
    if entry.object is None:
        _refuse(
            name,
            f"object {object_id} is to be {verb} but is not understood ({entry.problem})",
            "change it in QuPath",
        )
    return entry


def _check_removal(entry: Decoded, name: str) -> None:
    if entry.source.kind is ObjectKind.TMA_CORE:
        _refuse(name, f"object {entry.id} to be removed is a TMA core", "remove it in QuPath")


def _compared(
    obj: SlideObject, entry: Decoded, wide: bool, name: str
) -> tuple[SlideObject, list[str]]:
    current = entry.object
    assert current is not None  # noqa: S101 (checked by the caller)
    if obj.kind is not current.kind or obj.parent != current.parent:
        _bad(
            name,
            f"object {obj.id} is a {current.kind.value} under {current.parent or 'the image'} and "
            f"is to become a {obj.kind.value} under {obj.parent or 'the image'}; kind and parent "
            "cannot change: remove it and add a new object",
        )
    fields = differences(current, obj)
    if "outline" in fields and (obj.outline is None or current.outline is None):
        _bad(name, f"object {obj.id} cannot lose or gain its outline; remove it and add a new one")
    # Only what differs is checked and rounded: a file may hold what a writer should not make, and
    # it must be possible to rename an object with such an outline.
    known = {field: _EMPTY[field] for field in _EMPTY if field not in fields}
    asked = as_stored(replace(obj, **known), wide=wide)
    asked = replace(asked, **{field: getattr(current, field) for field in known})
    fields = differences(current, asked)
    if "outline" in fields and current.kind is ObjectKind.TMA_CORE:
        _refuse(name, f"object {obj.id} to be moved is a TMA core", "move it in QuPath")
    return asked, fields


def _checked_new(obj: SlideObject, name: str) -> SlideObject:
    if obj.kind is ObjectKind.TMA_CORE:
        _refuse(name, f"object {obj.id} to be added is a TMA core", "add it in QuPath")
    if obj.outline is None:
        _bad(name, f"object {obj.id} to be added has no outline; give it one")
    return as_stored(obj)


def _final_parents(
    edit: HierarchyEdit, found: list[Decoded], by_id: dict[UUID, Decoded], name: str
) -> dict[UUID, UUID | None]:
    parents: dict[UUID, UUID | None] = {}
    for entry in found:
        if entry.id in edit.remove:
            continue
        at = entry.parent
        while at is not None and found[at].id in edit.remove:
            at = found[at].parent
        parents[entry.id] = None if at is None else found[at].id
    for obj in edit.add:
        if obj.id in parents:
            _bad(
                name, f"object {obj.id} to be added is there already; give it a new id, or replace"
            )
        parents[obj.id] = obj.parent
    for obj in edit.add:
        if obj.parent is None:
            continue
        if obj.parent not in parents:
            there = "is removed by the same edit" if obj.parent in by_id else "is not there"
            _bad(name, f"object {obj.id} is to be added under {obj.parent}, which {there}")
        if obj.parent in by_id and by_id[obj.parent].object is None:
            _refuse(name, f"object {obj.parent} to add under is not understood", "use another one")
    _check_rooted(edit.add, parents, name)
    return parents


def _check_rooted(
    added: Iterable[SlideObject], parents: dict[UUID, UUID | None], name: str
) -> None:
    rooted: set[UUID] = set()
    for obj in added:
        path: list[UUID] = []
        at: UUID | None = obj.id
        while at is not None and at not in rooted:
            if at in path:
                _bad(name, f"object {obj.id} to be added is below itself")
            path.append(at)
            at = parents[at]
        rooted.update(path)


def _no_repeats(ids: list[UUID], what: str, name: str) -> None:
    seen: set[UUID] = set()
    for object_id in ids:
        if object_id in seen:
            _bad(name, f"object {object_id} is {what}; give it once")
        seen.add(object_id)


def _bad(name: str, what: str) -> NoReturn:
    msg = f"{name} was not changed: {what}."
    raise InputError(msg)


def _refuse(name: str, what: str, way_out: str) -> NoReturn:
    msg = f"{name} was not changed: {what}, and changing it here could lose data; {way_out}."
    raise ProtectedError(msg)
