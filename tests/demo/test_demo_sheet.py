"""The contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import Polygon, box

from glombridge.demo.sheet import SheetItem, draw_contact_sheet
from glombridge.errors import InputError, UsageError


def test_sheet_shows_the_slide_and_the_outline(painted: Any, tmp_path: Path) -> None:
    items = [
        SheetItem(painted.folder / truth.name, g.outline, f"0.93\n{truth.name}", (250, 0, 250))
        for truth in painted.truths
        for g in truth.glomeruli
    ]
    path = tmp_path / "sheet.png"
    draw_contact_sheet(items, path, title="Found", columns=5, thumb_px=120)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert sheet.shape[1] == 10 + 5 * 130
    thumbnail = sheet[44:164, 10:130]
    assert thumbnail.std() > 15
    outline = (thumbnail[..., 0] > 240) & (thumbnail[..., 1] < 40) & (thumbnail[..., 2] > 240)
    assert 80 < outline.sum() < 2000


def test_places_beyond_the_slide_show_paper(painted: Any, tmp_path: Path) -> None:
    item = SheetItem(painted.folder / painted.plans[0].name, box(-300, -300, -100, -100), "out")
    draw_contact_sheet([item], tmp_path / "s.png", title="x" * 400, thumb_px=100)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert (sheet[60:64, 40:44] > 240).all()


def test_many_part_outlines_and_long_captions_are_drawn(painted: Any, tmp_path: Path) -> None:
    outline = box(300, 300, 500, 500).union(box(600, 600, 700, 700))
    others = (Polygon([(300, 300), (400, 300), (300, 420)]),)
    item = SheetItem(
        painted.folder / painted.plans[0].name,
        outline,
        "a caption far too long " * 9,
        others=others,
    )
    draw_contact_sheet([item], tmp_path / "s.png", title="", field_px=900.0)
    assert (tmp_path / "s.png").stat().st_size > 5000


@pytest.mark.parametrize("options", [{"columns": 0}, {"thumb_px": 3}], ids=str)
def test_impossible_grids_are_refused(painted: Any, tmp_path: Path, options: Any) -> None:
    item = SheetItem(painted.folder / painted.plans[0].name, box(0, 0, 9, 9), "x")
    with pytest.raises(UsageError):
        draw_contact_sheet([item], tmp_path / "s.png", title="x", **options)


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 items"):
        draw_contact_sheet([], tmp_path / "s.png", title="x")


def test_a_file_that_is_no_slide_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no.tif"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no\.tif"):
        draw_contact_sheet([SheetItem(path, box(0, 0, 9, 9), "x")], tmp_path / "s.png", title="x")
