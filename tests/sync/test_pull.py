"""Pull: every object has the right role, the files say what the project says, nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from small_project import SPACE, SmallProject, annotation

from glombridge.errors import MachineError, PartlyDoneError, ProtectedError
from glombridge.filenames import safe_name
from glombridge.geojson_codec import load_objects
from glombridge.objects import ObjectKind, Outline, SlideObject
from glombridge.settings import ProjectSettings, Settings
from glombridge.sync import pull
from glombridge.sync.roles import assign_roles, searched_area

BOX = (100.0, 100.0, 200.0, 200.0)


@pytest.mark.parametrize(
    ("obj", "role"),
    [
        pytest.param(annotation("Glomerulus", BOX), "truth", id="truth"),
        pytest.param(annotation("Glomerulus: Proposed", BOX), "pending", id="proposal"),
        pytest.param(
            annotation("Glomerulus: Proposed", BOX, kind=ObjectKind.DETECTION),
            "pending",
            id="proposal-as-detection",
        ),
        pytest.param(annotation("Rejected*", BOX), "rejected", id="rejected"),
        pytest.param(annotation("Ignore*", BOX), "ignored", id="ignored"),
        pytest.param(annotation("Region*", BOX), "regions", id="region"),
        pytest.param(annotation("Tubule", BOX), None, id="other-class"),
        pytest.param(annotation(None, BOX), None, id="unclassified"),
        pytest.param(
            annotation("Glomerulus", BOX, kind=ObjectKind.DETECTION), None, id="a-models-detection"
        ),
        pytest.param(
            SlideObject(
                SPACE,
                ObjectKind.ANNOTATION,
                Outline.of(shapely.Point(1, 1)),
                annotation("Glomerulus", BOX).path_class,
            ),
            "unusable",
            id="point",
        ),
    ],
)
def test_roles(obj: SlideObject, role: str | None) -> None:
    roles = assign_roles([obj], Settings())
    for name in ("truth", "pending", "rejected", "ignored", "regions", "unusable"):
        assert len(getattr(roles, name)) == (name == role), name


@pytest.mark.parametrize(
    ("name", "is_named"),
    [
        ("Glomerulus: Crescent", True),
        ("glomerulus", True),
        ("GLOMERULUS: crescent", True),
        ("Region*: Cortex", True),
        ("region*", True),
        ("ignore*", True),
        ("Ignore*: Fold", True),
        ("Rejected*: Tubule", False),
        ("Glomeruli of the cortex", False),
        ("Tubule", False),
    ],
)
def test_a_class_that_may_be_meant_for_one_of_the_settings_is_named(
    name: str, is_named: bool
) -> None:
    unknown = assign_roles([annotation(name, BOX)], Settings()).unknown
    assert unknown == ({name: 1} if is_named else {})


def test_an_unmentioned_class_below_a_detector_class_is_named() -> None:
    objects = [annotation("Glomerulus: Crescent", BOX)]
    assert assign_roles(objects, Settings()).unknown == {"Glomerulus: Crescent": 1}
    known = Settings(classes={"Glomerulus": ["Glomerulus", "Glomerulus: Crescent"]})
    assert not assign_roles(objects, known).unknown
    unused = Settings(unused=["Glomerulus: Crescent"])
    assert not assign_roles(objects, unused).unknown


@pytest.mark.parametrize(
    ("objects", "mark", "mode", "area"),
    [
        pytest.param([], "", "annotated-images", None, id="no-mark-is-never-background"),
        pytest.param(["Glomerulus"], "", "annotated-images", 12e6, id="annotated"),
        pytest.param(["Glomerulus: Proposed"], "", "annotated-images", None, id="only-proposals"),
        pytest.param(["Glomerulus"], "", "regions", None, id="annotated-but-regions-wanted"),
        pytest.param(["Region*"], "", "regions", 1e4, id="region"),
        pytest.param(["Region*", "Glomerulus"], "", "annotated-images", 1e4, id="region-wins"),
        pytest.param([], "true", "regions", 12e6, id="marked"),
        pytest.param([], "false", "annotated-images", None, id="marked-not"),
    ],
)
def test_searched_area(
    project: SmallProject, objects: list[str], mark: str, mode: str, area: float | None
) -> None:
    settings = Settings(project=ProjectSettings(searched=mode))
    project.store.set_image_metadata(project.first, {"glombridge.searched": mark or None})
    entry = project.store.entry(project.first)
    roles = assign_roles([annotation(name, BOX) for name in objects], settings)
    found = searched_area(entry, roles, settings)
    assert (found.area if found is not None else None) == area


def test_files_hold_what_the_project_holds_and_the_project_is_untouched(
    project: SmallProject,
) -> None:
    there = [annotation("Glomerulus", BOX), annotation("Rejected*", (500, 500, 600, 600))]
    detection = annotation("Tubule", (5, 5, 9, 9), kind=ObjectKind.DETECTION)
    project.edit(project.first, add=[*there, detection])
    before = project.bytes_of_everything()
    result = pull(project.store, project.workspace, project.settings)
    assert project.bytes_of_everything() == before
    assert result.changed
    assert result.folder is not None
    manifest = json.loads((result.folder / "manifest.json").read_text("utf-8"))
    assert [(i["truth"], i["rejected"], i["searched"]) for i in manifest["images"]] == [
        (1, 1, "whole image"),
        (0, 0, "nowhere"),
    ]
    loaded = load_objects(result.folder / manifest["images"][0]["file"])
    assert {o.id for o in loaded.objects} == {o.id for o in there}
    every = pull(project.store, project.workspace, project.settings, every_kind=True)
    assert len(every.images[0].objects) == 3


def test_pulling_again_without_a_change_writes_nothing(project: SmallProject) -> None:
    project.edit(project.first, add=[annotation("Glomerulus", BOX)])
    first = pull(project.store, project.workspace, project.settings)
    second = pull(project.store, project.workspace, project.settings)
    assert (second.folder, second.changed) == (first.folder, False)
    project.edit(project.second, add=[annotation("Glomerulus", BOX)])
    third = pull(project.store, project.workspace, project.settings)
    assert third.changed
    assert third.folder != first.folder


def test_one_damaged_image_stops_the_pull_by_name(project: SmallProject) -> None:
    path = project.store.data_file(project.second)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PartlyDoneError, match=r"b\.tif"):
        pull(project.store, project.workspace, project.settings)
    assert not project.workspace.pulls.exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("K12-03.svs", "K12-03.svs"),
        ("../../etc/passwd", "etc_passwd"),
        ("a b\n#ü%.tif", "a_b_ü_.tif"),
        ("...", "image"),
        ("con.svs", "_con.svs"),
        ("x" * 300, "x" * 80),
    ],
)
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_out_folder(project: SmallProject, tmp_path: Path) -> None:
    result = pull(project.store, project.workspace, project.settings, out=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "0001_a.tif.geojson",
        "0002_b.tif.geojson",
        "manifest.json",
    ]
    assert result.folder == tmp_path / "out"


@pytest.mark.parametrize("text", ["{}", '{"kind": "train"}', '["app"]', "no JSON"])
def test_a_manifest_of_something_else_is_left_as_it_is(
    project: SmallProject, tmp_path: Path, text: str
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(text)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ProtectedError, match="not of a pull"):
        pull(project.store, project.workspace, project.settings, out=tmp_path)
    assert (manifest.read_text(), sorted(tmp_path.iterdir())) == (text, before)


def test_a_file_is_no_folder_to_pull_to(project: SmallProject, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ProtectedError, match="is no folder"):
        pull(project.store, project.workspace, project.settings, out=tmp_path / "file")


def test_a_pull_into_a_folder_that_fails_leaves_no_manifest_of_an_earlier_one(
    project: SmallProject, tmp_path: Path, replacing_fails: Callable[[int], None]
) -> None:
    out = tmp_path / "out"
    pull(project.store, project.workspace, project.settings, out=out)
    replacing_fails(1)
    with pytest.raises(MachineError):
        pull(project.store, project.workspace, project.settings, out=out)
    assert not (out / "manifest.json").exists()
    pull(project.store, project.workspace, project.settings, out=out)
    assert (out / "manifest.json").is_file()


def test_a_judged_detection_that_we_pushed_is_pulled(project: SmallProject) -> None:
    ours = {"glombridge.run": "detect-001"}
    proposed = annotation("Glomerulus: Proposed", BOX, kind=ObjectKind.DETECTION)
    proposed = replace(proposed, metadata=ours)
    project.edit(project.first, add=[proposed])
    first = pull(project.store, project.workspace, project.settings)
    truth = annotation("Glomerulus", BOX).path_class
    project.edit(project.first, replace=[replace(proposed, path_class=truth)])
    second = pull(project.store, project.workspace, project.settings)
    assert (first.n_truth, second.n_truth) == (0, 1)
    assert second.changed
    assert [o.id for o in second.images[0].objects] == [proposed.id]
