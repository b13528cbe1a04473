"""Settings that ask for what never ends: a pattern, and a grid."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest

from glombridge.cli import main
from glombridge.errors import InputError, UsageError
from glombridge.frames import Frame
from glombridge.settings import TileSettings
from glombridge.steps.project import spec_of
from glombridge.tiles.grid import MOST_TILE_PX, MOST_TILES, Grid, TileSpec, check_tile_count
from glombridge.tiles.split import PATTERN_SECONDS, patient_of

GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden" / "v0.6.0"
ENDLESS = ["(a+)+$", "(a|aa)+$", r"(\w+\s?)*$"]


@pytest.mark.parametrize("pattern", ENDLESS)
def test_a_pattern_without_end_is_stopped(pattern: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"pattern.*was stopped.*\[patients\]"):
        patient_of("a" * 10_000 + "!", {}, pattern=pattern)
    # Nothing is measured here: without an end it would run for longer than the universe.
    assert time.monotonic() - begun < 60 * PATTERN_SECONDS


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?P<patient", "(?:" * 3000 + ")*" * 3000])
def test_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        patient_of("K1", {}, pattern=pattern)


def test_a_command_names_the_pattern_and_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Path(shutil.copytree(GOLDEN, tmp_path / "project"))
    file = project / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    document["images"][0]["imageName"] = "a" * 5000 + "!"
    file.write_text(json.dumps(document), "utf-8")
    assert main(["init", str(project), "--store", "native"]) == 0
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8").replace('pattern = ""', 'pattern = "(a+)+$"')
    settings.write_text(text.replace("[patients]", '[patients]\nsource = "name"'), "utf-8")
    capsys.readouterr()
    assert main(["tile", str(project)]) == 2
    said = capsys.readouterr().err
    assert "(a+)+$" in said
    assert "aaaaaaaa" in said


GRIDS = {
    "step-of-one-pixel": (TileSpec(1024, 1024, 1023), Frame("a.svs", 2**31 - 1, 2**31 - 1)),
    "tiny-tiles": (TileSpec(1, 1, 0), Frame("a.svs", 200_000, 200_000)),
    "finest-resolution": (TileSpec(1024, 1024, 0, 1e-6), Frame("a.svs", 10**5, 10**5, 0.25, 0.25)),
    "coarsest-pixels": (TileSpec(1024, 1024, "auto", 1.0), Frame("a.svs", 10**5, 10**5, 1e9, 1e9)),
    "pixels-of-1e308": (TileSpec(1024, 1024, 0, 1.0), Frame("a.svs", 10**5, 10**5, 1e308, 1e308)),
}


@pytest.mark.parametrize(("spec", "frame"), GRIDS.values(), ids=GRIDS)
def test_more_tiles_than_anybody_can_cut_are_refused_before_one_is_laid(
    spec: TileSpec, frame: Frame
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.svs.*(tiles.*width_px|no size)"):
            check_tile_count(frame, spec)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("side", [1, 9, 10, 11, 25, 100, 101])
@pytest.mark.parametrize(("tile", "overlap"), [(10, 0), (10, 9), (7, 3), (1, 0)])
def test_the_tiles_counted_are_those_laid(
    monkeypatch: pytest.MonkeyPatch, side: int, tile: int, overlap: int
) -> None:
    frame, spec = Frame("a", side, side), TileSpec(tile, tile, overlap)
    n_tiles = len(Grid.of(frame, spec))
    monkeypatch.setattr("glombridge.tiles.grid.MOST_TILES", n_tiles)
    check_tile_count(frame, spec)
    monkeypatch.setattr("glombridge.tiles.grid.MOST_TILES", n_tiles - 1)
    with pytest.raises(InputError, match=f"would have {n_tiles:,} tiles"):
        check_tile_count(frame, spec)


def test_the_papers_tiles_fit_on_any_slide() -> None:
    frame = Frame("a", 400_000, 400_000)
    assert len(Grid.of(frame, TileSpec(1600, 1200))) < MOST_TILES / 8
    check_tile_count(frame, TileSpec(1600, 1200))


@pytest.mark.parametrize("mpp", [1e-320, 1e-9, 0.001])
def test_tiles_larger_than_memory_are_refused(mpp: float) -> None:
    tiles = TileSettings(width_um=1e6, height_um=1e6, mpp=mpp, overlap="200 um")
    with pytest.raises(UsageError, match=f"at most {MOST_TILE_PX} px"):
        spec_of(tiles)


def test_a_command_names_setting_image_and_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Path(shutil.copytree(GOLDEN, tmp_path / "project"))
    slides = Path(__file__).parents[1] / "data" / "slides"
    assert main(["init", str(project), "--store", "native"]) == 0
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8").replace("\nmpp = 1.0\n", "\nmpp = 0.00001\n")
    settings.write_text(text.replace('["Glomerulus"]', '["Tumor"]'), "utf-8")
    capsys.readouterr()
    command = ["tile", str(project), "--patient-from", "image", "--allow-few-patients"]
    code = main([*command, "--slides", f"/slides={slides}"])
    said = capsys.readouterr().err
    assert code in (3, 6), said
    assert "tiles, and at most" in said
    assert "overlap" in said
