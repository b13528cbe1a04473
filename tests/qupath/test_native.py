import dataclasses
import errno
import os
import shutil
from pathlib import Path

import pytest
from qupath_golden import GOLDEN, VERSIONS, an_object, new_id

from glombridge.errors import DamagedFileError, InputError, MachineError, ProtectedError, UsageError
from glombridge.objects import Color, PathClass
from glombridge.qupath import (
    FileStamp,
    HierarchyEdit,
    ImageServerInfo,
    NativeStore,
    ProjectStore,
)
from glombridge.qupath.stored_form import differences


@pytest.fixture(params=["v0.6.0"])
def store(tmp_path, request):
    shutil.copytree(GOLDEN / request.param, tmp_path / "p")
    return NativeStore.open(tmp_path / "p")


all_versions = pytest.mark.parametrize("store", VERSIONS, indirect=True)


def same_objects(found, expected):
    """Equality that takes NaN as equal to NaN."""
    return [o.id for o in found] == [o.id for o in expected] and not any(
        differences(a, b) or a.parent != b.parent for a, b in zip(found, expected, strict=True)
    )


def state(store):
    """Every file of the project, name to bytes and time."""
    return {
        p.relative_to(store.folder): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in store.folder.rglob("*")
        if p.is_file()
    }


def test_it_is_a_project_store(store):
    protocol: ProjectStore = store
    assert protocol.project_file.name == "project.qpproj"
    assert protocol.folder == protocol.project_file.parent
    assert protocol.qupath_version == "0.6.0"
    assert [image.id for image in protocol.images()] == [1, 2, 3]


@all_versions
def test_write_read_and_undo(store, tmp_path):
    before = state(store)
    contents = store.read(1)
    edit = HierarchyEdit(add=(an_object(),))
    assert store.check(1, edit, expected=contents.stamp)
    assert state(store) == before
    receipt = store.write(1, edit, expected=contents.stamp, snapshot_folder=tmp_path / "kept")
    assert receipt.changed
    assert "1" in receipt.snapshot.name
    after = store.read(1)
    assert after.stamp == receipt.stamp == store.stamp(1)
    assert [o.id for o in after.objects if o.id_is_stored][-1] == an_object().id
    changed = {name for name, value in state(store).items() if before[name] != value}
    assert changed == {Path("data/1/data.qpdata")}
    data = store.data_file(1).read_bytes()
    assert receipt.snapshot.read_bytes() == before[Path("data/1/data.qpdata")][0]

    undone = store.restore(
        1, receipt.snapshot, expected=receipt.stamp, snapshot_folder=tmp_path / "kept"
    )
    assert same_objects(store.read(1).objects, contents.objects)
    assert store.data_file(1).read_bytes() == before[Path("data/1/data.qpdata")][0]
    assert undone.snapshot.read_bytes() == data


@all_versions
def test_edit_without_effect_writes_nothing(store, tmp_path):
    before = state(store)
    contents = store.read(1)
    for edit in (HierarchyEdit(), HierarchyEdit(replace=contents.objects)):
        assert not store.check(1, edit, expected=contents.stamp)
        receipt = store.write(1, edit, expected=contents.stamp, snapshot_folder=tmp_path / "kept")
        assert not receipt.changed
        assert receipt.stamp == contents.stamp
        assert receipt.snapshot is None
    assert state(store) == before
    assert not (tmp_path / "kept").exists()


@all_versions
def test_image_without_data_gets_a_file(store, tmp_path):
    contents = store.read(3)
    assert contents.stamp == FileStamp(0, 0, "")
    edit = HierarchyEdit(add=(an_object(),))
    receipt = store.write(3, edit, expected=contents.stamp, snapshot_folder=tmp_path / "kept")
    assert receipt.changed
    assert receipt.snapshot is None
    after = store.read(3)
    assert [o.id for o in after.objects] == [an_object().id]
    assert after.image_type == "UNSET"
    assert store.entry(3).has_data


def test_project_colours_win(store, tmp_path):
    red = PathClass(("Glomerulus", "Proposed"), Color(255, 0, 0))
    store.add_classes([red])
    edit = HierarchyEdit(add=(an_object(),))
    store.write(1, edit, expected=store.stamp(1), snapshot_folder=tmp_path / "kept")
    assert store.read(1).objects[-1].path_class.color == red.color
    assert [str(c) for c in store.classes()][-1] == "Glomerulus: Proposed"


def test_new_class_levels_take_the_project_colours(store, tmp_path):
    edit = HierarchyEdit(add=(an_object(path_class=PathClass(("Ignore*", "x"))),))
    store.write(2, edit, expected=store.stamp(2), snapshot_folder=tmp_path / "kept")
    (store.folder / "classifiers" / "classes.json").unlink()
    assert store.read(2).objects[-1].path_class.color == Color(64, 64, 64)


def test_stale_stamp_is_refused(store, tmp_path):
    stamp = store.stamp(1)
    os.utime(store.data_file(1), ns=(5, 5))
    before = state(store)
    with pytest.raises(ProtectedError, match="changed since"):
        store.write(
            1, HierarchyEdit(add=(an_object(),)), expected=stamp, snapshot_folder=tmp_path / "kept"
        )
    assert state(store) == before


@pytest.mark.parametrize("missing", [False, True], ids=["beside", "alone"])
def test_backup_of_a_save_in_progress_is_refused(store, tmp_path, missing):
    stamp = store.stamp(1)
    file = store.data_file(1)
    backup = file.with_name("data.qpdata.bkp")
    shutil.copy(file, backup)
    if missing:
        file.unlink()
    with pytest.raises(ProtectedError, match="bkp"):
        store.read(1)
    with pytest.raises(ProtectedError, match="bkp"):
        store.write(
            1, HierarchyEdit(add=(an_object(),)), expected=stamp, snapshot_folder=tmp_path / "kept"
        )


@pytest.mark.parametrize("cut", [0, 3, 100, 5000, -1, -20])
def test_cut_file_is_damaged_and_stays(store, tmp_path, cut):
    file = store.data_file(1)
    file.write_bytes(file.read_bytes()[:cut] if cut else b"")
    before = state(store)
    with pytest.raises(DamagedFileError, match="image 1"):
        store.read(1)
    with pytest.raises(DamagedFileError, match="kidney_a"):
        store.write(
            1,
            HierarchyEdit(add=(an_object(),)),
            expected=store.stamp(1),
            snapshot_folder=tmp_path / "kept",
        )
    assert state(store) == before


@pytest.mark.parametrize("step", ["replace", "fsync"])
@pytest.mark.parametrize("image", [1, 3])
def test_full_disk_changes_nothing(store, tmp_path, monkeypatch, step, image):
    before = state(store)
    stamp = store.stamp(image)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(MachineError, match="No space left"):
        store.write(
            image,
            HierarchyEdit(add=(an_object(),)),
            expected=stamp,
            snapshot_folder=tmp_path / "kept",
        )
    monkeypatch.undo()
    assert state(store) == before


def test_bad_object_changes_nothing(store, tmp_path):
    before = state(store)
    bad = an_object(path_class=PathClass(("a", "")))
    with pytest.raises(InputError):
        store.write(
            1, HierarchyEdit(add=(bad,)), expected=store.stamp(1), snapshot_folder=tmp_path / "kept"
        )
    assert state(store) == before


def test_problem_names_the_object(store):
    file = store.data_file(1)
    data = file.read_bytes()
    # The type of one field of the Ellipse proxy's class name: a class nobody knows.
    file.write_bytes(data.replace(b"EllipseROI$Ser", b"EllipsxROI$Ser"))
    contents = store.read(1)
    assert len(contents.problems) == 4
    assert all("EllipsxROI" in problem for problem in contents.problems)
    assert len(contents.objects) == 22


def test_new_project_from_nothing(tmp_path):
    store = NativeStore.create(tmp_path / "new")
    entry = store.add_image(
        tmp_path / "a b.svs",
        name="A",
        metadata=ImageServerInfo(1000, 800, 0.25, 0.25),
        image_metadata={"case": "K1"},
        tags=("t",),
    )
    assert (entry.id, entry.name, entry.width, entry.mpp_x, entry.has_data) == (
        1,
        "A",
        1000,
        0.25,
        True,
    )
    contents = store.read(1)
    assert (contents.objects, contents.image_type) == ((), "BRIGHTFIELD_OTHER")
    objects = (an_object("p"), an_object("c", parent=new_id("p")))
    store.write(
        1, HierarchyEdit(add=objects), expected=contents.stamp, snapshot_folder=tmp_path / "kept"
    )
    assert [o.id for o in store.read(1).objects] == [o.id for o in objects]
    assert store.slide_path(entry) is None
    (tmp_path / "a b.svs").write_bytes(b"x")
    assert store.slide_path(entry) == tmp_path / "a b.svs"
    store.set_image_metadata(1, {"case": None, "glombridge.searched": "true"})
    assert dict(store.entry(1).metadata) == {"glombridge.searched": "true"}
    bare = store.add_image(tmp_path / "b.svs", image_type=None)
    assert (bare.id, bare.has_data) == (2, False)


def test_bad_image_type_adds_nothing(store):
    before = state(store)
    with pytest.raises(UsageError):
        store.add_image(Path("x.svs"), image_type="HE")
    assert state(store) == before


def test_restore_refuses_what_cannot_be_read(store, tmp_path):
    bad = tmp_path / "bad"
    with pytest.raises(InputError, match="no kept copy"):
        store.restore(1, bad, expected=store.stamp(1), snapshot_folder=tmp_path / "kept")
    bad.write_bytes(b"x")
    with pytest.raises(DamagedFileError):
        store.restore(1, bad, expected=store.stamp(1), snapshot_folder=tmp_path / "kept")


def test_replace_is_by_id(store, tmp_path):
    contents = store.read(2)
    renamed = dataclasses.replace(contents.objects[0], name="other")
    store.write(
        2,
        HierarchyEdit(replace=(renamed,)),
        expected=contents.stamp,
        snapshot_folder=tmp_path / "kept",
    )
    after = store.read(2).objects
    assert after[0].name == "other"
    assert same_objects(after[1:], contents.objects[1:])
