"""Apply an edit to a data file, and prove afterwards that only what was asked for changed."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NoReturn
from uuid import UUID

from ..errors import DamagedFileError, InputError, ProtectedError
from ..objects import Color, ObjectKind, SlideObject
from . import descriptors as d
from .decoding import Decoded, decode_tree
from .edit_plan import EditPlan, plan_edit
from .encoding import NodeFactory
from .hierarchy import DataFile, HierarchyNode
from .javastream import ClassDesc, Content, JavaArray, JavaEnum, JavaObject, TooDeepError
from .javastream.nodes import JavaClass, JavaString
from .javastream.reader import paused_gc
from .javastream.writer import emit_contents
from .store import HierarchyEdit
from .stored_form import FLOAT_KINDS, differences

_UNKNOWN_GEOMETRY = "qupath.lib.roi.GeometryROI$SerializationProxy"


class FileEditor:
    """One edit of one file, from its bytes to new bytes that were checked.

    Args:
        original: the bytes of the file.
        name: what messages call it.
        seed: what the ids of objects without one are derived from.
        class_colors: colours for classes the file does not have yet.
        edit: the only edit that will be applied, after which nothing but :meth:`check` is asked.
            Without it all objects are decoded and kept, and take as much memory as the rest.

    Raises:
        DamagedFileError: the file cannot be read.
        ProtectedError: it can be read but not edited without a risk.
    """

    def __init__(
        self,
        original: bytes,
        name: str,
        seed: str,
        class_colors: Mapping[tuple[str, ...], Color | None],
        edit: HierarchyEdit | None = None,
    ) -> None:
        self.original = original
        self.name = name
        self.seed = seed
        self.file = DataFile.parse(original, name)
        self.found = decode_tree(self.file.root, seed, None if edit is None else _named_in(edit))
        self._class_colors = class_colors
        self._keeps_found = edit is None
        self._check_editable()

    def _check_editable(self) -> None:
        try:
            same = self.file.emit() == self.original
        except TooDeepError:
            same = False
        if not same:
            self._refuse(
                "it is written in a way that cannot be reproduced byte for byte",
                "Save the image once in QuPath and try again.",
            )
        if self.file.has_stains and not (self.file.image_type or "").startswith("BRIGHTFIELD"):
            self._refuse(
                f"it has stains but is of type {self.file.image_type}, which QuPath cannot read",
                "Restore it from a backup.",
            )
        if any(isinstance(n, ClassDesc) and n.name == _UNKNOWN_GEOMETRY for n in self.file.handles):
            self._refuse(f"it holds an outline of class {_UNKNOWN_GEOMETRY}", "Edit it in QuPath.")
        doubled = next((entry for entry in self.found if entry.repeats_id), None)
        if doubled is not None:
            self._refuse(
                f"two of its objects cannot be told apart: {doubled.problem}",
                "In QuPath 0.4 or later, run the script "
                "getAllObjects(false).each { it.refreshID() } and save the image.",
            )

    def apply(self, edit: HierarchyEdit) -> bytes:
        """The bytes of the edited file; the same bytes if nothing would change.

        May be called once: it changes the graph in memory.

        Raises:
            InputError: an object that QuPath could not read back.
            ProtectedError: the edit would touch what it must not.
        """
        with paused_gc():
            return self._apply(edit)

    def _apply(self, edit: HierarchyEdit) -> bytes:
        wide = {e.id: _is_wide(e.source) for e in self.found if e.object is not None}
        self.plan = plan_edit(edit, self.found, wide, self.name)
        by_id = {entry.id: entry.source for entry in self.found}
        self._check_references(self.plan, by_id)
        self._before = _Fingerprints(self.file, self.found)
        factory = NodeFactory(self.file.handles, self._class_colors)
        for object_id, (asked, fields) in self.plan.changed.items():
            _change(by_id[object_id], asked, fields, factory)
        self._rearrange(self.plan, by_id, factory)
        try:
            data = self.file.emit()
        except TooDeepError as error:
            msg = f"{self.name} was not changed: {error}. Add the objects higher up."
            raise InputError(msg) from error
        self._check_unreachable(self.plan, by_id)
        # The graph of what is read back takes as much again.
        self.file.forget()
        if not self._keeps_found:
            self.found.clear()
        return data

    def _check_references(self, plan: EditPlan, by_id: dict[UUID, HierarchyNode]) -> None:
        """Refuse to remove or move what the TMA grid or a connection points at."""
        touched = {i for i, (_, fields) in plan.changed.items() if "outline" in fields}
        touched |= plan.removed
        if not touched:
            return
        stops = {id(entry.source.node) for entry in self.found}
        others: list[Content] = [n for n in self.file.contents if n is not self.file.hierarchy]
        others.append(self.file.hierarchy.parts[0][2])
        reached = _reachable(others, stops)
        for object_id in sorted(touched):
            if id(by_id[object_id].node) in reached:
                self._refuse(
                    f"object {object_id} is used by the TMA grid or by object connections",
                    "Change it in QuPath, or clear the connections there.",
                )

    def _rearrange(
        self, plan: EditPlan, by_id: dict[UUID, HierarchyNode], factory: NodeFactory
    ) -> None:
        removed = {id(by_id[object_id]) for object_id in plan.removed}
        nodes = dict(by_id)
        new: dict[int, list[HierarchyNode]] = defaultdict(list)
        for obj in plan.added:
            node = HierarchyNode(factory.slide_object(obj), obj.kind, None, 2, 3)
            nodes[obj.id] = node
        for obj in plan.added:
            parent = self.file.root if obj.parent is None else nodes[obj.parent]
            new[id(parent)].append(nodes[obj.id])
        affected = [self.file.root, *nodes.values()]
        for node in affected:
            if id(node) in removed:
                continue
            children = _surviving(node.children, removed) + new.get(id(node), [])
            if children != node.children:
                _set_children(node, children)
        keys = {id(node): object_id for object_id, node in nodes.items()}
        self._order = [keys[id(node)] for node in self.file.root.walk() if node.parent]

    def _check_unreachable(self, plan: EditPlan, by_id: dict[UUID, HierarchyNode]) -> None:
        if not plan.removed:
            return
        reached = _reachable(self.file.contents, set())
        kept = {id(node) for node in self.file.root.walk()}
        for object_id in sorted(plan.removed):
            node = by_id[object_id]
            if id(node.node) in reached or id(node) in kept:
                self._refuse(
                    f"object {object_id} to be removed is still used elsewhere in the file",
                    "Remove it in QuPath.",
                )

    def check(self, data: bytes) -> None:
        """Read edited bytes anew and compare them with the original and with what was asked.

        Raises:
            ProtectedError: anything else than what was asked for differs.
        """
        with paused_gc():
            self._check(data)

    def _check(self, data: bytes) -> None:
        try:
            after = DataFile.parse(data, self.name)
        except DamagedFileError as error:
            self._differs(f"it does not read back ({error})", error)
        asked = {obj.id: obj for obj in self.plan.added}
        asked.update((i, obj) for i, (obj, _) in self.plan.changed.items())
        found = decode_tree(after.root, self.seed, asked.keys())
        order = self._order
        if len(found) != len(order) or set(order) != self.plan.parents.keys():
            self._differs(f"{len(found)} objects where {len(self.plan.parents)} were expected")
        prints = _Fingerprints(after, found, order)
        self._compare_items(prints)
        for entry, object_id in zip(found, order, strict=True):
            parent = None if entry.parent is None else order[entry.parent]
            if parent != self.plan.parents[object_id]:
                self._differs(f"object {object_id} is under {parent}")
            if object_id in asked:
                self._compare_asked(entry, asked[object_id])
            elif prints.objects[object_id] != self._before.objects[object_id]:
                self._differs(f"object {object_id} has other bytes and was not to be touched")
        ids = Counter(entry.id for entry in found)
        if len(ids) != len(found):
            self._differs("ids are not unique")

    def _compare_items(self, after: _Fingerprints) -> None:
        if after.items != self._before.items:
            self._differs("something outside the objects has other bytes")
        for name, definition in self._before.classes.items():
            if after.classes.get(name, definition) != definition:
                self._differs(f"class {name} is described differently")

    def _compare_asked(self, entry: Decoded, asked: SlideObject) -> None:
        if entry.object is None:
            self._differs(f"object {asked.id} is not understood ({entry.problem})")
        fields = differences(entry.object, asked)
        if fields or entry.id != asked.id or not entry.id_is_stored:
            self._differs(f"object {asked.id} has another {', '.join(fields) or 'id'} than asked")

    def _refuse(self, reason: str, way_out: str) -> NoReturn:
        msg = f"{self.name} was not changed: {reason}. {way_out}"
        raise ProtectedError(msg)

    def _differs(self, what: str, cause: BaseException | None = None) -> NoReturn:
        msg = (
            f"{self.name} was not changed: the new file was read back and {what}. This is a bug "
            "in glombridge; please report it with the file."
        )
        raise ProtectedError(msg) from cause


class _Fingerprints:
    """Bytes of the parts of a file, each written on its own.

    What many objects share is represented by its hash, and class descriptors by their names; their
    definitions are in ``classes``. Otherwise each object would repeat some kilobytes of them.
    """

    def __init__(
        self, file: DataFile, found: list[Decoded], order: list[UUID] | None = None
    ) -> None:
        keys = order if order is not None else [entry.id for entry in found]
        self.classes: dict[str, bytes] = {}
        self._tokens: dict[int, bytes] = {}
        for node in file.handles:
            if isinstance(node, ClassDesc):
                self.classes[node.name] = emit_contents([node])
                self._tokens[id(node)] = b"<class " + node.name.encode() + b">"
        for node in file.handles:
            if isinstance(node, JavaObject):
                self._shorten(node)
        self.objects = {
            key: hashlib.sha256(self._alone(entry.source)).digest()
            for key, entry in zip(keys, found, strict=True)
        }
        objects = {
            id(entry.source.node): b"<object " + key.bytes + b">"
            for key, entry in zip(keys, found, strict=True)
        }
        objects[id(file.root.node)] = b"<root>"
        self.items = [
            emit_contents([item], objects) for item in file.contents if item is not file.hierarchy
        ]
        self.items.append(emit_contents([file.hierarchy.parts[0][2]], objects))
        self.items.append(self._alone(file.root))

    def _shorten(self, node: JavaObject) -> None:
        shared: list[Content] = []
        if node.desc.name in (d.FLOAT_LIST, d.DOUBLE_LIST):
            shared = node.parts[0][1:]
        elif node.desc.name == d.PATH_CLASS:
            shared = [node]
        for part in shared:
            if part is not None and id(part) not in self._tokens:
                digest = hashlib.sha256(emit_contents([part])).digest()
                self._tokens[id(part)] = b"<shared " + digest + b">"

    def _alone(self, node: HierarchyNode) -> bytes:
        return emit_contents([node.without_children()], self._tokens)


def _named_in(edit: HierarchyEdit) -> set[UUID]:
    """Ids of the objects of a file that an edit is about."""
    above = {obj.parent for obj in edit.add if obj.parent is not None}
    return above | edit.remove | {obj.id for obj in edit.replace}


def _is_wide(node: HierarchyNode) -> bool:
    """Whether an object's measurements have 64 bits, and would have if there were any."""
    measurements = node.contents[node.measurements_at]
    if isinstance(measurements, JavaObject):
        return measurements.desc.name != d.FLOAT_LIST
    return node.kind not in FLOAT_KINDS


def _change(
    node: HierarchyNode, asked: SlideObject, fields: Iterable[str], factory: NodeFactory
) -> None:
    """Put new nodes into one object, for the fields that differ only."""
    contents = node.contents
    if "metadata" in fields or not _has_id(node, asked.id):
        metadata = factory.metadata(asked.id, asked.metadata)
        if node.metadata_at is None:
            # QuPath 0.2 and 0.3 leave the part out where there is none.
            contents.insert(2, metadata)
            node.metadata_at = 2
            node.measurements_at += 1
        else:
            contents[node.metadata_at] = metadata
    tail = node.tail_at
    for field in fields:
        if field == "name":
            contents[0] = None if asked.name is None else JavaString.of(asked.name)
        elif field == "color":
            contents[1] = factory.color(asked.color)
        elif field == "measurements":
            wide = _is_wide(node)
            contents[node.measurements_at] = factory.measurements(asked.measurements, wide=wide)
        elif field == "locked":
            contents[tail] = factory.boolean(asked.locked)
        elif field == "path_class":
            contents[tail + 1] = factory.path_class(asked.path_class)
        elif field == "outline" and asked.outline is not None:
            contents[tail + 2] = factory.outline(asked.outline)
        elif field in ("probability", "missing"):
            end = bytes((asked.missing,)) if asked.kind is ObjectKind.TMA_CORE else b""
            contents[tail + 3] = struct.pack(">d", asked.probability) + end
        elif field == "nucleus":
            nucleus = asked.nucleus
            contents[tail + 4] = None if nucleus is None else factory.outline(nucleus)


def _has_id(node: HierarchyNode, object_id: UUID) -> bool:
    """Whether the metadata of an object holds exactly this id."""
    if node.metadata_at is None:
        return False
    metadata = node.contents[node.metadata_at]
    values = metadata.parts[0][2] if isinstance(metadata, JavaObject) else None
    raw = str(object_id).encode()
    return isinstance(values, JavaArray) and any(
        isinstance(value, JavaString) and value.raw == raw for value in values.items or ()
    )


def _surviving(children: list[HierarchyNode], removed: set[int]) -> list[HierarchyNode]:
    """Children that stay, with those of removed ones in the place of their parent."""
    found = []
    stack = list(reversed(children))
    while stack:
        node = stack.pop()
        if id(node) in removed:
            stack.extend(reversed(node.children))
        else:
            found.append(node)
    return found


def _set_children(node: HierarchyNode, children: list[HierarchyNode]) -> None:
    start, end = node.measurements_at + 1, node.tail_at
    count = struct.pack(">i", len(children))
    node.contents[start:end] = [count, *(child.node for child in children)]
    node.children = children
    for child in children:
        child.parent = node


def _reachable(contents: Iterable[Content], stops: set[int]) -> set[int]:
    """``id()`` of every node below some contents; nodes in ``stops`` are found, not entered."""
    seen: set[int] = set()
    stack = list(contents)
    while stack:
        node = stack.pop()
        if node is None or isinstance(node, bytes) or id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in stops:
            continue
        if isinstance(node, JavaObject):
            for part in node.parts:
                stack.extend(part)
        elif isinstance(node, JavaArray):
            stack.extend(node.items or ())
        elif isinstance(node, ClassDesc):
            stack.extend(node.annotations)
        elif isinstance(node, JavaEnum | JavaClass):
            stack.append(node.desc)
    return seen
