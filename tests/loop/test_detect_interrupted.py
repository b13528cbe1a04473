"""A ``detect`` that was killed, stopped or is run twice: what is kept, and what is done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from caught import Started, caught
from detecting import contents, detected, entries_of, slides_of
from folders import files_in
from typed import run

from glombridge.detection.raw import SlideDetections
from glombridge.errors import MachineError
from glombridge.qupath.leftovers import temporary_name
from glombridge.steps.detect_run import DetectionRun


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a signal")
@pytest.mark.parametrize("finished", [0, 1, 3])
def test_killed_and_run_again_gives_the_same_bytes(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: int
) -> None:
    straight = tmp_path / "straight"
    options = ["--include-test", "--batch", "1", "--device", "cpu"]
    detected(capsys, project, *options, "--out", straight)
    command = [sys.executable, "-m", "glombridge", "detect", str(project), *options]

    def start(attempt: int) -> Started:
        out = tmp_path / f"killed-{attempt}"
        work = tmp_path / f"killed-{attempt}.partial" / ".work"
        return Started(
            subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.DEVNULL),
            lambda: (work / "plan.json").exists() and len(list(work.glob("0*.json"))) >= finished,
        )

    attempt, process, _ = caught(start, subprocess.Popen.kill)
    assert process.returncode == -signal.SIGKILL
    killed = tmp_path / f"killed-{attempt}"
    partial = killed.with_name(killed.name + ".partial")
    work = partial / ".work"
    assert not killed.exists()
    done = {p.stem: (partial / f"{p.stem}.parquet").stat() for p in work.glob("0*.json")}
    assert len(done) >= finished
    document = detected(capsys, project, *options, "--out", killed)
    assert document["continued"] == len(done)
    assert contents(killed) == contents(straight)
    for name, stat in done.items():
        # Not written again: the very same file.
        assert (killed / f"{name}.parquet").stat().st_ino == stat.st_ino
        assert (killed / f"{name}.parquet").stat().st_mtime_ns == stat.st_mtime_ns
    assert not partial.exists()


def test_what_a_dead_process_was_writing_is_not_handed_out(tmp_path: Path) -> None:
    ours = temporary_name("1.parquet")
    host, pid, start, end = ours.removeprefix(".1.parquet.").split("-")
    with DetectionRun.begin(None, tmp_path / "out", {}, 1) as made:
        for name in ("1.parquet", f".1.parquet.{host}-{pid}-{int(start) - 60}-{end}"):
            (made.partial / name).write_bytes(b"x")
        made.publish({})
    assert sorted(files_in(tmp_path / "out")) == ["1.parquet", "manifest.json"]


def interrupted(project: Path, capsys: pytest.CaptureFixture[str], *keep: str) -> Path:
    """A run of the project as it lies when it was killed after some slides."""
    document = detected(capsys, project, "--include-test", "--device", "cpu")
    folder = Path(document["folder"])
    partial = folder.with_name(folder.name + ".partial")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    folder.rename(partial)
    (partial / "manifest.json").unlink()
    (partial / ".work").mkdir()
    plan = {"plan": manifest["plan"], "batch": manifest["batch"]}
    (partial / ".work" / "plan.json").write_text(json.dumps(plan), "utf-8")
    for image in manifest["images"]:
        if image["name"] in keep:
            record = partial / ".work" / f"{image['file']}.json"
            record.write_text(json.dumps(image), "utf-8")
        else:
            (partial / f"{image['file']}.parquet").unlink()
    return partial


def test_an_interrupted_run_is_continued_without_being_asked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(entries_of(project))
    partial = interrupted(project, capsys, *names[:2])
    document = detected(capsys, project, "--include-test", "--device", "cpu")
    assert Path(document["folder"]).name == partial.name.removesuffix(".partial")
    assert document["continued"] == 2
    assert [i["name"] for i in document["images"]] == names


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("options", id="other-options"),
        pytest.param("calibration", id="a-pixel-size-set-in-qupath-meanwhile"),
        pytest.param("slide", id="another-slide-under-the-same-name"),
        pytest.param("record", id="a-record-cut-in-the-middle"),
    ],
)
def test_only_what_is_still_true_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    names = list(entries_of(project))
    partial = interrupted(project, capsys, *names[:2])
    options = ["--include-test", "--device", "cpu"]
    if change == "options":
        options += ["--method", "nmm"]
    if change == "calibration":
        file = project / "project.qpproj"
        qpproj = json.loads(file.read_text("utf-8"))
        size = qpproj["images"][0]["serverBuilder"]["metadata"]["pixelCalibration"]
        size["pixelWidth"]["value"] *= 1.01
        file.write_text(json.dumps(qpproj), "utf-8")
    if change == "slide":
        path = next(s for s in slides_of(project) if s.name == names[0])
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data + b"\0")
    if change == "record":
        record = sorted((partial / ".work").glob("0*.json"))[0]
        record.write_bytes(record.read_bytes()[:40])
    document = detected(capsys, project, *options)
    is_another_plan = change in ("options", "calibration")
    assert document["continued"] == (0 if is_another_plan else 1)
    assert (Path(document["folder"]).name == "detect-002") != is_another_plan
    assert len(document["images"]) == 5


def test_a_run_killed_before_it_got_its_name_gets_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = detected(capsys, project, "--include-test")
    folder = Path(document["folder"])
    partial = folder.with_name(folder.name + ".partial")
    folder.rename(partial)
    again = detected(capsys, project, "--include-test")
    assert folder.is_dir()
    assert not partial.exists()
    assert Path(again["folder"]) != folder


def test_two_processes_never_write_one_run(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    partial = interrupted(project, capsys)
    with FileLock(partial / ".work" / "lock"):
        document = detected(capsys, project, "--include-test", "--device", "cpu")
        assert Path(document["folder"]).name != partial.name.removesuffix(".partial")
    # Another plan's remains are neither continued nor thrown away.
    other = tmp_path / "other"
    shutil.copytree(partial, tmp_path / "other.partial")
    assert run("detect", project, "--flips", "--out", other) == 4
    assert "asked for something else" in capsys.readouterr().err
    assert (tmp_path / "other.partial").exists()
    out = tmp_path / "out"
    (tmp_path / "out.partial" / ".work").mkdir(parents=True)
    with FileLock(tmp_path / "out.partial" / ".work" / "lock"):
        assert run("detect", project, "--out", out) == 4
    assert "another process" in capsys.readouterr().err


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = SlideDetections.save, []

    def full(seen: SlideDetections, path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            msg = "no space left"
            raise MachineError(msg)
        save(seen, path)

    with monkeypatch.context() as patch:
        patch.setattr(SlideDetections, "save", full)
        assert run("detect", project, "--include-test") == 7
    assert "no space left" in capsys.readouterr().err
    document = detected(capsys, project, "--include-test")
    assert document["continued"] == 2
    assert len(document["images"]) == 5
