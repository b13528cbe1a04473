"""Rotated, flipped and cropped images, and slides with bounds: pixels as QuPath shows them."""

from dataclasses import replace

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.frames import frame_of
from glombridge.placement import ImageTransform
from glombridge.qupath.store import ImageEntry
from glombridge.slides.reader import Slide
from glombridge.slides.strips import Region, read_regions
from glombridge.slides.tissue import tissue_mask

ENTRY = ImageEntry(id=1, name="K12-03.tif", uris=("file:/slides/K12-03.tif",))


def rotated(rotation):
    return ImageTransform("rotated", {"rotation": rotation})


def flipped(flip):
    return ImageTransform("flipped", {"flip": flip})


def cropped(x, y, width, height):
    region = {"x": x, "y": y, "width": width, "height": height, "z": 0, "t": 0}
    return ImageTransform("cropped", {"region": region})


def affine(m00, m01, m02, m10, m11, m12):
    keys = {"m00": m00, "m01": m01, "m02": m02, "m10": m10, "m11": m11, "m12": m12}
    return ImageTransform("affine", {"transform": keys})


def shown(rgb, step):
    """What numpy makes of one step; affine matrices by the definition, pixel by pixel."""
    parameters = step.parameters
    if step.kind == "rotated":
        # numpy counts quarter turns against the clock.
        turns = {"ROTATE_NONE": 0, "ROTATE_90": -1, "ROTATE_180": 2, "ROTATE_270": 1}
        return np.rot90(rgb, turns[parameters["rotation"]])
    if step.kind == "flipped":
        axes = {"NONE": (), "HORIZONTAL": (1,), "VERTICAL": (0,), "BOTH": (0, 1)}
        return np.flip(rgb, axes[parameters["flip"]])
    if step.kind == "cropped":
        x, y, width, height = (parameters["region"][k] for k in ("x", "y", "width", "height"))
        return rgb[y : y + height, x : x + width]
    m = parameters["transform"]
    rows, columns = rgb.shape[:2]
    size = (columns, rows) if m["m00"] == 0 else (rows, columns)
    found = np.full((*size, 3), 255, np.uint8)
    y, x = np.mgrid[:rows, :columns]
    # Centres of pixels go to centres of pixels.
    to_x = (m["m00"] * (x + 0.5) + m["m01"] * (y + 0.5) + m["m02"] - 0.5).astype(int)
    to_y = (m["m10"] * (x + 0.5) + m["m11"] * (y + 0.5) + m["m12"] - 0.5).astype(int)
    inside = (to_x >= 0) & (to_x < size[1]) & (to_y >= 0) & (to_y < size[0])
    found[to_y[inside], to_x[inside]] = rgb[y[inside], x[inside]]
    return found


def through(path, steps):
    entry = replace(ENTRY, transforms=tuple(s.kind for s in steps), geometry=tuple(steps))
    with Slide(path) as slide:
        frame = frame_of(entry, slide.properties)
    return Slide(path, frame)


def whole(slide, mpp=None):
    return slide.read_region(0, 0, *slide.frame.target_size_px(mpp), mpp=mpp)


CHAINS = {
    "90": [rotated("ROTATE_90")],
    "180": [rotated("ROTATE_180")],
    "270": [rotated("ROTATE_270")],
    "horizontal": [flipped("HORIZONTAL")],
    "vertical": [flipped("VERTICAL")],
    "both": [flipped("BOTH")],
    "crop": [cropped(301, 203, 511, 407)],
    "crop-of-90": [cropped(301, 203, 511, 407), rotated("ROTATE_90")],
    "90-of-crop": [rotated("ROTATE_90"), cropped(301, 203, 511, 407)],
    "flip-of-270-of-crop": [flipped("VERTICAL"), rotated("ROTATE_270"), cropped(7, 9, 900, 800)],
    "affine-turn": [affine(0, -1, 1000, 1, 0, 0)],
    "affine-transpose": [affine(0, 1, 0, 1, 0, 0)],
    "affine-move": [affine(1, 0, 130, 0, 1, -77)],
    "90-of-affine-move": [rotated("ROTATE_90"), affine(-1, 0, 1200, 0, 1, 50)],
}


@pytest.fixture(scope="session")
def plain(pyramid):
    with Slide(pyramid) as slide:
        return whole(slide)


@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
def test_the_whole_image_is_what_numpy_makes_of_the_plain_one(pyramid, plain, steps):
    expected = plain
    for step in reversed(steps):
        expected = shown(expected, step)
    with through(pyramid, steps) as slide:
        assert np.array_equal(whole(slide), expected)
        outside = slide.read_region(-20, -20, 20, 20, mpp=None)
        assert (outside == 255).all()


@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
@settings(max_examples=15)
@given(st.integers(-50, 1300), st.integers(-50, 1300), st.integers(1, 300), st.integers(1, 300))
def test_boxes_anywhere_are_cut_from_the_whole(pyramid, plain, steps, x, y, width, height):
    expected = plain
    for step in reversed(steps):
        expected = shown(expected, step)
    padded = np.full((2000, 2000, 3), 255, np.uint8)
    padded[100 : 100 + expected.shape[0], 100 : 100 + expected.shape[1]] = expected
    with through(pyramid, steps) as slide:
        found = slide.read_region(x, y, width, height, mpp=None)
    assert np.array_equal(found, padded[y + 100 : y + 100 + height, x + 100 : x + 100 + width])


@pytest.mark.parametrize("mpp", [None, 0.7, 1.0, 2.3])
@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
def test_tiles_from_shared_blocks_are_those_of_single_reads(pyramid, steps, mpp):
    with through(pyramid, steps) as slide:
        scale = slide.frame.target_scale(mpp)[0]
        width, height = slide.frame.target_size_px(mpp)
        regions = [
            Region(x / scale, y / scale, 170, 130)
            for y in range(0, height, 110)
            for x in range(0, width, 150)
        ]
        for index, pixels in read_regions(slide, regions, mpp=mpp):
            assert np.array_equal(pixels, slide.read_region(*regions[index], mpp=mpp))


@pytest.mark.parametrize("steps", [CHAINS[k] for k in ("90", "270", "both", "vertical")])
def test_a_coarser_level_is_turned_with_the_image(pyramid, steps):
    with Slide(pyramid) as slide:
        expected = whole(slide, 2.0)
    for step in reversed(steps):
        expected = shown(expected, step)
    with through(pyramid, steps) as slide:
        assert slide.level_for(2.0) == 2
        assert np.abs(whole(slide, 2.0).astype(int) - expected).mean() < 0.5


def test_blocks_of_the_file_are_turned_too(pyramid, monkeypatch):
    """Otherwise each read would decode up to four of the file's blocks for one."""
    with through(pyramid, CHAINS["90"]) as slide:
        reads = []
        decode = slide._decode
        monkeypatch.setattr(slide, "_decode", lambda *box: reads.append(box) or decode(*box))
        list(read_regions(slide, [Region(0, 0, 900, 1200)], mpp=None))
    assert all(x % 256 == 0 and y % 256 == 0 for _, x, y, *_ in reads)


def test_tissue_is_where_the_turned_image_shows_it(pyramid):
    with Slide(pyramid) as slide:
        expected = np.rot90(tissue_mask(slide).mask, -1)
    with through(pyramid, CHAINS["90"]) as slide:
        found = tissue_mask(slide)
    assert found.mask.shape == expected.shape
    assert (found.mask == expected).mean() > 0.98
    assert found.mask.any()


LEFT, TOP, RIGHT, BOTTOM = 100, 60, 80, 40


def write_scn(path, rgb, nm_per_px=500):
    """A slide of the Leica format: one scanned area in a larger empty slide, so it has bounds."""
    height, width = rgb.shape[:2]
    full = ((width + LEFT + RIGHT) * nm_per_px, (height + TOP + BOTTOM) * nm_per_px)
    macro = np.full((64, 64, 3), 255, np.uint8)
    half = rgb[::2, ::2]

    def image(name, size, offset, levels, magnification):
        dimensions = "".join(
            f'<dimension sizeX="{w}" sizeY="{h}" r="{r}" ifd="{ifd}"/>'
            for r, (ifd, w, h) in enumerate(levels)
        )
        return f"""
        <image name="{name}" uuid="urn:uuid:0">
          <creationDate>2011-01-01T00:00:00Z</creationDate><device model="m" version="1"/>
          <pixels sizeX="{levels[0][1]}" sizeY="{levels[0][2]}">{dimensions}</pixels>
          <view sizeX="{size[0]}" sizeY="{size[1]}" offsetX="{offset[0]}" offsetY="{offset[1]}"
            spacingZ="0"/>
          <scanSettings>
            <objectiveSettings><objective>{magnification}</objective></objectiveSettings>
            <illuminationSettings><numericalAperture>0.4</numericalAperture>
              <illuminationSource>brightfield</illuminationSource></illuminationSettings>
          </scanSettings>
        </image>"""

    area = (width * nm_per_px, height * nm_per_px)
    offset = (LEFT * nm_per_px, TOP * nm_per_px)
    levels = [(1, width, height), (2, half.shape[1], half.shape[0])]
    description = f"""<?xml version="1.0"?>
    <scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:1">
      <collection name="c" uuid="urn:uuid:2" sizeX="{full[0]}" sizeY="{full[1]}">
        <barcode>x</barcode>
        {image("macro", full, (0, 0), [(0, 64, 64)], 0.6)}
        {image("main", area, offset, levels, 20)}
      </collection>
    </scn>"""
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "adobe_deflate",
        "metadata": None,
    }
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(macro, description=description.encode(), **options)
        tiff.write(rgb, **options)
        tiff.write(half, subfiletype=1, **options)
    return path


@pytest.fixture(scope="session")
def bounded(tmp_path_factory):
    """A slide with bounds that the real OpenSlide reads, and its pixels inside them."""
    rgb = np.random.default_rng(7).integers(0, 250, (512, 768, 3), np.uint8)
    path = write_scn(tmp_path_factory.mktemp("scn") / "bounded.scn", rgb)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "leica"
        assert slide.properties["openslide.bounds-x"] == str(LEFT)
        assert slide.dimensions == (768 + LEFT + RIGHT, 512 + TOP + BOTTOM)
    return path, rgb


def test_qupaths_first_pixel_is_the_corner_of_the_bounds(bounded):
    path, rgb = bounded
    with Slide(path) as slide, openslide.OpenSlide(path) as file:
        assert (slide.frame.width_px, slide.frame.height_px) == (768, 512)
        assert slide.frame.to_level0((0, 0)).tolist() == [LEFT, TOP]
        assert np.array_equal(whole(slide), rgb)
        direct = np.asarray(file.read_region((LEFT + 5, TOP + 7), 0, (50, 40)).convert("RGB"))
        assert np.array_equal(slide.read_region(5, 7, 50, 40, mpp=None), direct)
        assert (slide.read_region(-10, 0, 10, 10, mpp=None) == 255).all()


@pytest.mark.parametrize(
    "steps",
    [
        [rotated("ROTATE_90")],
        [flipped("BOTH")],
        [cropped(11, 22, 333, 222), rotated("ROTATE_270")],
    ],
    ids=["90", "both", "crop-of-270"],
)
def test_a_slide_with_bounds_is_turned_within_them(bounded, steps):
    path, rgb = bounded
    entry = replace(
        ENTRY,
        transforms=tuple(s.kind for s in steps),
        geometry=tuple(steps),
        source_size=(768, 512),
    )
    expected = rgb
    for step in reversed(steps):
        expected = shown(expected, step)
    with Slide(path) as slide:
        frame = frame_of(entry, slide.properties)
    with Slide(path, frame) as slide:
        assert np.array_equal(whole(slide), expected)


def test_a_reader_that_does_not_crop_shows_all_of_level_0(bounded):
    path, rgb = bounded
    size = (768 + LEFT + RIGHT, 512 + TOP + BOTTOM)
    with Slide(path) as slide:
        frame = frame_of(replace(ENTRY, width=size[0], height=size[1]), slide.properties)
    with Slide(path, frame) as slide:
        full = whole(slide)
    assert np.array_equal(full[TOP : TOP + 512, LEFT : LEFT + 768], rgb)
