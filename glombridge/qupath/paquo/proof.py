"""Proof that a file QuPath wrote holds what was there before and what was asked for, no less."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from typing import NoReturn

from ...errors import DamagedFileError, ProtectedError
from ...objects import Color
from .. import descriptors as d
from ..decoding import Decoded, decode_path_class, decode_tree
from ..editing import FileEditor
from ..hierarchy import DataFile
from ..javastream import Content, JavaObject, JavaString, emit_contents
from ..javastream.nodes import Node
from ..outline_decoding import OpaqueError
from ..stored_form import differences, same_box

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE]-?\d+)?")
_CONNECTIONS = "OBJECT_CONNECTIONS"


def class_colors(handles: Iterable[Node]) -> dict[tuple[str, ...], Color]:
    """The colours of the classes in a file, those that have one; the first definition counts."""
    found: dict[tuple[str, ...], Color] = {}
    for node in handles:
        if isinstance(node, JavaObject) and node.desc.name == d.PATH_CLASS:
            try:
                path_class = decode_path_class(node)
            except OpaqueError:
                continue
            if path_class is not None and path_class.color is not None:
                found.setdefault(path_class.names, path_class.color)
    return found


class Proof:
    """What a file must hold after an edit.

    QuPath writes every byte anew, so that unlike the native store bytes cannot be compared: the
    old file and the new one are both decoded and compared object by object.

    Args:
        editor: the edit, applied natively to a copy in memory.
    """

    def __init__(self, editor: FileEditor) -> None:
        self._name = editor.name
        self._seed = editor.seed
        self._parents = editor.plan.parents
        self._expected = {e.id: e.object for e in editor.found if e.object is not None}
        self._asked = {obj.id for obj in editor.plan.added} | set(editor.plan.changed)
        self._expected.update((obj.id, obj) for obj in editor.plan.added)
        self._expected.update((i, obj) for i, (obj, _) in editor.plan.changed.items())
        # Parsed again: applying the edit has changed the editor's own nodes.
        before = DataFile.parse(editor.original, editor.name)
        self._image_type, self._stains = before.image_type, _stains(before)
        self._has_grid = before.hierarchy.parts[0][2] is not None
        self._properties = _properties(before)
        self._steps = _steps(before)
        self._colors = class_colors(before.handles)

    def check(self, data: bytes) -> None:
        """Read a file that QuPath wrote and compare.

        Raises:
            ProtectedError: anything is missing or differs.
        """
        try:
            after = DataFile.parse(data, self._name)
        except DamagedFileError as error:
            self._differs(f"it does not read back ({error})")
        self._check_rest(after)
        found = decode_tree(after.root, self._seed)
        if len(found) != len(self._parents):
            self._differs(f"it has {len(found)} objects where {len(self._parents)} were expected")
        for entry in found:
            self._check_object(found, entry)

    def _check_object(self, found: list[Decoded], entry: Decoded) -> None:
        asked = self._expected.get(entry.id)
        if asked is None or not entry.id_is_stored:
            self._differs(f"object {entry.id} was not expected")
        if entry.object is None:
            self._differs(f"object {entry.id} is not understood ({entry.problem})")
        parent = None if entry.parent is None else found[entry.parent].id
        fields = differences(entry.object, asked)
        if "outline" in fields and entry.id in self._asked and same_box(entry.object, asked):
            fields.remove("outline")
        if parent != self._parents[entry.id]:
            fields.append("parent")
        if fields:
            self._differs(f"object {entry.id} has another {', '.join(fields)}")

    def _check_rest(self, after: DataFile) -> None:
        if after.image_type != self._image_type:
            self._differs(f"the image type is {after.image_type}, not {self._image_type}")
        # Where a brightfield image has no stains yet, QuPath stores its default ones.
        if self._stains and not _same_text(self._stains, _stains(after)):
            self._differs("the stains differ")
        if (after.hierarchy.parts[0][2] is not None) != self._has_grid:
            self._differs("its TMA grid is gone")
        properties = _properties(after)
        for key, value in self._properties.items():
            if properties.get(key) != value:
                self._differs(f"image property {key!r} differs")
        # QuPath may add a step when it reads a file.
        if _steps(after) < self._steps:
            self._differs("steps of the workflow are gone")
        colors = class_colors(after.handles)
        for names, color in self._colors.items():
            if colors.get(names, color) != color:
                self._differs(f"class {': '.join(names)} has another colour")

    def _differs(self, what: str) -> NoReturn:
        msg = (
            f"{self._name} was not changed: QuPath wrote a new file in which {what}. Use the native "
            'store for this project (store = "native" in [project] of the settings), and report it.'
        )
        raise ProtectedError(msg)


def _stains(file: DataFile) -> str:
    """The text that describes the stains, empty if there are none."""
    for item in file.contents:
        if isinstance(item, JavaObject) and item.desc.name == d.STAINS:
            parts = (part for group in item.parts for part in group)
            return "\n".join(part.text for part in parts if isinstance(part, JavaString))
    return ""


def _same_text(a: str, b: str) -> bool:
    """Equal but for the last digits of numbers.

    QuPath makes the stain vectors unit vectors at each reading, and old files have 8 digits.
    """
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(math.isclose(float(x), float(y), rel_tol=1e-6, abs_tol=1e-9) for x, y in pairs)


def _properties(file: DataFile) -> dict[str, bytes]:
    """Image properties by name, each in the bytes it has when written on its own."""
    found: dict[str, bytes] = {}
    for item in file.contents:
        if isinstance(item, JavaObject) and item.desc.name == d.HASH_MAP:
            nodes: list[Content] = [n for n in item.parts[-1] if not isinstance(n, bytes)]
            for key, value in zip(nodes[::2], nodes[1::2], strict=True):
                name = key.text if isinstance(key, JavaString) else repr(key)
                # Connections hold the objects themselves; that they are there must do.
                found[name] = b"" if name == _CONNECTIONS else emit_contents([value])
    return found


def _steps(file: DataFile) -> int:
    for item in file.contents:
        if isinstance(item, JavaObject) and item.desc.name == d.WORKFLOW:
            raw = item.parts[0][0]
            if isinstance(raw, bytes):
                return int(struct.unpack_from(">i", raw, 4)[0])
    return 0
