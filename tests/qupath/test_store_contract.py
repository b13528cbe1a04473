"""What both stores must do, the same cases for each; and what they read must be equal.

paquo's cases need an installed QuPath (PAQUO_QUPATH_DIR).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from qupath_golden import OUTLINES, VERSIONS, an_object, new_id
from stores import BULK, by_id, bytes_of, readable, same, written

from glombridge.errors import (
    DamagedFileError,
    InputError,
    MachineError,
    ProtectedError,
)
from glombridge.objects import Color, ObjectKind, Outline, PathClass
from glombridge.qupath import (
    HierarchyEdit,
    NativeStore,
    PaquoStore,
    WriteReceipt,
)
from glombridge.qupath.paquo.store import Worker
from glombridge.qupath.stored_form import as_stored

Open = Callable[[Path], NativeStore]


KINDS = [
    pytest.param("native", id="native"),
    pytest.param("paquo", id="paquo", marks=pytest.mark.qupath),
]


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest) -> Open:
    if request.param == "native":
        return NativeStore.open
    shared = request.getfixturevalue("worker")

    def open_paquo(path: Path) -> PaquoStore:
        store = PaquoStore.open(path)
        store._running = shared
        return store

    return open_paquo


def test_an_image_without_objects_is_empty(opened: Open, project: Path) -> None:
    assert [opened(project).read(i).objects for i in (1, 2)] == [(), ()]


@pytest.mark.parametrize("image", [1, 2], ids=["with-data", "without-data"])
def test_a_write_can_be_put_on_record_before_it_happens(
    opened: Open, project: Path, image: int
) -> None:
    store = opened(project)
    before = store.stamp(image)
    told = []

    def ready(receipt: WriteReceipt) -> None:
        assert store.stamp(image) == before
        told.append(receipt)

    receipt = store.write(
        image,
        HierarchyEdit(add=(an_object(1),)),
        expected=before,
        snapshot_folder=project / "kept",
        ready=ready,
    )
    assert told == [receipt]
    assert store.stamp(image) == receipt.stamp


def test_a_write_that_cannot_be_put_on_record_does_not_happen(opened: Open, project: Path) -> None:
    store = opened(project)
    before = store.stamp(1)

    def ready(_: WriteReceipt) -> None:
        msg = "the record is on a full disk"
        raise MachineError(msg)

    with pytest.raises(MachineError, match="full disk"):
        store.write(
            1,
            HierarchyEdit(add=(an_object(1),)),
            expected=before,
            snapshot_folder=project / "kept",
            ready=ready,
        )
    assert store.stamp(1) == before
    assert list((project / "data" / "1").iterdir()) == [store.data_file(1)]


@pytest.mark.parametrize("kind", ["annotation", "detection", "tile", "cell"])
@pytest.mark.parametrize("image", [1, 2], ids=["with-data-file", "without-data-file"])
def test_every_outline_of_every_kind_comes_back(
    opened: Open, project: Path, kind: str, image: int
) -> None:
    nucleus = OUTLINES["ellipse"] if kind == "cell" else None
    added = tuple(
        an_object(
            f"{kind} {name}",
            kind=ObjectKind(kind),
            outline=outline,
            nucleus=nucleus,
            locked=name == "polygon",
            color=Color(9, 8, 7) if name == "line" else None,
            probability=0.75 if name == "points" else math.nan,
        )
        for name, outline in OUTLINES.items()
    )
    after = written(opened(project), HierarchyEdit(add=added), image)
    assert [same(a, as_stored(b)) for a, b in zip(after.objects, added, strict=True)] == [
        True for _ in added
    ]


def test_awkward_values_come_back(opened: Open, project: Path) -> None:
    names = ["Größe µm²", "中文", "\U0001f600", "a: b", "<&'\">"]
    obj = an_object(
        "name with\nline",
        path_class=PathClass(("Glomerulus", "Größe β", "中"), Color(1, 2, 3)),
        measurements=dict(zip(names, (math.nan, math.inf, -0.1, 1e-300, 0), strict=True)),
        metadata={n: n for n in names},
    )
    found = written(opened(project), HierarchyEdit(add=(obj,))).objects
    assert [same(found[0], as_stored(obj))] == [True]


def test_rectangles_keep_their_edges_to_the_last_bit(opened: Open, project: Path) -> None:
    edges = [
        (0.1 + i * 1234.567, 0.7 + i * 77.7, 50.3 + i * 1300.1, 60.9 + i * 80.3) for i in range(50)
    ]

    added = tuple(an_object(i, outline=Outline.rectangle(*e)) for i, e in enumerate(edges))
    found = written(opened(project), HierarchyEdit(add=added)).objects
    assert [o.outline.bounds for o in found if o.outline] == edges


def test_an_edge_that_no_width_reaches_is_kept_but_for_its_last_bit(
    opened: Open, project: Path
) -> None:
    edges = (221.97, 988.23, 510.33, 1315.4)
    assert all(edges[0] + w != edges[2] for w in (288.35999999999996, 288.36, 288.36000000000007))
    store = opened(project)
    outline = Outline.rectangle(*edges)
    (found,) = written(store, HierarchyEdit(add=(an_object(1, outline=outline),))).objects
    assert found.outline is not None
    assert found.outline.bounds == pytest.approx(edges, rel=4e-16)
    # Again, of an object that is changed.
    (again,) = written(
        store, HierarchyEdit(replace=(replace(found, outline=outline, name="again"),))
    ).objects
    assert again.outline is not None
    assert again.outline.bounds == pytest.approx(edges, rel=4e-16)


def test_different_objects_added_at_once_keep_each_their_own(opened: Open, project: Path) -> None:
    """What one object lacks, it does not get from the next; each keeps the order of its values."""
    parent = an_object("parent")
    added = (
        an_object("both", measurements={"a": 1.5, "b": 2.5}, metadata={"k": "1", "l": "2"}),
        an_object("turned", measurements={"b": 3.5, "a": 4.5}, metadata={"l": "3"}),
        parent,
        an_object("none", kind=ObjectKind.TILE, measurements={}, metadata={}, path_class=None),
        replace(an_object("l", parent=parent.id, locked=True), name=None),
        an_object("late", path_class=None, probability=0.5, outline=OUTLINES["holed"]),
        an_object("c", kind=ObjectKind.CELL, nucleus=OUTLINES["polygon"], color=Color(1, 2, 3)),
        an_object("d", kind=ObjectKind.CELL, nucleus=None, measurements={"c": 0.0}),
    )
    after = by_id(written(opened(project), HierarchyEdit(add=added)))
    assert len(after) == len(added)
    for obj in added:
        assert same(after[obj.id], as_stored(obj))
        assert list(after[obj.id].measurements) == list(obj.measurements)


def test_new_objects_keep_their_nesting(opened: Open, project: Path) -> None:
    top, child, leaf = an_object("top"), an_object("child"), an_object("leaf")
    child, leaf = replace(child, parent=top.id), replace(leaf, parent=child.id)
    # Given in any order.
    after = written(opened(project), HierarchyEdit(add=(leaf, child, top)))
    late = an_object("late", parent=child.id, kind=ObjectKind.DETECTION)
    after = written(opened(project), HierarchyEdit(add=(late,)))
    assert {o.name: o.parent for o in after.objects} == {
        "top": None,
        "child": top.id,
        "leaf": child.id,
        "late": child.id,
    }


def test_children_of_a_removed_object_move_up_into_its_place(opened: Open, project: Path) -> None:
    first, top, last = an_object("first"), an_object("top"), an_object("last")
    mid = an_object("mid", parent=top.id)
    leaves = [an_object(f"leaf {i}", parent=mid.id) for i in range(3)]
    written(opened(project), HierarchyEdit(add=(first, top, last, mid, *leaves)))
    after = written(
        opened(project), HierarchyEdit(remove=frozenset({top.id, mid.id, leaves[1].id}))
    )
    assert [(o.name, o.parent) for o in after.objects] == [
        ("first", None),
        ("leaf 0", None),
        ("leaf 2", None),
        ("last", None),
    ]


CHANGES = {
    "name": {"name": "other"},
    "no-name": {"name": None},
    "class": {"path_class": PathClass(("New", "One"), Color(5, 6, 7))},
    "no-class": {"path_class": None},
    "color": {"color": Color(1, 2, 3, 4)},
    "locked": {"locked": True},
    "measurements": {"measurements": {"z": 0.1, "a": math.nan}},
    "no-measurements": {"measurements": {}},
    "metadata": {"metadata": {"note": "human"}},
    "probability": {"probability": 0.25},
    "outline": {"outline": OUTLINES["holed"]},
    "box": {"outline": OUTLINES["ellipse"]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("kind", ["annotation", "detection"])
def test_a_replaced_object_changes_only_as_asked(
    opened: Open, project: Path, change: dict[str, object], kind: str
) -> None:
    obj = an_object(kind=ObjectKind(kind), color=Color(4, 4, 4))
    store = opened(project)
    before = written(store, HierarchyEdit(add=(obj, an_object("other"))))
    asked = replace(before.objects[0], **change)  # type: ignore[arg-type]
    after = written(store, HierarchyEdit(replace=(asked,)))
    assert same(after.objects[0], as_stored(asked))
    assert same(after.objects[1], before.objects[1])


def test_a_second_identical_write_changes_no_byte(opened: Open, project: Path) -> None:
    store = opened(project)
    obj = an_object(measurements={"x": 0.1}, kind=ObjectKind.DETECTION)
    before = written(store, HierarchyEdit(add=(obj,)))
    asked = replace(before.objects[0], name="b", measurements={"x": 0.3}, outline=OUTLINES["multi"])
    first = written(store, HierarchyEdit(replace=(asked,)))
    data = bytes_of(store)
    for again in (asked, first.objects[0]):
        receipt = store.write(
            1, HierarchyEdit(replace=(again,)), expected=first.stamp, snapshot_folder=project / "k"
        )
        assert (receipt.changed, receipt.snapshot, receipt.stamp) == (False, None, first.stamp)
    assert bytes_of(store) == data
    assert not (project / "k").exists()


def test_an_empty_edit_writes_nothing(opened: Open, golden: Callable[[str], Path]) -> None:
    store = opened(golden("v0.4.4"))
    data, stamp = bytes_of(store), store.stamp(1)
    receipt = store.write(1, HierarchyEdit(), expected=stamp, snapshot_folder=store.folder / "k")
    assert (receipt.changed, bytes_of(store), store.stamp(1)) == (False, data, stamp)


def test_the_replaced_file_is_kept(opened: Open, golden: Callable[[str], Path]) -> None:
    store = opened(golden("v0.4.4"))
    data, folder = bytes_of(store), store.folder / "kept"
    edit = HierarchyEdit(add=(an_object(),))
    receipt = store.write(1, edit, expected=store.read(1).stamp, snapshot_folder=folder)
    assert receipt.snapshot is not None
    assert receipt.snapshot.read_bytes() == data
    assert receipt.stamp == store.stamp(1)
    undone = store.restore(1, receipt.snapshot, expected=receipt.stamp, snapshot_folder=folder)
    assert undone.changed
    assert bytes_of(store) == data


def test_checking_writes_nothing(opened: Open, golden: Callable[[str], Path]) -> None:
    store = opened(golden("v0.4.4"))
    data, stamp = bytes_of(store), store.stamp(1)
    assert store.check(1, HierarchyEdit(add=(an_object(),)), expected=stamp)
    assert (bytes_of(store), store.stamp(1)) == (data, stamp)


def test_a_file_changed_since_it_was_read_is_refused(opened: Open, project: Path) -> None:
    store = opened(project)
    stamp = store.read(1).stamp
    written(NativeStore.open(project), HierarchyEdit(add=(an_object("by someone else"),)))
    data = bytes_of(store)
    with pytest.raises(ProtectedError, match="changed since it was read"):
        store.write(1, HierarchyEdit(add=(an_object(),)), expected=stamp, snapshot_folder=project)
    assert bytes_of(store) == data


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "instead"])
def test_a_bkp_file_is_refused(opened: Open, project: Path, beside: bool) -> None:
    store = opened(project)
    stamp, file = store.stamp(1), store.data_file(1)
    backup = file.with_name(file.name + ".bkp")
    if beside:
        shutil.copy(file, backup)
    else:
        file.rename(backup)
    with pytest.raises(ProtectedError, match=r"\.bkp"):
        store.read(1)
    with pytest.raises(ProtectedError, match=r"\.bkp"):
        store.write(1, HierarchyEdit(add=(an_object(),)), expected=stamp, snapshot_folder=project)
    assert file.exists() is beside


@pytest.mark.parametrize("keep", [0, 1, 4, 100, -7, -1], ids=lambda n: f"cut-at-{n}")
def test_a_damaged_file_is_refused_and_not_touched(
    opened: Open, golden: Callable[[str], Path], keep: int
) -> None:
    store = opened(golden("v0.4.4"))
    file = store.data_file(1)
    cut = file.read_bytes()[:keep]
    file.write_bytes(cut)
    with pytest.raises(DamagedFileError):
        store.read(1)
    edit = HierarchyEdit(add=(an_object(),))
    with pytest.raises(DamagedFileError):
        store.write(1, edit, expected=store.stamp(1), snapshot_folder=store.folder / "k")
    assert file.read_bytes() == cut


BAD = {
    "class-name": {"path_class": PathClass(("a", "b:c"))},
    "tma-core": {"kind": ObjectKind.TMA_CORE},
    "no-outline": {"outline": None},
    "unknown-parent": {"parent": new_id("nowhere")},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD.keys())
def test_what_qupath_could_not_read_back_is_refused(
    opened: Open, project: Path, fields: dict[str, object]
) -> None:
    store = opened(project)
    data, stamp = bytes_of(store), store.stamp(1)
    edit = HierarchyEdit(add=(an_object(**fields),))
    with pytest.raises((InputError, ProtectedError)):
        store.write(1, edit, expected=stamp, snapshot_folder=project / "k")
    assert bytes_of(store) == data


@pytest.mark.parametrize("image", [1, 2, 3])
@pytest.mark.parametrize("version", VERSIONS)
def test_golden_objects_survive_an_edit_of_their_image(
    opened: Open, golden: Callable[[str], Path], version: str, image: int
) -> None:
    """Planes, nesting, colours, locks, metadata, ids, cells with nuclei, TMA cores, tiles."""
    folder = golden(version)
    store = opened(folder)
    if isinstance(store, PaquoStore):
        readable(version)
    before = NativeStore.open(folder).read(image)
    assert all(map(same, store.read(image).objects, before.objects))
    assert len(store.read(image).objects) == len(before.objects)
    new = an_object(kind=ObjectKind.DETECTION)
    after = by_id(written(store, HierarchyEdit(add=(new,)), image))
    natively = by_id(NativeStore.open(folder).read(image))
    assert all(same(after[i], natively[i]) for i in after)
    assert len(after) == len(before.objects) + 1
    if version == "v0.3.2" and not isinstance(store, PaquoStore):
        return  # without stored ids, and natively left without
    for obj in before.objects:
        assert same(after[obj.id], replace(obj, id_is_stored=True))


@pytest.mark.qupath
@pytest.mark.parametrize("version", [*VERSIONS, BULK])
def test_both_stores_read_the_same(
    golden: Callable[[str], Path], worker: Worker, version: str
) -> None:
    readable(version)
    folder = golden(version)
    natively, through = NativeStore.open(folder), PaquoStore.open(folder)
    through._running = worker
    for entry in natively.images():
        ours, theirs = natively.read(entry.id), through.read(entry.id)
        assert all(map(same, ours.objects, theirs.objects))
        assert len(ours.objects) == len(theirs.objects)
        assert (ours.image_type, ours.stamp) == (theirs.image_type, theirs.stamp)
        assert ours.problems == theirs.problems
        assert ours.not_understood == theirs.not_understood
