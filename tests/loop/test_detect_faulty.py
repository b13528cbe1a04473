"""``detect`` on damaged slides, without a pixel size, a device or the right weights."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from detecting import detected, run, slides_of, weights_of

from glombridge.detection.raw import SlideDetections
from glombridge.slides.reader import Slide


def damage(path: Path, x: float, y: float) -> None:
    """Make rubbish of the compressed block at a place of the level that the model is shown."""
    data = bytearray(path.read_bytes())
    with Slide(path) as slide:
        level = slide.level_for(6.0)
        downsample = slide.level_downsamples[level]
    with tifffile.TiffFile(path) as tiff:
        page = [p for p in tiff.pages if p.is_tiled][level]
        per_row = -(-page.imagewidth // page.tilewidth)
        tile = int(y / downsample) // page.tilelength * per_row
        tile += int(x / downsample) // page.tilewidth
        start, length = page.dataoffsets[tile], page.databytecounts[tile]
    data[start : start + length] = b"\0" * length
    path.unlink()  # the file is a link to one that other tests use
    path.write_bytes(data)


def test_a_damaged_slide_is_partial_and_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = detected(capsys, project, "--include-test")
    image = max(whole["images"], key=lambda i: i["found"])
    raw = SlideDetections.load(Path(whole["folder"]) / f"{image['file']}.parquet")
    x, y = raw.scanned_area.centroid.coords[0]
    damage(next(s for s in slides_of(project) if s.name == image["name"]), x, y)
    capsys.readouterr()
    assert run("detect", project, "--include-test") == 6
    err = capsys.readouterr().err
    assert "is partial: its file is damaged at x=" in err
    assert image["name"] in err
    folder = project / "glombridge" / "detections" / "detect-003"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["state"] == "partial"
    states = {i["name"]: i["state"] for i in manifest["images"]}
    assert Counter(states.values()) == {"complete": 4, "partial": 1}
    assert states[image["name"]] == "partial"
    part = SlideDetections.load(folder / f"{image['file']}.parquet")
    assert not part.scanned_area.contains(shapely.Point(x, y))
    scanned = json.loads((folder / f"{image['file']}.scanned.geojson").read_text("utf-8"))
    assert "partial" in scanned["features"][0]["properties"]["name"]


def test_a_damaged_slide_is_not_evaluated(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in detected(capsys, project, "--include-test")["images"]:
        path = next(s for s in slides_of(project) if s.name == image["name"])
        damage(path, image["width_px"] / 2, image["height_px"] / 2)
    assert run("evaluate", project) == 3
    assert "is damaged at x=" in capsys.readouterr().err


def without_pixel_size(path: Path, **options: Any) -> None:
    with tifffile.TiffFile(path) as file:
        pixels = file.pages[0].asarray()
    path.unlink()
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", **options}
    tifffile.imwrite(path, pixels, **options)


def test_a_pixel_size_that_is_missing_or_absurd(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = slides_of(project)[0]
    options = ["--weights", weights_of(project), "--device", "cpu", "--out"]
    expected = detected(capsys, path, *options, tmp_path / "right")
    without_pixel_size(path)
    assert run("detect", path, *options, tmp_path / "none") == 3
    assert "has no pixel size" in capsys.readouterr().err
    given = detected(
        capsys, path, *options, tmp_path / "given", "--mpp", expected["images"][0]["mpp"]
    )
    assert given["images"][0]["tiles"] == expected["images"][0]["tiles"]
    without_pixel_size(path, resolution=(1, 1), resolutionunit="CENTIMETER")
    assert run("detect", path, *options, tmp_path / "absurd") == 3
    err = capsys.readouterr().err
    assert "10000 x 10000 µm per pixel" in err
    assert "--mpp" in err
    again = detected(
        capsys, path, *options, tmp_path / "over", "--mpp", expected["images"][0]["mpp"]
    )
    assert again["images"][0]["tiles"] == expected["images"][0]["tiles"]
    assert not (tmp_path / "absurd.partial").exists()


def test_no_tissue_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = slides_of(project)[0]
    with tifffile.TiffFile(path) as file:
        shape = file.pages[0].shape
    path.unlink()
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    options |= {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.full(shape, 243, np.uint8), **options)
    assert run("detect", project, "--include-test", "--image", path.name) == 0
    assert f"{path.name}: no tissue found" in capsys.readouterr().out


def test_weights_that_were_trained_on_something_else(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "glombridge" / "glombridge.toml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("mpp = 6.0", "mpp = 2.0"), "utf-8")
    document = detected(capsys, project, "--include-test")
    (note,) = document["notes"]
    assert "2 µm" in note
    assert "6 µm" in note
    file.write_text(text.replace("[classes]", '[classes]\nVessel = ["Vessel"]'), "utf-8")
    assert run("detect", project) == 3
    assert "the weights detect ['Glomerulus']" in capsys.readouterr().err
    weights = weights_of(project)
    weights.write_bytes(weights.read_bytes() + b"\0")
    file.write_text(text, "utf-8")
    assert run("detect", project) == 3
    assert "hashes differ" in capsys.readouterr().err
    assert not list((project / "glombridge" / "detections").glob("*.partial"))


@pytest.mark.parametrize(
    ("device", "says"), [("7", "sees none"), ("toaster", "no device"), ("cpu,9", "sees none")]
)
def test_a_device_that_is_not_there(
    project: Path, capsys: pytest.CaptureFixture[str], device: str, says: str
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert run("detect", project, "--device", device) == 3
    assert says in capsys.readouterr().err


def test_a_process_that_dies_fails_its_slides_only(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that cannot even load the weights ends; nothing waits for it for ever."""
    from glombridge.steps.detect_targets import Choice, targets_of_project
    from glombridge.steps.detect_work import Job, detect_on_devices
    from glombridge.steps.project import Project
    from glombridge.tiles.grid import TileSpec

    targets = targets_of_project(Project.open(project), Choice(include_test=True))
    spec = TileSpec(128, 128, 0.5, 6.0)
    job = Job(tmp_path, tmp_path / "no.pt", tmp_path, spec, 0.5, "views", 4, 1, 1, False)
    events: list[dict[str, Any]] = []
    detect_on_devices(targets, job, ["cpu"], events.append)
    assert [e["event"] for e in events] == ["failed"] * 5
    assert "exit codes cpu: 1" in events[0]["reason"]
