"""What goes wrong around the program: shares that fail, clocks, folders nobody may write, lost records.

docs/reliability.md lists every fault with the test that shows what becomes of it; these are the ones
that no other room shows.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from folders import files_in

from glombridge.cli import main
from glombridge.ledger import history as history_module
from glombridge.objects import PathClass
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.steps.history import history
from glombridge.steps.project import Project

ROOT = Path(__file__).parents[2]


def slide_of(project: Path) -> Path:
    """A slide with marks and proposals, so that both `tile` and `detect` look at it."""
    store = NativeStore.open(project)
    for entry in store.images():
        classes = {str(o.path_class) for o in store.read(entry.id).objects}
        if {"Glomerulus", "Glomerulus: Proposed"} <= classes:
            return project.parent / "slides" / entry.name
    msg = "no such slide"
    raise AssertionError(msg)


def typed(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def with_reads_of(slide: Path, fault: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command all of whose reads of one slide go wrong in a way that strace knows."""
    strace = ["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "-P", slide, "-e", "trace=read"]
    glombridge = [sys.executable, "-m", "glombridge", *arguments, "-q"]
    return typed(*strace, "-e", f"inject=read:{fault}", *glombridge)


@pytest.mark.strace
@pytest.mark.parametrize("first", [1, 20, 45, 60, 75, 90])
def test_a_share_that_vanishes_while_detecting(project: Path, tmp_path: Path, first: int) -> None:
    slide = slide_of(project)
    done = with_reads_of(
        slide, f"error=ESTALE:when={first}+", "detect", project, "--out", tmp_path / "out"
    )
    assert done.returncode in (0, 6), done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    images = {i["name"]: i["state"] for i in manifest["images"]}
    failed = [f["image"] for f in manifest["failed"]]
    if done.returncode == 0:
        # The last byte had been read before the share went.
        assert (images[slide.name], failed) == ("complete", [])
    else:
        assert images.get(slide.name, "failed") in ("partial", "failed")
        assert slide.name in done.stderr
        assert "Traceback" not in done.stderr
    others = {name: state for name, state in images.items() if name != slide.name}
    assert len(others) == 3
    assert set(others.values()) == {"complete"}


@pytest.mark.strace
def test_a_slow_share_changes_no_byte(project: Path, tmp_path: Path) -> None:
    slide = slide_of(project)
    assert main(["detect", str(project), "--out", str(tmp_path / "fast"), "-q"]) == 0
    done = with_reads_of(slide, "delay_enter=20000", "detect", project, "--out", tmp_path / "slow")
    assert done.returncode == 0, done.stderr
    fast, slow = files_in(tmp_path / "fast"), files_in(tmp_path / "slow")
    assert fast.pop("manifest.json")
    assert slow.pop("manifest.json")
    assert fast == slow


@pytest.mark.strace
def test_a_share_that_vanishes_while_tiling(project: Path, tmp_path: Path) -> None:
    slide = slide_of(project)
    anew = ("--size", "120x120")
    done = with_reads_of(
        slide, "error=ESTALE:when=20+", "tile", project, *anew, "--out", tmp_path / "dataset"
    )
    assert done.returncode == 6, done.stderr
    assert slide.name in done.stderr
    assert "Traceback" not in done.stderr
    assert slide.name not in tiled(tmp_path / "dataset")
    # The share is back: the slide that is missing is cut, as if nothing had been.
    assert main(["tile", str(project), *anew, "--out", str(tmp_path / "again"), "-q"]) == 0
    assert slide.name in tiled(tmp_path / "again")


def tiled(dataset: Path) -> set[str]:
    """Names of the images in a dataset."""
    return {
        json.loads(p.read_text("utf-8"))["image_name"] for p in (dataset / "slides").glob("*.json")
    }


def accept_one(project: Path, mtime: float | None = None) -> tuple[int, str]:
    """A human accepts a proposal and saves."""
    store = NativeStore.open(project)
    for entry in store.images():
        for obj in store.read(entry.id).objects:
            if str(obj.path_class) == "Glomerulus: Proposed":
                store.write(
                    entry.id,
                    HierarchyEdit(replace=(replace(obj, path_class=PathClass(("Glomerulus",))),)),
                    expected=store.stamp(entry.id),
                    snapshot_folder=project.parent / "kept-elsewhere",
                )
                if mtime is not None:
                    os.utime(store.data_file(entry.id), (mtime, mtime))
                return entry.id, str(obj.id)
    msg = "no proposal in the project"
    raise AssertionError(msg)


@pytest.mark.parametrize("year", [1999, 2099])
def test_a_clock_that_goes_backwards_or_ahead(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], year: int
) -> None:
    then = datetime(year, 1, 1, tzinfo=timezone.utc)
    monkeypatch.setattr(history_module, "utc_now", lambda: f"{year}-01-01T00:00:00Z")
    _, accepted = accept_one(project, then.timestamp())
    assert main(["pull", str(project), "-q"]) == 0
    steps = history(Project.open(project), accepted).steps
    # Proposed by the push, ranked by the queue, accepted by a human.
    assert [s.state.value for s in steps] == ["proposal", "proposal", "accepted"]
    # Writing, repeating and undoing go by the order of the record and by content, not by the clock.
    assert main(["push", str(project), "--min-confidence", "0.6", "-q"]) == 0
    before = files_in(project)
    assert main(["push", str(project), "--min-confidence", "0.6", "-q"]) == 0
    assert files_in(project) == before
    assert main(["undo", str(project), "-q"]) == 0
    capsys.readouterr()
    assert main(["status", str(project), "--json", "-q"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert sum(i["states"].get("accepted", 0) for i in status["images"]) == 1


def test_a_project_that_lost_its_record(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, accepted = accept_one(project)
    kept = tmp_path / "detect-001"
    shutil.copytree(project / "glombridge" / "detections" / "detect-001", kept)
    settings = (project / "glombridge" / "glombridge.toml").read_text("utf-8")
    shutil.rmtree(project / "glombridge")
    before = files_in(project / "data")
    (project / "glombridge").mkdir()
    (project / "glombridge" / "glombridge.toml").write_text(settings, "utf-8")
    # Nobody knows any more that the proposals are ours: they are left alone, and not doubled.
    assert main(["push", str(project), str(kept), "--include-test", "-q"]) == 0
    assert files_in(project / "data") == before
    capsys.readouterr()
    assert main(["pull", str(project), "--json", "-q"]) == 0
    images = {i["id"]: i for i in json.loads(capsys.readouterr().out)["images"]}
    store = NativeStore.open(project)
    truth = [o for o in store.read(image).objects if str(o.path_class).endswith("Glomerulus")]
    assert accepted in {str(o.id) for o in truth}
    assert images[image]["pending"] == sum(
        str(o.path_class) == "Glomerulus: Proposed" for o in store.read(image).objects
    )


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-m", "mount", "--bind", "/tmp", "/tmp"], check=False).returncode
        == 0
    )


def _bound() -> list[str] | None:
    """What to type before a command so that permissions bind it; ``None`` where nothing makes them."""
    if not hasattr(os, "geteuid"):
        return None
    if os.geteuid() != 0:
        return []
    drop = "--bounding-set=-dac_override,-dac_read_search"
    bound = ["setpriv", drop, "--inh-caps=-all"]
    works = shutil.which("setpriv") and typed(*bound, "true").returncode == 0
    return bound if works else None


@pytest.mark.skipif(_bound() is None, reason="permissions bind nobody here")
@pytest.mark.parametrize(("command", "code"), [("doctor", 3), ("pull", 6), ("grades", 6)])
def test_an_image_that_may_not_be_read_is_named(project: Path, command: str, code: int) -> None:
    folder = project / "data" / "1"
    options = ["--scheme", "lupus"] if command == "grades" else []
    folder.chmod(0)
    try:
        glombridge = [sys.executable, "-m", "glombridge", command, project, *options]
        done = typed(*(_bound() or []), *glombridge)
    finally:
        folder.chmod(0o755)
    assert done.returncode == code
    assert "(entry 1): data.qpdata of image 1" in done.stdout + done.stderr
    assert f"cannot look into {folder}: Permission denied" in done.stdout + done.stderr


@pytest.mark.skipif(not _can_mount(), reason="nothing may be mounted here")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(words, id=words[0])
        for words in (
            ("pull",),
            ("tile", "--size", "120x120"),
            ("train",),
            ("evaluate",),
            ("detect",),
            ("push", "--min-confidence", "0.6"),
            ("mark", "--searched", "P04-1_PAS.tif"),
            ("undo",),
            ("report",),
        )
    ],
)
def test_a_disk_that_is_read_only(project: Path, command: tuple[str, ...]) -> None:
    before = files_in(project)
    name, *options = command
    glombridge = [sys.executable, "-m", "glombridge", name, project, *options, "-q"]
    line = shlex.join(map(str, glombridge))
    folder = shlex.quote(str(project))
    read_only = (
        f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec {line}"
    )
    done = typed("unshare", "-m", "sh", "-c", read_only)
    assert done.returncode == 7, done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_in(project) == before
