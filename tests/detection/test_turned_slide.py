"""What is found on a rotated, flipped or cropped image lies where QuPath shows it."""

import cv2
import numpy as np
import pytest
import tifffile

from glombridge.frames import Frame
from glombridge.placement import ImageTransform, Placement, placed_through
from glombridge.slides.reader import Slide

WIDTH, HEIGHT, MPP = 1500, 1100, 1.0
CENTRES = np.array([[300.0, 260.0], [820.0, 400.0], [1200.0, 900.0], [420.0, 850.0]])
RADIUS = 40

CHAINS = {
    "plain": [],
    "90": [ImageTransform("rotated", {"rotation": "ROTATE_90"})],
    "flipped-270": [
        ImageTransform("flipped", {"flip": "VERTICAL"}),
        ImageTransform("rotated", {"rotation": "ROTATE_270"}),
    ],
    "90-of-crop": [
        ImageTransform("rotated", {"rotation": "ROTATE_90"}),
        ImageTransform(
            "cropped", {"region": {"x": 100, "y": 90, "width": 1301, "height": 947, "z": 0, "t": 0}}
        ),
    ],
}


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    """Dark discs on pink tissue."""
    path = tmp_path_factory.mktemp("turned") / "discs.tif"
    rgb = np.full((HEIGHT, WIDTH, 3), (225, 170, 210), np.uint8)
    rgb[:20] = rgb[:, :20] = 245
    for x, y in CENTRES:
        cv2.circle(rgb, (round(x), round(y)), RADIUS, (40, 20, 90), -1)
    options = {"tile": (256, 256), "compression": "adobe_deflate", "photometric": "rgb"}
    options |= {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(rgb, **options)
        tiff.write(rgb[::2, ::2], subfiletype=1, **options)
    return path


def find_discs(tiles):
    """A detector that sees what is dark."""
    for rgb in tiles:
        dark = (rgb.max(axis=2) < 130).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(dark)
        found = stats[1:][stats[1:, cv2.CC_STAT_AREA] > 200, :4].astype(float)
        xyxy = np.column_stack([found[:, :2], found[:, :2] + found[:, 2:]])
        yield xyxy, np.full(len(xyxy), 0.9), np.zeros(len(xyxy), int)


@pytest.mark.parametrize("mpp", [1.0, 2.0])
@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
def test_discs_are_found_where_they_are_shown(slide_file, steps, mpp):
    pytest.importorskip("torch")
    from glombridge.detection.pipeline import detect_slide
    from glombridge.tiles.grid import TileSpec

    placement = placed_through(Placement.of_slide(0, 0, WIDTH, HEIGHT), steps)
    frame = Frame.at("discs.tif", placement, MPP, MPP)
    with Slide(slide_file, frame) as slide:
        found = detect_slide(slide, TileSpec(400, 320, 0.5, mpp), find_discs).boxes
    whole = found.xyxy[~found.cut.astype(bool)]
    centres = (whole[:, :2] + whole[:, 2:]) / 2
    expected = frame.from_level0(CENTRES)
    distance = np.linalg.norm(centres[:, None] - expected[None], axis=2)
    assert (distance.min(axis=1) < 3).all()  # nothing else is seen
    assert (distance.min(axis=0) < 3).all()  # and each disc is
    assert np.abs((whole[:, 2:] - whole[:, :2]) - 2 * RADIUS).max() < 6
