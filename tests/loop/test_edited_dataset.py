"""Datasets that somebody edited by hand: who notices, and that no edit spreads to another dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import run


def dataset_of(project: Path) -> Path:
    return project / "glombridge" / "datasets" / "tiles-001"


def a_label(dataset: Path, part: str = "train") -> Path:
    return next(p for p in sorted((dataset / "labels" / part).glob("*.txt")) if p.stat().st_size)


def image_of(label: Path) -> Path:
    return label.parents[2] / "images" / label.parent.name / f"{label.stem}.jpg"


def change_label(dataset: Path) -> None:
    """As many labels, as many bytes: one box lies elsewhere."""
    label = a_label(dataset)
    text = label.read_text("utf-8")
    first = text.split()[1]
    moved = first[:-1] + str((int(first[-1]) + 1) % 10)
    label.write_text(text.replace(first, moved, 1), "utf-8")


def change_pixels(dataset: Path) -> None:
    """A byte in the middle: size and end of the JPEG are as before."""
    image = image_of(a_label(dataset))
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)


def replace_tile(dataset: Path) -> None:
    image = image_of(a_label(dataset))
    other = next(p for p in image.parent.glob("*.jpg") if p != image)
    data = other.read_bytes()
    image.unlink()
    image.write_bytes(data)


def remove_tile(dataset: Path) -> None:
    label = a_label(dataset)
    image_of(label).unlink()
    label.unlink()


def add_tile(dataset: Path) -> None:
    label = a_label(dataset)
    shutil.copy(label, label.with_name("added.txt"))
    shutil.copy(image_of(label), image_of(label).with_name("added.jpg"))


def swap_sides(dataset: Path) -> None:
    """A tile of test and one of training change places: all counts are as before."""
    one, other = a_label(dataset, "train"), a_label(dataset, "test")
    for a, b in ((one, other), (image_of(one), image_of(other))):
        a.rename(b.parent / a.name)
        b.rename(a.parent / b.name)


def edit_manifest(dataset: Path) -> None:
    file = dataset / "manifest.json"
    document = json.loads(file.read_text("utf-8"))
    document["patients"]["train"], document["patients"]["test"] = (
        document["patients"]["test"],
        document["patients"]["train"],
    )
    file.write_text(json.dumps(document), "utf-8")


EDITS = [
    change_label,
    change_pixels,
    replace_tile,
    remove_tile,
    add_tile,
    swap_sides,
    edit_manifest,
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda f: f.__name__)
def test_nobody_works_with_it(
    project: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Path], None]
) -> None:
    # As the annotations are now, so that nothing but the edit is a reason to cut anew.
    assert run("tile", project, "-q") == 0
    dataset = sorted((project / "glombridge" / "datasets").glob("tiles-*"))[-1]
    assert run("train", project, "--epochs", "1", "-q") == 0
    edit(dataset)
    capsys.readouterr()
    assert run("train", project, "--epochs", "1", "-q") == 3
    told = capsys.readouterr().err
    assert str(dataset) in told
    assert "tile' again" in told.replace("\n", " ")
    assert not (project / "glombridge" / "runs" / "train-003").exists()
    # The figures on slides need no dataset; those on tiles are left out and the reason is said.
    assert run("evaluate", project, "--json") == 0
    evaluation = json.loads(capsys.readouterr().out)["tile_level"]
    assert dataset.name in evaluation["missing"]
    # Tiling again gives what was there before the edit, in a dataset that can be trained on.
    assert run("tile", project, "-q") == 0
    assert run("train", project, "--epochs", "1", "-q") == 0


@pytest.mark.parametrize(
    "edit", [change_label, change_pixels, replace_tile], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_files_that_two_datasets_share(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[Path], None],
    when: str,
) -> None:
    """A second dataset is made of links to the first one's files."""
    dataset, second = dataset_of(project), tmp_path / "second"
    fresh = tmp_path / "fresh"
    assert run("tile", project, "--fresh", "-q", "--out", fresh) == 0
    more = ("tile", project, "-q", "--out", second)
    label = a_label(dataset)
    if when == "before":
        edit(dataset)
        shutil.copy(project / "project.qpproj", tmp_path)
        assert run(*more) == 0
        linked = second if second.exists() else dataset
        # What was edited is cut again, and not linked.
        assert linked == second
    else:
        # One slide less is another dataset, whose other slides are links.
        shutil.copytree(dataset, second, copy_function=lambda a, b: Path(b).hardlink_to(a))
        edit(dataset)
        in_place = label.read_bytes() == (second / label.relative_to(dataset)).read_bytes()
        capsys.readouterr()
        code = run("train", project, "--data", second, "--epochs", "1", "-q")
        if edit is replace_tile:
            assert code == 0, "a new file in the place of a link leaves the other as it was"
        else:
            # An edit in place is in both; the second is refused as well.
            assert in_place
            assert code == 3
            assert "other datasets that share the file" in capsys.readouterr().err
        shutil.rmtree(second)
        assert run(*more) == 0
    for path in (p for p in fresh.rglob("*") if p.is_file()):
        assert (second / path.relative_to(fresh)).read_bytes() == path.read_bytes()


def test_another_dataset_under_the_same_name(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = dataset_of(project)
    # Renamed: it is found by what it is.
    renamed = dataset.with_name("tiles-of-spring")
    dataset.rename(renamed)
    capsys.readouterr()
    assert run("evaluate", project, "--json", "-q") == 0
    assert json.loads(capsys.readouterr().out)["tile_level"]["dataset"] == "tiles-of-spring"
    # Another one under its name is not taken for it.
    shutil.rmtree(renamed)
    assert run("tile", project, "--size", "120x120", "-q", "--out", dataset) == 0
    capsys.readouterr()
    assert run("evaluate", project, "--json", "-q") == 0
    told = json.loads(capsys.readouterr().out)["tile_level"]
    assert told["missing"].startswith("dataset tiles-001 is not the one that the run learnt from")
