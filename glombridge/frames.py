"""The pixel frame of a slide image as QuPath sees it, and its way to OpenSlide pixels and µm.

Three frames are in use, all with x to the right and y down:

- *QuPath px*: pixels of the full-resolution image in QuPath; every outline is in them.
- *level-0 px*: OpenSlide's level 0. QuPath crops to ``openslide.bounds-*``, and may turn, mirror
  and crop an image, so its (0, 0) and its axes can lie elsewhere; a pixel is a pixel in both.
- *target px*: QuPath px scaled to a wanted resolution, (0, 0) at QuPath's (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError, UsageError
from .placement import (
    PLAIN,
    Box,
    CropOutsideError,
    InexactTransformError,
    Placement,
    Turn,
    placed_through,
    why_not,
)

if TYPE_CHECKING:  # the project store stands further down the road; only its entry type is named
    from .qupath.store import ImageEntry

CALIBRATION_TOLERANCE = 0.02
"""Relative difference of two pixel sizes above which a note is made."""

_CEIL_SLACK_PX = 1e-6


@dataclass(frozen=True)
class Frame:
    """A slide image's pixel frame as QuPath sees it.

    Attributes:
        image_name: for messages.
        width_px, height_px: size in QuPath px.
        mpp_x, mpp_y: µm per QuPath px, ``None`` = unknown. Both are known or neither.
        offset_x_px, offset_y_px: level-0 px at which QuPath's (0, 0) lies.
        notes: what a reader of a report should know, one sentence each.
        turn: how QuPath's axes lie on those of level 0.
        visible: level-0 px that the image shows, the rest of it is empty; ``None`` = all of it.
    """

    image_name: str
    width_px: int
    height_px: int
    mpp_x: float | None = None
    mpp_y: float | None = None
    offset_x_px: int = 0
    offset_y_px: int = 0
    notes: tuple[str, ...] = ()
    turn: Turn = PLAIN
    visible: Box | None = None

    @classmethod
    def at(
        cls, image_name: str, placement: Placement, mpp_x: float | None, mpp_y: float | None
    ) -> Frame:
        """The frame of an image placed on a slide.

        Args:
            image_name: for messages.
            placement: the image's place.
            mpp_x: µm per level-0 px along x of level 0, ``None`` = unknown.
            mpp_y: µm per level-0 px along y of level 0, ``None`` = unknown.
        """
        if placement.turn.swaps:
            mpp_x, mpp_y = mpp_y, mpp_x
        whole = placement.box_to_level0(Box(0, 0, placement.width, placement.height))
        return cls(
            image_name,
            placement.width,
            placement.height,
            mpp_x,
            mpp_y,
            placement.x,
            placement.y,
            turn=placement.turn,
            visible=None if placement.visible == whole else placement.visible,
        )

    @property
    def visible_level0(self) -> Box:
        """Level-0 px that the image shows."""
        if self.visible is not None:
            return self.visible
        left, top, right, bottom = self.turn.box(Box(0, 0, self.width_px, self.height_px))
        x, y = self.offset_x_px, self.offset_y_px
        return Box(left + x, top + y, right + x, bottom + y)

    @property
    def turned_offset_px(self) -> tuple[int, int]:
        """Where QuPath's (0, 0) lies in level 0 turned, about its own (0, 0), into QuPath's axes."""
        return self.turn.inverse.point(self.offset_x_px, self.offset_y_px)

    def require_mpp(self) -> tuple[float, float]:
        """µm per QuPath px along x and y.

        Raises:
            InputError: the pixel size is not known.
        """
        if self.mpp_x is None or self.mpp_y is None:
            msg = (
                f"slide {self.image_name!r} has no pixel size (openslide.mpp-x is missing, and "
                "QuPath knows none). Set it in QuPath (tab Image, double-click Pixel width), or give "
                "slides without one a size with mpp = 0.25 in [project] of the settings."
            )
            raise InputError(msg)
        return self.mpp_x, self.mpp_y

    def with_mpp(self, mpp: float) -> Frame:
        """The same frame with a pixel size (µm per QuPath px) given by the user.

        Raises:
            UsageError: not a positive number.
        """
        check_mpp(mpp)
        return replace(self, mpp_x=mpp, mpp_y=mpp)

    def target_scale(self, mpp: float | None) -> tuple[float, float]:
        """Target px per QuPath px along x and y, at ``mpp`` µm per target px.

        ``None`` means the slide's own pixels, whatever their size.

        Raises:
            InputError: ``mpp`` is given and the pixel size is not known.
            UsageError: ``mpp`` is not a positive number.
        """
        if mpp is None:
            return 1.0, 1.0
        check_mpp(mpp)
        mpp_x, mpp_y = self.require_mpp()
        return mpp_x / mpp, mpp_y / mpp

    def target_size_px(self, mpp: float | None) -> tuple[int, int]:
        """Width and height of the whole image in target px, rounded up to cover it.

        Raises:
            InputError: as :meth:`target_scale`, or a size that is no number.
        """
        scale_x, scale_y = self.target_scale(mpp)
        if not math.isfinite(self.width_px * scale_x + self.height_px * scale_y):
            msg = (
                f"image {self.image_name!r} of {self.width_px} x {self.height_px} px with pixels of "
                f"{self.mpp_x:g} x {self.mpp_y:g} µm has no size at {mpp:g} µm per px"
            )
            raise InputError(msg)
        return (
            max(1, math.ceil(self.width_px * scale_x - _CEIL_SLACK_PX)),
            max(1, math.ceil(self.height_px * scale_y - _CEIL_SLACK_PX)),
        )

    def to_level0(self, xy_px: ArrayLike) -> NDArray[np.float64]:
        """QuPath px, shape (..., 2), to level-0 px."""
        turned: NDArray[np.float64] = np.asarray(xy_px, float) @ self.turn.matrix.T
        return turned + self._offset

    def from_level0(self, level0_xy: ArrayLike) -> NDArray[np.float64]:
        """Level-0 px, shape (..., 2), to QuPath px."""
        # The inverse of a turn is its transpose.
        turned: NDArray[np.float64] = (
            np.asarray(level0_xy, float) - self._offset
        ) @ self.turn.matrix
        return turned

    @property
    def _offset(self) -> NDArray[np.float64]:
        return np.array([self.offset_x_px, self.offset_y_px], float)

    def to_um(self, xy_px: ArrayLike) -> NDArray[np.float64]:
        """QuPath px, shape (..., 2), to µm from the image's top left corner.

        Raises:
            InputError: the pixel size is not known.
        """
        return np.asarray(xy_px, float) * self.require_mpp()

    def from_um(self, xy_um: ArrayLike) -> NDArray[np.float64]:
        """µm from the image's top left corner, shape (..., 2), to QuPath px.

        Raises:
            InputError: the pixel size is not known.
        """
        return np.asarray(xy_um, float) / self.require_mpp()


def frame_of_slide(image_name: str, slide_properties: Mapping[str, str]) -> Frame:
    """The frame QuPath gives a slide by itself: cropped to OpenSlide's bounds.

    Args:
        image_name: for messages.
        slide_properties: ``OpenSlide.properties``.

    Raises:
        InputError: the properties hold no size.
    """
    x, y, width, height = _bounds(image_name, slide_properties)
    mpp_x, mpp_y = _slide_mpp(slide_properties)
    return Frame(image_name, width, height, mpp_x, mpp_y, x, y)


def frame_of(entry: ImageEntry, slide_properties: Mapping[str, str]) -> Frame:
    """The frame of a project's image; a human's calibration in QuPath wins over the slide's.

    Args:
        entry: the image as the project describes it.
        slide_properties: ``OpenSlide.properties`` of its file.

    Raises:
        InputError: the image is changed in a way that is no turn, flip, move or crop by whole
            pixels, or is not of the slide's size.
    """
    frame = _placed(entry, slide_properties)
    mpp_x, mpp_y = _positive(entry.mpp_x), _positive(entry.mpp_y)
    if mpp_x is None or mpp_y is None:
        return frame
    notes: tuple[str, ...] = ()
    if frame.mpp_x is not None and frame.mpp_y is not None:
        difference = max(abs(mpp_x / frame.mpp_x - 1), abs(mpp_y / frame.mpp_y - 1))
        if difference > CALIBRATION_TOLERANCE:
            note = (
                f"image {entry.name!r}: QuPath says {mpp_x:.4g} x {mpp_y:.4g} µm per pixel, the "
                f"slide file {frame.mpp_x:.4g} x {frame.mpp_y:.4g} ({difference:.1%} apart); "
                "QuPath's is used."
            )
            notes = (note,)
    return replace(frame, mpp_x=mpp_x, mpp_y=mpp_y, notes=notes)


def check_mpp(mpp: float) -> None:
    """Refuse a resolution that cannot be.

    Raises:
        UsageError: not a positive, finite number.
    """
    if not (math.isfinite(mpp) and mpp > 0):
        msg = f"a resolution in µm per pixel must be a positive number, got {mpp!r}"
        raise UsageError(msg)


def _placed(entry: ImageEntry, properties: Mapping[str, str]) -> Frame:
    _check_transforms(entry)
    bounds = _bounds(entry.name, properties)
    # Bio-Formats, and OpenSlide in QuPath with --no-crop, show the whole level 0.
    readers = dict.fromkeys([bounds, (0, 0, *_level0_size(entry.name, properties))])
    found, sizes = [], []
    outside: CropOutsideError | None = None
    for reader in readers:
        try:
            placement = placed_through(Placement.of_slide(*reader), entry.geometry)
        except CropOutsideError as error:
            outside = error
            continue
        except InexactTransformError as error:
            raise _refusal(entry, str(error)) from error
        sizes.append(f"{placement.width} x {placement.height}")
        is_source = entry.source_size in (None, reader[2:]) or not entry.geometry
        if is_source and (entry.width or placement.width, entry.height or placement.height) == (
            placement.width,
            placement.height,
        ):
            found.append(placement)
    if outside is not None and not sizes:
        raise _refusal(entry, str(outside)) from outside
    if not found:
        width, height = (entry.width, entry.height) if entry.width else entry.source_size or (0, 0)
        msg = (
            f"image {entry.name!r} is {width} x {height} px in the project, but its "
            f"slide file is {sizes[0]} px. Is it another file or another series under the same "
            "name? Check the path in QuPath: Project > Check URIs."
        )
        raise InputError(msg)
    if len(found) > 1 and entry.geometry:
        reason = "does not say whether it is counted from the slide's bounds or its full level 0"
        raise _refusal(entry, reason)
    mpp_x, mpp_y = _slide_mpp(properties)
    return Frame.at(entry.name, found[0], mpp_x, mpp_y)


def _check_transforms(entry: ImageEntry) -> None:
    for kind in entry.transforms:
        reason = why_not(kind)
        if reason is not None:
            raise _refusal(entry, reason, kind)
    if tuple(step.kind for step in entry.geometry) != entry.transforms:
        raise _refusal(entry, "does not say how")


def _refusal(entry: ImageEntry, reason: str, kind: str | None = None) -> InputError:
    shown = kind or " and ".join(entry.transforms)
    return InputError(
        f"image {entry.name!r} is not the plain slide: QuPath shows it {shown}, and that {reason}. "
        "Add the slide to the project once more without that change, or leave this image out."
    )


def _level0_size(image_name: str, properties: Mapping[str, str]) -> tuple[int, int]:
    try:
        return (
            int(properties["openslide.level[0].width"]),
            int(properties["openslide.level[0].height"]),
        )
    except (KeyError, ValueError) as error:
        msg = f"slide {image_name!r} does not say how large it is: {error}"
        raise InputError(msg) from error


def _bounds(image_name: str, properties: Mapping[str, str]) -> tuple[int, int, int, int]:
    full_width, full_height = _level0_size(image_name, properties)
    try:
        x, y, width, height = (
            int(properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return 0, 0, full_width, full_height
    inside = x >= 0 and y >= 0 and x + width <= full_width and y + height <= full_height
    if width <= 0 or height <= 0 or not inside:
        return 0, 0, full_width, full_height
    return x, y, width, height


def _slide_mpp(properties: Mapping[str, str]) -> tuple[float | None, float | None]:
    mpp_x, mpp_y = (_positive(properties.get(f"openslide.mpp-{axis}")) for axis in ("x", "y"))
    if mpp_x is None or mpp_y is None:
        return None, None
    return mpp_x, mpp_y


def _positive(value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
