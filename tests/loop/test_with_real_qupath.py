"""A project glombridge made, opened, judged and saved by a real QuPath, and read back.

Wanted: an installation of QuPath that paquo finds, named by PAQUO_QUPATH_DIR.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glombridge.demo.run import DemoResult
from glombridge.qupath import NativeStore
from glombridge.steps.project import Project
from glombridge.sync.pull import read_annotations

# In a process of its own: importing paquo starts a JVM that lives as long as its process.
SCRIPT = """
import json, sys
from paquo.projects import QuPathProject
from paquo.classes import QuPathPathClass
from paquo.java import LogManager
LogManager.setWarn()
project_file, accept = sys.argv[1:]
project = QuPathProject(project_file, mode="r+" if accept else "r")
found = {}
for image in project.images:
    java = image.hierarchy.java_object
    objects = {}
    for obj in java.getAllObjects(False):
        roi = obj.getROI()
        names = [str(n) for n in obj.getMeasurementList().getMeasurementNames()]
        objects[str(obj.getID())] = {
            "class": str(obj.getPathClass()),
            "bounds": [roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), roi.getBoundsHeight()],
            "locked": bool(obj.isLocked()),
            "measurements": {n: float(obj.getMeasurementList().get(n)) for n in names},
            # QuPath 0.4 has no public way to the metadata of an annotation.
            "metadata": {str(k): str(v) for k, v in dict(obj.getMetadata()).items()}
            if hasattr(obj, "getMetadata") else None,
        }
    found[image.image_name] = objects
    for annotation in image.hierarchy.annotations:
        if str(annotation.java_object.getID()) == accept:
            annotation.update_path_class(QuPathPathClass("Glomerulus"))
if accept:
    project.save()
print("RESULT" + json.dumps(found))
"""


def in_qupath(project_file: Path, accept: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(project_file), accept],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("RESULT")]
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
    return found


@pytest.mark.qupath
def test_real_qupath_sees_every_object_and_its_decision_comes_back(
    walked: DemoResult, tmp_path: Path
) -> None:
    root = walked.project_file.parent.parent
    shutil.copytree(root / "project", tmp_path / "project")
    shutil.copytree(root / "slides", tmp_path / "slides")
    store = NativeStore.open(tmp_path / "project")
    ours = {e.name: {str(o.id): o for o in store.read(e.id).objects} for e in store.images()}
    theirs = in_qupath(store.project_file)
    assert {n: sorted(o) for n, o in theirs.items()} == {n: sorted(o) for n, o in ours.items()}
    for name, objects in ours.items():
        for key, obj in objects.items():
            seen = theirs[name][key]
            assert obj.outline is not None
            x0, y0, x1, y1 = obj.outline.bounds
            assert seen["bounds"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=0.02)
            assert seen["class"] == str(obj.path_class)
            assert seen["locked"] == obj.locked
            assert seen["measurements"] == pytest.approx(dict(obj.measurements))
            assert seen["metadata"] in (None, dict(obj.metadata))
    name, accepted = next(
        (n, key)
        for n, objects in ours.items()
        for key, obj in objects.items()
        if "glombridge.state" in obj.metadata
    )
    in_qupath(store.project_file, accept=accepted)
    project = Project.open(tmp_path / "project")
    (image,) = [
        i for i in read_annotations(project.store, project.settings) if i.entry.name == name
    ]
    assert accepted in {str(t.object.id) for t in image.roles.truth}
    after = {str(o.id) for o in image.objects}
    assert after == set(ours[name])
