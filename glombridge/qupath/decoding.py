"""Slide objects from the hierarchy of a data file."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid5

import numpy as np
import shapely

from ..objects import Color, ObjectKind, Outline, PathClass, SlideObject
from . import descriptors as d
from .hierarchy import DataFile, HierarchyNode
from .javastream import Content, JavaArray, JavaObject, JavaString
from .javastream.reader import paused_gc
from .measurement_decoding import MeasurementDecoder
from .outline_decoding import OpaqueError, OutlineBatch

OBJECT_ID = "Object ID"
"""Metadata key under which QuPath 0.4 and later store the id of an object."""

DERIVED_IDS = UUID("3f0a1d36-6a0c-5d1b-9f0e-5a3a4c0f7a51")
"""Namespace of ids made from the position in a file that stores none."""

_UNREADABLE = (ValueError, struct.error, IndexError, shapely.errors.ShapelyError)
_ID_PARTS = re.compile(
    r"([0-9a-fA-F]+)-([0-9a-fA-F]+)-([0-9a-fA-F]+)-([0-9a-fA-F]+)-([0-9a-fA-F]+)"
)
_NAN = float("nan")


@dataclass(eq=False, slots=True)
class Decoded:
    """One object of a file.

    Attributes:
        source: where it is in the file.
        parent: index of the parent in depth-first order, ``None`` = directly under the image.
        id: stored or derived.
        object: ``None`` if it is not understood.
        problem: why not, or what else is wrong with it.
        repeats_id: whether it is stored with an id that an earlier object has; its own is derived.
    """

    source: HierarchyNode
    parent: int | None
    id: UUID
    id_is_stored: bool
    object: SlideObject | None = None
    problem: str | None = None
    repeats_id: bool = False


@dataclass(eq=False, slots=True)
class _Parts:
    """Values of one object before the outlines are built."""

    path_class: PathClass | None
    name: str | None
    color: Color | None
    locked: bool
    measurements: Mapping[str, float]
    metadata: dict[str, str]
    probability: float
    missing: bool
    outline_at: int | None
    nucleus_at: int | None


def decode_tree(
    root: HierarchyNode, seed: str, only: Collection[UUID] | None = None
) -> list[Decoded]:
    """Decode every object below the root.

    Args:
        root: of a parsed file.
        seed: what the ids of objects without one are derived from, together with their position.
        only: ids of the objects that are wanted, ``None`` = all. Others are told apart by their ids,
            but neither decoded nor found fault with, unless they are above one that is wanted.

    Returns:
        One entry per object, in depth-first order, parents first.
    """
    with paused_gc(), _quiet():
        decoder = _Decoder(seed, {}, only)
        return decoder.build(*decoder.collect(root))


def decode_and_forget(
    file: DataFile, seed: str, classes: Mapping[tuple[str, ...], PathClass]
) -> list[Decoded]:
    """As :func:`decode_tree`, for reading only: the graph of the file is given up on the way.

    Args:
        file: no longer of use afterwards.
        seed: as in :func:`decode_tree`.
        classes: by their names, classes to take in place of those of the file.
    """
    with paused_gc(), _quiet():
        decoder = _Decoder(seed, classes, forgetting=True)
        file.handles.clear()
        collected = decoder.collect(file.root)
        file.forget()
        return decoder.build(*collected)


def _quiet() -> np.errstate:
    """Numbers that are none are reported by object; numpy need not warn of them as well."""
    return np.errstate(invalid="ignore")


def stored_id(metadata: dict[str, str]) -> UUID | None:
    """The id as QuPath 0.4 and later understand it, ``None`` where they would invent one."""
    text = metadata.get(OBJECT_ID)
    if text is None or len(text) > 36:
        return None
    match = _ID_PARTS.fullmatch(text)
    if match is None:
        return None
    # Java takes short groups too and drops what is too long for its place.
    widths = (8, 4, 4, 4, 12)
    digits = (g[-w:].rjust(w, "0") for g, w in zip(match.groups(), widths, strict=True))
    return UUID(int=int("".join(digits), 16))


class _Decoder:
    def __init__(
        self,
        seed: str,
        project: Mapping[tuple[str, ...], PathClass],
        only: Collection[UUID] | None = None,
        *,
        forgetting: bool = False,
    ) -> None:
        self.seed = seed
        self.project = project
        self.only = only
        self.forgetting = forgetting
        # By id() of nodes. All of a file's nodes exist at once before any is given up, so none of
        # them can have the id of another.
        self.outlines = OutlineBatch()
        self.measurements = MeasurementDecoder()
        self.classes: dict[int, PathClass | None] = {}
        self.texts: dict[int, str] = {}

    def collect(self, root: HierarchyNode) -> tuple[list[Decoded], list[_Parts | None]]:
        """All that needs the graph."""
        nodes = list(root.walk())[1:]
        position = {id(node): i for i, node in enumerate(nodes)}
        metadata, stored, bad_metadata = self._all_metadata(nodes)
        ids = self._ids(stored)
        found: list[Decoded] = []
        parts: list[_Parts | None] = []
        for i, node in enumerate(nodes):
            parent = None if node.parent is root else position[id(node.parent)]
            found.append(Decoded(node, parent, *ids[i]))
        wanted = self._wanted(found)
        for i, node in enumerate(nodes):
            entry = found[i]
            if wanted is not None and i not in wanted:
                parts.append(None)
            elif i in bad_metadata:
                entry.problem = bad_metadata[i]
                parts.append(None)
            else:
                try:
                    parts.append(self._parts(node, metadata[i]))
                except _UNREADABLE as error:
                    entry.problem = str(error)
                    parts.append(None)
            written = None if entry.id_is_stored else stored[i]
            if written is not None:
                entry.repeats_id = True
                entry.problem = (
                    entry.problem or f"its id {written} belongs to an earlier object too"
                )
            if self.forgetting:
                node.node.parts.clear()
                metadata[i] = {}
        return found, parts

    def _wanted(self, found: list[Decoded]) -> set[int] | None:
        """Places of what is to be decoded, with all that is above it; ``None`` = everything."""
        if self.only is None:
            return None
        wanted: set[int] = set()
        for i, entry in enumerate(found):
            at: int | None = i if entry.id in self.only else None
            while at is not None and at not in wanted:
                wanted.add(at)
                at = found[at].parent
        return wanted

    def build(self, found: list[Decoded], parts: list[_Parts | None]) -> list[Decoded]:
        """Outlines and objects, in bulk."""
        self.measurements.close()
        outlines = self.outlines.build()
        for entry, values in zip(found, parts, strict=True):
            if values is None:
                continue
            outline, nucleus = (
                None if at is None else outlines[at]
                for at in (values.outline_at, values.nucleus_at)
            )
            if not isinstance(outline, Outline | None):
                entry.problem = str(outline)
                continue
            if not isinstance(nucleus, Outline | None):
                entry.problem = f"nucleus: {nucleus}"
                continue
            entry.object = SlideObject(
                entry.id,
                entry.source.kind or ObjectKind.ANNOTATION,
                outline,
                values.path_class,
                values.name,
                values.color,
                values.locked,
                values.measurements,
                values.metadata,
                values.probability,
                nucleus,
                self._listed_parent(found, entry),
                values.missing,
                entry.id_is_stored,
            )
        return found

    @staticmethod
    def _listed_parent(found: list[Decoded], entry: Decoded) -> UUID | None:
        """The nearest ancestor that is listed; parents are decoded before children."""
        at = entry.parent
        while at is not None and found[at].object is None:
            at = found[at].parent
        return None if at is None else found[at].id

    def _all_metadata(
        self, nodes: Iterable[HierarchyNode]
    ) -> tuple[list[dict[str, str]], list[UUID | None], dict[int, str]]:
        """Metadata without the id, the id as it is written, and what cannot be read of it."""
        found: list[dict[str, str]] = []
        stored: list[UUID | None] = []
        bad: dict[int, str] = {}
        for i, node in enumerate(nodes):
            try:
                values = self._metadata(node)
            except _UNREADABLE as error:
                values, bad[i] = {}, str(error)
            stored.append(stored_id(values))
            found.append({k: v for k, v in values.items() if k != OBJECT_ID})
        return found, stored, bad

    def _ids(self, stored: list[UUID | None]) -> list[tuple[UUID, bool]]:
        taken = {found for found in stored if found is not None}
        seen: set[UUID] = set()
        ids: list[tuple[UUID, bool]] = []
        for position, found in enumerate(stored):
            if found is not None and found not in seen:
                seen.add(found)
                ids.append((found, True))
                continue
            derived = uuid5(DERIVED_IDS, f"{self.seed}/{position}")
            while derived in taken:
                derived = uuid5(DERIVED_IDS, str(derived))
            taken.add(derived)
            ids.append((derived, False))
        return ids

    def _metadata(self, node: HierarchyNode) -> dict[str, str]:
        if node.metadata_at is None:
            return {}
        data = node.contents[node.metadata_at]
        if isinstance(data, JavaObject) and len(data.parts[0]) == 3:
            _, keys, values = data.parts[0]
            if (
                isinstance(keys, JavaArray)
                and isinstance(values, JavaArray)
                and keys.items is not None
                and values.items is not None
                and len(keys.items) == len(values.items)
            ):
                return {
                    self._shared_text(k): _text(v)
                    for k, v in zip(keys.items, values.items, strict=True)
                }
        msg = "metadata of an unknown layout"
        raise OpaqueError(msg)

    def _shared_text(self, node: Content) -> str:
        """Text of a node that many objects share; decoded once."""
        text = self.texts.get(id(node))
        if text is None:
            text = self.texts[id(node)] = _text(node)
        return text

    def _parts(self, node: HierarchyNode, metadata: dict[str, str]) -> _Parts:
        contents, at = node.contents, node.measurements_at
        name, color, measurements = contents[0], contents[1], contents[at]
        tail = contents[node.tail_at :]
        locked, path_class, roi, probability = tail[:4]
        assert isinstance(probability, bytes)  # noqa: S101 (the hierarchy has checked it)
        assert isinstance(measurements, JavaObject | None)  # noqa: S101
        values = self.measurements.decode(measurements)
        decoded_class = None if path_class is None else self._path_class(path_class)
        # Last, so that nothing enters the batch for an object that is opaque anyway.
        outline_at = self.outlines.add(roi) if isinstance(roi, JavaObject) else None
        nucleus_at = None
        if len(tail) == 5 and isinstance(tail[4], JavaObject):
            nucleus_at = self.outlines.add(tail[4])
        return _Parts(
            decoded_class,
            name.text if isinstance(name, JavaString) else None,
            None if color is None else Color.from_argb(integer(color)),
            _boolean(locked),
            values,
            metadata,
            _NAN if probability[:2] == b"\x7f\xf8" else struct.unpack_from(">d", probability)[0],
            len(probability) == 9 and probability[8] != 0,
            outline_at,
            nucleus_at,
        )

    def _path_class(self, node: Content) -> PathClass | None:
        if id(node) not in self.classes:
            decoded = decode_path_class(node)
            if decoded is not None:
                decoded = self.project.get(decoded.names, decoded)
            self.classes[id(node)] = decoded
        return self.classes[id(node)]


def decode_path_class(node: Content) -> PathClass | None:
    """A classification, ``None`` for QuPath's nameless "unclassified".

    Raises:
        OpaqueError: a level without a name.
    """
    levels = list(_class_levels(node))
    names = [name for name, _ in reversed(levels)]
    if names == [None]:
        return None
    if None in names:
        msg = "a class with a nameless level"
        raise OpaqueError(msg)
    color = levels[0][1]
    return PathClass(
        tuple(name for name in names if name is not None),
        None if color is None else Color.from_argb(integer(color)),
    )


def _class_levels(node: Content) -> Iterator[tuple[str | None, Content]]:
    seen = set()
    while node is not None:
        if not isinstance(node, JavaObject) or node.desc.name != d.PATH_CLASS or id(node) in seen:
            msg = f"a class of an unknown kind ({node!r})"
            raise OpaqueError(msg)
        seen.add(id(node))
        _, color, name, parent = node.parts[0]
        yield (name.text if isinstance(name, JavaString) else None), color
        node = parent


def integer(node: Content) -> int:
    """Value of a ``java.lang.Integer``.

    Raises:
        OpaqueError: it is something else.
    """
    if isinstance(node, JavaObject) and node.desc.name == d.INTEGER:
        raw = node.parts[1][0]
        if isinstance(raw, bytes):
            return int.from_bytes(raw, "big", signed=True)
    msg = f"a number was expected, found {node!r}"
    raise OpaqueError(msg)


def _text(node: Content) -> str:
    if not isinstance(node, JavaString):
        msg = f"a text was expected, found {node!r}"
        raise OpaqueError(msg)
    return node.text


def _boolean(node: Content) -> bool:
    return isinstance(node, JavaObject) and node.parts[0][0] != b"\0"
