"""Every Java class and method that glombridge uses. Importing this module starts the JVM.

Only the worker process imports it. What differs between versions of QuPath is a flag below, named
by what it means.

Whole columns are read by Java itself: a method handle is turned into a ``java.util.function``
object and mapped over a stream. One call from Python to Java costs some microseconds, and an object
has about twenty values, so this is several times faster than asking object by object. It also reaches
the metadata methods, which are protected before QuPath 0.5 and which JPype cannot call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import paquo.java as qp
import shapely
from jpype import JArray  # type: ignore[import-untyped]
from numpy.typing import NDArray
from paquo.jpype_backend import JClass

from ...objects import Outline, OutlineKind, Plane
from .transfer import ClassColors, OutlineColumns

# paquo logs at DEBUG by default, and starting it resets the level.
if qp.LogManager is not None:
    qp.LogManager.setWarn()

VERSION = str(qp.qupath_version)
"""Version of the QuPath that runs."""

_MINOR = tuple(int(n) for n in VERSION.split("-")[0].split(".")[:2])

HAS_OBJECT_IDS = _MINOR >= (0, 4)
"""Objects have UUIDs since 0.4; before, an edit could not say which object it means."""

ROUNDS_GEOMETRY = _MINOR >= (0, 6)
"""0.6 and later round the coordinates of geometries to 0.01 px when they read a file."""

_Object = JClass("java.lang.Object")
_ClassOfClass = JClass("java.lang.Class")
_List = JClass("java.util.List")
_Arrays = JClass("java.util.Arrays")
_Collection = JClass("java.util.Collection")
_Collectors = JClass("java.util.stream.Collectors")
_Function = JClass("java.util.function.Function")
_ToInt = JClass("java.util.function.ToIntFunction")
_ToDouble = JClass("java.util.function.ToDoubleFunction")
_Lookup = JClass("java.lang.invoke.MethodHandles").publicLookup()
_Proxies = JClass("java.lang.invoke.MethodHandleProxies")
_Double = JClass("java.lang.Double")
_UUID = JClass("java.util.UUID")

_PathObject = JClass("qupath.lib.objects.PathObject")
_TMACore = JClass("qupath.lib.objects.TMACoreObject")
_MeasurementList = JClass("qupath.lib.measurements.MeasurementList")
_ImagePlane = JClass("qupath.lib.regions.ImagePlane")
_WrappedServer = JClass("qupath.lib.images.servers.WrappedBufferedImageServer")

CELL = "PathCellObject"
"""Simple name of the class of cells."""

OBJECT_KINDS = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tma_core",
}
OUTLINE_KINDS = {
    "RectangleROI": OutlineKind.RECTANGLE,
    "EllipseROI": OutlineKind.ELLIPSE,
    "PolygonROI": OutlineKind.POLYGON,
    "GeometryROI": OutlineKind.GEOMETRY,
    "LineROI": OutlineKind.LINE,
    "PolylineROI": OutlineKind.POLYLINE,
    "PointsROI": OutlineKind.POINTS,
}


def _accessible(cls: Any, name: str, *types: Any) -> Any:
    method = cls.class_.getDeclaredMethod(name, *[t.class_ for t in types])
    method.setAccessible(True)
    return method


def _field(cls: Any, name: str) -> Any:
    found = cls.class_.getDeclaredField(name)
    found.setAccessible(True)
    return found


def _as(interface: Any, cls: Any, name: str, *types: Any) -> Any:
    """A Java function object that calls a method."""
    handle = _Lookup.unreflect(_accessible(cls, name, *types))
    return _Proxies.asInterfaceInstance(interface.class_, handle)


_GET_CLASS = _as(_Function, _Object, "getClass")
_SIMPLE_NAME = _as(_Function, _ClassOfClass, "getSimpleName")
_ID = _as(_Function, _PathObject, "getID")
_ROI_OF = _as(_Function, _PathObject, "getROI")
_NUCLEUS_OF = _as(_Function, qp.PathCellObject, "getNucleusROI")
_PATH_CLASS = _as(_Function, _PathObject, "getPathClass")
_NAME = _as(_Function, _PathObject, "getName")
_COLOR = _as(_Function, _PathObject, "getColor")
_LOCKED = _as(_Function, _PathObject, "isLocked")
_CHILDREN = _as(_ToInt, _PathObject, "nChildObjects")
_PROBABILITY = _as(_ToDouble, _PathObject, "getClassProbability")
_MEASUREMENTS = _as(_Function, _PathObject, "getMeasurementList")
# Deprecated in 0.6 for getNames, but there in every version from 0.4 to 0.7.
_MEASUREMENT_NAMES = _as(_Function, _MeasurementList, "getMeasurementNames")
_VALUES = _as(_Function, _MeasurementList, "values")
# Protected in every version; the public getMetadata came with 0.5.
_METADATA = _as(_Function, _PathObject, "getUnmodifiableMetadataMap")
_CLEAR_METADATA = _accessible(_PathObject, "clearMetadataMap")
_STORE_METADATA = _accessible(_PathObject, "storeMetadataValue", qp.String, qp.String)
# setROI clears the measurements, and a cell has no setter for its nucleus.
_ROI_FIELD = _field(qp.PathROIObject, "pathROI")
_NUCLEUS_FIELD = _field(qp.PathCellObject, "nucleus")
_POINTS = _as(_Function, qp.ROI, "getAllPoints")
_POINT_X = _as(_ToDouble, qp.Point2, "getX")
_POINT_Y = _as(_ToDouble, qp.Point2, "getY")
_C, _Z, _T = (_as(_ToInt, qp.ROI, name) for name in ("getC", "getZ", "getT"))
_STREAM = _as(_Function, _Collection, "stream")
_SIZE = _as(_ToInt, _List, "size")
_GEOMETRY_ROI = qp.GeometryROI.class_.getDeclaredConstructor(
    JClass("org.locationtech.jts.geom.Geometry").class_, _ImagePlane.class_
)
_GEOMETRY_ROI.setAccessible(True)
# Not QuPath's reader: its geometry factory rounds to 0.01 px from 0.6 on.
_WKB_READER = qp.WKBReader()
_WKB_WRITER = qp.WKBWriter(2)
_GSON = qp.GsonTools.getInstance()


def set_class_colors(colors: ClassColors) -> None:
    """Give QuPath's classes the colours of a project or file."""
    for levels, argb in colors:
        path_class(levels, argb).setColor(_integer(argb))


def path_class(levels: Sequence[str], argb: int | None) -> Any:
    """QuPath's one class of these levels, made with the colour if it is new."""
    found = None
    for depth, level in enumerate(levels, start=1):
        color = argb if depth == len(levels) else None
        found = qp.PathClass.getInstance(found, level, _integer(color))
    return found


def read_image_data(path: str) -> Any:
    """A data file as QuPath's ImageData, without its slide.

    An image of one pixel stands in for the slide: nothing here needs pixels, and a slide that is
    not reachable must not hide its objects. It is RGB, as some image types demand.
    """
    pixel = qp.BufferedImage(1, 1, 1)
    server = _WrappedServer("slide not opened", pixel)
    return qp.PathIO.readImageData(qp.File(path), None, server, qp.BufferedImage.class_)


def write_image_data(path: str, image_data: Any) -> None:
    """Write ImageData to a file that is not there yet."""
    qp.PathIO.writeImageData(qp.File(path), image_data)


def objects_of(image_data: Any) -> Any:
    """Java list of all objects in depth-first order, without the root."""
    found = image_data.getHierarchy().getFlattenedObjectList(None)
    return found.subList(1, found.size())


def _mapped(items: Any, *functions: Any) -> Any:
    stream = items.stream()
    for function in functions:
        stream = stream.map(function)
    return stream.collect(_Collectors.toList())


def _ints(items: Any, function: Any) -> NDArray[np.int64]:
    return np.array(items.stream().mapToInt(function).toArray(), dtype=np.int64)


def _from_json(items: Any) -> list[Any]:
    found: list[Any] = json.loads(str(_GSON.toJson(items)))
    return found


def _indexed(items: Any) -> tuple[Any, NDArray[np.int64]]:
    """The different items of a list, and the place of each item among them."""
    distinct = items.stream().distinct().collect(_Collectors.toList())
    handle = _Lookup.unreflect(_accessible(_List, "indexOf", _Object)).bindTo(distinct)
    return distinct, _ints(items, _Proxies.asInterfaceInstance(_ToInt.class_, handle))


def java_names(items: Any) -> list[str]:
    """Simple class names of the items of a list."""
    names, rows = _indexed(_mapped(items, _GET_CLASS))
    texts = [str(name.getSimpleName()) for name in names]
    return [texts[row] for row in rows]


def ids(objects: Any) -> list[str]:
    """UUIDs of objects."""
    return _from_json(_mapped(objects, _ID))


def child_counts(objects: Any) -> NDArray[np.int64]:
    """Number of direct children of each object."""
    return _ints(objects, _CHILDREN)


def classes(
    objects: Any,
) -> tuple[list[tuple[tuple[str, ...], int | None]], NDArray[np.int64]]:
    """Levels and colour of the classes in use, and the one of each object, -1 = none."""
    distinct, rows = _indexed(_mapped(objects, _PATH_CLASS))
    found: list[tuple[tuple[str, ...], int | None]] = []
    place = []
    for item in distinct:
        levels = [] if item is None else _levels(item)
        place.append(len(found) if levels else -1)
        if levels:
            color = item.getColor()
            found.append((tuple(levels), None if color is None else int(color)))
    return found, np.array(place, dtype=np.int64)[rows] if len(rows) else rows


def _levels(item: Any) -> list[str]:
    levels = []
    while item is not None and item.getName() is not None:
        levels.append(str(item.getName()))
        item = item.getParentClass()
    return levels[::-1]


def names(objects: Any) -> list[str | None]:
    """Names, ``None`` where there is none."""
    return _from_json(_mapped(objects, _NAME))


def colors(objects: Any) -> list[int | None]:
    """Own colours as packed integers, ``None`` where there is none."""
    return _from_json(_mapped(objects, _COLOR))


def locked(objects: Any) -> list[bool]:
    """Whether each object is locked."""
    return _from_json(_mapped(objects, _LOCKED))


def probabilities(objects: Any) -> NDArray[np.float64]:
    """Class probabilities, NaN = not set."""
    return np.array(objects.stream().mapToDouble(_PROBABILITY).toArray(), dtype=np.float64)


def is_missing(tma_core: Any) -> bool:
    """Whether a TMA core is marked as missing."""
    return bool(tma_core.isMissing())


def measurements(
    objects: Any,
) -> tuple[list[list[str]], NDArray[np.int64], NDArray[np.float64]]:
    """The different lists of names, the one of each object, and all values one after another."""
    lists = _mapped(objects, _MEASUREMENTS)
    distinct, rows = _indexed(_mapped(lists, _MEASUREMENT_NAMES))
    flat = lists.stream().map(_VALUES).flatMapToDouble(_AS_DOUBLES).toArray()
    return _from_json(distinct), rows, np.array(flat, dtype=np.float64)


_AS_DOUBLES = _Proxies.asInterfaceInstance(
    _Function.class_,
    _Lookup.unreflect(
        next(
            m
            for m in _Arrays.class_.getMethods()
            if str(m.toString()).endswith("DoubleStream java.util.Arrays.stream(double[])")
        )
    ),
)


def metadata(objects: Any) -> list[dict[str, str]]:
    """Metadata without the id."""
    return _from_json(_mapped(objects, _METADATA))


def outlines(objects: Any, rows: Iterable[int], *, nuclei: bool = False) -> OutlineColumns:
    """The outlines of some objects, those that have one.

    Args:
        objects: all objects.
        rows: which of them are asked for.
        nuclei: the nuclei of cells instead.
    """
    wanted = [int(row) for row in rows]
    chosen = objects
    if len(wanted) != objects.size():
        chosen = qp.ArrayList()
        for row in wanted:
            chosen.add(objects.get(row))
    rois = _mapped(chosen, _NUCLEUS_OF if nuclei else _ROI_OF)
    if rois.contains(None):
        there = [i for i, roi in enumerate(rois) if roi is not None]
        wanted = [wanted[i] for i in there]
        rois = rois.stream().filter(_NOT_NULL).collect(_Collectors.toList())
    kinds = java_names(rois)
    wkb = {
        i: str(qp.WKBWriter.toHex(_WKB_WRITER.write(rois.get(i).getGeometry())))
        for i, kind in enumerate(kinds)
        if kind not in OUTLINE_KINDS or kind == "GeometryROI"
    }
    points = _mapped(rois, _POINTS)
    for i in wkb:
        points.set(i, qp.ArrayList())
    flat = points.stream().flatMap(_STREAM).collect(_Collectors.toList())
    xy = [np.array(flat.stream().mapToDouble(f).toArray()) for f in (_POINT_X, _POINT_Y)]
    return OutlineColumns(
        np.array(wanted, dtype=np.int64),
        # What else there is (old areas), QuPath itself writes as a geometry.
        [OUTLINE_KINDS.get(kind, OutlineKind.GEOMETRY).value for kind in kinds],
        np.column_stack([_ints(rois, f) for f in (_C, _Z, _T)]),
        _ints(points, _SIZE),
        np.column_stack(xy),
        wkb,
    )


_NOT_NULL = _Proxies.asInterfaceInstance(
    JClass("java.util.function.Predicate").class_,
    _Lookup.unreflect(_accessible(JClass("java.util.Objects"), "nonNull", _Object)),
)


def _integer(value: int | None) -> Any:
    return None if value is None else qp.Integer.valueOf(value)


def array(cls: Any, items: Sequence[Any] | int) -> Any:
    """A Java array of objects, or an empty one of this length."""
    return JArray(cls)(items)


def array_of(numbers: NDArray[Any]) -> Any:
    """A Java array of numbers, moved over in one piece."""
    return JArray.of(numbers)


def from_json_text(text: str, cls: Any) -> Any:
    """A Java object of this class from its JSON."""
    return _GSON.fromJson(text, cls)


def plane(value: Plane) -> Any:
    """QuPath's plane."""
    return _ImagePlane.getPlaneWithChannel(value.c, value.z, value.t)


def roi(outline: Outline, on: Any) -> Any:
    """QuPath's ROI with exactly the coordinates of an outline in stored form."""
    kind, geometry = outline.kind, outline.geometry
    if kind is OutlineKind.GEOMETRY:
        wkb = shapely.to_wkb(geometry, output_dimension=2)
        return _GEOMETRY_ROI.newInstance(_WKB_READER.read(wkb), on)
    if kind in (OutlineKind.RECTANGLE, OutlineKind.ELLIPSE):
        x0, y0, x1, y1 = outline.bounds
        create = (
            qp.ROIs.createRectangleROI
            if kind is OutlineKind.RECTANGLE
            else qp.ROIs.createEllipseROI
        )
        return create(x0, y0, extent(x0, x1), extent(y0, y1), on)
    xy = shapely.get_coordinates(geometry)
    if kind is OutlineKind.LINE:
        (x0, y0), (x1, y1) = xy.tolist()
        return qp.ROIs.createLineROI(x0, y0, x1, y1, on)
    if kind is OutlineKind.POLYGON:
        xy = xy[:-1]
    x, y = xy[:, 0].tolist(), xy[:, 1].tolist()
    if kind is OutlineKind.POLYGON:
        return qp.ROIs.createPolygonROI(x, y, on)
    if kind is OutlineKind.POLYLINE:
        return qp.ROIs.createPolylineROI(x, y, on)
    return qp.ROIs.createPointsROI(x, y, on)


def extent(start: float, end: float) -> float:
    """The width with which QuPath, which adds it to the start, comes to exactly this end."""
    width = end - start
    if start + width == end:
        return width
    for candidate in (math.nextafter(width, math.inf), math.nextafter(width, -math.inf)):
        if start + candidate == end:
            return candidate
    return width


def set_id(obj: Any, text: str) -> None:
    """Give an object an id."""
    obj.setID(_UUID.fromString(text))


def set_class(obj: Any, value: Any, probability: float) -> None:
    """Classify an object; QuPath forgets its own colour."""
    obj.setPathClass(value, probability)


def set_name(obj: Any, name: str | None) -> None:
    """Name an object."""
    obj.setName(name)


def set_color(obj: Any, argb: int | None) -> None:
    """Give an object a colour of its own, or none."""
    obj.setColor(_integer(argb))


def set_locked(obj: Any, value: bool) -> None:
    """Lock or unlock an object."""
    obj.setLocked(value)


def set_missing(obj: Any, value: bool) -> None:
    """Mark a TMA core as missing or not."""
    obj.setMissing(value)


def set_roi(obj: Any, value: Any, *, nucleus: bool = False) -> None:
    """Give an object another outline and leave its measurements as they are."""
    (_NUCLEUS_FIELD if nucleus else _ROI_FIELD).set(obj, value)


def set_measurements(obj: Any, values: Iterable[tuple[str, float]], *, clear: bool) -> None:
    """Give an object measurements."""
    found = obj.getMeasurementList()
    if clear:
        found.clear()
    for name, value in values:
        found.put(name, value)
    # Packs the list, as QuPath does before it saves.
    found.close()


def set_metadata(obj: Any, values: Iterable[tuple[str, str]], *, clear: bool) -> None:
    """Give an object metadata; the id is kept elsewhere."""
    if clear:
        _CLEAR_METADATA.invoke(obj)
    for key, text in values:
        _STORE_METADATA.invoke(obj, qp.String(key), qp.String(text))


def add_children(parent: Any, children: Any) -> None:
    """Put new objects under an object, in their order."""
    parent.addChildObjects(children)


def add_objects(image_data: Any, objects: Any) -> None:
    """Put new objects under the root, with one event for all."""
    image_data.getHierarchy().addObjects(objects)


def remove_objects(objects: Iterable[Any]) -> None:
    """Take objects out; their children move into their place.

    Not with the hierarchy's removeObjects, which sorts the children in again by where they lie.
    """
    leaves: dict[str, tuple[Any, Any]] = {}
    branches = []
    for obj in objects:
        if obj.hasChildObjects():
            branches.append(obj)
            continue
        parent = obj.getParent()
        siblings = leaves.setdefault(str(parent.getID()), (parent, qp.ArrayList()))[1]
        siblings.add(obj)
    for parent, siblings in leaves.values():
        parent.removeChildObjects(siblings)
    # The deepest first, so that what moves up out of one can move up out of the next.
    for obj in sorted(branches, key=lambda o: -int(o.getLevel())):
        parent = obj.getParent()
        siblings, children = (
            qp.ArrayList(parent.getChildObjects()),
            qp.ArrayList(obj.getChildObjects()),
        )
        place = siblings.indexOf(obj)
        siblings.subList(place, place + 1).clear()
        siblings.addAll(place, children)
        obj.clearChildObjects()
        parent.clearChildObjects()
        parent.addChildObjects(siblings)
