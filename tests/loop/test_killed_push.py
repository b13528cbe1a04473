"""Pushes that are killed or meet: project and ledger agree after the next command, nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID, uuid5

import pusher
import pytest
from folders import files_in

from glombridge.ledger import Ledger, State, Workspace
from glombridge.ledger.writes import read_writes
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.qupath.stored_form import differences
from glombridge.settings import Settings
from glombridge.steps.project import Project
from glombridge.steps.pull import pull
from glombridge.steps.undo import undo

HERE = Path(__file__).parent
SPACE = UUID("22222222-2222-5333-8444-555555555555")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="fork, SIGKILL and SIGSTOP")
KILLS = 20


def drawn(image: int) -> SlideObject:
    return SlideObject(
        id=uuid5(SPACE, str(image)),
        kind=ObjectKind.ANNOTATION,
        outline=Outline.ellipse(0, 1000.0 * image, 290, 1000.0 * image + 300),
        path_class=PathClass(("Glomerulus",)),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with human marks, and one push already in it."""
    store = NativeStore.create(tmp_path / "project")
    Workspace(store.folder).create(Settings())
    size = pusher.SIZE
    for image in range(1, pusher.IMAGES + 1):
        info = ImageServerInfo(width=size, height=size, mpp_x=0.5, mpp_y=0.5)
        store.add_image(tmp_path / f"{image}.tif", metadata=info)
        store.write(
            image,
            HierarchyEdit(add=(drawn(image),)),
            expected=store.stamp(image),
            snapshot_folder=tmp_path / "elsewhere",
        )
    pusher.run_push(store.folder, "detect-001")
    return store.folder


def contents(folder: Path) -> dict[int, dict[UUID, SlideObject]]:
    store = NativeStore.open(folder)
    return {e.id: {o.id: o for o in store.read(e.id).objects} for e in store.images()}


def data_files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*.qpdata"))
        if "glombridge" not in p.parts
    }


def same(a: dict[int, dict[UUID, SlideObject]], b: dict[int, dict[UUID, SlideObject]]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].keys() == b[k].keys() and not any(differences(o, b[k][i]) for i, o in a[k].items())
        for k in a
    )


def agree(folder: Path) -> None:
    """What the ledger says is in the project is there, and the other way round."""
    there = contents(folder)
    with Ledger.open(folder / "glombridge") as ledger:
        assert ledger.open_writes() == []
        for image, objects in there.items():
            base = {b.id: b for b in ledger.base(image)}
            ours = {i for i, o in objects.items() if "glombridge.run" in o.metadata}
            assert ours == {i for i, b in base.items() if b.state is State.PROPOSAL}
            for i in ours:
                assert not differences(objects[i], base[i].object)


@POSIX
def test_killed_at_random_moments(folder: Path, tmp_path: Path) -> None:
    before = data_files(folder)
    command = [sys.executable, str(HERE / "pusher.py"), str(folder), "detect-002", "kill"]
    done = subprocess.run(
        [*command, str(tmp_path), str(KILLS), "7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    moments = json.loads(done.stdout)
    assert len(moments) == KILLS
    assert [m for m in moments if m["code"] != -signal.SIGKILL] == []
    pusher.run_push(folder, "detect-002")
    expected = contents(folder)
    stages = set()
    for k, moment in enumerate(moments):
        killed = tmp_path / str(k)
        now = data_files(killed)
        stages.add(sum(now[name] != data for name, data in before.items()))
        for image, objects in contents(killed).items():
            assert not differences(objects[drawn(image).id], drawn(image)), moment
        # The next command may be any: a pull settles what was begun.
        if k % 2:
            assert pull(Project.open(killed)).decisions == {}, "no human did anything"
            agree(killed)
        pusher.run_push(killed, "detect-002")
        assert same(contents(killed), expected), moment
        agree(killed)
        after = files_in(killed)
        assert pusher.run_push(killed, "detect-002").write is None
        assert files_in(killed) == after
        assert not list(killed.rglob("*.tmp"))
        # And everything that was written can be taken back.
        project = Project.open(killed)
        with Ledger.open(killed / "glombridge") as ledger:
            writes = [w.id for w in read_writes(ledger) if w.run == "detect-002"]
        assert 1 <= len(writes) <= 2
        for write in reversed(writes):
            undo(project, write)
        assert data_files(killed) == before, moment
    # The moments were not all before the first file or after the last.
    assert len(stages) >= 3


def test_of_two_pushes_one_wins_and_one_is_refused(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "pusher.py"), str(folder)]
    pause = tmp_path / "pause"
    first = subprocess.Popen([*command, "detect-002", "pause", str(pause)])
    deadline = time.monotonic() + 120
    while not pause.exists():
        assert first.poll() is None, "it was done without a pause"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = subprocess.run([*command, "detect-003"], capture_output=True, text=True, check=False)
    pause.unlink()
    assert second.returncode == 4
    assert f"process {first.pid} on this host" in second.stderr
    assert first.wait() == 0
    agree(folder)
    there = contents(folder)
    runs = {
        o.metadata.get("glombridge.run") for objects in there.values() for o in objects.values()
    }
    assert runs == {None, "detect-002"}
    for image, objects in there.items():
        assert not differences(objects[drawn(image).id], drawn(image))
    # The one that was refused loses nothing by trying again.
    assert subprocess.run([*command, "detect-003"], check=False).returncode == 0
    agree(folder)


def test_a_human_who_saves_after_the_kill_loses_nothing(folder: Path, tmp_path: Path) -> None:
    """Announced, put in place, not confirmed, and then changed in QuPath."""
    history = folder / "glombridge" / "history.jsonl"
    pusher.run_push(folder, "detect-002")
    lines = history.read_text("utf-8").splitlines(keepends=True)
    last = max(k for k, line in enumerate(lines) if '"write-done"' in line)
    history.write_text("".join(lines[:last]), "utf-8")
    store = NativeStore.open(folder)
    image = json.loads(lines[last])["image"]
    objects = contents(folder)[image]
    proposal = next(o for o in objects.values() if o.metadata.get("glombridge.run") == "detect-002")
    accepted = SlideObject(**{**proposal.__dict__, "path_class": PathClass(("Glomerulus",))})
    store.write(
        image,
        HierarchyEdit(replace=(accepted,)),
        expected=store.stamp(image),
        snapshot_folder=tmp_path / "elsewhere",
    )
    result = pull(Project.open(folder))
    (found,) = result.decisions[image]
    assert (found.id, found.after) == (proposal.id, State.ACCEPTED)
    before = data_files(folder)
    pusher.run_push(folder, "detect-002")
    assert data_files(folder) == before


def test_a_write_that_was_announced_and_never_happened_is_forgotten(
    folder: Path, tmp_path: Path
) -> None:
    history = folder / "glombridge" / "history.jsonl"
    before = data_files(folder)
    expected = pusher.run_push(folder, "detect-002").plans
    lines = history.read_text("utf-8").splitlines(keepends=True)
    first = min(k for k, x in enumerate(lines) if '"write-begun"' in x and '"detect-002"' in x)
    history.write_text("".join(lines[: first + 1]), "utf-8")
    for name, data in before.items():
        (folder / name).write_bytes(data)
    assert pull(Project.open(folder)).decisions == {}
    agree(folder)
    again = pusher.run_push(folder, "detect-002").plans
    assert [p.plan for p in again] == [p.plan for p in expected]
