"""Images of the same name are told apart by entry in every step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typed import run_json

from glombridge.qupath import NativeStore

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
