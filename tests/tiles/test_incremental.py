"""Only what has changed is cut again, interrupted runs go on, and nothing of it changes a byte."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace

import pytest
from folders import files_in

from glombridge.errors import ProtectedError, UsageError
from glombridge.ledger import ProjectLock
from glombridge.tiles import drafts
from glombridge.tiles.grid import TileSpec
from glombridge.tiles.labels import ClassMap
from glombridge.tiles.records import read_records
from glombridge.tiles.writer import DatasetSettings, write_dataset

SETTINGS = DatasetSettings(ClassMap.of(["Glomerulus"]), TileSpec(400, 300, 1 / 3, 0.5))


@pytest.fixture
def jobs(make_job):
    return [make_job(1, part="train"), make_job(2, part="val"), make_job(3, part="test")]


def test_nothing_changed_nothing_written(jobs, tmp_path):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)
    again = write_dataset(jobs, tmp_path / "b", SETTINGS, previous=first.folder)
    assert (first.cut, again.cut) == (3, 0)
    assert again.folder == first.folder
    assert (again.tiles, again.objects) == (first.tiles, first.objects)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["a"]


def recalibrated(job, make_job):
    return replace(job, frame=replace(job.frame, mpp_x=0.51, mpp_y=0.51))


def repainted(job, make_job):
    path = job.slide_path.with_name("other.tif")
    shutil.copy(make_job(9).slide_path, path)
    return replace(job, slide_path=path)


CHANGES = [
    pytest.param(lambda job, make: replace(job, objects=job.objects[:1]), id="annotations"),
    pytest.param(lambda job, make: replace(job, patient="another"), id="patient"),
    pytest.param(lambda job, make: replace(job, stain="PAS"), id="stain"),
    pytest.param(recalibrated, id="pixel size"),
    pytest.param(repainted, id="pixels"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_only_the_slide_that_changed_is_cut_again(jobs, make_job, tmp_path, change):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)
    before = files_in(first.folder)
    changed = [jobs[0], change(jobs[1], make_job), jobs[2]]
    second = write_dataset(changed, tmp_path / "b", SETTINGS, previous=first.folder)
    assert second.cut == 1
    assert files_in(first.folder) == before
    fresh = write_dataset(changed, tmp_path / "c", SETTINGS)
    assert fresh.cut == 3
    assert files_in(second.folder) == files_in(fresh.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": TileSpec(400, 300, 0.5, 0.5)},
        {"spec": TileSpec(400, 300, 1 / 3, 0.6)},
        {"seed": 1},
        {"jpeg_quality": 80},
        {"background_ratio": 0.1},
        {"task": "segment"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_other_settings_cut_every_slide_again(jobs, tmp_path, changes):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)
    other = replace(SETTINGS, **changes)
    assert write_dataset(jobs, tmp_path / "b", other, previous=first.folder).cut == 3


def test_a_new_slide_is_all_that_is_cut(jobs, make_job, tmp_path):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)
    more = [*jobs, make_job(4, part="train")]
    assert write_dataset(more, tmp_path / "b", SETTINGS, previous=first.folder).cut == 1
    fewer = write_dataset(jobs[:2], tmp_path / "c", SETTINGS, previous=tmp_path / "b")
    assert fewer.cut == 0
    assert not [p for p in fewer.folder.rglob("*") if p.name.startswith("K3")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
    ],
    ids=["gone", "cut short"],
)
@pytest.mark.parametrize("what", ["images", "labels", "slides"])
def test_a_damaged_dataset_is_not_taken_over(jobs, tmp_path, spoil, what):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)
    victim = next(p for p in sorted((first.folder / what).rglob("K2*")) if p.stat().st_size)
    spoil(victim)
    second = write_dataset(jobs, tmp_path / "b", SETTINGS, previous=first.folder)
    assert second.cut == 1
    assert files_in(second.folder) == files_in(write_dataset(jobs, tmp_path / "c", SETTINGS).folder)


def test_where_the_disk_knows_no_links_files_are_copied(jobs, tmp_path, monkeypatch):
    first = write_dataset(jobs, tmp_path / "a", SETTINGS)

    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(drafts.os, "link", no_links)
    more = [replace(jobs[0], stain="PAS"), *jobs[1:]]
    second = write_dataset(more, tmp_path / "b", SETTINGS, previous=first.folder)
    assert second.cut == 1
    image = next((second.folder / "images" / "val").iterdir())
    assert image.stat().st_nlink == 1
    assert files_in(second.folder) == files_in(write_dataset(more, tmp_path / "c", SETTINGS).folder)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_number_of_workers_changes_no_byte(jobs, tmp_path, workers):
    one = write_dataset(jobs, tmp_path / "one", SETTINGS, workers=1)
    many = write_dataset(jobs, tmp_path / "many", SETTINGS, workers=workers)
    assert files_in(one.folder) == files_in(many.folder)


def test_no_worker_cuts_nothing(jobs, tmp_path):
    with pytest.raises(UsageError, match="1 or more workers, got 0"):
        write_dataset(jobs, tmp_path / "a", SETTINGS, workers=0)


# ---- interruptions


def test_an_interrupted_run_goes_on_where_it_stopped(jobs, tmp_path):
    def interrupt(progress):
        if progress.slide == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(jobs, tmp_path / "data", SETTINGS, workers=1, progress=interrupt)
    assert not (tmp_path / "data").exists()
    draft = tmp_path / ".data.partial"
    assert [r.image_name for r in read_records(draft)] == ["K1.tif", "K2.tif"]
    times = {p: p.stat().st_mtime_ns for p in (draft / "images").rglob("K[12]*")}
    seen = []
    result = write_dataset(jobs, tmp_path / "data", SETTINGS, progress=seen.append)
    assert result.cut == 1
    assert not draft.exists()
    assert {p.slide for p in seen if p.tile == p.tiles} == {1, 2, 3}
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "data" / "images").rglob("K[12]*")}
    assert kept == {p.name: t for p, t in times.items()}
    fresh = write_dataset(jobs, tmp_path / "fresh", SETTINGS)
    assert files_in(result.folder) == files_in(fresh.folder)


def test_other_annotations_after_an_interruption_are_the_ones_that_count(jobs, tmp_path):
    def interrupt(progress):
        if progress.slide == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(jobs, tmp_path / "data", SETTINGS, workers=1, progress=interrupt)
    changed = [replace(jobs[0], objects=jobs[0].objects[1:]), *jobs[1:]]
    result = write_dataset(changed, tmp_path / "data", SETTINGS)
    assert result.cut == 2
    fresh = write_dataset(changed, tmp_path / "fresh", SETTINGS)
    assert files_in(result.folder) == files_in(fresh.folder)


def _cut_until_killed(jobs, folder, records):
    """It kills itself: however fast the machine, two slides are finished, and nothing is published."""

    def kill(_):
        if len(list(records.glob("*.json"))) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    write_dataset(jobs, folder, SETTINGS, workers=1, progress=kill)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by signal")
def test_a_killed_run_is_never_half_published_and_goes_on(jobs, tmp_path):
    folder = tmp_path / "data"
    write_dataset(jobs[:1], folder, SETTINGS)
    before = files_in(folder)
    records = tmp_path / ".data.partial" / "slides"
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_cut_until_killed, args=(jobs, folder, records))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert files_in(folder) == before
    result = write_dataset(jobs, folder, SETTINGS)
    assert result.cut < 3
    fresh = write_dataset(jobs, tmp_path / "fresh", SETTINGS)
    assert files_in(folder) == files_in(fresh.folder)
    assert not list(tmp_path.glob(".*"))


def test_killed_between_the_two_renamings_the_old_dataset_comes_back(jobs, tmp_path):
    folder = tmp_path / "data"
    write_dataset(jobs[:1], folder, SETTINGS)
    before = files_in(folder)
    folder.rename(tmp_path / ".data.old")
    with drafts.claim_draft(folder):
        assert files_in(folder) == before
    assert not list(tmp_path.glob(".*"))


def test_two_processes_do_not_write_one_dataset(jobs, tmp_path):
    draft = tmp_path / ".data.partial"
    draft.mkdir()
    with ProjectLock(draft / "lock"), pytest.raises(ProtectedError, match="is held by process"):
        write_dataset(jobs, tmp_path / "data", SETTINGS)


def test_a_refusal_leaves_no_draft(jobs, make_job, tmp_path):
    twice = replace(jobs[1], slide_path=jobs[0].slide_path)
    with pytest.raises(ProtectedError, match="same slide file"):
        write_dataset([jobs[0], twice], tmp_path / "data", SETTINGS)
    assert not list(tmp_path.glob(".*"))


# ---- what describes a dataset


def test_hard_negatives_are_marked_and_every_tile_is_listed(jobs, make, tmp_path):
    job = replace(jobs[0], hard_negatives=(make.square(99, 1100, 250, 60),))
    result = write_dataset([job, *jobs[1:]], tmp_path / "data", SETTINGS)
    rows = (result.folder / "tiles.csv").read_text("utf-8").splitlines()
    assert rows[0].startswith("file,image,entry_id,patient,part,kind,labels,painted_share,x_px")
    files = {row.split(",")[0] for row in rows[1:]}
    assert files == {
        p.relative_to(result.folder).as_posix() for p in (result.folder / "images").rglob("*.jpg")
    }
    assert any(",hard_negative,0," in row for row in rows)
    manifest = json.loads(result.manifest.read_text("utf-8"))
    assert manifest["tile_kinds"]["train"]["hard_negative"] >= 1
    assert sum(manifest["tile_kinds"]["test"].values()) == manifest["tiles"]["test"]


def test_a_preview_is_drawn_per_slide_and_kept(jobs, tmp_path):
    import cv2

    first = write_dataset(jobs, tmp_path / "a", SETTINGS, previews=True)
    names = {p.name for p in (first.folder / "previews").iterdir()}
    assert names == {"K1.png", "K2.png", "K3.png"}
    picture = cv2.imread(str(first.folder / "previews" / "K1.png"))
    assert picture.shape[1] == 1600
    green = (picture == (60, 150, 0)).all(axis=2)
    assert green.sum() > 500
    again = write_dataset(jobs, tmp_path / "b", SETTINGS, previous=first.folder, previews=True)
    assert again.folder == first.folder
    plain = write_dataset(jobs, tmp_path / "c", SETTINGS)
    later = write_dataset(jobs, tmp_path / "d", SETTINGS, previous=plain.folder, previews=True)
    assert later.cut == 0
    assert files_in(later.folder) == files_in(first.folder)
