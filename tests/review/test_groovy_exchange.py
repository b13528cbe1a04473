"""What the export, import and summary scripts do on real QuPath, against the program's own readers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
import shapely
from folders import files_in
from graded import grades as grades_of
from graded import marked
from groovy_in_qupath import SCRIPTS, needs_groovy, run_groovy, run_job

from glombridge.filenames import safe_name
from glombridge.geojson_codec import dump_objects, load_objects, write_geojson
from glombridge.objects import Color, ObjectKind, Outline, PathClass, Plane, SlideObject
from glombridge.provenance import LESION, REVIEWER
from glombridge.qupath import NativeStore, find_installation, version_numbers
from glombridge.qupath.store import HierarchyEdit
from glombridge.schemes import shipped_scheme
from glombridge.settings import Settings
from glombridge.steps.grades import grades
from glombridge.steps.init import init
from glombridge.steps.project import Project
from glombridge.sync.pull import file_name

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
pytestmark = [pytest.mark.qupath, needs_groovy]


def goldens() -> list[Path]:
    """The golden projects that this QuPath may open and whose ids are stored."""
    installed = find_installation()
    newest = version_numbers(installed.version) if installed else (99,)
    folders = (f for f in sorted((DATA / "qupath_golden").glob("v0.?.?")) if f.is_dir())
    return [f for f in folders if (0, 4) <= version_numbers(f.name) <= newest]


OLD_AND_NEW = sorted({goldens()[0], goldens()[-1]})
"""Each run starts a JVM."""


def copy_of(golden: Path, folder: Path) -> Path:
    """A copy whose slides can be opened here."""
    project = folder / "project"
    shutil.copytree(golden, project)
    for path in [project / "project.qpproj", *project.glob("data/*/server.json")]:
        text = path.read_text("utf-8")
        path.write_text(text.replace("file:///slides/", (DATA / "slides").as_uri() + "/"), "utf-8")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the newest golden project that this QuPath may open."""
    return copy_of(goldens()[-1], tmp_path)


def export(folder: Path, project: Path, **job: Any) -> Any:
    """Run the export script."""
    said = {"format": 1, "project": str(project / "project.qpproj"), "out": "out", **job}
    return run_job(SCRIPTS / "glombridge_export.groovy", folder, **said)


def by_id(objects: Sequence[SlideObject]) -> list[SlideObject]:
    """The order of objects in a file says nothing."""
    return sorted(objects, key=lambda o: str(o.id))


def test_names_of_files_are_the_program_s(tmp_path: Path) -> None:
    names = [
        *(
            "K12-03.svs",
            "a/b\\c:d*?.tif",
            "con",
            "PRN.tif",
            "com1",
            "lpt9.svs",
            "..",
            "",
            " ",
            "a" * 100,
        ),
        *(
            "Ünï cödé \u0301 ½ ² 腎 \U0001f600.svs",
            "tab\tnew\nline\x00end",
            "-_x_-",
            "CON2",
            "nul.",
        ),
    ]
    said = run_job(
        HERE / "groovy" / "exchange_parts.groovy",
        tmp_path,
        exchange=str(SCRIPTS / "glombridge_exchange.groovy"),
        names=names,
    )
    assert said["safe"] == [safe_name(name) for name in names]


@pytest.mark.parametrize("golden", OLD_AND_NEW, ids=lambda f: f.name)
def test_the_export_is_what_the_native_store_reads(golden: Path, tmp_path: Path) -> None:
    project = copy_of(golden, tmp_path)
    before = files_in(project)
    said = export(tmp_path, project, objects="all")
    assert said["ok"], said
    store = NativeStore.open(project)
    colors = {str(c): c.color for c in store.classes() if c.color is not None}
    for entry, row in zip(store.images(), said["images"], strict=True):
        assert (row["image"], row["id"], row["file"]) == (entry.name, entry.id, file_name(entry))
        wanted = by_id(store.read(entry.id).objects)
        loaded = load_objects(tmp_path / "out" / row["file"])
        assert row["objects"] == len(wanted)
        # Written by one writer, because NaN equals nothing; it notes all that an object says.
        assert dump_objects(by_id(loaded.objects)) == dump_objects(wanted, class_colors=colors)
        assert not [p for p in loaded.problems if "enclose" not in p and "without an" not in p]
    assert files_in(project) == before


def test_one_bad_image_does_not_stop_the_others(project: Path, tmp_path: Path) -> None:
    """A file that is cut off, two images of one name, and one that is not there."""
    data = project / "data" / "1" / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-40])
    document = json.loads((project / "project.qpproj").read_text("utf-8"))
    document["images"][1]["imageName"] = document["images"][2]["imageName"]
    twin = document["images"][2]["imageName"]
    (project / "project.qpproj").write_text(json.dumps(document), "utf-8")
    said = export(tmp_path, project, images=["kidney_a.tif", twin, 2, "nowhere.svs"])
    assert [row["ok"] for row in said["images"]] == [False, False, True, False]
    assert not said["ok"]
    cut, both, _, nowhere = (row["error"] for row in said["images"])
    assert "its end is missing" in cut
    assert "2 images" in both
    assert "2, 3" in both
    assert "no image 'nowhere.svs'" in nowhere
    assert [p.name for p in (tmp_path / "out").iterdir()] == [f"0002_{safe_name(twin)}.geojson"]


def test_what_this_qupath_cannot_read_is_no_empty_image(project: Path, tmp_path: Path) -> None:
    """QuPath can give no object of a file, and no error."""
    said = run_job(
        HERE / "groovy" / "exchange_parts.groovy",
        tmp_path,
        exchange=str(SCRIPTS / "glombridge_exchange.groovy"),
        project=str(project / "project.qpproj"),
    )
    full, other, empty = said["refused"]
    assert "cannot read the objects of image 'kidney_a.tif'" in full
    assert "cannot read the objects" in other
    assert empty is None


def test_an_interrupted_save_is_no_empty_image(project: Path, tmp_path: Path) -> None:
    data = project / "data" / "1" / "data.qpdata"
    data.rename(data.with_name("data.qpdata.bkp"))
    (row,) = export(tmp_path, project, images=[1])["images"]
    assert "stopped while it saved" in row["error"]


@pytest.mark.parametrize(
    ("job", "says"),
    [
        pytest.param({"format": 2}, "format 2", id="format"),
        pytest.param({"project": "nowhere.qpproj"}, "no QuPath project", id="no project"),
        pytest.param({"objects": "cells"}, "'objects' is cells", id="objects"),
        pytest.param({"out": None}, "no folder", id="no folder"),
    ],
)
def test_a_job_that_cannot_be_says_so_in_its_result(
    project: Path, tmp_path: Path, job: dict[str, Any], says: str
) -> None:
    said = (
        export(tmp_path, project, **job)
        if "project" not in job
        else run_job(SCRIPTS / "glombridge_export.groovy", tmp_path, format=1, out="out", **job)
    )
    assert not said["ok"]
    assert says in said["error"]


def test_a_job_file_may_have_a_comma_in_its_name(project: Path, tmp_path: Path) -> None:
    """QuPath splits --args on commas."""
    job = tmp_path / "a,b.json"
    said = {"format": 1, "project": str(project), "out": "out", "result": "said.json"}
    job.write_text(json.dumps(said), "utf-8")
    run_job(
        HERE / "groovy" / "exchange_parts.groovy",
        tmp_path,
        split=str(job).split(","),
        starts=str(SCRIPTS / "glombridge_export.groovy"),
    )
    assert json.loads((tmp_path / "said.json").read_text("utf-8"))["ok"]


def test_a_job_without_a_place_for_its_result_fails_aloud(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    job.write_text('{"format": 1}', "utf-8")
    said = run_groovy(SCRIPTS / "glombridge_export.groovy", job, fails=True)
    assert "no file for its result" in said


SPACE = UUID("44444444-4444-5444-8444-555555555555")
SLATE = Color(10, 120, 200)


def proposal(number: int, outline: Outline, **said: Any) -> SlideObject:
    """As ``glombridge detect`` writes it."""
    return SlideObject(
        **{
            "id": uuid5(SPACE, str(number)),
            "kind": ObjectKind.ANNOTATION,
            "outline": outline,
            "path_class": PathClass(("Glomerulus", "Proposed"), SLATE),
            "locked": True,
            "measurements": {"Confidence": 0.123457, "Diameter um": 0.1 + number},
            "metadata": {"glombridge.box": "true"},
            **said,
        }
    )


NEW = [
    proposal(1, Outline.rectangle(120.13, 77.77, 200.57, 171.31)),
    proposal(2, Outline.rectangle(1e-2, 0.07, 33.33, 41.19), locked=False),
    proposal(3, Outline.rectangle(120.13, 77.77, 200.57, 171.31, Plane(-1, 1, 0))),
    proposal(4, Outline.ellipse(900, 900, 960, 990)),
    proposal(5, Outline.rectangle(700, 2900, 760, 2960), name="Ünï", color=Color(1, 2, 3, 128)),
    proposal(
        6,
        Outline.rectangle(2000, 2900, 2060, 2960),
        kind=ObjectKind.DETECTION,
        measurements={"z": float("nan"), "Confidence": 0.123457, "b": float("inf")},
        metadata={"glombridge.run": "r1", "glombridge.state": "proposal"},
    ),
]
"""Far from everything in the golden project, and from each other."""


def imported(folder: Path, project: Path, **job: Any) -> Any:
    """Run the import script."""
    said = {"format": 1, "project": str(project / "project.qpproj"), **job}
    return run_job(SCRIPTS / "glombridge_import.groovy", folder, **said)


@pytest.mark.parametrize("golden", OLD_AND_NEW, ids=lambda f: f.name)
def test_proposals_come_in_as_they_are_and_only_once(golden: Path, tmp_path: Path) -> None:
    project = copy_of(golden, tmp_path)
    before = by_id(NativeStore.open(project).read(1).objects)
    (tmp_path / "found").mkdir()
    write_geojson(tmp_path / "found" / "kidney_a.geojson", NEW)
    write_geojson(tmp_path / "found" / "kidney_a.scanned.geojson", NEW[:1])
    said = imported(tmp_path, project, detections="found")
    assert said["ok"], said
    (row,) = said["images"]
    assert (row["image"], row["id"], row["added"], row["refused"]) == (
        "kidney_a.tif",
        1,
        len(NEW),
        [],
    )
    after = by_id(NativeStore.open(project).read(1).objects)
    ids = {o.id for o in NEW}
    # What a human made is as it was, in every value that the file holds.
    assert dump_objects([o for o in after if o.id not in ids]) == dump_objects(before)
    assert dump_objects([o for o in after if o.id in ids]) == dump_objects(by_id(NEW))
    files = files_in(project)
    (row,) = imported(tmp_path, project, detections="found")["images"]
    assert (row["added"], row["there"]) == (0, len(NEW))
    assert files_in(project) == files


def test_what_is_marked_or_judged_is_not_proposed_again(project: Path, tmp_path: Path) -> None:
    """By id and by place; what is no proposal is left out, what cannot be is named."""
    mine = next(
        o
        for o in NativeStore.open(project).read(1).objects
        if o.kind is ObjectKind.ANNOTATION and o.outline and o.outline.is_area
    )
    assert mine.outline
    x0, y0, x1, y1 = mine.outline.bounds
    judged = replace(NEW[0], id=mine.id)
    over = proposal(11, Outline.rectangle(x0 + 1, y0, x1, y1, mine.outline.plane))
    beside = proposal(12, Outline.rectangle(x1 + 1, y0, x1 + 1 + (x1 - x0), y1, Plane(-1, 3, 0)))
    human = proposal(13, Outline.rectangle(1, 1, 9, 9), path_class=PathClass.parse("Glomerulus"))
    line = Outline.of(shapely.LineString([(0, 0), (5, 5)]))
    write_geojson(
        tmp_path / "a.geojson",
        [judged, over, beside, human, proposal(14, line), proposal(15, line)],
    )
    (row,) = imported(tmp_path, project, files=[{"file": "a.geojson", "image": 1}])["images"]
    assert row["ok"], row
    found = {k: row[k] for k in ("added", "there", "overlapping", "other")}
    assert found == {"added": 1, "there": 1, "overlapping": 1, "other": 1}
    assert [r.split(":")[0] for r in row["refused"]] == ["feature 5", "feature 6"]
    assert "encloses no area" in row["refused"][0]
    ids = {o.id for o in NativeStore.open(project).read(1).objects}
    assert beside.id in ids
    assert not ids & {over.id, human.id}


def test_a_file_that_fits_no_image_or_several_changes_nothing(
    project: Path, tmp_path: Path
) -> None:
    """The others are imported all the same."""
    document = json.loads((project / "project.qpproj").read_text("utf-8"))
    twin = document["images"][1]["imageName"] = document["images"][2]["imageName"]
    (project / "project.qpproj").write_text(json.dumps(document), "utf-8")
    names = [
        "nowhere.geojson",
        f"{twin}.geojson",
        f"0003_{safe_name(twin)}.geojson",
        "kidney_a.tif.geojson",
    ]
    for name in names:
        write_geojson(tmp_path / name, NEW[:1])
    (tmp_path / "cut.geojson").write_text('{"features": [', "utf-8")
    files = [*names, {"file": "cut.geojson", "image": 1}]
    said = imported(tmp_path, project, files=files)
    assert not said["ok"]
    assert [row["ok"] for row in said["images"]] == [False, False, True, True, False]
    assert [row["id"] for row in said["images"]] == [None, None, 3, 1, 1]
    assert "2 images" in said["images"][1]["error"]
    assert "damaged or no JSON" in said["images"][4]["error"]


def test_a_slide_that_is_gone_loses_no_object(tmp_path: Path) -> None:
    """QuPath 0.4 and 0.5 cannot open its image; later ones need no slide to add objects."""
    project = tmp_path / "project"
    shutil.copytree(goldens()[-1], project)
    files = files_in(project)
    before = by_id(NativeStore.open(project).read(1).objects)
    write_geojson(tmp_path / "kidney_a.geojson", NEW)
    (row,) = imported(tmp_path, project, files=["kidney_a.geojson"])["images"]
    if row["ok"]:
        ids = {o.id for o in NEW}
        after = by_id(NativeStore.open(project).read(1).objects)
        assert dump_objects([o for o in after if o.id not in ids]) == dump_objects(before)
        assert len(after) == len(before) + len(NEW)
    else:
        assert row["error"]
        assert files_in(project) == files


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param(("true", "", "distinct"), id="a counting slide"),
        pytest.param(("", "", ""), id="nothing"),
        pytest.param(("true", "true", ""), id="two counting slides"),
        pytest.param(("true", "distinct", ""), id="a contradiction"),
    ],
)
def test_the_summary_equals_grades(
    declared: tuple[str, ...], project: Path, tmp_path: Path
) -> None:
    """Slides, cases and every share, whatever is declared of the first case's two slides."""
    document = json.loads((project / "project.qpproj").read_text("utf-8"))
    scheme = shipped_scheme("lupus")
    marks = [
        marked("Glomerulus", 1, grades_of(scheme, "Cellular crescent"), {REVIEWER: "Dr A"}),
        marked(
            "Glomerulus", 2, grades_of(scheme, "Global sclerosis", "Ischemic"), {REVIEWER: "Dr B"}
        ),
        marked("Glomerulus: Fibrous crescent", 3),
        marked(
            "Glomerulus", 4, {LESION + "Segmental sclerosis": 1.0, LESION + "Global sclerosis": 1.0}
        ),
        marked("Glomerulus: Cellular crescent", 5, {LESION + "Cellular crescent": 0.0}),
        marked("Glomerulus", 6),
        marked("Glomerulus: Proposed", 7),
        marked("Rejected*", 8),
    ]
    store = NativeStore.open(project)
    patients = ("P1", "P1", "P2")
    for place, (entry, patient, counting) in enumerate(
        zip(store.images(), patients, declared, strict=True)
    ):
        document["images"][place].setdefault("metadata", {}).update(
            {"patient": patient} | ({"glombridge.counting": counting} if counting else {})
        )
        # The first case's second slide has open proposals and no glomerulus.
        ours = marks[-2:] if place == 1 else marks
        store.write(
            entry.id,
            HierarchyEdit(add=[replace(m, id=uuid5(SPACE, f"{entry.id} {m.id}")) for m in ours]),
            expected=store.read(entry.id).stamp,
            snapshot_folder=tmp_path / "snapshots",
        )
    (project / "project.qpproj").write_text(json.dumps(document), "utf-8")
    settings = Settings().with_scheme("lupus", project)
    init(project, settings=settings, store_kind="native")
    wanted = grades(Project.open(project)).as_dict()
    said = run_job(
        SCRIPTS / "glombridge_summary.groovy",
        tmp_path,
        format=1,
        project=str(project / "project.qpproj"),
        out="out",
    )
    assert said["ok"], said
    found = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert found["use"] == wanted["use"]
    keys = ["glomeruli", "graded", "partly_graded", "readers", "shares"]
    of_slide = ["image", "image_id", "patient", "counting", "counted", "pending_proposals", *keys]
    assert [{k: s[k] for k in of_slide} for s in found["slides"]] == [
        {k: s[k] for k in of_slide} for s in wanted["slides"]
    ]
    assert found["slides"][0]["graded"]
    of_case = ["patient", "slides", "counted_images", "pending_proposals"]
    for ours, theirs in zip(found["cases"], wanted["cases"], strict=True):
        assert {k: ours[k] for k in of_case} == {k: theirs[k] for k in of_case}
        # The command has options that the script does not know.
        whys = [case["why"].partition(" (image metadata")[0] for case in (ours, theirs)]
        assert whys[0] == whys[1]
        assert (ours["figures"] is None) == (theirs["figures"] is None)
        if ours["figures"] is not None:
            assert {k: ours["figures"][k] for k in keys} == {k: theirs["figures"][k] for k in keys}
    for slide in found["slides"]:
        rows = [r for r in wanted["glomeruli"] if r["image_id"] == slide["image_id"]]
        for lesion in slide["lesions"]:
            values = [r[LESION + lesion["name"]] for r in rows]
            known = [v for v in values if v is not None]
            assert (lesion["n"], lesion["of"]) == (sum(v != 0 for v in known), len(known))
            assert lesion["ungraded"] == values.count(None)
