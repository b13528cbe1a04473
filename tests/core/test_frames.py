"""Frames: whose pixel size wins, where QuPath's (0, 0) lies, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.errors import InputError, UsageError
from glombridge.frames import Frame, frame_of, frame_of_slide
from glombridge.placement import (
    ImageTransform,
    InexactTransformError,
    Placement,
    placed_through,
)
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


def transformed(*steps, **fields):
    steps = tuple(ImageTransform(kind, parameters) for kind, parameters in steps)
    return replace(ENTRY, transforms=tuple(s.kind for s in steps), geometry=steps, **fields)


def crop(x, y, width, height, **plane):
    return "cropped", {"region": {"x": x, "y": y, "width": width, "height": height, **plane}}


def affine(m00, m01, m02, m10, m11, m12):
    return "affine", {
        "transform": {"m00": m00, "m01": m01, "m02": m02, "m10": m10, "m11": m11, "m12": m12},
    }


ROTATED = "rotated", {"rotation": "ROTATE_90"}
FLIPPED = "flipped", {"flip": "HORIZONTAL"}


@pytest.mark.parametrize(
    ("steps", "size", "corner", "far"),
    [
        # Where QuPath's (0, 0) and the opposite corner lie on a level 0 of 1000 x 800.
        ([ROTATED], (800, 1000), (0, 800), (1000, 0)),
        ([("rotated", {"rotation": "ROTATE_180"})], (1000, 800), (1000, 800), (0, 0)),
        ([("rotated", {"rotation": "ROTATE_270"})], (800, 1000), (1000, 0), (0, 800)),
        ([("rotated", {"rotation": "ROTATE_NONE"})], (1000, 800), (0, 0), (1000, 800)),
        ([FLIPPED], (1000, 800), (1000, 0), (0, 800)),
        ([("flipped", {"flip": "VERTICAL"})], (1000, 800), (0, 800), (1000, 0)),
        ([("flipped", {"flip": "BOTH"})], (1000, 800), (1000, 800), (0, 0)),
        ([("flipped", {"flip": "NONE"})], (1000, 800), (0, 0), (1000, 800)),
        ([crop(10, 20, 30, 40)], (30, 40), (10, 20), (40, 60)),
        ([ROTATED, crop(10, 20, 30, 40)], (40, 30), (10, 60), (40, 20)),
        ([crop(10, 20, 30, 40), ROTATED], (30, 40), (20, 790), (60, 760)),
        ([affine(1, 0, 5, 0, 1, -7)], (1000, 800), (-5, 7), (995, 807)),
        ([affine(0, -1, 800, 1, 0, 0)], (800, 1000), (0, 800), (1000, 0)),
        ([affine(-1, 0, 1000, 0, 1, 0)], (1000, 800), (1000, 0), (0, 800)),
        ([("pyramidize", {}), ROTATED], (800, 1000), (0, 800), (1000, 0)),
    ],
)
def test_turned_flipped_and_cropped_images(steps, size, corner, far):
    frame = frame_of(transformed(*steps, width=size[0], height=size[1]), PLAIN)
    assert (frame.width_px, frame.height_px) == size
    assert frame.to_level0((0, 0)).tolist() == list(corner)
    assert frame.to_level0(size).tolist() == list(far)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([affine(0.9, 0, 0, 0, 0.9, 0)], "affine.*moves, turns or scales it by 0.9"),
        ([affine(1, 0, 0.5, 0, 1, 0)], "by 0.5, not by whole pixels"),
        ([affine(1, 1, 0, 0, 1, 0)], "shears"),
        ([affine(2, 0, 0, 0, 1, 0)], "scales"),
        ([affine(1, 0, float("nan"), 0, 1, 0)], "affine.*does not say how"),
        ([crop(10, 20, 30, 40, z=1)], "cropped.*another plane"),
        ([crop(990, 20, 30, 40)], "cropped.*beyond"),
        ([("rotated", {"rotation": "ROTATE_45"})], "rotated.*does not say how.*ROTATE_45"),
        ([("rotated", {})], "does not say how"),
        ([("cropped", {"region": None})], "does not say how"),
        ([("swapRedBlue", {"order": "BGR"})], "swapRedBlue.*colours"),
        ([ROTATED, ("color_deconvolved", {})], "color_deconvolved.*colours"),
        ([("typeConvert", {})], "typeConvert.*colours"),
        ([("sparse", {})], "sparse.*several images"),
        ([("z_projected", {})], "z_projected.*planes"),
        ([("warped", {})], "warped.*not known"),
    ],
)
def test_what_is_not_exact_is_refused_with_a_way_out(steps, says):
    with pytest.raises(InputError, match=rf"'K12-03.svs' .*{says}.*Add the slide .* once more"):
        frame_of(transformed(*steps), PLAIN)


def test_a_transform_without_its_parameters_is_refused():
    with pytest.raises(InputError, match=r"rotated and cropped.*does not say how"):
        frame_of(replace(ENTRY, transforms=("rotated", "cropped")), PLAIN)


def test_pixel_sizes_swap_with_the_axes_and_a_humans_still_wins():
    properties = {**PLAIN, "openslide.mpp-y": "0.3"}
    assert frame_of(transformed(ROTATED), properties).require_mpp() == (0.3, 0.25)
    assert frame_of(transformed(FLIPPED), properties).require_mpp() == (0.25, 0.3)
    entry = transformed(ROTATED, mpp_x=0.3, mpp_y=0.25)
    assert frame_of(entry, properties).notes == ()
    entry = transformed(ROTATED, mpp_x=0.5, mpp_y=0.25)
    assert frame_of(entry, properties).require_mpp() == (0.5, 0.25)


def test_a_crop_counts_from_the_bounds_or_from_level_0_as_the_project_says():
    inner = crop(10, 20, 30, 40)
    by_bounds = frame_of(transformed(inner, source_size=(600, 500)), BOUNDS)
    assert by_bounds.to_level0((0, 0)).tolist() == [110, 70]
    by_level0 = frame_of(transformed(inner, source_size=(1000, 800)), BOUNDS)
    assert by_level0.to_level0((0, 0)).tolist() == [10, 20]
    with pytest.raises(InputError, match="does not say whether it is counted from"):
        frame_of(transformed(inner), BOUNDS)
    # Only level 0 is large enough.
    assert frame_of(transformed(crop(900, 20, 30, 40)), BOUNDS).offset_x_px == 900
    with pytest.raises(InputError, match=r"'K12-03\.svs' is 999 x 500 px in the project"):
        frame_of(transformed(inner, source_size=(999, 500)), BOUNDS)


STEPS = st.one_of(
    st.sampled_from(["ROTATE_NONE", "ROTATE_90", "ROTATE_180", "ROTATE_270"]).map(
        lambda r: ImageTransform("rotated", {"rotation": r})
    ),
    st.sampled_from(["NONE", "HORIZONTAL", "VERTICAL", "BOTH"]).map(
        lambda f: ImageTransform("flipped", {"flip": f})
    ),
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(
        lambda xy: ImageTransform(*crop(*xy, 60, 50))
    ),
    st.tuples(
        st.sampled_from([(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)]),
        st.integers(-90, 90),
        st.integers(-90, 90),
    ).map(lambda m: ImageTransform(*affine(m[0][0], m[0][1], m[1], m[0][2], m[0][3], m[2]))),
)


@given(
    st.lists(STEPS, max_size=5),
    st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=1),
    st.floats(0.1, 1),
)
def test_any_chain_of_steps_goes_back_where_it_came_from(steps, points, mpp):
    base = Placement.of_slide(100, 50, 600, 500)
    try:
        placement = placed_through(base, steps)
    except InexactTransformError:  # a crop of a crop that is smaller
        return
    frame = Frame.at("a", placement, mpp, mpp * 1.1)
    xy = np.array(points)
    assert np.allclose(frame.from_level0(frame.to_level0(xy)), xy, atol=1e-6)
    assert np.allclose(frame.to_level0(frame.from_level0(xy)), xy, atol=1e-6)
    # Lengths in µm are the same in both.
    step = np.abs(frame.to_level0((1, 0)) - frame.to_level0((0, 0)))
    assert np.isclose(step @ [mpp, mpp * 1.1], frame.require_mpp()[0])
    assert base.visible.holds(frame.visible_level0)


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
