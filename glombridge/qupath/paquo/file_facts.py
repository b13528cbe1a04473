"""What is taken from the file itself, because QuPath does not give it or gives it changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from ...objects import Outline, OutlineKind, SlideObject
from ..decoding import OBJECT_ID, decode_tree, stored_id
from ..hierarchy import HierarchyNode
from ..javastream import JavaArray, JavaObject, JavaString
from ..outline_decoding import OpaqueError, OutlineBatch


def ids_in_file(
    root: HierarchyNode, nodes: Iterable[HierarchyNode], seed: str
) -> tuple[list[UUID], list[bool], list[str]]:
    """Id of each object, whether the file holds it, and a problem for each that repeats one.

    QuPath would invent ids where the file has none, others at each reading.
    """
    ids = [_stored(node) for node in nodes]
    known = [found for found in ids if found is not None]
    if len(known) == len(ids) == len(set(known)):
        return known, [True] * len(known), []
    decoded = decode_tree(root, seed)
    problems = [
        f"object {i + 1} ({e.source.kind.value if e.source.kind else 'object'} {e.id}): {e.problem}"
        for i, e in enumerate(decoded)
        if e.repeats_id and e.object is not None
    ]
    kept = [e.id_is_stored for e in decoded]
    return [e.id for e in decoded], kept, problems


def _stored(node: HierarchyNode) -> UUID | None:
    """The id in an object's metadata, found without decoding the rest."""
    if node.metadata_at is None:
        return None
    data = node.contents[node.metadata_at]
    if not isinstance(data, JavaObject) or len(data.parts[0]) != 3:
        return None
    _, keys, values = data.parts[0]
    if not isinstance(keys, JavaArray) or not isinstance(values, JavaArray):
        return None
    for key, value in zip(keys.items or (), values.items or (), strict=False):
        if isinstance(key, JavaString) and key.text == OBJECT_ID and isinstance(value, JavaString):
            return stored_id({OBJECT_ID: value.text})
    return None


def exact_geometry(obj: SlideObject, node: HierarchyNode) -> SlideObject:
    """The object with its geometries as the file has them; QuPath 0.6 and later round them."""
    outline, nucleus = obj.outline, obj.nucleus
    if outline is not None and outline.kind is OutlineKind.GEOMETRY:
        obj = replace(obj, outline=_decoded(node, 2, outline))
    if nucleus is not None and nucleus.kind is OutlineKind.GEOMETRY:
        obj = replace(obj, nucleus=_decoded(node, 4, nucleus))
    return obj


def _decoded(node: HierarchyNode, place: int, otherwise: Outline) -> Outline:
    roi = node.contents[node.tail_at + place]
    if not isinstance(roi, JavaObject):
        return otherwise
    batch = OutlineBatch()
    try:
        batch.add(roi)
    except OpaqueError:
        return otherwise  # QuPath understood it
    (found,) = batch.build()
    return found if isinstance(found, Outline) else otherwise
