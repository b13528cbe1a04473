"""Blocks decoded directly: OpenSlide's pixels, or OpenSlide itself wherever that is not certain."""

import shutil
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.errors import InputError
from glombridge.slides import jpeg_blocks
from glombridge.slides.reader import Slide, Window
from glombridge.slides.strips import Region, read_regions, split_regions

SLIDES = Path(__file__).parent.parent / "data" / "slides"
APERIO = SLIDES / "CMU-1-Small-Region.svs"
APERIO_TEXT = "Aperio Image Library v1\n|AppMag = 20|MPP = 0.5"


def write(path: Path, rgb: np.ndarray, *, levels=2, description=None, **options) -> Path:
    """A tiled pyramid; the options are tifffile's, JPEG by default."""
    options = {
        "tile": (240, 256),
        "compression": "jpeg",
        "photometric": "rgb",
        "resolution": (2e4, 2e4),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
        **options,
    }
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            tiff.write(rgb, subfiletype=int(level > 0), description=description, **options)
            rgb = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return path


DIRECT = [
    pytest.param({}, id="YCbCr 4:2:0"),
    pytest.param({"subsampling": (1, 1)}, id="YCbCr 4:4:4"),
    pytest.param({"subsampling": (2, 1)}, id="YCbCr 4:2:2"),
    pytest.param({"compressionargs": {"level": 30, "outcolorspace": "rgb"}}, id="RGB"),
    pytest.param({"bigtiff": True}, id="BigTIFF"),
    pytest.param({"description": APERIO_TEXT}, id="Aperio"),
    pytest.param({"tile": (16, 512)}, id="flat blocks"),
    pytest.param({"levels": 5}, id="sizes that do not halve evenly"),
]
SLOW = [
    pytest.param({"compression": "deflate"}, id="deflate"),
    pytest.param({"compression": "lzw"}, id="LZW"),
    pytest.param({"compression": "aperio_jp2000_rgb", "description": APERIO_TEXT}, id="JPEG 2000"),
]


@pytest.fixture
def make(tmp_path, painted):
    def make(options) -> Path:
        options = dict(options)
        bigtiff = options.pop("bigtiff", False)
        path = tmp_path / "slide.tif"
        if not bigtiff:
            return write(path, painted, **options)
        with tifffile.TiffWriter(path, bigtiff=True) as tiff:
            tiff.write(painted, tile=(256, 256), compression="jpeg", photometric="rgb")
        return path

    return make


def worst(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second).max())


@pytest.mark.parametrize("options", DIRECT)
def test_every_level_is_openslides_to_the_pixel(make, options):
    path = make(options)
    with Slide(path) as slide, openslide.OpenSlide(path) as plain:
        assert slide.direct_levels == tuple(range(plain.level_count))
        for level, size in enumerate(plain.level_dimensions):
            # From (0, 0) OpenSlide never has to place a level between two pixels.
            truth = np.asarray(plain.read_region((0, 0), level, size).convert("RGB"))
            assert worst(slide.read_level(Window(level, 0, 0, *size)), truth) <= 1


@pytest.mark.parametrize("options", SLOW)
def test_everything_else_is_left_to_openslide(make, options):
    path = make(options)
    with Slide(path) as slide, openslide.OpenSlide(path) as plain:
        assert slide.direct_levels == ()
        truth = np.asarray(plain.read_region((100, 50), 0, (700, 600)).convert("RGB"))
        assert np.array_equal(slide.read_region(100, 50, 700, 600, mpp=None), truth)


def test_a_real_scan_is_openslides_to_the_pixel():
    with Slide(APERIO) as slide, Slide(APERIO, direct=False) as plain:
        assert slide.direct_levels == (0,)
        assert plain.direct_levels == ()
        whole = Window(0, 0, 0, slide.frame.width_px, slide.frame.height_px)
        assert worst(slide.read_level(whole), plain.read_level(whole)) <= 1


@settings(max_examples=60)
@given(
    st.floats(-300, 1400),
    st.floats(-300, 1100),
    st.integers(1, 500),
    st.integers(1, 500),
    st.sampled_from([None, 0.5, 0.62, 1.0, 1.3]),
)
def test_any_region_at_any_resolution(pyramid, x, y, width, height, mpp):
    with Slide(pyramid) as slide, Slide(pyramid, direct=False) as plain:
        found = slide.read_region(x, y, width, height, mpp=mpp)
        assert worst(found, plain.read_region(x, y, width, height, mpp=mpp)) <= 1


def test_a_file_read_wrongly_would_be_noticed(make, monkeypatch):
    """The comparison with OpenSlide at opening decides, not what the file says of itself."""
    path = make({})
    monkeypatch.setattr(jpeg_blocks, "_COLOURS", {2: "YCBCR", 6: "RGB"})
    with Slide(path) as slide, Slide(path, direct=False) as plain:
        assert slide.direct_levels == ()
        region = (200, 300, 400, 300)
        assert np.array_equal(
            slide.read_region(*region, mpp=None), plain.read_region(*region, mpp=None)
        )


def test_two_pages_of_one_size_are_not_guessed_at(tmp_path, painted):
    path = tmp_path / "twice.tif"
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(painted, **options)
        tiff.write(255 - painted, subfiletype=1, **options)
    with Slide(path) as slide:
        assert slide.direct_levels == ()


def block_places(path: Path) -> list[tuple[int, int]]:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))


def test_a_damaged_block_is_left_to_openslide(make):
    path = make({})
    offset, size = min(block_places(path)[1:], key=lambda place: place[1])
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = b"\0" * size
    path.write_bytes(data)
    with Slide(path) as slide:
        assert 0 in slide.direct_levels
        assert slide.read_region(0, 0, 200, 200, mpp=None).shape == (200, 200, 3)
        with pytest.raises(InputError, match=r"'slide\.tif' is damaged at"):
            slide.read_region(0, 0, 1300, 1000, mpp=None)


@pytest.mark.parametrize(
    ("description", "direct"), [(None, (0,)), (APERIO_TEXT, ())], ids=["TIFF", "Aperio"]
)
def test_empty_blocks_are_openslides(tmp_path, painted, description, direct):
    path = tmp_path / "sparse.tif"
    blocks = [
        None if (x, y) in ((256, 0), (512, 240)) else painted[y : y + 240, x : x + 256]
        for y in range(0, 720, 240)
        for x in range(0, 1024, 256)
    ]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter(blocks),
            shape=(720, 1024, 3),
            dtype=np.uint8,
            tile=(240, 256),
            compression="jpeg",
            photometric="rgb",
            description=description,
            metadata=None,
        )
    with Slide(path) as slide, Slide(path, direct=False) as plain:
        assert slide.direct_levels == direct
        region = (0, 0, 1024, 720)
        assert (
            worst(slide.read_region(*region, mpp=None), plain.read_region(*region, mpp=None)) <= 1
        )


def test_a_level_that_is_not_the_image_made_smaller_is_not_read(tmp_path, painted):
    path = tmp_path / "skewed.tif"
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    options |= {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(painted, **options)
        tiff.write(np.zeros((500, 400, 3), np.uint8), subfiletype=1, **options)
    with Slide(path) as slide:
        assert slide.broken_levels == (1,)
        assert slide.level_for(1.5) == 0
        expected = cv2.resize(painted, (650, 500), interpolation=cv2.INTER_AREA)
        assert worst(slide.read_region(0, 0, 650, 500, mpp=1.0), expected) < 40


def test_blocks_are_decoded_once_whatever_overlaps(pyramid, monkeypatch):
    decoded = []
    original = imagecodecs.jpeg8_decode

    def counted(data, **options):
        decoded.append(bytes(data))
        return original(data, **options)

    with Slide(pyramid) as slide:
        assert slide.direct_levels  # the comparison at opening decodes, too
        monkeypatch.setattr(jpeg_blocks.imagecodecs, "jpeg8_decode", counted)
        regions = [Region(x, y, 300, 300) for y in range(0, 800, 100) for x in range(0, 1100, 100)]
        assert sum(1 for _ in read_regions(slide, regions, mpp=None)) == len(regions)
    assert len(decoded) == 6 * 4


@pytest.mark.parametrize("pieces", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("max_bytes", [1, 10**9], ids=["little memory", "much memory"])
def test_shared_out_regions_are_each_cut_once_and_the_same(pyramid, pieces, max_bytes):
    regions = [Region(x, y, 300, 300) for y in range(0, 900, 170) for x in range(0, 1200, 170)]
    with Slide(pyramid) as slide:
        parts = split_regions(slide, regions, mpp=0.5, pieces=pieces, max_bytes=max_bytes)
        assert sorted(i for part in parts for i in part) == list(range(len(regions)))
        assert len(parts) >= min(pieces, 6)
        assert split_regions(slide, [], mpp=0.5, pieces=pieces) == []
        for part in parts:
            for k, pixels in read_regions(slide, [regions[i] for i in part], mpp=0.5):
                assert np.array_equal(pixels, slide.read_region(*regions[part[k]], mpp=0.5))


def test_the_file_can_be_removed_once_the_slide_is_closed(make, tmp_path):
    path = shutil.copy(make({}), tmp_path / "copy.tif")
    with Slide(path) as slide:
        assert slide.direct_levels
    Path(path).unlink()
