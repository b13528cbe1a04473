"""Frames: whose pixel size wins, where QuPath's (0, 0) lies, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.errors import InputError, UsageError
from glombridge.frames import Frame, frame_of, frame_of_slide
from glombridge.qupath.store import ImageEntry

PLAIN = {
    "openslide.level[0].width": "1000",
    "openslide.level[0].height": "800",
    "openslide.mpp-x": "0.25",
    "openslide.mpp-y": "0.25",
}
BOUNDS = {
    **PLAIN,
    "openslide.bounds-x": "100",
    "openslide.bounds-y": "50",
    "openslide.bounds-width": "600",
    "openslide.bounds-height": "500",
}
ENTRY = ImageEntry(id=1, name="K12-03.svs", uris=("file:/slides/K12-03.svs",))


def test_a_slide_without_bounds_is_its_level_0():
    assert frame_of_slide("a", PLAIN) == Frame("a", 1000, 800, 0.25, 0.25)


def test_qupath_crops_to_the_bounds():
    assert frame_of_slide("a", BOUNDS) == Frame("a", 600, 500, 0.25, 0.25, 100, 50)


@pytest.mark.parametrize(
    ("properties", "size", "offset"),
    [
        pytest.param(PLAIN, (None, None), (0, 0), id="project is silent"),
        pytest.param(PLAIN, (1000, 800), (0, 0), id="plain"),
        pytest.param(BOUNDS, (600, 500), (100, 50), id="cropped to bounds"),
        pytest.param(BOUNDS, (1000, 800), (0, 0), id="another reader shows all of level 0"),
    ],
)
def test_the_entry_says_which_frame(properties, size, offset):
    frame = frame_of(replace(ENTRY, width=size[0], height=size[1]), properties)
    assert (frame.offset_x_px, frame.offset_y_px) == offset
    if size[0] is not None:
        assert (frame.width_px, frame.height_px) == size


@pytest.mark.parametrize(
    "bad",
    [
        {"openslide.bounds-x": "-1"},
        {"openslide.bounds-width": "0"},
        {"openslide.bounds-width": "950"},
        {"openslide.bounds-height": "many"},
    ],
    ids=["left of the slide", "empty", "beyond the slide", "no number"],
)
def test_bounds_that_cannot_be_are_left_out_of_account(bad):
    assert frame_of_slide("a", {**BOUNDS, **bad}).offset_x_px == 0


def test_a_size_that_is_not_the_slides_is_refused():
    with pytest.raises(InputError, match=r"'K12-03.svs' is 999 x 800 px in the project"):
        frame_of(replace(ENTRY, width=999, height=800), PLAIN)


def test_a_transformed_entry_is_refused_by_name():
    with pytest.raises(InputError, match=r"'K12-03.svs' .*rotated and cropped.*not support"):
        frame_of(replace(ENTRY, transforms=("rotated", "cropped")), PLAIN)


@pytest.mark.parametrize(
    ("mpp", "notes"),
    [(0.25, 0), (0.2549, 0), (0.26, 1)],
    ids=["same", "within 2 %", "apart"],
)
def test_a_humans_calibration_wins_and_a_difference_is_noted(mpp, notes):
    frame = frame_of(replace(ENTRY, mpp_x=mpp, mpp_y=mpp), PLAIN)
    assert frame.require_mpp() == (mpp, mpp)
    assert len(frame.notes) == notes


@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "inf", "0,25"])
def test_a_pixel_size_that_is_none_stays_unknown(value):
    frame = frame_of_slide("K12-03.svs", {**PLAIN, "openslide.mpp-x": value})
    assert (frame.mpp_x, frame.mpp_y) == (None, None)
    with pytest.raises(InputError, match=r"'K12-03.svs' has no pixel size .*mpp = 0.25"):
        frame.require_mpp()
    assert frame.target_scale(None) == (1, 1)
    assert frame.with_mpp(0.5).require_mpp() == (0.5, 0.5)


def test_a_slide_that_does_not_say_its_size_is_refused():
    with pytest.raises(InputError, match="does not say how large"):
        frame_of_slide("a", {})


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf")])
def test_a_resolution_that_cannot_be_is_refused(mpp):
    with pytest.raises(UsageError):
        frame_of_slide("a", PLAIN).target_scale(mpp)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1),
    st.floats(0.05, 10),
    st.integers(0, 100_000),
)
def test_conversions_go_back_where_they_came_from(points, mpp, offset):
    frame = Frame("a", 100, 100, mpp, mpp * 1.01, offset, offset + 1)
    xy = np.array(points)
    assert np.allclose(frame.from_level0(frame.to_level0(xy)), xy, atol=1e-6)
    assert np.allclose(frame.from_um(frame.to_um(xy)), xy, atol=1e-6)


def test_the_target_size_covers_every_pixel():
    assert Frame("a", 1001, 800, 0.25, 0.25).target_size_px(0.5) == (501, 400)
