"""``glombridge tile``: its options, what it promises, and what it refuses."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from typed import run, run_json

from glombridge.objects import Outline
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.slides.reader import Slide
from glombridge.steps.project import Project
from glombridge.tiles.reading_back import read_labels


def manifest_of(document: Any) -> Any:
    return json.loads((Path(document["dataset"]) / "manifest.json").read_text("utf-8"))


def edit_settings(project: Path, section: str, *lines: str) -> None:
    """Replace the section's keys of these names."""
    path = project / "glombridge" / "glombridge.toml"
    keys = {line.split("=")[0].strip() for line in lines}
    kept, inside = [], False
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        if inside and line.split("=")[0].strip() in keys:
            continue
        kept.append(line)
        if line == f"[{section}]":
            kept += lines
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")


def closed_form(length: int, tile: int, stride: int) -> int:
    return 1 if length <= tile else math.ceil((length - tile) / stride) + 1


def test_the_papers_preset(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "tile", project, "--preset", "paper")
    assert document["tile_px"] == [1600, 1200]
    assert document["overlap_px"] == [534, 400]
    manifest = manifest_of(document)
    for slide in manifest["slides"]:
        width, height = slide["size_px"]
        assert slide["grid_tiles"] == closed_form(width, 1600, 1066) * closed_form(
            height, 1200, 800
        )
    whole = document["objects_whole_in_a_tile"]
    broken = sum(map(len, document["not_whole_in_any_tile"].values()))
    assert whole + broken == sum(sum(n.values()) for n in document["objects"].values())


@pytest.mark.parametrize(
    ("options", "tile_px", "overlap_px"),
    [
        pytest.param(["--size", "200x160"], [200, 160], None, id="pixels"),
        pytest.param(["--size-um", "400x300", "--mpp", "2"], [200, 150], None, id="um"),
        pytest.param(["--overlap", "40 px"], None, [40, 40], id="overlap in px"),
        pytest.param(["--overlap", "130um", "--mpp", "2.6"], None, [50, 50], id="overlap in um"),
        pytest.param(["--size", "200x100", "--overlap", "1/4"], [200, 100], [50, 25], id="share"),
        pytest.param(
            ["--mpp", "own", "--size", "900x700", "--overlap", "520 px"],
            [900, 700],
            [520, 520],
            id="own pixels",
        ),
    ],
)
def test_sizes_and_overlaps(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    tile_px: list[int] | None,
    overlap_px: list[int] | None,
) -> None:
    document = run_json(capsys, "tile", project, *options)
    assert tile_px in (None, document["tile_px"])
    assert overlap_px in (None, document["overlap_px"])
    width, height = document["tile_px"]
    image = next((Path(document["dataset"]) / "images" / "train").iterdir())
    assert cv2.imread(str(image)).shape == (height, width, 3)


def test_the_automatic_overlap_keeps_every_object_whole(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--size", "260x260", "--mpp", "1"]
    tight = run_json(capsys, "tile", project, *small, "--overlap", "0")
    assert tight["not_whole_in_any_tile"]
    document = run_json(capsys, "tile", project, *small, "--overlap", "auto")
    assert document["not_whole_in_any_tile"] == {}
    assert 0 < document["overlap_px"][0] < 260


def test_labels_come_back_as_the_annotations_they_were(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(capsys, "tile", project, "--task", "segment", "--overlap", "auto")
    folder = Path(document["dataset"])
    found = read_labels(folder)
    store, settings = NativeStore.open(project), Project.open(project).settings
    for entry in store.images():
        if entry.name not in found:
            continue
        truth = [
            o
            for o in store.read(entry.id).objects
            if settings.class_index(o.path_class) is not None and o.outline is not None
        ]
        areas = sorted(o.outline.geometry.area for o in truth)
        back = sorted(o.outline.geometry.area for o in found[entry.name])
        assert back == pytest.approx(areas, rel=0.01)
    assert sum(map(len, found.values())) == sum(
        sum(n.values()) for n in document["objects"].values()
    )


def test_accepted_boxes_train_no_segmentation(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = NativeStore.open(project)
    settings = Project.open(project).settings
    before = run_json(capsys, "tile", project, "--task", "segment")["objects"]
    boxed = 0
    for entry in store.images():
        contents = store.read(entry.id)
        truth = [o for o in contents.objects if settings.class_index(o.path_class) is not None]
        if len(truth) < 3:
            continue
        box = truth[0].__class__(
            **{
                **{name: getattr(truth[0], name) for name in truth[0].__dataclass_fields__},
                "outline": Outline.rectangle(*truth[0].outline.bounds),
                "metadata": {"glombridge.box": "true"},
            }
        )
        edit = HierarchyEdit(replace=(box,))
        store.write(entry.id, edit, expected=contents.stamp, snapshot_folder=project / "kept")
        boxed += 1
    assert boxed
    after = run_json(capsys, "tile", project, "--task", "segment")["objects"]
    total = [sum(sum(n.values()) for n in parts.values()) for parts in (before, after)]
    assert total[0] - total[1] == boxed
    both = run_json(capsys, "tile", project)["objects"]
    assert sum(sum(n.values()) for n in both.values()) == total[0]


def test_only_changed_slides_are_cut_and_nothing_changed_gives_the_same_dataset(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_json(capsys, "tile", project)
    again = run_json(capsys, "tile", project)
    assert (again["dataset"], again["slides_cut"]) == (first["dataset"], 0)
    fresh = run_json(capsys, "tile", project, "--fresh", "--workers", "1")
    assert fresh["slides_cut"] == len(manifest_of(first)["slides"])
    assert manifest_of(fresh) == manifest_of(first)


def test_previews_show_every_slide(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "tile", project, "--preview")
    pictures = list((Path(document["dataset"]) / "previews").glob("*.png"))
    assert len(pictures) == len(manifest_of(document)["slides"])
    assert all(min(cv2.imread(str(p)).shape[:2]) > 100 for p in pictures)


# ---- patients


def without_patients(project: Path) -> NativeStore:
    store = NativeStore.open(project)
    for entry in store.images():
        store.set_image_metadata(entry.id, {"patient": None})
    return store


def forget_split(project: Path) -> None:
    history = project / "glombridge" / "history.jsonl"
    lines = [line for line in history.read_text("utf-8").splitlines() if '"split"' not in line]
    history.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_patients_from_a_table(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [e.name for e in without_patients(project).images()]
    forget_split(project)
    table = "Image;Patient\n" + "".join(f"{n};case {k}\n" for k, n in enumerate(names))
    (project / "patients.csv").write_text(table, encoding="utf-8")
    edit_settings(project, "patients", 'source = "csv"', 'file = "patients.csv"')
    document = run_json(capsys, "tile", project)
    assert document["patients_from"] == "csv"
    assert set(document["patients"]) <= {f"case {k}" for k in range(len(names))}
    assert len(set(document["patients"].values())) == 3


def test_each_image_its_own_patient_is_remembered_and_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = without_patients(project)
    forget_split(project)
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace('\nsource = "metadata"', "", 1), encoding="utf-8")
    assert run("tile", project) == 3
    assert "--patient-from image" in capsys.readouterr().err
    document = run_json(capsys, "tile", project, "--patient-from", "image")
    assert document["patients_from"] == "image"
    assert "slides of one patient may be" in document["leak_check"]["verdict"]
    opened = Project.open(project)
    assert opened.patient(store.images()[0]) == "image-1"
    assert run("tile", project) == 0


def test_another_source_of_patients_moves_no_slide_out_of_test(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Project.open(project)
    before = {e.id: opened.parts().get(opened.patient(e)) for e in opened.store.images()}
    document = run_json(capsys, "tile", project, "--patient-from", "image")
    after = document["patients"]
    for entry, part in before.items():
        assert after.get(f"image-{entry}", part) == part
    assert Counter(after.values())["test"] >= 1


def rename_patients(project: Path, new_names: Callable[[str], str]) -> NativeStore:
    store = NativeStore.open(project)
    for entry in store.images():
        store.set_image_metadata(entry.id, {"patient": new_names(entry.metadata["patient"])})
    return store


@pytest.mark.parametrize("rename", ["case {}".format, str.lower], ids=["other", "case"])
def test_a_patient_who_is_renamed_stays_on_the_side_of_before(
    project: Path, rename: Callable[[str], str]
) -> None:
    opened = Project.open(project)
    entries = opened.store.images()
    before = {e.id: opened.parts().get(opened.patient(e)) for e in entries}
    assert set(before.values()) >= {"train", "val", "test"}
    store = rename_patients(project, rename)
    # Also before tiles are cut again.
    assert Project.open(project).test_images(store.images()) == {
        i for i, part in before.items() if part == "test"
    }
    assert run("tile", project) == 0
    opened = Project.open(project)
    after = {e.id: opened.parts().get(opened.patient(e)) for e in opened.store.images()}
    assert after == before
    # Whose images were is said once, and nothing is forgotten on the way back.
    assert run("tile", project) == 0
    rename_patients(project, lambda name: f"again {name}")
    assert run("tile", project) == 0
    opened = Project.open(project)
    assert before == {e.id: opened.parts().get(opened.patient(e)) for e in opened.store.images()}
    assert sum(e["event"] == "split" for e in opened.workspace.history.events()) <= 3


def test_a_history_that_lost_its_split_puts_nobody_on_another_side(project: Path) -> None:
    opened = Project.open(project)
    parts, entries = opened.parts(), opened.store.images()
    tested = opened.test_images(entries)
    assert tested
    forget_split(project)
    # Another seed would draw another split.
    settings = project / "glombridge" / "glombridge.toml"
    settings.write_text(settings.read_text("utf-8").replace("seed = 5", "seed = 1"), "utf-8")
    opened = Project.open(project)
    assert (opened.settings.seed, opened.parts()) == (1, {})
    assert opened.test_images(entries) == tested
    assert run("tile", project) == 0
    assert Project.open(project).parts() == parts


def test_a_source_written_into_the_settings_later_does_not_open_test_slides(project: Path) -> None:
    """Between the change and the next ``tile`` no patient of the new names has a side yet."""
    opened = Project.open(project)
    tested = opened.test_images(opened.store.images())
    assert tested
    (project / "patients.csv").write_text(
        "image,patient\n" + "".join(f"{e.name},case {e.id}\n" for e in opened.store.images()),
        encoding="utf-8",
    )
    edit_settings(project, "patients", 'source = "csv"', 'file = "patients.csv"')
    opened = Project.open(project)
    assert opened.test_images(opened.store.images()) == tested


def test_patients_whose_names_differ_in_case_only_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = NativeStore.open(project)
    store.set_image_metadata(5, {"patient": "p04"})
    assert run("tile", project) == 3
    told = capsys.readouterr().err
    assert "'P04' (image 'P04-1_HE.tif') and 'p04' (image 'P04-2_HE.tif')" in told
    store.set_image_metadata(5, {"patient": " P04 "})
    assert run("tile", project) == 0


def test_a_source_that_lacks_its_setting(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tile", project, "--patient-from", "csv") == 2
    assert "needs 'file' in [patients]" in capsys.readouterr().err


# ---- bad input


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--size", "100x100", "--overlap", "100 px"], 2, "leaves no step between tiles"),
        (["--size", "100x100", "--overlap", "250px"], 2, "leaves no step between tiles"),
        (["--overlap", "1.5"], 2, "an overlap is a share from 0 to below 1"),
        (["--overlap", "much"], 2, "an overlap is a share from 0 to below 1"),
        (["--mpp", "own", "--overlap", "200um"], 2, "tiles in um need tiles.mpp"),
        (["--mpp", "-1"], 2, "tiles cannot be cut like that: mpp = '-1': input should be greater"),
        (["--mpp", "coarse"], 2, "mpp = 'coarse': input should be a valid number"),
        (["--size", "10x100"], 2, "width_px = 10: input should be greater than or equal to 32"),
        (["--keep-visible", "nan"], 2, "'nan' is no number"),
        (["--out", ""], 2, "the path is empty"),
        (["--size", "100x100", "--size-um", "100x100"], 2, "exclude each other"),
        (["--size", "40x40", "--overlap", "auto"], 3, "no overlap keeps every object whole"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_tiles_that_cannot_be(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, says: str
) -> None:
    assert run("tile", project, *options) == code
    assert says in capsys.readouterr().err
    assert [p.name for p in (project / "glombridge" / "datasets").iterdir()] == ["tiles-001"]


def marked_slides(project: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    names = [s["image"] for s in manifest_of(run_json(capsys, "tile", project))["slides"]]
    return [project.parent / "slides" / name for name in names]


def test_a_slide_cut_short_in_the_middle_of_the_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It opens, its overview can be read, and it breaks off among its tiles."""
    slide = marked_slides(project, capsys)[1]
    data = bytearray(slide.read_bytes())
    import tifffile

    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages[0]
        places = sorted(zip(page.dataoffsets, page.databytecounts, strict=True))
    for offset, size in places[len(places) // 4 :]:
        data[offset : offset + size] = bytes(size)
    slide.unlink()
    slide.write_bytes(data)
    capsys.readouterr()
    assert run("tile", project, "--mpp", "own", "--size", "700x700") == 6
    message = capsys.readouterr().err
    assert f"image '{slide.name}': slide '{slide.name}' is damaged at" in message
    newest = sorted((project / "glombridge" / "datasets").iterdir())[-1]
    manifest = json.loads((newest / "manifest.json").read_text("utf-8"))
    assert [f["image"] for f in manifest["failed"]] == [slide.name]
    assert len(manifest["slides"]) >= 2
    assert not [p for p in newest.rglob("*") if p.name.startswith(f"{slide.stem}__")]


def test_a_pyramid_with_broken_levels(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A level whose blocks are damaged fails with its name; one that is skewed is not read."""
    import tifffile

    first, second = marked_slides(project, capsys)[:2]
    with tifffile.TiffFile(first) as tiff:
        places = list(zip(tiff.pages[1].dataoffsets, tiff.pages[1].databytecounts, strict=True))
    data = bytearray(first.read_bytes())
    for offset, size in places:
        data[offset : offset + size] = bytes(size)
    first.unlink()
    first.write_bytes(data)
    with Slide(second) as slide:
        mpp = slide.frame.require_mpp()[0]
        rgb = slide.read_region(0, 0, slide.frame.width_px, slide.frame.height_px, mpp=None)
    second.unlink()
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(second) as tiff:
        tiff.write(rgb, **options)
        half = (rgb.shape[1] // 2, rgb.shape[0] // 3)
        tiff.write(cv2.resize(rgb, half), subfiletype=1, **options)
    assert run("tile", project, "--mpp", f"{2 * mpp}", "--size", "300x300") == 6
    assert f"'{first.name}' is damaged at" in capsys.readouterr().err
    newest = sorted((project / "glombridge" / "datasets").iterdir())[-1]
    slides = json.loads((newest / "manifest.json").read_text("utf-8"))["slides"]
    (entry,) = [s for s in slides if s["image"] == second.name]
    assert entry["notes"] == ["pyramid level 1 is not the image made smaller and was not read"]
    assert sum(entry["tiles"].values()) > 0


def test_one_slide_under_two_names_and_patients_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slides = {
        s["part"]: s["image"] for s in manifest_of(run_json(capsys, "tile", project))["slides"]
    }
    train, test = (project.parent / "slides" / slides[part] for part in ("train", "test"))
    with Slide(train) as a, Slide(test) as b:
        if (a.frame.width_px, a.frame.height_px) != (b.frame.width_px, b.frame.height_px):
            document = json.loads((project / "project.qpproj").read_text("utf-8"))
            for image in document["images"]:
                metadata = image["serverBuilder"]["metadata"]
                if image["imageName"] == test.name:
                    metadata["width"], metadata["height"] = a.frame.width_px, a.frame.height_px
            (project / "project.qpproj").write_text(json.dumps(document), encoding="utf-8")
    test.unlink()
    test.write_bytes(train.read_bytes())
    assert run("tile", project) == 4
    assert "are the same slide file under two names" in capsys.readouterr().err
