"""The outer layout of a data file, and the tree of hierarchy objects inside it, as nodes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from ..errors import DamagedFileError
from ..filenames import shown_line
from ..objects import ObjectKind
from . import descriptors as d
from .javastream import (
    ClassDesc,
    Content,
    JavaEnum,
    JavaObject,
    JavaString,
    emit_stream,
    parse_stream,
)
from .javastream.nodes import Node
from .javastream.reader import paused_gc

EOF = "EOF"
HEADERS = (b"\0\x13Data file version 2", b"\0\x13Data file version 3")

OBJECT_KINDS = {
    d.ANNOTATION: ObjectKind.ANNOTATION,
    d.DETECTION: ObjectKind.DETECTION,
    d.CELL: ObjectKind.CELL,
    d.TILE: ObjectKind.TILE,
    d.TMA_CORE: ObjectKind.TMA_CORE,
}

_TAIL_SIZE = {ObjectKind.CELL: 5}
_FORGOTTEN = JavaObject(ClassDesc("", 0, 0), [])

_MOST_SHOWN = 300  # characters of a reason, which repeats what the file says


@dataclass(eq=False, slots=True)
class HierarchyNode:
    """One object of the hierarchy and where its parts are.

    Attributes:
        node: the object in the stream.
        kind: ``None`` for the root.
        parent: ``None`` for the root.
        metadata_at: index of the metadata in ``contents``, ``None`` where the part is missing.
        measurements_at: index of the measurement list; the child count follows, then children.
    """

    node: JavaObject
    kind: ObjectKind | None
    parent: HierarchyNode | None
    metadata_at: int | None
    measurements_at: int
    children: list[HierarchyNode] = field(default_factory=list)

    @property
    def contents(self) -> list[Content]:
        """The parts of the object in stream order."""
        return self.node.parts[0]

    @property
    def tail_at(self) -> int:
        """Index of the first part after the children (the lock)."""
        return self.measurements_at + 2 + len(self.children)

    def without_children(self) -> JavaObject:
        """A copy of the node with no children and no child count, to compare one object."""
        contents = self.contents
        own = contents[: self.measurements_at + 1] + contents[self.tail_at :]
        return JavaObject(self.node.desc, [own])

    def walk(self) -> Iterator[HierarchyNode]:
        """This object and all below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(eq=False)
class DataFile:
    """A parsed ``data.qpdata``.

    Attributes:
        name: what messages call it.
        contents: top-level contents, header first and ``EOF`` last.
        handles: every node of the file.
        hierarchy: the hierarchy object among the contents.
        root: the tree below it.
        image_type: name of QuPath's constant, for example ``BRIGHTFIELD_H_E``.
    """

    name: str
    contents: list[Content]
    handles: list[Node]
    hierarchy: JavaObject
    root: HierarchyNode
    image_type: str | None

    @classmethod
    def parse(cls, data: bytes, name: str) -> DataFile:
        """Parse a file and check everything about its structure that is known.

        Raises:
            DamagedFileError: cut, malformed, incomplete, or of an unknown layout.
        """
        stream = parse_stream(data, name)
        _check_envelope(stream.contents, name)
        d.check_descriptors(stream.handles, name)
        hierarchies = [n for n in stream.contents if _is(n, d.HIERARCHY)]
        if len(hierarchies) != 1 or not isinstance(hierarchies[0], JavaObject):
            _damaged(name, f"it has {len(hierarchies)} object hierarchies instead of one")
        hierarchy = hierarchies[0]
        types = [
            n.constant.text
            for n in stream.contents
            if isinstance(n, JavaEnum) and n.desc.name == d.IMAGE_TYPE
        ]
        with paused_gc():
            root = locate_objects(hierarchy, name)
        image_type = types[0] if types else None
        return cls(name, stream.contents, stream.handles, hierarchy, root, image_type)

    def emit(self) -> bytes:
        """The bytes of the file."""
        return emit_stream(self.contents)

    def forget(self) -> None:
        """Let go of the graph, which takes most of the memory; what was decoded stays.

        Kinds and parents can still be asked, nothing else.
        """
        for node in list(self.root.walk()):
            node.node = _FORGOTTEN
            node.children.clear()
        self.hierarchy = _FORGOTTEN
        self.contents.clear()
        self.handles.clear()

    @property
    def has_stains(self) -> bool:
        """Whether colour deconvolution stains are stored."""
        return any(_is(n, d.STAINS) for n in self.contents)


def locate_objects(hierarchy: JavaObject, name: str) -> HierarchyNode:
    """The tree of objects below a hierarchy object.

    Raises:
        DamagedFileError: an object that is not laid out as known, or is reached twice.
    """
    root_node = hierarchy.parts[0][1]
    if not isinstance(root_node, JavaObject) or root_node.desc.name != d.ROOT:
        _damaged(name, "the hierarchy has no root object")
    root, children = _locate(root_node, None, name)
    seen = {id(root_node)}
    stack = [(root, children)]
    while stack:
        parent, children = stack.pop()
        for child in children:
            if not isinstance(child, JavaObject) or child.desc.name not in OBJECT_KINDS:
                _unknown(name, f"an object of the hierarchy is {child!r}")
            if id(child) in seen:
                _damaged(name, "an object is in the hierarchy twice")
            seen.add(id(child))
            located, below = _locate(child, parent, name)
            parent.children.append(located)
            if below:
                stack.append((located, below))
    return root


def _locate(
    node: JavaObject, parent: HierarchyNode | None, name: str
) -> tuple[HierarchyNode, list[Content]]:
    contents = node.parts[0]
    kind = OBJECT_KINDS.get(node.desc.name)
    tail = 0 if kind is None else _TAIL_SIZE.get(kind, 4)
    if len(contents) < 4 + tail:
        _unknown(name, f"a {node.desc.name} has only {len(contents)} parts")
    title, color, third = contents[:3]
    if (title is not None and not isinstance(title, JavaString)) or not (
        color is None or _is(color, d.INTEGER)
    ):
        _unknown(name, f"name or colour of a {node.desc.name}")
    has_metadata = isinstance(third, JavaObject) and third.desc.name == d.METADATA
    at = 3 if has_metadata else 2
    measurements, count = contents[at], contents[at + 1]
    if not (measurements is None or isinstance(measurements, JavaObject)) or _is(
        measurements, "java.util.UUID"
    ):
        _unknown(name, f"measurements of a {node.desc.name} are {measurements!r}")
    if not isinstance(count, bytes) or len(count) != 4:
        _unknown(name, f"child count of a {node.desc.name}")
    (n,) = struct.unpack(">i", count)
    if n < 0 or len(contents) != at + 2 + n + tail:
        _damaged(name, f"a {node.desc.name} says it has {n} children")
    located = HierarchyNode(node, kind, parent, 2 if has_metadata else None, at)
    if kind is not None:
        _check_tail(node.desc.name, kind, contents[at + 2 + n :], name)
    return located, contents[at + 2 : at + 2 + n]


def _check_tail(java: str, kind: ObjectKind, tail: list[Content], name: str) -> None:
    locked, path_class, roi, probability = tail[:4]
    if not _is(locked, d.BOOLEAN):
        _unknown(name, f"lock of a {java}")
    if path_class is not None and not _is(path_class, d.PATH_CLASS):
        _unknown(name, f"class of a {java}")
    if roi is not None and not isinstance(roi, JavaObject):
        _unknown(name, f"outline of a {java}")
    size = 9 if kind is ObjectKind.TMA_CORE else 8
    if not isinstance(probability, bytes) or len(probability) != size:
        _unknown(name, f"probability of a {java}")
    if kind is ObjectKind.CELL and not (tail[4] is None or isinstance(tail[4], JavaObject)):
        _unknown(name, f"nucleus of a {java}")


def _check_envelope(contents: list[Content], name: str) -> None:
    if not contents or contents[0] not in HEADERS:
        head = contents[0] if contents and isinstance(contents[0], bytes) else b""
        msg = (
            f"{name} begins with {head[2:60]!r}; only 'Data file version 2' and 'Data file "
            "version 3' (QuPath 0.1.2 to 0.7) are known. Update glombridge, or restore the file."
        )
        raise DamagedFileError(msg)
    ends = [
        i
        for i, item in enumerate(contents[2:], 2)
        if isinstance(item, JavaString) and item.raw == EOF.encode()
    ]
    if not ends:
        msg = (
            f"{name} is incomplete: its end mark is missing. QuPath may be saving it right now: "
            "try again in a moment. If it stays so, restore it from a backup; QuPath itself "
            "would open what is left, or an image without objects."
        )
        raise DamagedFileError(msg)
    if ends[0] != len(contents) - 1:
        _damaged(name, "something follows its end mark")
    if not isinstance(contents[1], JavaString):
        _damaged(name, "the description of the image is missing")


def _is(node: Content, class_name: str) -> bool:
    return isinstance(node, JavaObject) and node.desc.name == class_name


def _damaged(name: str, reason: str) -> NoReturn:
    msg = f"{name} is damaged: {shown_line(reason[:_MOST_SHOWN])}. Restore it from a backup."
    raise DamagedFileError(msg)


def _unknown(name: str, what: str) -> NoReturn:
    msg = (
        f"{name} has an unknown layout: {shown_line(what[:_MOST_SHOWN])}. Nothing was read or "
        "changed. Update glombridge, or restore the file from a backup."
    )
    raise DamagedFileError(msg)
