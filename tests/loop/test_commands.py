"""The commands a user types: what they print, their exit codes, and bad input."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import shapely
from folders import files_in
from shapely.geometry.base import BaseGeometry
from typed import run, run_json

import glombridge
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.qupath.new_file import new_data_file


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for name in [
        "init",
        "status",
        "pull",
        "tile",
        "train",
        "evaluate",
        "report",
        "detect",
        "push",
        "round",
        "undo",
        "lint",
        "doctor",
        "demo",
    ]:
        assert f"  {name} " in out


def test_help_and_status_import_no_heavy_library(project: Path) -> None:
    # A bound in seconds would fail on a busy machine; what makes them slow is what they import.
    code = (
        "import sys; from glombridge.cli import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'ultralytics', 'cv2', 'openslide', 'jpype', 'paquo', 'matplotlib'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    for arguments in (["--help"], ["status", str(project)]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert glombridge.__version__ in capsys.readouterr().out


def test_status_says_what_is_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(project)
    document = run_json(capsys, "status", project)
    assert files_in(project) == before
    assert len(document["images"]) == 5
    assert all(i["slide_found"] for i in document["images"])
    assert document["newest"]["detect"] == "detect-001"
    assert "review" in document["next"]
    assert sum(document["patients"].values()) == 3


def test_pull_does_not_touch_quapth_files(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(project / "data")
    document = run_json(capsys, "pull", project)
    assert files_in(project / "data") == before
    assert sum(i["truth"] for i in document["images"]) > 10
    assert sum(i["pending"] for i in document["images"]) > 0


@pytest.mark.parametrize(
    ("n_images", "says"),
    [
        (0, "add images to the project in QuPath"),
        (3, "say where the slides are: glombridge doctor"),
    ],
    ids=["no-images", "no-slides"],
)
def test_the_next_step_is_one_that_can_be_taken(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], n_images: int, says: str
) -> None:
    fresh = shutil.copytree(data / "qupath_golden" / "v0.6.0", tmp_path / "fresh")
    file = fresh / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    document["images"] = document["images"][:n_images]
    file.write_text(json.dumps(document), "utf-8")
    assert run("init", fresh, "--store", "native") == 0
    capsys.readouterr()
    assert says in run_json(capsys, "status", fresh)["next"]
    assert run("detect", fresh) == 5, "nothing was trained"
    assert "Run 'glombridge train'" in capsys.readouterr().err


def test_a_run_is_pushed_by_its_id(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pushed = run_json(capsys, "push", project, "detect-001", "--dry-run")
    assert pushed == run_json(capsys, "push", project, "--dry-run")
    assert run("push", project, "detect-099") == 3
    assert "runs of this project: detect-001)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--layer", ""], ["--layer", " "], ["--errors", "--layer", "x"]]
)
def test_what_cannot_be_pushed_like_that(project: Path, options: list[str]) -> None:
    before = files_in(project)
    assert run("push", project, *options) == 2
    assert files_in(project) == before


def test_push_again_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(project / "data")
    dry = run_json(capsys, "push", project, "--dry-run")
    again = run_json(capsys, "push", project)
    assert dry["counts"]["add"] == again["counts"]["add"] == 0
    assert files_in(project / "data") == before


def test_an_accepted_proposal_becomes_truth(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    counts = run_json(capsys, "pull", project)
    store = NativeStore.open(project)
    entry = next(i for i in counts["images"] if i["pending"] and not i["truth"])
    contents = store.read(entry["id"])
    accepted = replace(contents.objects[0], path_class=PathClass(("Glomerulus",)))
    store.write(
        entry["id"],
        HierarchyEdit(replace=(accepted,)),
        expected=contents.stamp,
        snapshot_folder=project / "kept",
    )
    after = run_json(capsys, "pull", project)
    (image,) = [i for i in after["images"] if i["id"] == entry["id"]]
    assert (image["truth"], image["pending"]) == (1, entry["pending"] - 1)


def test_a_new_tiling_keeps_every_patient_on_its_side(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run_json(capsys, "status", project)["patients"]
    document = run_json(capsys, "tile", project)
    assert run_json(capsys, "status", project)["patients"] == before
    assert document["dataset"].endswith("tiles-002")
    assert not document["failed"]


def test_detect_on_one_image_with_another_threshold(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = run_json(capsys, "status", project)["images"][0]["name"]
    arguments = ("detect", project, "--image", name, "--include-test", "--min-confidence", 0.02)
    document = run_json(capsys, *arguments)
    assert [i["name"] for i in document["images"]] == [name]
    assert document["confidence_from"] == "given by the user"
    geojson = Path(document["folder"]) / f"{document['images'][0]['file']}.geojson"
    assert len(json.loads(geojson.read_text("utf-8"))["features"]) == document["found"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["nonsense"], 2, "No such command", id="unknown-command"),
        pytest.param(["push"], 2, "PROJECT", id="missing-argument"),
        pytest.param(["train"], 2, "give a PROJECT", id="train-nothing"),
        pytest.param(["status", "{tmp}/none"], 3, "none", id="no-such-project"),
        pytest.param(["status", "{tmp}"], 3, "qpproj", id="folder-without-project"),
        pytest.param(["detect", "{project}", "--image", "x.tif"], 3, "x.tif", id="no-such-image"),
        pytest.param(["detect", "{project}", "--weights", "train-9"], 3, "train-9", id="weights"),
        pytest.param(["detect", "{tmp}/none"], 3, "no project and no slide", id="detect-nothing"),
        pytest.param(["push", "{project}", "{tmp}"], 3, "manifest.json", id="no-detections"),
        pytest.param(["demo", "{project}"], 4, "not empty", id="demo-into-something"),
        pytest.param(
            ["train", "{project}", "--model", "yolo99z"], 3, "yolo99z", id="no-such-model"
        ),
        pytest.param(
            ["train", "{project}", "--model", "yolo11n", "--pretrained"],
            5,
            "Put the file at",
            id="weights-not-here",
        ),
        pytest.param(["detect", "{project}", "--min-confidence", "2"], 2, "2", id="out-of-range"),
    ],
)
def test_bad_usage_and_missing_things(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    filled = [a.format(project=project, tmp=tmp_path) for a in arguments]
    before = files_in(project / "data")
    assert run(*filled) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert files_in(project / "data") == before


def test_a_file_that_is_no_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.qpproj"
    path.write_text("not json", encoding="utf-8")
    assert run("status", path) == 3
    assert "x.qpproj" in capsys.readouterr().err


def test_init_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NativeStore.create(tmp_path)
    assert run("tile", store.folder) == 3
    assert "glombridge init" in capsys.readouterr().err
    assert run("init", store.folder) == 0
    assert run("init", store.folder) == 0
    assert "already there" in capsys.readouterr().out


def emptied(project: Path, *, class_name: str | None = None) -> None:
    """Take all annotations out, or give them another class."""
    from dataclasses import replace

    store = NativeStore.open(project)
    for entry in store.images():
        contents = store.read(entry.id)
        objects = contents.objects
        if class_name is None:
            edit = HierarchyEdit(remove=frozenset(o.id for o in objects))
        else:
            path_class = PathClass.parse(class_name)
            edit = HierarchyEdit(replace=tuple(replace(o, path_class=path_class) for o in objects))
        store.write(
            entry.id,
            edit,
            expected=contents.stamp,
            snapshot_folder=project / "glombridge" / "snapshots",
        )


@pytest.mark.parametrize(
    ("class_name", "says"),
    [
        pytest.param(None, "none at all", id="no-annotations"),
        pytest.param("Tubule", "x 'Tubule'", id="a-class-that-no-setting-knows"),
        pytest.param("Glomerulus: Crescent", "do not mention", id="an-unmentioned-grade"),
    ],
)
def test_nothing_to_learn_from(
    project: Path, capsys: pytest.CaptureFixture[str], class_name: str | None, says: str
) -> None:
    emptied(project, class_name=class_name)
    assert run("tile", project) == 3
    assert says in capsys.readouterr().err
    assert [p.name for p in (project / "glombridge" / "datasets").iterdir()] == ["tiles-001"]


@pytest.mark.parametrize(
    ("draw", "code"),
    [
        pytest.param(lambda inside: shapely.MultiPoint([inside, (3, 3)]), 3, id="a-point-beside"),
        pytest.param(lambda inside: shapely.MultiPoint([inside]), 0, id="points-in-outlines"),
        pytest.param(lambda _: shapely.LineString([(2, 2), (40, 40)]), 3, id="a-line-beside"),
    ],
)
def test_points_that_mark_what_nobody_outlined_are_no_background(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    draw: Callable[[tuple[float, float]], BaseGeometry],
    code: int,
) -> None:
    store = NativeStore.open(project)
    contents = store.read(2)
    known = next(o for o in contents.objects if str(o.path_class) == "Glomerulus")
    inside = known.outline.geometry.representative_point().coords[0]
    counted = SlideObject(
        uuid4(), ObjectKind.ANNOTATION, Outline.of(draw(inside)), known.path_class
    )
    store.write(
        2,
        HierarchyEdit(add=(counted,)),
        expected=contents.stamp,
        snapshot_folder=project / "glombridge" / "snapshots",
    )
    assert run("tile", project) == code
    told = capsys.readouterr().err
    assert ("nobody has outlined" in told and "P02-1_PAS.tif" in told) is (code == 3)


def test_a_class_no_slide_has(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8").replace("[classes]", '[classes]\nArteriole = ["Arteriole"]')
    settings.write_text(text, encoding="utf-8")
    assert run("tile", project) == 3
    assert "Arteriole" in capsys.readouterr().err


def test_a_slide_that_does_not_open(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide = sorted((project.parent / "slides").glob("*.tif"))[0]
    slide.unlink()
    slide.write_bytes(b"this is no slide")
    assert run("tile", project) in (6, 0)
    entries = {e.name: e for e in NativeStore.open(project).images()}
    has_marks = any(
        not str(o.path_class).endswith("Proposed")
        for o in NativeStore.open(project).read(entries[slide.name].id).objects
    )
    err = capsys.readouterr().err
    assert (slide.name in err) == has_marks
    capsys.readouterr()
    assert run("detect", project, "--include-test") == 6
    assert slide.name in capsys.readouterr().err


def test_a_missing_slide_is_named_and_hides_no_object(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run_json(capsys, "pull", project)
    shutil.rmtree(project.parent / "slides")
    status = run_json(capsys, "status", project)
    assert not any(i["slide_found"] for i in status["images"])
    assert run_json(capsys, "pull", project)["sha256"] == before["sha256"]
    assert run("tile", project) == 3
    assert "is not there" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["status"], id="status"),
        pytest.param(["tile"], id="tile"),
        pytest.param(["evaluate"], id="evaluate"),
        pytest.param(["detect", "--include-test"], id="detect"),
        pytest.param(["doctor"], id="doctor"),
    ],
)
def test_slides_that_have_moved_are_found_by_a_path_map(
    project: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    old, new = project.parent / "slides", project.parent / "archive" / "2024"
    new.parent.mkdir()
    old.rename(new)
    name, *options = command
    found = run_json(capsys, name, project, *options, "--slides", f"{old}={new}")
    if name == "status":
        assert all(i["slide_found"] for i in found["images"])
    if name == "doctor":
        assert all(i["files"][0]["found"].startswith(str(new)) for i in found["images"])
    assert run("round", project, "--slides", "no map") == 2


def test_a_full_disk_while_tiling(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        nonlocal calls
        if path.suffix == ".json" and ".partial" in str(path):
            calls += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run("tile", project) == 7
    assert calls
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err
    assert [p.name for p in (project / "glombridge" / "datasets").iterdir()] == ["tiles-001"]


def test_a_slide_without_a_pixel_size_says_how_to_give_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tifffile

    for path in (project.parent / "slides").glob("*.tif"):
        with tifffile.TiffFile(path) as file:
            pixels = file.pages[0].asarray()
        path.unlink()
        tifffile.imwrite(path, pixels, tile=(256, 256), compression="jpeg", photometric="rgb")
    text = (project / "project.qpproj").read_text("utf-8")
    document = json.loads(text)
    for image in document["images"]:
        image["serverBuilder"]["metadata"].pop("pixelCalibration")
    (project / "project.qpproj").write_text(json.dumps(document), encoding="utf-8")
    assert run("tile", project) == 3
    assert "has no pixel size" in capsys.readouterr().err
    settings = project / "glombridge" / "glombridge.toml"
    settings.write_text(settings.read_text("utf-8").replace("# mpp = 0.25", "mpp = 0.5"), "utf-8")
    assert run("tile", project) == 0


def test_two_patients_are_not_split_silently(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = project / "glombridge" / "history.jsonl"
    lines = [line for line in history.read_text("utf-8").splitlines() if '"split"' not in line]
    history.write_text("\n".join(lines) + "\n", encoding="utf-8")
    store = NativeStore.open(project)
    for entry in store.images():
        store.set_image_metadata(entry.id, {"patient": "one and the same"})
    assert run("tile", project) == 3
    assert "--allow-few-patients" in capsys.readouterr().err
    assert run("tile", project, "--allow-few-patients") == 0


def test_no_patient_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NativeStore.open(project)
    for entry in store.images():
        store.set_image_metadata(entry.id, {"patient": None})
    assert run("tile", project) == 3
    assert "patient is not known" in capsys.readouterr().err


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [cut, Path.unlink], ids=["cut", "gone"])
def test_a_damaged_data_file_is_never_an_empty_image(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
) -> None:
    spoil(project / "data" / "1" / "data.qpdata")
    before = files_in(project / "data" / "1")
    for code, *command in (
        (6, "pull", project),
        (6, "tile", project),
        (6, "evaluate", project),
        (6, "push", project),
        (6, "withdraw", project, "--layer", "main"),
        (6, "queue", project),
        (3, "copy", project, "--reader", "A", "--out", tmp_path / "copies"),
        (6, "grades", project, "--scheme", "lupus", "--out", tmp_path / "grades"),
    ):
        assert (command[0], run(*command)) == (command[0], code)
        assert "entry 1" in capsys.readouterr().err
    assert files_in(project / "data" / "1") == before
    # Nor does the record say that somebody deleted what was in it.
    history = (project / "glombridge" / "history.jsonl").read_text("utf-8")
    assert '"to":"deleted"' not in history


def test_an_annotation_that_is_not_understood_is_no_background(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other objects can be pulled, but nothing may be learnt or judged around it."""
    file = project / "data" / "5" / "data.qpdata"  # of the validation patient
    data = file.read_bytes()
    spoilt = data.replace(b"EllipseROI$Ser", b"EllipsxROI$Ser")
    assert spoilt != data
    file.write_bytes(spoilt)
    assert run("pull", project) == 0
    for command in ("tile", "evaluate", "round"):
        assert run(command, project, "-q") == 3
        told = capsys.readouterr().err
        assert "annotations of image 'P04-2_HE.tif' could not be understood" in told
        assert "EllipsxROI" in told


def test_an_image_that_shall_begin_anew_is_saved_in_qupath(project: Path) -> None:
    """A data file without objects is a human's word, one that is not there is none."""
    file = project / "data" / "1" / "data.qpdata"
    file.unlink()
    assert run("pull", project) == 6
    file.write_bytes(new_data_file(None, qupath_version="0.6.0"))
    assert run("pull", project) == 0


OUT = [["tile"], ["pull"], ["detect"], ["report"], ["copy", "--reader", "anna"], ["grades"]]


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("", "the path is empty"),
        ("file/inside", "file' is no folder"),
        ("x" * 300, "File name too long"),
    ],
    ids=["empty", "below-a-file", "too-long"],
)
@pytest.mark.parametrize("command", OUT, ids=lambda c: c[0])
def test_places_that_cannot_be_written_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    out: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert run(command[0], "project", *command[1:], "--out", out) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("out", [".", ".."])
@pytest.mark.parametrize("command", ["tile", "detect", "report"])
def test_the_folder_one_is_in_is_not_replaced(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: str, out: str
) -> None:
    monkeypatch.chdir(project / "data")
    before = files_in(project / "data")
    assert run(command, project, "--out", out, "--quiet") == 4
    assert files_in(project / "data") == before


def test_a_seed_that_is_too_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", tmp_path / "demo", "--seed", 2**32) == 2
    assert "0<=x<=4294967295" in capsys.readouterr().err


def test_a_name_that_no_disk_can_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "x" * 300) == 7
    assert "File name too long" in capsys.readouterr().err


def test_a_file_that_is_missing_is_not_the_folder_one_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a socket is, of which Python does not say the name."""

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("glombridge.steps.status.status", missing)
    with pytest.raises(FileNotFoundError):
        run("status", "project")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the folder one is in")
def test_the_folder_one_is_in_is_gone(project: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from glombridge.cli import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", str(project)],
        cwd=gone,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr == b"glombridge: the folder that you are in is gone; go to another\n"
