"""Slides as pixels: any region of a slide file at any resolution, in QuPath's frame."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from ..errors import InputError
from ..frames import Frame, frame_of_slide
from ..placement import PLAIN, Box
from .jpeg_blocks import JpegBlocks, open_jpeg_blocks

RgbArray = NDArray[np.uint8]
"""Shape (height, width, 3), channels red, green, blue."""

_FINGERPRINT_BYTES = 1 << 20
_LEVEL_SLACK = 1.01  # a level that is 1 % too coarse is still the right one: metadata is that exact
_LEVEL_SKEW = 0.01  # a level stretched by more shows every place elsewhere than it is
_WHITE = 255
_MOST_BLOCK_PX = 1 << 28
"""1 GiB decoded. OpenSlide 4.0 ends the process where it cannot have the memory for a block."""


class Window(NamedTuple):
    """A box of whole pixels of one pyramid level, in that level's own pixels.

    It is the part of the level that an output region is averaged from, and may reach over the
    level's edges. Where QuPath turns or mirrors the image, the level is turned with it about its
    own (0, 0), so that its pixels may be counted from below zero.
    """

    level: int
    x: int
    y: int
    width: int
    height: int


class Slide:
    """An open slide file.

    Reading the same region twice gives the same pixels, and threads may share one object. Label
    and macro images, which often show the patient's name, are never read.

    Attributes:
        path: the file.
        frame: QuPath's frame of it. Taken from the file where none is given.
    """

    def __init__(
        self, path: Path | str, frame: Frame | None = None, *, direct: bool = True
    ) -> None:
        """Open a slide.

        Args:
            path: the file.
            frame: QuPath's frame of it.
            direct: decode the JPEG blocks of files that allow it without OpenSlide, which gives
                the same pixels in a fraction of the time.

        Raises:
            InputError: the file is missing, is no slide, or is damaged.
        """
        self.path = Path(path)
        self._slide = _open(self.path)
        self._is_open = True
        # Kept: after one error OpenSlide answers every question with that error, and another
        # thread may be in the middle of a region it has read well.
        self._properties = dict(self._slide.properties)
        self._dimensions = tuple(self._slide.level_dimensions)
        self._downsamples = tuple(self._slide.level_downsamples)
        self._broken_levels = _broken_levels(self._dimensions)
        self._blocks: JpegBlocks | None = None
        try:
            self._check_blocks()
        except InputError:
            self.close()
            raise
        self._has_looked_for_blocks = not direct
        self._looking = threading.Lock()
        self.frame = (
            frame if frame is not None else frame_of_slide(self.path.name, self._properties)
        )

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Reading afterwards is an error, closing again is none."""
        if not self._is_open:
            return  # openslide-python 1.4 raises ctypes.ArgumentError the second time
        self._is_open = False
        self._slide.close()
        if self._blocks is not None:
            self._blocks.close()

    @property
    def properties(self) -> dict[str, str]:
        """What OpenSlide says about the file."""
        return dict(self._properties)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 px per px of each pyramid level."""
        return self._downsamples

    @property
    def broken_levels(self) -> tuple[int, ...]:
        """Pyramid levels that are not the image made smaller; they are not read."""
        return self._broken_levels

    @property
    def direct_levels(self) -> tuple[int, ...]:
        """Pyramid levels whose JPEG blocks are decoded without OpenSlide."""
        blocks = self._direct
        return () if blocks is None else blocks.levels

    def level_block_px(self, level: int) -> tuple[int, int]:
        """Width and height of the blocks a level is compressed in; 256 where the file is silent.

        As QuPath shows them: a turn by 90 degrees swaps the two.
        """
        sides = ("height", "width") if self.frame.turn.swaps else ("width", "height")
        width, height = (
            int(self._properties.get(f"openslide.level[{level}].tile-{side}", 256))
            for side in sides
        )
        return max(1, width), max(1, height)

    def _check_blocks(self) -> None:
        for level in range(len(self._dimensions)):
            sides = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
            width, height = (int(self._properties.get(side, 256)) for side in sides)
            if width * height > _MOST_BLOCK_PX:
                msg = (
                    f"slide {self.path.name!r} says that level {level} is compressed in blocks of "
                    f"{width} x {height} px, which no memory holds ({self.path}). It is damaged or was "
                    "made to do harm; if it is neither, convert it to a tiled pyramid."
                )
                raise InputError(msg)

    def level_for(self, mpp: float | None) -> int:
        """The coarsest pyramid level that is not coarser than ``mpp`` µm per px.

        ``None`` means the slide's own pixels: level 0.

        Raises:
            InputError: the slide has no pixel size.
        """
        if mpp is None:
            return 0
        finest_wanted = 1 / max(self.frame.target_scale(mpp))
        best = 0
        broken = self.broken_levels
        for level, downsample in enumerate(self.level_downsamples):
            if (
                level not in broken
                and self.level_downsamples[best] <= downsample <= finest_wanted * _LEVEL_SLACK
            ):
                best = level
        return best

    def window(
        self, x_px: float, y_px: float, width: int, height: int, *, mpp: float | None
    ) -> Window:
        """The level pixels that :meth:`read_region` averages for this region.

        Its edges are the region's, rounded to whole pixels of the level. So a region is placed
        within half a level pixel, and cutting the window out of a larger decoded area gives
        exactly what reading it alone gives: that is what lets overlapping tiles share pixels.
        """
        level = self.level_for(mpp)
        downsample = self.level_downsamples[level]
        scale_x, scale_y = self.frame.target_scale(mpp)
        offset_x, offset_y = self.frame.turned_offset_px
        left, right = _rounded(offset_x + x_px, width / scale_x, downsample)
        top, bottom = _rounded(offset_y + y_px, height / scale_y, downsample)
        return Window(level, left, top, right - left, bottom - top)

    def read_region(
        self, x_px: float, y_px: float, width: int, height: int, *, mpp: float | None
    ) -> RgbArray:
        """Pixels of a region at a resolution, resampled by area averaging.

        Args:
            x_px: left edge in QuPath px.
            y_px: top edge in QuPath px.
            width: of the result, in px at ``mpp``.
            height: of the result, in px at ``mpp``.
            mpp: µm per px of the result; ``None`` = the slide's own pixels.

        Returns:
            Shape (height, width, 3), uint8 RGB. White where the slide is transparent and outside
            the image.

        Raises:
            InputError: the slide has no pixel size, or the file is damaged there.
        """
        window = self.window(x_px, y_px, width, height, mpp=mpp)
        return resample(self.read_level(window), width, height)

    def read_level(self, window: Window) -> RgbArray:
        """Pixels of a window, unscaled, as QuPath shows them; white outside the image.

        Raises:
            InputError: the file is damaged there.
        """
        level, x, y, width, height = window
        if self.frame.turn == PLAIN and self._image_on(level).holds(
            Box(x, y, x + width, y + height)
        ):
            return self._decode(level, x, y, width, height)
        rgb = np.full((height, width, 3), _WHITE, np.uint8)
        turn = self.frame.turn
        asked = turn.box(Box(x, y, x + width, y + height))
        there = asked.intersection(self._image_on(level))
        if there.left < there.right and there.top < there.bottom:
            size = (there.right - there.left, there.bottom - there.top)
            pixels = turn.pixels(self._decode(level, there.left, there.top, *size))
            left, top, right, bottom = turn.inverse.box(there)
            rgb[top - y : bottom - y, left - x : right - x] = pixels
        return rgb

    def _image_on(self, level: int) -> Box:
        """What QuPath shows of a level, in the pixels of the file."""
        downsample = self.level_downsamples[level]
        box = self.frame.visible_level0
        left, right = _rounded(box.left, box.right - box.left, downsample)
        top, bottom = _rounded(box.top, box.bottom - box.top, downsample)
        return Box(left, top, right, bottom)

    @property
    def _direct(self) -> JpegBlocks | None:
        if not self._has_looked_for_blocks:
            with self._looking:
                if not self._has_looked_for_blocks:
                    self._blocks = open_jpeg_blocks(
                        self.path,
                        self._properties.get("openslide.vendor", ""),
                        self._dimensions,
                        self.level_downsamples,
                        self._decode_with_openslide,
                    )
                    self._has_looked_for_blocks = True
        return self._blocks

    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> RgbArray:
        blocks = self._direct
        rgb = None if blocks is None else blocks.read(level, x, y, width, height)
        return self._decode_with_openslide(level, x, y, width, height) if rgb is None else rgb

    def _decode_with_openslide(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> RgbArray:
        downsample = self.level_downsamples[level]
        level0_xy = (round(x * downsample), round(y * downsample))
        try:
            rgba = np.asarray(self._slide.read_region(level0_xy, level, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            msg = (
                f"slide {self.path.name!r} is damaged at x={level0_xy[0]}, y={level0_xy[1]} of "
                f"level {level}: {error}. Copy the file again from the scanner or archive."
            )
            raise InputError(msg) from error
        alpha = rgba[..., 3]
        rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
        if alpha.min() == _WHITE:
            return rgb
        # OpenSlide's pixels are unpremultiplied: blend them onto white.
        weight = alpha[..., None].astype(np.uint16)
        blended = (rgb * weight + _WHITE * (_WHITE - weight) + _WHITE // 2) // _WHITE
        return blended.astype(np.uint8)


def resample(rgb: RgbArray, width: int, height: int) -> RgbArray:
    """Resize by area averaging, or by linear interpolation along a direction that grows."""
    if rgb.shape[:2] == (height, width):
        return rgb
    shrinks = rgb.shape[0] >= height and rgb.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)


def fingerprint(path: Path | str) -> str:
    """Quick identity of a slide file: a hash of its head, its tail and its size.

    Raises:
        InputError: the file cannot be read.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest = hashlib.sha256(f"glombridge fingerprint 1 {size}\n".encode())
            digest.update(file.read(_FINGERPRINT_BYTES))
            file.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(file.read(_FINGERPRINT_BYTES))
    except OSError as error:
        msg = f"slide {path.name!r} cannot be read: {error.strerror or error}"
        raise InputError(msg) from error
    return digest.hexdigest()


def _open(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        msg = f"slide {path.name!r} is not there ({path}). Was it moved?"
        raise InputError(msg)
    _check_is_file(path)
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        # OpenSlide says the same of a file that the disk or the share does not give.
        fingerprint(path)
        msg = f"{path.name!r} is not a slide that OpenSlide can read ({path})"
        raise InputError(msg) from error
    except (openslide.OpenSlideError, OSError) as error:
        msg = f"slide {path.name!r} cannot be opened: {error} ({path})"
        raise InputError(msg) from error


def _check_is_file(path: Path) -> None:
    """Opening a pipe waits for whoever writes into it, and a device may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        msg = f"slide {path.name!r} is neither a file nor a folder ({path})"
        raise InputError(msg)


def _broken_levels(dimensions: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    width0, height0 = dimensions[0]
    broken = []
    for level, (width, height) in enumerate(dimensions):
        across, down = width0 / width, height0 / height
        # Sizes are whole pixels: a level of 15 px may be off by a fifteenth.
        allowed = max(_LEVEL_SKEW, 2 / min(width, height))
        if abs(across / down - 1) > allowed:
            broken.append(level)
    return tuple(broken)


def _rounded(start_level0: float, length_level0: float, downsample: float) -> tuple[int, int]:
    begin = round(start_level0 / downsample)
    return begin, max(begin + 1, round((start_level0 + length_level0) / downsample))
