"""Tissue: found in pale and dark stains and beside pen marks, never made up on empty glass."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from glombridge.slides.reader import Slide
from glombridge.slides.tissue import TissueMask, tissue_mask, tissue_of

SLIDES = Path(__file__).parent.parent / "data" / "slides"
CELL_UM = 8.0
GREEN, BLUE, RED, BLACK = (20, 160, 60), (25, 40, 180), (210, 20, 30), (15, 15, 18)


def overview(color=None, glass=(243, 242, 244), seed=0, texture=10.0):
    """A biopsy core across a glass field, with grain; 150 x 250 cells."""
    rng = np.random.default_rng(seed)
    rgb = np.empty((150, 250, 3))
    rgb[:] = glass
    core = np.zeros((150, 250), bool)
    if color is not None:
        core[60:90, 30:220] = True
        rgb[core] = np.array(color) + rng.normal(0, texture, (int(core.sum()), 3))
    return np.clip(rgb + rng.normal(0, 1.5, rgb.shape), 0, 255).astype(np.uint8), core


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(
    "color",
    [
        (190, 120, 175),
        (214, 196, 214),
        (176, 132, 186),
        (150, 160, 200),
        (150, 150, 148),
        (120, 60, 110),
    ],
    ids=["H&E", "pale PAS", "PAS", "trichrome blue", "silver", "dark"],
)
def test_every_stain_is_found(color):
    rgb, core = overview(color)
    mask, _ = tissue_of(rgb, CELL_UM)
    assert overlap(mask, core) > 0.9


@pytest.mark.parametrize(
    "glass", [(243, 242, 244), (225, 224, 220), (205, 205, 205), (255, 255, 255)]
)
def test_empty_glass_is_an_empty_mask(glass):
    mask, background = tissue_of(overview(glass=glass)[0], CELL_UM)
    assert not mask.any()
    assert background == pytest.approx(glass, abs=4)


def test_dust_and_specks_are_no_tissue():
    rgb, _ = overview()
    for x, y in np.random.default_rng(1).integers(5, 140, (40, 2)):
        rgb[y : y + 2, x : x + 2] = 120
    assert not tissue_of(rgb, CELL_UM)[0].any()


@pytest.mark.parametrize("ink", [GREEN, BLUE, RED, BLACK], ids=["green", "blue", "red", "black"])
@pytest.mark.parametrize("color", [(190, 120, 175), (214, 196, 214)], ids=["H&E", "pale PAS"])
def test_pen_marks_are_no_tissue_and_hide_none(ink, color):
    rgb, core = overview(color)
    cv2.line(rgb, (10, 15), (240, 40), ink, 12)
    cv2.circle(rgb, (200, 125), 18, ink, 7)
    mask, _ = tissue_of(rgb, CELL_UM)
    assert overlap(mask, core) > 0.85


def test_pale_tissue_beside_dark_tissue_is_kept():
    rgb, core = overview((212, 194, 212))
    rgb[110:140, 30:220] = (90, 40, 100)
    core[110:140, 30:220] = True
    assert overlap(tissue_of(rgb, CELL_UM)[0], core) > 0.9


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("CMU-1-Small-Region.svs", 0.25, 0.5), ("empty_c.tif", 0.5, 0.8)],
)
def test_real_files(name, least, most):
    with Slide(SLIDES / name) as slide:
        found = tissue_mask(slide)
    assert least < found.mask.mean() < most
    assert found.px_per_cell_x == pytest.approx(16, abs=0.1)


def test_a_slide_without_pixel_size_still_has_tissue(make_slide):
    with Slide(make_slide(mpp=None)) as slide:
        found = tissue_mask(slide)
    assert 0.3 < found.mask.mean() < 0.7


def test_shares_of_boxes():
    mask = np.zeros((10, 20), bool)
    mask[:5, :10] = True
    found = TissueMask(mask, 16, 16, (243, 243, 243))
    boxes = [
        (0, 0, 160, 80),
        (160, 80, 320, 160),
        (80, 0, 240, 80),
        (0, 0, 320, 160),
        (-99, -99, 1, 1),
    ]
    assert found.shares(boxes).tolist() == [1, 0, 0.5, 0.25, 1]
