"""Where the golden files are, and small factories the tests of this folder share."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from shapely.geometry import LineString, MultiPoint, Point, Polygon, box

from glombridge.objects import (
    Color,
    ObjectKind,
    Outline,
    OutlineKind,
    PathClass,
    Plane,
    SlideObject,
)
from glombridge.qupath.decoding import decode_tree
from glombridge.qupath.editing import FileEditor
from glombridge.qupath.hierarchy import DataFile
from glombridge.qupath.javastream import emit_contents
from glombridge.qupath.store import HierarchyEdit

GOLDEN = Path(__file__).parent.parent / "data" / "qupath_golden"
VERSIONS = ("v0.3.2", "v0.4.4", "v0.5.1", "v0.6.0", "v0.7.0")
DATA_FILES = sorted(GOLDEN.glob("*/data/*/data.qpdata"))
SMALL_DATA_FILES = [p for p in DATA_FILES if "bulk" not in str(p)]
SPACE = UUID("11111111-2222-5333-8444-555555555555")


def file_id(path: Path) -> str:
    return f"{path.parts[-4]}-image{path.parts[-2]}"


@lru_cache
def truth(version: str) -> dict[int, dict[str, Any]]:
    document = json.loads((GOLDEN / f"{version}.truth.json").read_text("utf-8"))
    return {int(image["id"]): image for image in document["images"]}


@lru_cache
def golden_bytes(version: str, image: int = 1) -> bytes:
    return (GOLDEN / version / "data" / str(image) / "data.qpdata").read_bytes()


def new_id(text: object) -> UUID:
    return uuid5(SPACE, str(text))


HOLED = Polygon([(0, 0), (50, 0), (50, 50), (0, 50)], [[(10, 10), (20, 10), (20, 20), (10, 20)]])
OUTLINES = {
    "rectangle": Outline.rectangle(10, 20.25, 40, 60.1),
    "empty-rectangle": Outline.rectangle(10, 20, 10, 20),
    "ellipse": Outline.ellipse(10.1, 20, 40, 60),
    "polygon": Outline.of(Polygon([(0, 0), (10.1, 5), (3, 9.7)])),
    "holed": Outline.of(HOLED),
    "multi": Outline.of(box(0, 0, 1, 1).union(box(5, 5, 6.1, 6))),
    "line": Outline.of(LineString([(0.1, 0), (10, 3)])),
    "polyline": Outline.of(LineString([(0.1, 0), (10, 3), (4, 4)])),
    "point": Outline.of(Point(3.3, 4)),
    "points": Outline.of(MultiPoint([(3.3, 4), (5, 6)])),
    "planed": Outline.of(Polygon([(0, 0), (10.1, 5), (3, 9.7)]), Plane(1, 2, 3)),
    "rectangle-as-polygon": Outline(box(1, 2, 3, 4), OutlineKind.POLYGON),
}


def an_object(name: object = "one", **fields: Any) -> SlideObject:
    given: dict[str, Any] = {
        "id": new_id(name),
        "kind": ObjectKind.ANNOTATION,
        "outline": OUTLINES["rectangle"],
        "path_class": PathClass(("Glomerulus", "Proposed"), Color(1, 2, 3)),
        "name": str(name),
        "measurements": {"Confidence": 0.1, "Diameter um": 120.5},
        "metadata": {"glombridge.run": "r1"},
    }
    return SlideObject(**{**given, **fields})


def edited(original: bytes, edit: HierarchyEdit, seed: str = "s") -> bytes:
    """Apply and check an edit as the store does."""
    editor = FileEditor(original, "file", seed, {})
    data = editor.apply(edit)
    editor.check(data)
    return data


def parsed(data: bytes) -> DataFile:
    return DataFile.parse(data, "file")


def objects_of(data: bytes, seed: str = "s") -> list[Any]:
    return [entry.object for entry in decode_tree(parsed(data).root, seed)]


def alone(data: bytes) -> list[tuple[UUID, bool, bytes]]:
    """Each object's complete bytes when written on its own without children, by place."""
    found = decode_tree(parsed(data).root, "s")
    return [(e.id, e.id_is_stored, emit_contents([e.source.without_children()])) for e in found]
