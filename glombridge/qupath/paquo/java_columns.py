"""New objects, made by Java itself from columns. Importing this module starts the JVM.

The counterpart of reading in :mod:`.java`: one call from Python to Java costs some microseconds, and
an object takes about twenty. So the values go over as arrays, a method handle is put together that
takes one index, fetches its arguments from the arrays and calls QuPath, and Java runs it for every
index. The number of calls from Python does not grow with the objects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import paquo.java as qp
from numpy.typing import NDArray
from paquo.jpype_backend import JClass

from ...objects import OutlineKind, Plane
from . import java

_Handles = JClass("java.lang.invoke.MethodHandles")
_Handle = JClass("java.lang.invoke.MethodHandle")
_MethodType = JClass("java.lang.invoke.MethodType")
_Proxies = JClass("java.lang.invoke.MethodHandleProxies")
_IntConsumer = JClass("java.util.function.IntConsumer")
_IntStream = JClass("java.util.stream.IntStream")
_Arrays = JClass("java.util.Arrays")
_Object = JClass("java.lang.Object")
_Integer = JClass("java.lang.Integer")
_UUID = JClass("java.util.UUID")
_Plane = JClass("qupath.lib.regions.ImagePlane")
_PathObject = JClass("qupath.lib.objects.PathObject")
_List = JClass("qupath.lib.measurements.MeasurementList")

_LOOKUP = _Handles.publicLookup()
_INT, _LONG, _DOUBLE, _BOOLEAN, _BYTE = (
    JClass(f"java.lang.{name}").TYPE for name in ("Integer", "Long", "Double", "Boolean", "Byte")
)


def _array_type(item: Any) -> Any:
    return JClass("java.lang.reflect.Array").newInstance(item, 0).getClass()


_DOUBLES, _BYTES, _STRINGS = (_array_type(cls) for cls in (_DOUBLE, _BYTE, qp.String.class_))


def _method(cls: Any, name: str, *types: Any) -> Any:
    method = cls.class_.getDeclaredMethod(name, *types)
    method.setAccessible(True)
    return _LOOKUP.unreflect(method)


_BOX = [_DOUBLE] * 4 + [_Plane.class_]
_POINTS = [_DOUBLES, _DOUBLES, _Plane.class_]
_FROM_BOX = {
    OutlineKind.RECTANGLE: _method(qp.ROIs, "createRectangleROI", *_BOX),
    OutlineKind.ELLIPSE: _method(qp.ROIs, "createEllipseROI", *_BOX),
    OutlineKind.LINE: _method(qp.ROIs, "createLineROI", *_BOX),
}
_FROM_POINTS = {
    OutlineKind.POLYGON: _method(qp.ROIs, "createPolygonROI", *_POINTS),
    OutlineKind.POLYLINE: _method(qp.ROIs, "createPolylineROI", *_POINTS),
    OutlineKind.POINTS: _method(qp.ROIs, "createPointsROI", *_POINTS),
}
_FROM_GEOMETRY = _LOOKUP.unreflectConstructor(java._GEOMETRY_ROI)
_READ_WKB = _method(qp.WKBReader, "read", _BYTES).bindTo(java._WKB_READER)
_SLICES = {
    str(cls.getSimpleName()): _method(_Arrays, "copyOfRange", cls, _INT, _INT)
    for cls in (_DOUBLES, _BYTES)
}

_CREATE = {
    "annotation": _method(qp.PathObjects, "createAnnotationObject", qp.ROI.class_),
    "detection": _method(qp.PathObjects, "createDetectionObject", qp.ROI.class_),
    "tile": _method(qp.PathObjects, "createTileObject", qp.ROI.class_),
}
_CREATE_CELL = _Handles.insertArguments(
    _method(
        qp.PathObjects,
        "createCellObject",
        *(cls.class_ for cls in (qp.ROI, qp.ROI, qp.PathClass, _List)),
    ),
    2,
    java.array(_Object, [None, None]),
)
_NEW_ID = _LOOKUP.unreflectConstructor(_UUID.class_.getConstructor(_LONG, _LONG))
_SET_ID = _method(_PathObject, "setID", _UUID.class_)
_SET_CLASS = _method(_PathObject, "setPathClass", qp.PathClass.class_, _DOUBLE)
_SET_NAME = _method(_PathObject, "setName", qp.String.class_)
_SET_COLOR = _method(_PathObject, "setColor", _Integer.class_)
_SET_LOCKED = _method(_PathObject, "setLocked", _BOOLEAN)
_MEASUREMENTS = _method(_PathObject, "getMeasurementList")
_PUT = _Handles.filterArguments(
    _method(_List, "put", qp.String.class_, _DOUBLE), 0, java.array(_Handle, [_MEASUREMENTS])
)
# Packs the list, as QuPath does before it saves.
_CLOSE = _Handles.filterArguments(_method(_List, "close"), 0, java.array(_Handle, [_MEASUREMENTS]))
# Protected in every version, as in reading.
_STORE_METADATA = _method(_PathObject, "storeMetadataValue", qp.String.class_, qp.String.class_)

Rows = NDArray[np.int64]
"""Places among the new objects."""


def _column(values: NDArray[Any]) -> Any:
    """A handle that takes an index and gives a number."""
    return _fetch(java.array_of(values))


def _fetch(array: Any) -> Any:
    return _Handles.arrayElementGetter(array.getClass()).bindTo(array)


def _rows(rows: Rows) -> Any:
    return _column(rows.astype(np.int32))


def _picked(array: Any, rows: Rows) -> Any:
    """A handle that takes an index and gives the item in that row of a Java array."""
    return _with(_fetch(array), _rows(rows))


def _texts(values: Sequence[str]) -> Any:
    """A handle that takes an index and gives a text; each different one goes over once."""
    places, rows = _places(values)
    # As one text: JPype makes an array of strings one by one.
    array = java.from_json_text(json.dumps(list(places)), _STRINGS)
    return _picked(array, rows)


def _places(values: Sequence[Any]) -> tuple[dict[Any, int], Rows]:
    """The different values with their places among them, and the place of each value."""
    places = {value: row for row, value in enumerate(dict.fromkeys(values))}
    return places, np.fromiter(map(places.__getitem__, values), np.int64, len(values))


def _with(target: Any, *columns: Any) -> Any:
    """The target with each argument fetched from its column, by one index for all of them."""
    wanted = target.type()
    fetched = [
        column.asType(column.type().changeReturnType(wanted.parameterType(i)))
        for i, column in enumerate(columns)
    ]
    joined = _Handles.filterArguments(target, 0, java.array(_Handle, fetched))
    one_index = _MethodType.methodType(wanted.returnType(), _INT)
    return _Handles.permuteArguments(
        joined, one_index, java.array_of(np.zeros(len(columns), dtype=np.int32))
    )


def _for_each(count: int, target: Any, *columns: Any) -> None:
    """Call the target for every index, in order."""
    handle = _with(target, *columns)
    action = _Proxies.asInterfaceInstance(_IntConsumer.class_, handle)
    _IntStream.range(0, count).forEach(action)


def _store(array: Any, rows: Rows, values: Any) -> None:
    """Put the values, a handle that takes an index, into rows of a Java array."""
    setter = _Handles.arrayElementSetter(array.getClass()).bindTo(array)
    _for_each(len(rows), setter, _rows(rows), values)


def _slices(values: NDArray[Any], counts: NDArray[np.int64]) -> Any:
    """A handle that takes an index and gives that part of an array, the parts being in a row."""
    array = java.array_of(values)
    ends = np.cumsum(counts)
    take = _SLICES[str(array.getClass().getSimpleName())].bindTo(array)
    return _with(take, _rows(ends - counts), _rows(ends))


class RoiArray:
    """ROIs of objects, one place each; a place stays empty until it is filled.

    Args:
        count: number of objects.
    """

    def __init__(self, count: int) -> None:
        self.array = java.array(qp.ROI, count)

    def add_boxes(
        self, kind: OutlineKind, rows: Rows, numbers: NDArray[np.float64], planes: Sequence[Plane]
    ) -> None:
        """Rectangles and ellipses (x, y, width, height) or lines (two points)."""
        columns = [_column(np.ascontiguousarray(numbers[:, i])) for i in range(4)]
        self._add(rows, _FROM_BOX[kind], *columns, _planes(planes))

    def add_points(
        self,
        kind: OutlineKind,
        rows: Rows,
        xy: NDArray[np.float64],
        counts: NDArray[np.int64],
        planes: Sequence[Plane],
    ) -> None:
        """Polygons without the closing point, polylines or points; ``counts`` parts of ``xy``."""
        columns = [_slices(np.ascontiguousarray(xy[:, i]), counts) for i in (0, 1)]
        self._add(rows, _FROM_POINTS[kind], *columns, _planes(planes))

    def add_geometries(self, rows: Rows, wkb: Sequence[bytes], planes: Sequence[Plane]) -> None:
        """Any geometries, with exactly their coordinates."""
        flat = np.frombuffer(b"".join(wkb), dtype=np.int8)
        counts = np.array([len(one) for one in wkb], dtype=np.int64)
        geometries = _with(_READ_WKB, _slices(flat, counts))
        self._add(rows, _FROM_GEOMETRY, geometries, _planes(planes))

    def _add(self, rows: Rows, create: Any, *columns: Any) -> None:
        _store(self.array, rows, _with(create, *columns))


def _planes(planes: Sequence[Plane]) -> Any:
    places, rows = _places(planes)
    array = java.array(_Plane, [java.plane(plane) for plane in places])
    return _picked(array, rows)


class ObjectArray:
    """New objects, in order.

    Args:
        count: number of objects.
    """

    def __init__(self, count: int) -> None:
        self.array = java.array(_PathObject, count)

    def create(self, kind: str, rows: Rows, rois: RoiArray, nuclei: RoiArray) -> None:
        """Make objects of one kind, without a class."""
        if kind == "cell":
            columns = _picked(rois.array, rows), _picked(nuclei.array, rows)
            _store(self.array, rows, _with(_CREATE_CELL, *columns))
        else:
            _store(self.array, rows, _with(_CREATE[kind], _picked(rois.array, rows)))

    def set_ids(self, halves: NDArray[np.int64]) -> None:
        """Give all objects ids; the two halves of each, shape (n, 2)."""
        halves = np.ascontiguousarray(halves.T)
        new = _with(_NEW_ID, _column(halves[0]), _column(halves[1]))
        _for_each(len(self.array), _SET_ID, _fetch(self.array), new)

    def set_classes(
        self,
        rows: Rows,
        classes: Sequence[Any],
        class_rows: Rows,
        probabilities: NDArray[np.float64],
    ) -> None:
        """Classify objects; ``class_rows`` are places in ``classes``, which may hold ``None``."""
        chosen = _picked(java.array(qp.PathClass, classes), class_rows)
        self._call(rows, _SET_CLASS, chosen, _column(probabilities))

    def set_names(self, rows: Rows, names: Sequence[str]) -> None:
        """Name objects."""
        self._call(rows, _SET_NAME, _texts(names))

    def set_colors(self, rows: Rows, argb: Sequence[int]) -> None:
        """Give objects colours of their own. After their classes: QuPath then forgets them."""
        self._call(rows, _SET_COLOR, _column(np.array(argb, dtype=np.int32)))

    def lock(self, rows: Rows) -> None:
        """Lock objects."""
        self._call(rows, _SET_LOCKED, _column(np.ones(len(rows), dtype=np.bool_)))

    def put_measurements(
        self, owners: Rows, names: Sequence[str], values: NDArray[np.float64]
    ) -> None:
        """Give objects measurements, one row each, those of one object after another."""
        self._call(owners, _PUT, _texts(names), _column(values))
        self._call(owners[np.diff(owners, prepend=-1) != 0], _CLOSE)

    def put_metadata(self, owners: Rows, keys: Sequence[str], texts: Sequence[str]) -> None:
        """Give objects metadata, one row each; the id is kept elsewhere."""
        self._call(owners, _STORE_METADATA, _texts(keys), _texts(texts))

    def all(self) -> Any:
        """A Java list of all objects."""
        return qp.ArrayList(_Arrays.asList(self.array))

    def in_order(self, rows: Sequence[int]) -> Any:
        """A Java list of the objects in these rows."""
        chosen = java.array(_PathObject, len(rows))
        _store(chosen, np.arange(len(rows)), _picked(self.array, np.array(rows, dtype=np.int64)))
        return qp.ArrayList(_Arrays.asList(chosen))

    def _call(self, rows: Rows, method: Any, *columns: Any) -> None:
        if len(rows):
            _for_each(len(rows), method, _picked(self.array, rows), *columns)
