"""Datasets that are not what their manifest says, and labels that cannot be, are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_dataset import write_tiny_dataset

from glombridge.errors import InputError
from glombridge.training.dataset import open_dataset


def edit(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def label(line: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "labels" / "train" / "s_3.txt").write_text(line)


def cut_tile(folder: Path) -> None:
    tile = folder / "images" / "val" / "s_1.jpg"
    tile.write_bytes(tile.read_bytes()[:-100])


NONE = {part: {"Glomerulus": 0} for part in ("train", "val", "test")}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(
            lambda f: (f / "manifest.json").unlink(),
            "no manifest.json. Run 'glombridge tile'",
            id="unfinished",
        ),
        pytest.param(edit(format="another"), "format 'another'", id="another-format"),
        pytest.param(
            lambda f: (f / "manifest.json").write_text("{"), "is not the manifest", id="no-manifest"
        ),
        pytest.param(
            edit(tiles={"train": 0, "val": 4, "test": 2}), "no training tiles", id="no-tiles"
        ),
        pytest.param(
            edit(tiles={"train": 13, "val": 0, "test": 2}), "no validation tiles", id="no-val"
        ),
        pytest.param(
            edit(labels=NONE), "no training example of class Glomerulus", id="class-without-example"
        ),
        pytest.param(
            edit(labels={**NONE, "train": {"Glomerulus": 13}}),
            "no validation tile with an object.*validate_epochs = false",
            id="validation-without-objects",
        ),
        pytest.param(
            lambda f: (f / "images" / "train" / "s_0.jpg").unlink(),
            "counts 13 tiles in train, and 12 are there",
            id="tile-lost",
        ),
        pytest.param(
            lambda f: (f / "images" / "test" / "x.jpg").write_bytes(b"\xff\xd9"),
            "counts 2 tiles in test, and 3 are there",
            id="tile-added",
        ),
        pytest.param(cut_tile, "s_1.jpg is cut off", id="tile-cut-off"),
        pytest.param(
            lambda f: (f / "labels" / "train" / "s_0.txt").unlink(),
            "counts 13 labels of 'Glomerulus' in train, the files hold 12",
            id="labels-lost",
        ),
        pytest.param(
            lambda f: (f / "labels" / "val" / "y.txt").write_text(""),
            "y.txt are labels of a tile that is not there",
            id="labels-without-tile",
        ),
        pytest.param(
            label("0 0.5 0.5 0.3 1.3\n"),
            r"s_3.txt, line 1: 1.3 lies outside 0 to 1",
            id="too-large",
        ),
        pytest.param(label("0 0.5 -0.1 0.3 0.3\n"), "-0.1 lies outside", id="negative"),
        pytest.param(label("0 0.5 nan 0.3 0.3\n"), "nan lies outside", id="no-number"),
        pytest.param(label("0 0.5 0.5 0.3\n"), "is no label", id="too-short"),
        pytest.param(label("0 0.5 0.5 0.3 wide\n"), "is no label", id="a-word"),
        pytest.param(label("1 0.5 0.5 0.3 0.3\n"), "there is no class 1", id="unknown-class"),
        pytest.param(label("-1 0.5 0.5 0.3 0.3\n"), "there is no class -1", id="negative-class"),
        pytest.param(
            lambda f: (f / "data.yaml").write_text("names: {0: Tubule}"),
            "data.yaml was changed",
            id="names-changed",
        ),
    ],
)
def test_refused(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    folder = write_tiny_dataset(tmp_path / "data")
    spoil(folder)
    with pytest.raises(InputError, match=says):
        open_dataset(folder, validate=True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("0 0.5 0.5 0.3 0.3\n", r"no label \(class x y x y x y", id="a-box"),
        pytest.param("0 0.1 0.1 0.2 0.2 0.3\n", "no label", id="half-a-corner"),
        pytest.param("0 0.1 0.1 0.2 0.2 0.3 1.3\n", "1.3 lies outside", id="outside"),
        pytest.param("2 0.1 0.1 0.2 0.2 0.3 0.3\n", "there is no class 2", id="unknown-class"),
    ],
)
def test_labels_that_are_no_outlines_are_refused(tmp_path: Path, line: str, says: str) -> None:
    folder = write_tiny_dataset(tmp_path / "data", task="segment")
    assert open_dataset(folder, validate=True).task == "segment"
    label(line)(folder)
    with pytest.raises(InputError, match=says):
        open_dataset(folder, validate=True)


def test_a_manifest_of_before_there_were_outlines_means_boxes(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path / "data")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["task"]
    path.write_text(json.dumps(manifest))
    assert open_dataset(folder, validate=True).task == "detect"


def test_a_sound_one_is_read_and_a_changed_one_has_another_hash(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path / "data")
    data = open_dataset(folder, validate=True)
    assert (data.tile_px, data.tiles["train"], data.class_names) == ((96, 96), 13, ["Glomerulus"])
    assert open_dataset(folder, validate=True) == data
    text = folder / "labels" / "train" / "s_3.txt"
    text.write_text("0 0.500000 0.500000 0.300000 0.300000\n")
    assert open_dataset(folder, validate=True).files_sha256 != data.files_sha256


def test_validation_tiles_need_no_object_if_epochs_are_not_compared(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path / "data")
    for path in (folder / "labels" / "val").glob("*.txt"):
        path.write_text("")
    edit(labels={**NONE, "train": {"Glomerulus": 13}, "test": {"Glomerulus": 2}})(folder)
    assert open_dataset(folder, validate=False).tiles["val"] == 4


def test_labels_are_read_anew_by_ultralytics(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path / "data")
    kept = folder / "labels" / "train.cache"
    kept.write_bytes(b"what ultralytics once read")
    open_dataset(folder, validate=True)
    assert not kept.exists()
