"""Reading regions: right place, right resolution, white outside, clear errors."""

import concurrent.futures
from pathlib import Path

import numpy as np
import openslide
import pytest

from glombridge.errors import InputError
from glombridge.frames import Frame
from glombridge.slides.reader import Slide, fingerprint, resample

SLIDES = Path(__file__).parent.parent / "data" / "slides"
APERIO = SLIDES / "CMU-1-Small-Region.svs"


@pytest.mark.parametrize("xy", [(0, 0), (700, 900), (1821, 2500)])
def test_native_pixels_are_openslides(xy):
    with Slide(APERIO) as slide, openslide.OpenSlide(APERIO) as plain:
        truth = np.asarray(plain.read_region(xy, 0, (300, 200)).convert("RGB"))
        assert np.array_equal(slide.read_region(*xy, 300, 200, mpp=None), truth)
        assert slide.frame.require_mpp() == (0.499, 0.499)


@pytest.mark.parametrize("mpp", [0.5, 0.998, 2.0, 0.3], ids=["near", "half", "coarse", "finer"])
def test_a_region_shows_the_same_place_at_any_resolution(mpp):
    with Slide(APERIO) as slide:
        scale = 0.499 / mpp
        whole = slide.read_region(400, 900, 600, 600, mpp=None)
        size = round(600 * scale)
        found = slide.read_region(400, 900, size, size, mpp=mpp)
        expected = resample(whole, size, size)
        assert found.shape == (size, size, 3)
        assert np.abs(found.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ("mpp", "level"),
    [(None, 0), (0.5, 0), (0.7, 0), (0.99, 0), (1.0, 1), (1.9, 1), (2.0, 2), (9, 2)],
)
def test_the_best_level_is_read(pyramid, mpp, level):
    with Slide(pyramid) as slide:
        assert slide.level_for(mpp) == level


def test_a_coarser_level_shows_what_averaging_level_0_shows(pyramid, painted):
    with Slide(pyramid) as slide:
        found = slide.read_region(200, 100, 400, 400, mpp=1.0)
    expected = resample(painted[100:900, 200:1000], 400, 400)
    assert np.abs(found.astype(int) - expected).mean() < 2


def test_outside_is_white(pyramid):
    with Slide(pyramid) as slide:
        region = slide.read_region(-50, -40, 200, 200, mpp=None)
        assert (region[:40] == 255).all()
        assert (region[:, :50] == 255).all()
        beyond = slide.read_region(1250, 950, 100, 100, mpp=None)
        assert (beyond[50:] == 255).all()
        assert (beyond[:, 50:] == 255).all()
        assert not (beyond[:50, :50] == 255).all()
        assert (slide.read_region(5000, 5000, 10, 10, mpp=None) == 255).all()


def test_qupaths_frame_moves_and_bounds_the_image(pyramid, painted):
    frame = Frame("cropped", 400, 300, 0.5, 0.5, offset_x_px=300, offset_y_px=200)
    with Slide(pyramid) as whole, Slide(pyramid, frame) as cropped:
        expected = whole.read_region(310, 220, 100, 100, mpp=None)
        assert np.array_equal(cropped.read_region(10, 20, 100, 100, mpp=None), expected)
        edge = cropped.read_region(350, 250, 100, 100, mpp=None)
        assert (edge[50:] == 255).all()
        assert (edge[:, 50:] == 255).all()


def test_transparent_pixels_become_white(monkeypatch, pyramid):
    from PIL import Image

    half = np.zeros((10, 10, 4), np.uint8)
    half[..., 3] = 128
    half[0, 0] = (10, 20, 30, 255)
    with Slide(pyramid, direct=False) as slide:
        monkeypatch.setattr(
            type(slide._slide), "read_region", lambda *_: Image.fromarray(half, "RGBA")
        )
        found = slide.read_region(0, 0, 10, 10, mpp=None)
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[5, 5].tolist() == [127, 127, 127]


def test_threads_may_share_a_slide(pyramid):
    with Slide(pyramid) as slide, concurrent.futures.ThreadPoolExecutor(4) as pool:
        places = [(x, y) for x in range(0, 900, 100) for y in range(0, 700, 100)]
        read = lambda xy: slide.read_region(*xy, 200, 200, mpp=0.7)  # noqa: E731
        together = list(pool.map(read, places))
        assert all(np.array_equal(a, read(xy)) for a, xy in zip(together, places, strict=True))


def test_no_pixel_size(make_slide):
    with Slide(make_slide("K12-03.tif", mpp=None)) as slide:
        with pytest.raises(InputError, match=r"'K12-03.tif' has no pixel size .*mpp = 0.25"):
            slide.read_region(0, 0, 10, 10, mpp=0.5)
        assert slide.read_region(0, 0, 10, 10, mpp=None).shape == (10, 10, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is not there"), (b"no slide at all", "is not a slide"), (b"", "is not a slide")],
    ids=["missing", "text", "empty"],
)
def test_what_is_no_slide_is_refused(tmp_path, content, message):
    path = tmp_path / "K1.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"'K1.svs' {message}"):
        Slide(path)


def truncate(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_slide_fails_with_its_name(make_slide, share):
    path = truncate(make_slide("cut.tif"), share)
    with pytest.raises(InputError, match=r"cut\.tif"), Slide(path) as slide:
        slide.read_region(0, 0, 1300, 1000, mpp=None)


def test_a_fingerprint_is_of_content_not_name(make_slide, tmp_path):
    path = make_slide("a.tif")
    copy = tmp_path / "b.tif"
    copy.write_bytes(path.read_bytes())
    assert fingerprint(path) == fingerprint(copy)
    with copy.open("ab") as file:
        file.write(b"\0")
    assert fingerprint(path) != fingerprint(copy)
    with pytest.raises(InputError, match=r"'none.tif' cannot be read"):
        fingerprint(tmp_path / "none.tif")


def test_label_and_macro_images_are_never_touched(monkeypatch):
    def forbidden(*_):
        pytest.fail("the label shows the patient's name")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(forbidden))
    with Slide(APERIO) as slide:
        slide.read_region(0, 0, 50, 50, mpp=1.0)
