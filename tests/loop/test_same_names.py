"""Images of the same name are told apart by entry in every step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typed import run, run_json

from glombridge.ledger import Workspace
from glombridge.qupath import NativeStore
from glombridge.steps.project import Project

NAME = "one and the same.tif"


@pytest.fixture
def same(project: Path) -> Path:
    """The walked project with one name for all its images."""
    file = project / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    for image in document["images"]:
        image["imageName"] = NAME
    file.write_text(json.dumps(document), "utf-8")
    return project


def test_pull_and_tile_keep_them_apart(same: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [e.id for e in NativeStore.open(same).images()]
    assert len(ids) == 5
    pulled = run_json(capsys, "pull", same, "--out", same / "out")
    assert [i["id"] for i in pulled["images"]] == ids
    assert len(list((same / "out").glob("*.geojson"))) == len(ids)
    before = json.loads(
        (same / "glombridge" / "datasets" / "tiles-001" / "manifest.json").read_text("utf-8")
    )
    tiled = run_json(capsys, "tile", same)
    after = json.loads((Path(tiled["dataset"]) / "manifest.json").read_text("utf-8"))
    assert sum(tiled["tiles"].values()) == sum(before["tiles"].values())
    assert len(after["slides"]) == len(before["slides"])


def test_image_takes_all_of_a_name_and_push_finds_each(
    same: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [e.id for e in NativeStore.open(same).images()]
    arguments = ("detect", same, "--image", NAME, "--include-test", "--min-confidence", 0.01)
    found = run_json(capsys, *arguments)
    assert [i["id"] for i in found["images"]] == ids
    assert len({i["file"] for i in found["images"]}) == len(ids)
    pushed = run_json(capsys, "push", same, "--include-test")
    assert [i["id"] for i in pushed["images"]] == ids
    store = NativeStore.open(same)
    for image in pushed["images"]:
        mine = [
            o
            for o in store.read(image["id"]).objects
            if o.metadata.get("glombridge.run") == pushed["run"]
        ]
        assert len(mine) == len(image["add"]) + len(image["update"])
    assert pushed["counts"]["add"] + pushed["counts"]["update"] > 0
    assert "glombridge queue" in run_json(capsys, "status", same)["next"]
    undone = run_json(capsys, "undo", same)
    assert undone["restored"] == len(pushed["written_images"])
    assert "glombridge push" in run_json(capsys, "status", same)["next"]


def test_a_table_cannot_say_whose_each_is(same: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one row for slides of four patients, all of them would be one patient."""
    (same / "patients.csv").write_text(f"image,patient\n{NAME},P04\n", encoding="utf-8")
    settings = same / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8").replace('source = "metadata"', 'source = "csv"')
    assert 'file = ""' in text
    settings.write_text(text.replace('file = ""', 'file = "patients.csv"', 1), encoding="utf-8")
    assert run("tile", same, "--allow-few-patients") == 3
    assert "5 slide files are called 'one and the same.tif'" in capsys.readouterr().err


def test_one_file_that_is_in_the_project_twice_has_one_row(same: Path) -> None:
    """As QuPath duplicates an image."""
    file = same / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    for image in document["images"]:
        image["serverBuilder"] = document["images"][0]["serverBuilder"]
    file.write_text(json.dumps(document), "utf-8")
    (same / "patients.csv").write_text(f"image,patient\n{NAME},P04\n", encoding="utf-8")
    opened = Project.open(same)
    patients = opened.settings.patients.model_copy(update={"file": "patients.csv"})
    settings = opened.settings.model_copy(update={"patients": patients})
    opened = replace(opened, settings=settings).with_patients_from("csv")
    opened.refuse_shared_rows(opened.store.images())
    assert {opened.patient(e) for e in opened.store.images()} == {"P04"}


def test_sides_that_such_a_table_decided_hold(same: Path) -> None:
    """Also when the patients come from metadata now, or the table is named no more."""
    (same / "patients.csv").write_text(f"image,patient\n{NAME},C1\n", encoding="utf-8")
    Workspace(same).record("split", patients={"C1": "test"}, patient_from="csv")
    opened = Project.open(same)
    entries = opened.store.images()
    patients = opened.settings.patients.model_copy(update={"file": "patients.csv"})
    now = replace(opened, settings=opened.settings.model_copy(update={"patients": patients}))
    # P02 is a test patient, P03 and P04 have other sides; P01 has none but that of C1.
    assert now.patient_source == "metadata"
    assert now.test_images(entries) == {1, 2}
    assert now.with_patients_from("csv").test_images(entries) == {1, 2, 3, 4, 5}
    assert opened.settings.patients.file == ""
    assert opened.test_images(entries) == {2}, "nothing says any more whose it was"
