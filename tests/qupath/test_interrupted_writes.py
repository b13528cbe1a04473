"""A write that ends at any point leaves complete files, and the next one succeeds and tidies up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from qupath_golden import an_object, objects_of, parsed

from glombridge.qupath import HierarchyEdit, NativeStore, create_project
from glombridge.qupath.leftovers import (
    remove_leftovers,
    remove_leftovers_of,
    temporary_name,
)

HERE = Path(__file__).parent
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Two images: one with objects, one without a data file."""
    folder = tmp_path_factory.mktemp("interrupted") / "project"
    store = NativeStore(create_project(folder).path)
    first = store.add_image(folder / "a.svs")
    store.add_image(folder / "b.svs", image_type=None)
    store.write(
        first.id,
        HierarchyEdit(add=tuple(an_object(k) for k in range(5))),
        expected=store.stamp(first.id),
        snapshot_folder=folder / "first",
    )
    return folder


def data_files(folder: Path) -> dict[int, bytes]:
    paths = {k: folder / "data" / str(k) / "data.qpdata" for k in (1, 2)}
    return {k: path.read_bytes() for k, path in paths.items() if path.exists()}


def is_complete(image: int, data: bytes, old: dict[int, bytes], new: dict[int, bytes]) -> bool:
    """Whether it is the old file or the new one. A file made anew holds the time it was made."""
    if image == 1:
        return data in (old[1], new[1])
    return [o.id for o in objects_of(data)] == [o.id for o in objects_of(new[image])]


def is_written(found: dict[int, bytes], new: dict[int, bytes]) -> bool:
    return found.keys() == new.keys() and found[1] == new[1] and is_complete(2, found[2], {}, new)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def interrupted(project: Path, out: Path, mode: str) -> list[dict]:
    command = [sys.executable, str(HERE / "interrupted_writer.py"), str(project), str(out), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@POSIX
@pytest.mark.parametrize("mode", ["kill", "cut", "full", "denied"])
def test_write_interrupted_at_every_step(project, tmp_path, mode):
    outcomes = interrupted(project, tmp_path, mode)
    old, new = data_files(project), data_files(tmp_path / "0")
    assert set(old) == {1}
    assert set(new) == {1, 2}
    names = {outcome["step"].split(" ")[0] for outcome in outcomes}
    if mode == "cut":
        assert len(outcomes) > 10
    else:
        # Nothing that could go wrong went unwatched.
        assert names >= {"open", "os.rename", "fsync", "os.scandir", "os.mkdir"}
        assert len(outcomes) > 25
    assert outcomes[-1]["code"] == 0
    left = 0
    for number, outcome in enumerate(outcomes, 1):
        folder = tmp_path / str(number)
        found = data_files(folder)
        assert found.keys() - {1} <= {2}
        # What was said to be written is; what was refused is as it was.
        assert 1 not in outcome["done"] or found[1] == new[1], (number, outcome)
        assert 2 not in outcome["done"] or 2 in found, (number, outcome)
        if outcome["code"] == 10:
            assert 1 in outcome["done"] or found == old, (number, outcome)
            assert 2 in outcome["done"] or 2 not in found, (number, outcome)
        for image, data in found.items():
            assert is_complete(image, data, old, new), (number, outcome)
        assert 1 in found, (number, outcome)
        for copy in (folder / "kept").glob("[!.]*"):
            assert copy.read_bytes() == old[1]
        if mode in ("kill", "cut"):
            assert outcome["code"] < 0 or outcome is outcomes[-1]
        else:
            # An error that is no matter (tidying, syncing a folder) is none; others are clean.
            assert outcome["code"] in (0, 10), outcome
            assert outcome["code"] == 0 or "unchanged" in outcome["error"]
            assert outcome["code"] == 10 or is_written(found, new)
            assert not temporaries(folder) or outcome["step"].startswith("os.remove")
        left += bool(temporaries(folder))
    assert left > 3 or mode in ("full", "denied")


@POSIX
def test_next_write_succeeds_and_removes_what_a_killed_one_left(project, tmp_path):
    outcomes = interrupted(project, tmp_path, "kill")
    new = data_files(tmp_path / "0")
    code = "import sys, pathlib, interrupted_writer as w\nfor f in sys.argv[1:]: list(w.write(pathlib.Path(f)))"
    retried = []
    for number in range(1, len(outcomes)):
        folder = tmp_path / str(number)
        if data_files(folder) == {1: data_files(project)[1]}:  # nothing was written yet
            retried.append(folder)
    assert len(retried) > 10
    assert any(temporaries(folder) for folder in retried)
    strangers = [".data.qpdata.tmp", ".data.qpdata.0123456789abcdef.tmp", "data.qpdata.1.tmp"]
    for folder in retried:
        for name in strangers:
            (folder / "data" / "1" / name).write_bytes(b"not ours")
    command = [sys.executable, "-c", code, *map(str, retried)]
    subprocess.run(command, check=True, cwd=HERE, timeout=300)
    for folder in retried:
        assert is_written(data_files(folder), new)
        assert sorted(path.name for path in temporaries(folder)) == sorted(strangers)
        assert [copy.read_bytes() for copy in (folder / "kept").iterdir()].count(
            data_files(project)[1]
        ) >= 1
        parsed(data_files(folder)[1])


def test_only_leftovers_of_dead_processes_of_this_host_are_removed(tmp_path):
    ours = temporary_name("data.qpdata")
    host, pid, start, end = ours.removeprefix(".data.qpdata.").split("-")
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    dead = ended.stdout.strip()
    kept = [
        ours,  # being written
        f".data.qpdata.{'0' * 12}-{dead}-{start}-{end}",  # of another host
        "data.qpdata",
        f"data.qpdata.{host}-{dead}-{start}-{end}",
        f".data.qpdata.{host}-{dead}-{start}-{end}.bak",
        f".data.qpdata.{host}-{pid}-0-{end}",  # whose start is not known
    ]
    removed = [
        f".data.qpdata.{host}-{dead}-{start}-{end}",
        f".project.qpproj.{host}-{dead}-{start}-{end}",
        f".data.qpdata.{host}-{pid}-{int(start) - 60}-{end}",  # the number was given out again
    ]
    for name in kept + removed:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f".data.qpdata.{host}-{dead}-{start}-00000000.tmp").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted(kept)
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1
    remove_leftovers(tmp_path / "missing")


def test_of_folders_only_those_of_the_very_one_are_removed(tmp_path):
    ours = temporary_name("copy")
    host, pid, start, end = ours.removeprefix(".copy.").split("-")
    dead = f"{host}-{pid}-{int(start) - 60}-{end}"
    kept = ["copy", ours, f".other.{dead}", f".copy.{'0' * 12}-{pid}-1-{end}", f"copy.{dead}"]
    for name in [*kept, f".copy.{dead}"]:
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "file").write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f".copy.{dead.replace(end, '00000000.tmp')}").symlink_to(tmp_path / "elsewhere")
    remove_leftovers_of(tmp_path / "copy")
    left = [p.name for p in tmp_path.iterdir() if not p.is_symlink()]
    assert sorted(left) == sorted([*kept, "elsewhere"])
    assert all((tmp_path / name / "data" / "file").is_file() for name in kept)
    remove_leftovers_of(tmp_path / "missing" / "copy")


def test_folder_with_many_files_is_looked_at_once(tmp_path):
    host, _, start, end = temporary_name("a").removeprefix(".a.").split("-")
    remove_leftovers(tmp_path, once=True)
    late = tmp_path / f".a.{host}-{2**22 + 1}-{start}-{end}"
    late.write_bytes(b"")
    remove_leftovers(tmp_path, once=True)
    assert late.exists()
    remove_leftovers(tmp_path)
    assert not late.exists()
