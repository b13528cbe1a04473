"""New nodes for slide objects, sharing what the file they go into already has."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray

from ..objects import Color, ObjectKind, Outline, OutlineKind, PathClass, SlideObject
from . import descriptors as d
from .decoding import OBJECT_ID, decode_path_class
from .javastream import ClassDesc, Content, Field, JavaArray, JavaObject, JavaString
from .javastream.nodes import Node
from .measurement_decoding import MeasurementDecoder
from .stored_form import FLOAT_KINDS, stored_ring

DEFAULT_CLASS_COLOR = Color(64, 64, 64)
"""What QuPath gives a class that has no colour."""

JAVA_CLASSES = {
    ObjectKind.ANNOTATION: d.ANNOTATION,
    ObjectKind.DETECTION: d.DETECTION,
    ObjectKind.CELL: d.CELL,
    ObjectKind.TILE: d.TILE,
}
_BOX_CLASSES = {
    OutlineKind.RECTANGLE: d.RECTANGLE,
    OutlineKind.ELLIPSE: d.ELLIPSE,
    OutlineKind.LINE: d.LINE,
}
_NO_BYTES = b""


class NodeFactory:
    """Makes nodes that fit into one file.

    Descriptors, Booleans, classes and lists of measurement names of the file are used again, as
    QuPath does; everything else is new. No existing node is ever changed.

    Args:
        handles: every node of the file.
        class_colors: colours for classes that the file does not have yet.
    """

    def __init__(
        self, handles: Iterable[Node], class_colors: Mapping[tuple[str, ...], Color | None]
    ) -> None:
        self._class_colors = class_colors
        self._descs: dict[str, ClassDesc] = {}
        self._texts: dict[str, JavaString] = {}
        self._booleans: dict[bool, JavaObject] = {}
        self._classes: dict[tuple[str, ...], JavaObject] = {}
        self._name_lists: dict[tuple[str, ...], list[Content]] = {}
        self._version: JavaObject | None = None
        decoder = MeasurementDecoder()
        for node in handles:
            if isinstance(node, ClassDesc):
                self._descs[node.name] = node
                for field in node.fields:
                    if field.type_name is not None:
                        self._texts.setdefault(field.type_name.text, field.type_name)
            elif isinstance(node, JavaObject):
                self._take_in(node, decoder)

    def _take_in(self, node: JavaObject, decoder: MeasurementDecoder) -> None:
        kind = node.desc.name
        try:
            if kind == d.BOOLEAN:
                self._booleans.setdefault(node.parts[0][0] != b"\0", node)
            elif kind == d.PATH_CLASS:
                path_class = decode_path_class(node)
                if path_class is not None:
                    self._classes.setdefault(path_class.names, node)
            elif kind in (d.FLOAT_LIST, d.DOUBLE_LIST):
                self._name_lists.setdefault(decoder.names(node.parts[0][2]), node.parts[0])
            elif kind == d.METADATA:
                self._take_in_metadata(node)
        except (ValueError, IndexError):
            return  # not reusable

    def _take_in_metadata(self, node: JavaObject) -> None:
        version, keys = node.parts[0][:2]
        if self._version is None and isinstance(version, JavaObject):
            self._version = version
        if OBJECT_ID not in self._texts and isinstance(keys, JavaArray):
            for key in keys.items or ():
                if isinstance(key, JavaString) and key.raw == OBJECT_ID.encode():
                    self._texts[OBJECT_ID] = key

    def desc(self, name: str) -> ClassDesc:
        """The file's descriptor of a class, or a new one."""
        found = self._descs.get(name)
        if found is None:
            layout = d.LAYOUTS[name]
            above = None if layout.superclass is None else self.desc(layout.superclass)
            fields = tuple(
                Field(code, field, None if java is None else self.shared_text(java))
                for code, field, java in layout.fields
            )
            found = ClassDesc(name, layout.uid, layout.flags, fields, above)
            found.complete()
            self._descs[name] = found
        return found

    def shared_text(self, text: str) -> JavaString:
        """One string node per text, for names that repeat."""
        return self._texts.setdefault(text, JavaString.of(text))

    def object(self, name: str, *parts: list[Content]) -> JavaObject:
        """An object of a known class."""
        return JavaObject(self.desc(name), list(parts))

    def integer(self, value: int) -> JavaObject:
        """A ``java.lang.Integer``."""
        return self.object(d.INTEGER, [_NO_BYTES], [struct.pack(">i", value)])

    def boolean(self, value: bool) -> JavaObject:
        """A ``java.lang.Boolean``."""
        if value not in self._booleans:
            self._booleans[value] = self.object(d.BOOLEAN, [bytes((value,))])
        return self._booleans[value]

    def color(self, color: Color | None) -> JavaObject | None:
        """A colour as QuPath's packed integer."""
        return None if color is None else self.integer(color.to_argb())

    def path_class(self, path_class: PathClass | None) -> JavaObject | None:
        """A classification with all its levels."""
        return None if path_class is None else self._class(path_class.names, path_class.color)

    def _class(self, names: tuple[str, ...], color: Color | None) -> JavaObject:
        if names not in self._classes:
            color = color or self._class_colors.get(names) or DEFAULT_CLASS_COLOR
            parent = self._class(names[:-1], None) if len(names) > 1 else None
            self._classes[names] = self.object(
                d.PATH_CLASS,
                [_NO_BYTES, self.color(color), JavaString.of(names[-1]), parent],
            )
        return self._classes[names]

    def metadata(self, object_id: UUID, values: Mapping[str, str]) -> JavaObject:
        """Metadata with the object's id as its last entry, where QuPath puts it."""
        if self._version is None:
            self._version = self.integer(1)
        keys = [self.shared_text(key) for key in (*values, OBJECT_ID)]
        texts = [JavaString.of(text) for text in (*values.values(), str(object_id))]
        return self.object(
            d.METADATA, [self._version, self._object_array(keys), self._object_array(texts)]
        )

    def _object_array(self, items: Iterable[Content]) -> JavaArray:
        return JavaArray(self.desc(d.OBJECT_ARRAY), None, list(items))

    def measurements(self, values: Mapping[str, float], *, wide: bool) -> JavaObject | None:
        """A measurement list, 64-bit if ``wide``, else 32-bit; ``None`` when there are none."""
        if not values:
            return None
        if wide:
            items = [
                self.object(
                    d.DOUBLE_MEASUREMENT, [struct.pack(">d", value), self.shared_text(name)]
                )
                for name, value in values.items()
            ]
            return self.object(d.DEFAULT_LIST, [_NO_BYTES, self._array_list(items)])
        names = tuple(values)
        if names not in self._name_lists:
            # The open form, which every QuPath closes after reading: no map, a plain list.
            self._name_lists[names] = [
                b"\0",
                None,
                self._array_list([self.shared_text(name) for name in names]),
            ]
        raw = struct.pack(f">{len(names)}f", *values.values())
        array = JavaArray(self.desc(d.FLOATS), raw, None)
        return self.object(d.FLOAT_LIST, list(self._name_lists[names]), [_NO_BYTES, array])

    def _array_list(self, items: Iterable[Content]) -> JavaObject:
        found = list(items)
        size = struct.pack(">i", len(found))
        return self.object(d.ARRAY_LIST, [size], [size, *found])

    def outline(self, outline: Outline) -> JavaObject:
        """An outline in its stored form; no cached statistics, which QuPath would trust."""
        kind, (c, z, t) = outline.kind, outline.plane
        if kind in _BOX_CLASSES:
            if kind is OutlineKind.LINE:
                (x, y), (x2, y2) = shapely.get_coordinates(outline.geometry)
            else:
                x, y, x2, y2 = outline.bounds
            raw = struct.pack(">iiddddi", c, t, x, x2, y, y2, z)
            return self.object(_BOX_CLASSES[kind], [raw, None])
        plane = struct.pack(">iii", c, t, z)
        if kind is OutlineKind.POLYGON:
            arrays = self._float_arrays(stored_ring(outline))
            return self.object(d.POLYGON, [plane, None, None, *arrays])
        if kind is OutlineKind.GEOMETRY:
            wkb = shapely.to_wkb(outline.geometry, byte_order=0, output_dimension=2)
            array = JavaArray(self.desc(d.BYTES), wkb, None)
            return self.object(d.GEOMETRY, [plane, None, array])
        arrays = self._float_arrays(shapely.get_coordinates(outline.geometry))
        if kind is OutlineKind.POLYLINE:
            return self.object(d.POLYLINE, [plane, *arrays])
        return self.object(d.POINTS, [plane, None, *arrays])

    def _float_arrays(self, xy: NDArray[np.float64]) -> tuple[JavaArray, JavaArray]:
        desc = self.desc(d.FLOATS)
        x, y = (JavaArray(desc, xy[:, i].astype(">f4").tobytes(), None) for i in (0, 1))
        return x, y

    def slide_object(self, obj: SlideObject) -> JavaObject:
        """A new object without children, from its stored form."""
        contents: list[Content] = [
            None if obj.name is None else JavaString.of(obj.name),
            self.color(obj.color),
            self.metadata(obj.id, obj.metadata),
            self.measurements(obj.measurements, wide=obj.kind not in FLOAT_KINDS),
            bytes(4),
            self.boolean(obj.locked),
            self.path_class(obj.path_class),
            None if obj.outline is None else self.outline(obj.outline),
            struct.pack(">d", obj.probability),
        ]
        if obj.kind is ObjectKind.CELL:
            contents.append(None if obj.nucleus is None else self.outline(obj.nucleus))
        return self.object(JAVA_CLASSES[obj.kind], contents)
