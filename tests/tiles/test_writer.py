"""Datasets: complete or not there, the same to the byte, and honest about what failed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from folders import files_in
from shapely.geometry import box

from glombridge.errors import InputError, MachineError, ProtectedError
from glombridge.slides.reader import Slide, fingerprint
from glombridge.tiles import cutting
from glombridge.tiles.grid import Grid, TileSpec
from glombridge.tiles.labels import Areas, ClassMap
from glombridge.tiles.writer import DatasetSettings, write_dataset
from glombridge.tiles.yolo import yolo_to_slide

SPEC = TileSpec(400, 300, 1 / 3, 0.5)
SETTINGS = DatasetSettings(ClassMap.of(["Glomerulus"]), SPEC)


@pytest.fixture
def jobs(make_job):
    return [make_job(1, part="train"), make_job(2, part="val"), make_job(3, part="test")]


def test_a_dataset_is_what_ultralytics_reads(jobs, tmp_path):
    seen = []
    result = write_dataset(jobs, tmp_path / "data", SETTINGS, progress=seen.append)
    assert result.failed == ()
    for part in ("train", "val", "test"):
        images = sorted((result.folder / "images" / part).iterdir())
        labels = sorted((result.folder / "labels" / part).iterdir())
        assert [p.stem for p in images] == [p.stem for p in labels]
        assert len(images) == result.tiles[part] > 0
        assert result.objects[part] == {"Glomerulus": 2}
        assert all(cv2.imread(str(p)).shape == (300, 400, 3) for p in images)
    assert result.data_yaml.read_text("utf-8") == (
        'train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: "Glomerulus"\n'
    )
    assert sorted((p.image_name, p.slide) for p in seen if p.tile == p.tiles) == [
        ("K1.tif", 1), ("K2.tif", 2), ("K3.tif", 3),
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*"))


def test_labels_and_pixels_lie_where_the_objects_are(jobs, tmp_path):
    result = write_dataset(jobs[:1], tmp_path / "data", SETTINGS)
    grid = {(round(t.x_px), round(t.y_px)): t for t in Grid.of(jobs[0].frame, SPEC)}
    truth = [o.outline.bounds for o in jobs[0].objects]
    found = set()
    with Slide(jobs[0].slide_path) as slide:
        for image in (result.folder / "images" / "train").iterdir():
            x, y = map(int, re.fullmatch(r"K1__x(\d+)_y(\d+)_mpp0\.5", image.stem).groups())
            tile = grid[x, y]
            pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
            text = (result.folder / "labels" / "train" / f"{image.stem}.txt").read_text()
            for _, bounds in yolo_to_slide(text, tile):
                for i, expected in enumerate(truth):
                    if bounds == pytest.approx(expected, abs=0.01):
                        found.add(i)
            expected = slide.read_region(tile.x_px, tile.y_px, 400, 300, mpp=0.5)
            assert np.abs(pixels.astype(int) - expected).mean() < 6
    assert found == {0, 1}


def test_the_same_input_gives_the_same_bytes(jobs, tmp_path):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)
    second = write_dataset(jobs, tmp_path / "b", SETTINGS)
    assert files_in(first.folder) == files_in(second.folder)
    again = write_dataset(jobs, tmp_path / "a", SETTINGS)
    assert files_in(again.folder) == files_in(second.folder)


def test_each_slide_is_cut_the_same_alone_or_with_others(jobs, tmp_path):
    together = files_in(write_dataset(jobs, tmp_path / "a", SETTINGS).folder)
    alone = files_in(write_dataset(jobs[:1], tmp_path / "b", SETTINGS).folder)
    tiles = {name: data for name, data in alone.items() if "/train/" in name}
    assert tiles
    assert tiles.items() <= together.items()


def test_the_manifest_says_what_was_done(jobs, tmp_path):
    result = write_dataset(jobs, tmp_path / "data", SETTINGS)
    manifest = json.loads(result.manifest.read_text("utf-8"))
    assert manifest["patients"] == {
        "train": ["patient 1"],
        "val": ["patient 2"],
        "test": ["patient 3"],
    }
    assert manifest["tiles"] == dict(result.tiles)
    assert manifest["objects"]["train"] == {"Glomerulus": 2}
    assert manifest["settings"]["tile_overlap_px"] == [134, 100]
    first = manifest["slides"][0]
    assert first["slide_fingerprint"] == fingerprint(jobs[0].slide_path)
    assert first["not_whole_in_any_tile"] == [
        str(i) for i in result.not_whole.get("K1.tif [1]", ())
    ]
    assert {"glombridge", "openslide", "opencv"} <= manifest["versions"].keys()
    assert str(tmp_path) not in result.manifest.read_text("utf-8")


def test_the_annotations_hash_follows_the_annotations(jobs, make_job, make, tmp_path):
    def hash_of(job, name):
        manifest = write_dataset([job], tmp_path / name, SETTINGS).manifest
        return json.loads(manifest.read_text("utf-8"))["slides"][0]["annotations_sha256"]

    job = jobs[0]
    moved = replace(job, objects=(job.objects[0], make.ball(11, 905, 600, 120)))
    fenced = replace(job, areas=Areas(searched=box(0, 0, 1600, 1200)))
    hashes = [hash_of(j, f"d{i}") for i, j in enumerate([job, job, moved, fenced])]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_background_keeps_its_ratio_and_shows_tissue(jobs, tmp_path):
    for ratio in (0, 0.5, 1):
        settings = replace(SETTINGS, background_ratio=ratio)
        result = write_dataset(jobs[:1], tmp_path / f"r{ratio}", settings)
        tiles = json.loads(result.manifest.read_text("utf-8"))["slides"][0]["tiles"]
        assert tiles.get("background", 0) == int(np.ceil(tiles["object"] * ratio))
        for label in (result.folder / "labels" / "train").iterdir():
            if not label.read_text():
                image = cv2.imread(str(result.folder / "images" / "train" / f"{label.stem}.jpg"))
                assert image.min(axis=2).mean() < 240


def test_a_searched_slide_without_objects_gives_background_only(jobs, make_job, tmp_path):
    empty = make_job(4, objects=())
    result = write_dataset([jobs[0], empty], tmp_path / "data", SETTINGS)
    slides = json.loads(result.manifest.read_text("utf-8"))["slides"]
    assert slides[1]["tiles"] == {"background": 8}


def test_hard_negatives_are_always_kept(jobs, make, tmp_path):
    rejected = make.square(99, 1100, 250, 60)
    settings = replace(SETTINGS, background_ratio=0)
    job = replace(
        jobs[0],
        hard_negatives=(rejected,),
        areas=Areas(searched=box(450, 350, 1100, 800), cleared=rejected.outline.geometry),
    )
    result = write_dataset([job], tmp_path / "data", settings)
    tiles = json.loads(result.manifest.read_text("utf-8"))["slides"][0]["tiles"]
    assert tiles["hard_negative"] >= 1


def test_what_is_not_known_is_painted_out(jobs, make, tmp_path):
    pending = box(640, 420, 760, 540)
    job = replace(jobs[0], areas=Areas(pending=pending))
    result = write_dataset([job], tmp_path / "data", SETTINGS)
    painted = 0
    for image in (result.folder / "images" / "train").iterdir():
        x, y = map(int, re.search(r"__x(\d+)_y(\d+)", image.stem).groups())
        left, top, right, bottom = 660 - x, 440 - y, 740 - x, 520 - y
        if left >= 0 and top >= 0 and right <= 400 and bottom <= 300:
            patch = cv2.imread(str(image))[top:bottom, left:right]
            assert np.abs(patch.astype(int) - 243).max() <= 12
            painted += 1
    assert painted


def test_an_automatic_overlap_leaves_no_object_cut(jobs, make, tmp_path):
    large = replace(jobs[0], objects=(make.ball(1, 700, 450, 180),))
    result = write_dataset([large, jobs[1]], tmp_path / "a", replace(SETTINGS, spec=replace(SPEC, overlap="auto")))  # fmt: skip  # noqa: E501
    assert result.spec.overlap == 180
    assert result.not_whole == {}
    tight = write_dataset([large], tmp_path / "b", replace(SETTINGS, spec=replace(SPEC, overlap=0)))
    assert list(tight.not_whole) in ([], ["K1.tif [1]"])


@pytest.mark.parametrize(
    ("names", "prefixes"),
    [
        (["a.svs", "b.svs"], ["a", "b"]),
        (["a.svs", "a.svs"], ["a-1", "a-2"]),
        (["A.svs", "a.tif"], ["A-1", "a-2"]),
        (["a.svs", "a.svs", "a-1.svs"], ["1-a", "2-a", "3-a-1"]),
        (["con.svs", "..svs"], [r"_con-\w{6}", r"image-\w{6}"]),
        (["ä b/c.svs", "x" * 300], [r"ä_b_c-\w{6}", r"x{80}-\w{6}"]),
    ],
)
def test_file_names_are_safe_and_unique(make_job, names, prefixes):
    job = make_job(1)
    jobs = [replace(job, entry_id=i, image_name=name) for i, name in enumerate(names, 1)]
    found = cutting.file_prefixes(jobs)
    assert all(re.fullmatch(p, f) for p, f in zip(prefixes, found, strict=True))


# ---- what can go wrong


def truncate(path: Path, share: float):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "no pixel size"])
def test_one_bad_slide_does_not_stop_the_others(jobs, make_job, tmp_path, damage):
    bad = make_job(7, "K7.tif", slide={"mpp": None} if damage == "no pixel size" else {})
    if damage == "missing":
        bad.slide_path.unlink()
    elif damage == "text":
        bad.slide_path.write_text("no slide")
    elif damage == "cut":
        truncate(bad.slide_path, 0.5)
    result = write_dataset([bad, *jobs], tmp_path / "data", SETTINGS)
    assert [image for image, _ in result.failed] == ["K7.tif"]
    assert not [p for p in result.folder.rglob("*") if p.name.startswith("K7")]
    assert result.tiles["val"] > 0
    assert json.loads(result.manifest.read_text("utf-8"))["failed"][0]["image"] == "K7.tif"


def test_all_slides_bad_is_an_error_naming_each(jobs, tmp_path):
    for job in jobs:
        truncate(job.slide_path, 0.5)
    with pytest.raises(InputError, match=r"(?s)not one slide.*K1.tif.*K2.tif.*K3.tif"):
        write_dataset(jobs, tmp_path / "data", SETTINGS)
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.glob(".*"))


def fill_disk(monkeypatch, after: int):
    written = 0
    original = Path.write_bytes

    def write(self, data):
        nonlocal written
        written += 1
        if written > after:
            raise OSError(28, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", write)


@pytest.mark.parametrize("after", [0, 1, 25, 41])
def test_a_full_disk_leaves_what_was_there_and_the_next_run_goes_on(
    jobs, tmp_path, monkeypatch, after
):
    target = tmp_path / "data"
    write_dataset(jobs[:1], target, SETTINGS)
    before = files_in(target)
    with monkeypatch.context() as patch:
        fill_disk(patch, after)
        with pytest.raises(MachineError, match="No space left on device"):
            write_dataset(jobs, target, SETTINGS)
    assert files_in(target) == before
    write_dataset(jobs, target, SETTINGS)
    assert not list(tmp_path.glob(".*"))
    write_dataset(jobs, tmp_path / "fresh", SETTINGS)
    assert files_in(target) == files_in(tmp_path / "fresh")


def test_a_publication_that_fails_brings_the_old_dataset_back(jobs, tmp_path, monkeypatch):
    target = tmp_path / "data"
    write_dataset(jobs[:1], target, SETTINGS)
    before = files_in(target)
    original = Path.rename

    def rename(self, other):
        if self.name.endswith(".partial"):
            raise OSError(13, "Permission denied")
        return original(self, other)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(MachineError, match="Permission denied"):
        write_dataset(jobs, target, SETTINGS)
    assert files_in(target) == before
    monkeypatch.undo()
    assert write_dataset(jobs, target, SETTINGS).cut == 0
    assert not list(tmp_path.glob(".*"))


def test_what_is_not_ours_is_left_alone(jobs, tmp_path):
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter.txt").write_text("dear")
    with pytest.raises(ProtectedError, match="not a dataset that glombridge wrote"):
        write_dataset(jobs, target, SETTINGS)
    assert files_in(target) == {"chapter.txt": b"dear"}


def test_leaks_are_refused_before_anything_is_cut(jobs, tmp_path):
    same = replace(jobs[1], slide_path=jobs[0].slide_path)
    with pytest.raises(ProtectedError, match="same slide file"):
        write_dataset([jobs[0], same], tmp_path / "data", SETTINGS)
    with pytest.raises(ProtectedError, match="two sides"):
        write_dataset([jobs[0], replace(jobs[1], patient="patient 1")], tmp_path / "d", SETTINGS)
    assert not list(tmp_path.glob(".*"))


def test_a_class_without_examples_is_refused_with_what_there_is(jobs, tmp_path):
    settings = replace(SETTINGS, class_map=ClassMap.of(["Glomerulus", "Crescent"]))
    with pytest.raises(InputError, match=r"class 'Crescent' .*found: 'Glomerulus'"):
        write_dataset(jobs, tmp_path / "data", settings)


@pytest.mark.parametrize("names", [("Glom", "Tubule"), ("Tubule", "Glomerulus")], ids=str)
def test_objects_are_counted_by_the_names_that_classes_have_now(jobs, make, tmp_path, names):
    """The same QuPath classes under the same indices; only what the settings call them is another."""
    marked = [replace(j, objects=(*j.objects, make.ball(90, 700, 700, cls="Tubule"))) for j in jobs]
    index_of = {"Glomerulus": 0, "Tubule": 1}
    before = replace(SETTINGS, class_map=ClassMap(("Glomerulus", "Tubule"), index_of))
    after = replace(SETTINGS, class_map=ClassMap(names, index_of))
    first = write_dataset(marked, tmp_path / "a", before)
    second = write_dataset(marked, tmp_path / "b", after, previous=first.folder)
    fresh = write_dataset(marked, tmp_path / "c", after)
    assert second.objects == fresh.objects
    assert files_in(second.folder) == files_in(fresh.folder)


def test_a_name_that_became_the_usual_one(jobs, tmp_path):
    """What versions cut whose keys knew no names: theirs is counted by the name of then."""
    class_map = ClassMap(("Glomerulus",), {"Glomerulus": 0})
    settings = replace(SETTINGS, class_map=class_map)
    first = write_dataset(jobs, tmp_path / "a", settings)
    for path in (first.folder / "slides").glob("*.json"):
        path.write_text(path.read_text("utf-8").replace('"Glomerulus"', '"Glom"'), "utf-8")
    again = write_dataset(jobs, tmp_path / "b", settings, previous=first.folder)
    assert again.cut == len(jobs)
    assert write_dataset(jobs, tmp_path / "c", settings, previous=again.folder).cut == 0


def test_no_job_and_jobs_given_twice(jobs, tmp_path):
    with pytest.raises(InputError, match="no image"):
        write_dataset([], tmp_path / "data", SETTINGS)
    with pytest.raises(InputError, match="twice: 1"):
        write_dataset([jobs[0], jobs[0]], tmp_path / "data", SETTINGS)
