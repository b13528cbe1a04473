"""Real QuPath imports what the codec writes, with the same ids, classes, numbers and outlines."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from glombridge.geojson_codec import write_geojson
from glombridge.objects import ObjectKind
from glombridge.qupath import NativeStore

# In a process of its own: importing paquo starts a JVM that lives as long as its process.
SCRIPT = """
import json, sys
from paquo.java import LogManager
import jpype
from jpype import JClass
LogManager.setWarn()
found = {}
stream = JClass("java.io.FileInputStream")(sys.argv[1])
for obj in JClass("qupath.lib.io.PathIO").readObjectsFromGeoJSON(stream):
    roi = obj.getROI()
    values = obj.getMeasurementList()
    names = [str(n) for n in values.getMeasurementNames()]
    found[str(obj.getID())] = {
        "kind": str(obj.getClass().getSimpleName()),
        "class": str(obj.getPathClass()) if obj.getPathClass() is not None else None,
        "name": str(obj.getName()) if obj.getName() is not None else None,
        "locked": bool(obj.isLocked()),
        "roi": str(roi.getClass().getSimpleName()),
        "bounds": [roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), roi.getBoundsHeight()],
        "plane": [int(roi.getZ()), int(roi.getT())],
        "nucleus": obj.isCell() and obj.getNucleusROI() is not None,
        "measurements": {
            n: float((values.get if hasattr(values, "get") else values.getMeasurementValue)(n))
            for n in names
        },
    }
print("RESULT" + json.dumps(found))
"""
JAVA_NAMES = {
    ObjectKind.ANNOTATION: "PathAnnotationObject",
    ObjectKind.DETECTION: "PathDetectionObject",
    ObjectKind.CELL: "PathCellObject",
    ObjectKind.TILE: "PathTileObject",
}


@pytest.mark.qupath
@pytest.mark.parametrize("image", [1, 2])
def test_real_qupath_imports_every_kind_of_object(data: Path, tmp_path: Path, image: int) -> None:
    store = NativeStore.open(data / "qupath_golden" / "v0.6.0")
    objects = store.read(image).objects
    path = tmp_path / "objects.geojson"
    colors = {str(c): c.color for c in store.classes() if c.color is not None}
    write_geojson(path, objects, class_colors=colors)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("RESULT")]
    found = json.loads(line.removeprefix("RESULT"))
    assert set(found) == {str(o.id) for o in objects}
    for obj in objects:
        seen = found[str(obj.id)]
        assert seen["kind"] == JAVA_NAMES[obj.kind]
        assert seen["class"] == (str(obj.path_class) if obj.path_class else None)
        assert seen["name"] == obj.name
        assert seen["locked"] == obj.locked
        assert obj.outline is not None
        x0, y0, x1, y1 = obj.outline.bounds
        if not (obj.outline.is_area and obj.outline.geometry.area == 0):
            # QuPath makes an empty outline of a polygon that collapsed, its own exports included.
            assert seen["bounds"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=0.02)
        assert seen["plane"] == [obj.outline.plane.z, obj.outline.plane.t]
        assert seen["nucleus"] == (obj.nucleus is not None)
        # NaN is how QuPath says that a measurement is missing.
        finite = {n: v for n, v in obj.measurements.items() if math.isfinite(v)}
        assert seen["measurements"] == pytest.approx(finite, rel=1e-6)
