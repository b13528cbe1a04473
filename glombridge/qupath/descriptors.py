"""The Java classes found in QuPath data files: UID, flags, fields, superclass.

The same in QuPath 0.2.3 to 0.7.0. A class of this table that looks otherwise in a file means that
the file comes from a QuPath whose layout is not known, and nothing in it may be guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..errors import DamagedFileError
from .javastream import ClassDesc
from .javastream.nodes import Node

EXT, SER, SER_W, ENUM = 12, 2, 3, 18

_STRING = "Ljava/lang/String;"
_LIST = "Ljava/util/List;"
_MAP = "Ljava/util/Map;"
_COLLECTION = "Ljava/util/Collection;"
_OBJECT = "Ljava/lang/Object;"

HASH_MAP = "java.util.HashMap"
LINKED_HASH_MAP = "java.util.LinkedHashMap"
ARRAY_LIST = "java.util.ArrayList"
COLL_SER = "java.util.CollSer"
UNMODIFIABLE_COLLECTION = "java.util.Collections$UnmodifiableCollection"
UNMODIFIABLE_LIST = "java.util.Collections$UnmodifiableList"
LOCALE = "java.util.Locale"
NUMBER = "java.lang.Number"
INTEGER = "java.lang.Integer"
BOOLEAN = "java.lang.Boolean"
OBJECT_ARRAY = "[Ljava.lang.Object;"
FLOATS, DOUBLES, BYTES, FLOAT_ARRAYS = "[F", "[D", "[B", "[[F"

PATH_OBJECT = "qupath.lib.objects.PathObject"
ROI_OBJECT = "qupath.lib.objects.PathROIObject"
ROOT = "qupath.lib.objects.PathRootObject"
ANNOTATION = "qupath.lib.objects.PathAnnotationObject"
DETECTION = "qupath.lib.objects.PathDetectionObject"
CELL = "qupath.lib.objects.PathCellObject"
TILE = "qupath.lib.objects.PathTileObject"
TMA_CORE = "qupath.lib.objects.TMACoreObject"
METADATA = "qupath.lib.objects.MetadataMap"
PATH_CLASS = "qupath.lib.objects.classes.PathClass"
HIERARCHY = "qupath.lib.objects.hierarchy.PathObjectHierarchy"
TMA_GRID = "qupath.lib.objects.hierarchy.DefaultTMAGrid"

NUMERIC_LIST = "qupath.lib.measurements.NumericMeasurementList$AbstractNumericMeasurementList"
FLOAT_LIST = "qupath.lib.measurements.NumericMeasurementList$FloatList"
DOUBLE_LIST = "qupath.lib.measurements.NumericMeasurementList$DoubleList"
DEFAULT_LIST = "qupath.lib.measurements.DefaultMeasurementList"
DOUBLE_MEASUREMENT = "qupath.lib.measurements.DoubleMeasurement"
FLOAT_MEASUREMENT = "qupath.lib.measurements.FloatMeasurement"

RECTANGLE = "qupath.lib.roi.RectangleROI$SerializationProxy"
ELLIPSE = "qupath.lib.roi.EllipseROI$SerializationProxy"
LINE = "qupath.lib.roi.LineROI$SerializationProxy"
POLYGON = "qupath.lib.roi.PolygonROI$SerializationProxy"
POLYLINE = "qupath.lib.roi.PolylineROI$SerializationProxy"
POINTS = "qupath.lib.roi.PointsROI$SerializationProxy"
GEOMETRY = "qupath.lib.roi.GeometryROI$WKBSerializationProxy"
AREA = "qupath.lib.roi.AreaROI$SerializationProxy"

IMAGE_TYPE = "qupath.lib.images.ImageData$ImageType"
STAINS = "qupath.lib.color.ColorDeconvolutionStains"
WORKFLOW = "qupath.lib.plugins.workflow.Workflow"

FieldLayout = tuple[str, str, str | None]


class ClassLayout(NamedTuple):
    """What a descriptor must say; a type of ``None`` on an object field is not checked."""

    uid: int
    flags: int
    superclass: str | None
    fields: tuple[FieldLayout, ...]


def _fields(*names: str, **types: str) -> tuple[FieldLayout, ...]:
    """Fields from ``"I c"`` for primitives, then ``name="Ljava/..."`` for the others."""
    primitive = tuple((n[0], n[2:], None) for n in names)
    return primitive + tuple((t[0], n, t) for n, t in types.items())


_BOX = _fields("I c", "I t", "D x", "D x2", "D y", "D y2", "I z", name=_STRING)
_PLANE = ("I c", "I t", "I z")
_SHAPE_STATS = "Lqupath/lib/roi/ClosedShapeStatistics;"
_PATH_CLASS_TYPE = "Lqupath/lib/objects/classes/PathClass;"

LAYOUTS: dict[str, ClassLayout] = {
    PATH_OBJECT: ClassLayout(1, EXT, None, ()),
    ROI_OBJECT: ClassLayout(1, EXT, PATH_OBJECT, ()),
    ROOT: ClassLayout(1, EXT, PATH_OBJECT, ()),
    ANNOTATION: ClassLayout(1, EXT, ROI_OBJECT, ()),
    DETECTION: ClassLayout(1, EXT, ROI_OBJECT, ()),
    CELL: ClassLayout(1, EXT, DETECTION, ()),
    TILE: ClassLayout(1, EXT, DETECTION, ()),
    TMA_CORE: ClassLayout(1, EXT, ROI_OBJECT, ()),
    METADATA: ClassLayout(1, EXT, None, ()),
    "qupath.lib.objects.PathObjectConnections": ClassLayout(1, EXT, None, ()),
    "qupath.lib.objects.DefaultPathObjectConnectionGroup": ClassLayout(1, EXT, None, ()),
    "qupath.lib.objects.DefaultPathObjectConnectionGroup$ObjectConnector": ClassLayout(
        1, EXT, None, ()
    ),
    PATH_CLASS: ClassLayout(
        1,
        SER,
        None,
        _fields(colorRGB="Ljava/lang/Integer;", name=_STRING, parentClass=_PATH_CLASS_TYPE),
    ),
    HIERARCHY: ClassLayout(
        1,
        SER,
        None,
        _fields(
            rootObject="Lqupath/lib/objects/PathObject;",
            tmaGrid="Lqupath/lib/objects/hierarchy/TMAGrid;",
        ),
    ),
    TMA_GRID: ClassLayout(1, SER, None, _fields("I gridHeight", "I gridWidth", cores=_LIST)),
    NUMERIC_LIST: ClassLayout(1, SER, None, _fields("Z isClosed", map=_MAP, names=_LIST)),
    FLOAT_LIST: ClassLayout(1, SER, NUMERIC_LIST, _fields(values="[F")),
    DOUBLE_LIST: ClassLayout(1, SER, NUMERIC_LIST, _fields(values="[D")),
    DEFAULT_LIST: ClassLayout(1, SER, None, _fields(list="Ljava/util/ArrayList;")),
    DOUBLE_MEASUREMENT: ClassLayout(1, SER, None, _fields("D value", name=_STRING)),
    FLOAT_MEASUREMENT: ClassLayout(1, SER, None, _fields("F value", name=_STRING)),
    RECTANGLE: ClassLayout(1, SER, None, _BOX),
    ELLIPSE: ClassLayout(1, SER, None, _BOX),
    LINE: ClassLayout(1, SER, None, _BOX),
    POLYGON: ClassLayout(
        1, SER, None, _fields(*_PLANE, name=_STRING, stats=_SHAPE_STATS, x="[F", y="[F")
    ),
    POLYLINE: ClassLayout(1, SER, None, _fields(*_PLANE, x="[F", y="[F")),
    POINTS: ClassLayout(1, SER, None, _fields(*_PLANE, name=_STRING, x="[F", y="[F")),
    GEOMETRY: ClassLayout(
        1,
        SER,
        None,
        _fields(*_PLANE, stats="Lqupath/lib/roi/GeometryROI$GeometryStats;", wkb="[B"),
    ),
    AREA: ClassLayout(
        1, SER, None, _fields(*_PLANE, name=_STRING, stats=_SHAPE_STATS, x="[[F", y="[[F")
    ),
    "qupath.lib.roi.ClosedShapeStatistics": ClassLayout(
        1,
        SER,
        None,
        _fields(
            "D areaCached",
            "F centroidXCached",
            "F centroidYCached",
            "D maxX",
            "D maxY",
            "D minX",
            "D minY",
            "I nVertices",
            "D perimeterCached",
        ),
    ),
    "qupath.lib.roi.GeometryROI$GeometryStats": ClassLayout(
        1,
        SER,
        None,
        (
            *_fields(
                "D area",
                "D boundsMaxX",
                "D boundsMaxY",
                "D boundsMinX",
                "D boundsMinY",
                "D centroidX",
                "D centroidY",
                "D length",
            ),
            ("L", "error", None),
        ),
    ),
    STAINS: ClassLayout(1, EXT, None, ()),
    "qupath.lib.color.StainVector": ClassLayout(1, EXT, None, ()),
    WORKFLOW: ClassLayout(1, EXT, None, ()),
    "qupath.lib.plugins.workflow.SimplePluginWorkflowStep": ClassLayout(1, EXT, None, ()),
    "qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep": ClassLayout(
        1, SER, None, _fields(map=_MAP, name=_STRING, script=_STRING)
    ),
    "qupath.lib.plugins.workflow.DefaultPluginWorkflowStep": ClassLayout(
        1,
        SER,
        None,
        _fields(
            arg=_STRING,
            name=_STRING,
            pluginClass="Ljava/lang/Class;",
            scriptAfter=_STRING,
            scriptBefore=_STRING,
        ),
    ),
    "qupath.lib.plugins.workflow.RunSavedClassifierWorkflowStep": ClassLayout(
        1, SER, None, _fields(classifierPath=_STRING, name=_STRING)
    ),
    IMAGE_TYPE: ClassLayout(0, ENUM, "java.lang.Enum", ()),
    "java.lang.Enum": ClassLayout(0, ENUM, None, ()),
    NUMBER: ClassLayout(0x86AC951D0B94E08B, SER, None, ()),
    INTEGER: ClassLayout(0x12E2A0A4F7818738, SER, NUMBER, _fields("I value")),
    "java.lang.Double": ClassLayout(0x80B3C24A296BFB04, SER, NUMBER, _fields("D value")),
    BOOLEAN: ClassLayout(0xCD207280D59CFAEE, SER, None, _fields("Z value")),
    ARRAY_LIST: ClassLayout(0x7881D21D99C7619D, SER_W, None, _fields("I size")),
    HASH_MAP: ClassLayout(0x0507DAC1C31660D1, SER_W, None, _fields("F loadFactor", "I threshold")),
    LINKED_HASH_MAP: ClassLayout(0x34C04E5C106CC0FB, SER, HASH_MAP, _fields("Z accessOrder")),
    "java.util.Collections$SingletonMap": ClassLayout(
        0x9F230991717F6B91, SER, None, _fields(k=_OBJECT, v=_OBJECT)
    ),
    UNMODIFIABLE_COLLECTION: ClassLayout(0x19420080CB5EF71E, SER, None, _fields(c=_COLLECTION)),
    UNMODIFIABLE_LIST: ClassLayout(
        0xFC0F2531B5EC8E10, SER, UNMODIFIABLE_COLLECTION, _fields(list=_LIST)
    ),
    COLL_SER: ClassLayout(0x578EABB63A1BA811, SER_W, None, _fields("I tag")),
    LOCALE: ClassLayout(
        0x7EF811609C30F9EC,
        SER_W,
        None,
        _fields(
            "I hashcode",
            country=_STRING,
            extensions=_STRING,
            language=_STRING,
            script=_STRING,
            variant=_STRING,
        ),
    ),
    OBJECT_ARRAY: ClassLayout(0x90CE589F1073296C, SER, None, ()),
    FLOATS: ClassLayout(0x0B9C818922E00C42, SER, None, ()),
    DOUBLES: ClassLayout(0x3EA68C14AB635A1E, SER, None, ()),
    BYTES: ClassLayout(0xACF317F8060854E0, SER, None, ()),
}


def check_descriptors(nodes: Iterable[Node], name: str) -> None:
    """Compare every known class of a file with the table.

    Raises:
        DamagedFileError: a known class has another layout.
    """
    for node in nodes:
        if not isinstance(node, ClassDesc):
            continue
        layout = LAYOUTS.get(node.name)
        if layout is None:
            continue
        found = ClassLayout(
            node.uid,
            node.flags,
            node.superclass.name if node.superclass is not None else None,
            tuple(
                (f.code, f.name, None if f.type_name is None else f.type_name.text)
                for f in node.fields
            ),
        )
        if not _same(found, layout) or node.annotations:
            msg = (
                f"{name} has an unknown layout: class {node.name} is {_show(found)}, where "
                f"{_show(layout)} was expected. It may come from a QuPath newer than 0.7; "
                "nothing was read or changed. Update glombridge."
            )
            raise DamagedFileError(msg)


def _same(found: ClassLayout, layout: ClassLayout) -> bool:
    if found[:3] != layout[:3] or len(found.fields) != len(layout.fields):
        return False
    return all(
        f[:2] == e[:2] and (e[2] is None or f[2] == e[2])
        for f, e in zip(found.fields, layout.fields, strict=True)
    )


def _show(layout: ClassLayout) -> str:
    fields = ", ".join(f"{code} {name}" for code, name, _ in layout.fields)
    return (
        f"[uid {layout.uid:016X}, flags {layout.flags}, super {layout.superclass}, "
        f"fields {fields or 'none'}]"
    )
