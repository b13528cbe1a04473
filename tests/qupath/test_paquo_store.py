"""The store that works through a QuPath: its worker, its colours, its proof.

Most need an installed QuPath (PAQUO_QUPATH_DIR); a few at the end need none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from qupath_golden import an_object, golden_bytes
from stores import bytes_of, written

from glombridge.errors import (
    DamagedFileError,
    MachineError,
    MissingComponentError,
    ProtectedError,
)
from glombridge.objects import Color, PathClass
from glombridge.qupath import (
    HierarchyEdit,
    PaquoStore,
    open_store,
)
from glombridge.qupath.editing import FileEditor
from glombridge.qupath.paquo.proof import Proof
from glombridge.qupath.paquo.store import Worker
from glombridge.qupath.paquo.worker import QuPathFailedError


@pytest.mark.qupath
def test_ids_that_no_file_holds_do_not_change_between_readings(
    golden: Callable[[str], Path], worker: Worker
) -> None:
    store = PaquoStore.open(golden("v0.3.2"))
    store._running = worker
    first, second = store.read(1), store.read(1)
    assert [o.id for o in first.objects] == [o.id for o in second.objects]
    assert not any(o.id_is_stored for o in first.objects)


@pytest.mark.qupath
def test_the_project_decides_the_colour_of_a_class(project: Path, worker: Worker) -> None:
    store = PaquoStore.open(project)
    store._running = worker
    obj = an_object(path_class=PathClass(("Only here",), Color(1, 1, 1)))
    first = written(store, HierarchyEdit(add=(obj,)))
    store.add_classes([PathClass(("Only here",), Color(2, 2, 2))])
    second = store.read(1)
    colors = [c.objects[0].path_class.color for c in (first, second) if c.objects[0].path_class]
    assert colors == [Color(1, 1, 1), Color(2, 2, 2)]


@pytest.mark.qupath
def test_a_project_of_a_newer_qupath_is_refused(project: Path) -> None:
    file = project / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**document, "version": "99.1.0"}), "utf-8")
    with PaquoStore.open(project) as store, pytest.raises(ProtectedError, match=r"99\.1\.0"):
        store.read(1)


@pytest.mark.qupath
def test_a_worker_that_dies_is_an_error_and_the_next_call_starts_another(project: Path) -> None:
    with PaquoStore.open(project) as store:
        written(store, HierarchyEdit(add=(an_object(),)))
        data = bytes_of(store)
        assert store._running is not None
        os.kill(store._running.process_id or 0, signal.SIGKILL)
        with pytest.raises(MachineError, match="has ended"):
            store.write(
                1,
                HierarchyEdit(add=(an_object("two"),)),
                expected=store.stamp(1),
                snapshot_folder=project / "k",
            )
        assert bytes_of(store) == data
        assert len(store.read(1).objects) == 1


@pytest.mark.qupath
def test_an_answer_nobody_waited_for_is_not_taken_for_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Worker) -> None:
        raise KeyboardInterrupt

    with PaquoStore.open(project) as store:
        written(store, HierarchyEdit(add=(an_object(),)), image=2)
        with monkeypatch.context() as patch:
            patch.setattr(Worker, "_receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.read(2)
        assert store.read(1).objects == ()
        assert len(store.read(2).objects) == 1


@pytest.mark.qupath
def test_no_jvm_in_this_process(project: Path, worker: Worker) -> None:
    store = PaquoStore.open(project)
    store._running = worker
    written(store, HierarchyEdit(add=(an_object(),)))
    jpype = sys.modules.get("jpype")
    assert jpype is None or not jpype.isJVMStarted()
    assert "paquo.java" not in sys.modules


def test_no_qupath_is_said_and_not_taken_for_an_empty_image(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path))
    with PaquoStore.open(project) as store, pytest.raises(MissingComponentError, match="native"):
        store.read(1)
    with pytest.raises(MissingComponentError, match="PAQUO_QUPATH_DIR"):
        open_store(project, "paquo")


def test_qupath_failing_writes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PaquoStore.open(project)

    def fail(self: PaquoStore, request: object) -> None:
        msg = "java.lang.OutOfMemoryError"
        raise QuPathFailedError(msg)

    monkeypatch.setattr(PaquoStore, "_ask", fail)
    data, stamp = bytes_of(store), store.stamp(1)
    with pytest.raises(ProtectedError, match="OutOfMemoryError"):
        store.write(1, HierarchyEdit(add=(an_object(),)), expected=stamp, snapshot_folder=project)
    with pytest.raises(DamagedFileError, match="OutOfMemoryError"):
        store.read(1)
    assert bytes_of(store) == data


def test_the_proof_takes_a_right_file_and_refuses_a_wrong_one() -> None:
    original = golden_bytes("v0.4.4")

    def edited(edit: HierarchyEdit) -> tuple[Proof, bytes]:
        editor = FileEditor(original, "file", "s", {})
        data = editor.apply(edit)
        return Proof(editor), data

    one, other = an_object("one"), an_object("other")
    proof, right = edited(HierarchyEdit(add=(one,)))
    proof.check(right)
    victim = FileEditor(original, "file", "s", {}).found[0].id
    wrong = {  # what it is wrong in
        "nothing added": original,
        "something else added": edited(HierarchyEdit(add=(other,)))[1],
        "changed": edited(HierarchyEdit(add=(replace(one, name="x"),)))[1],
        "under another": edited(HierarchyEdit(add=(replace(one, parent=victim),)))[1],
        "lost another": edited(HierarchyEdit(add=(one,), remove=frozenset({victim})))[1],
        "another image": golden_bytes("v0.4.4", 2),
        "cut": right[:-9],
    }
    for data in wrong.values():
        with pytest.raises(ProtectedError, match="was not changed"):
            proof.check(data)
