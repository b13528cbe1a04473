"""The JPEG blocks of a tiled TIFF or SVS, decoded without the detour through OpenSlide's canvas.

OpenSlide decodes each block with libjpeg-turbo, as is done here, but then paints it onto a canvas
with an alpha channel, which costs several times the decoding. The pixels are the same: only files
whose levels are laid out in the one way that leaves nothing to interpret are read so, one block of
each level is compared with OpenSlide's before the first is used, and everything else, a block that
is missing or damaged among it, is left to OpenSlide.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

log = logging.getLogger(__name__)

_VENDORS = ("aperio", "generic-tiff")  # the others move, overlap or assemble their blocks
_JPEG = 7
_COLOURS = {2: "RGB", 6: "YCBCR"}  # TIFF photometric; what OpenSlide tells libjpeg, too
_MOST_BLOCK_PX = 4096
_UNREADABLE = (
    tifffile.TiffFileError,
    struct.error,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
)

_MOST_ROUNDING = 1  # grey levels that another build of libjpeg may round differently
_MOST_SHIFTED = 8.0  # mean grey levels where OpenSlide moves a level by a part of a pixel

OpenSlideReader = Callable[[int, int, int, int, int], NDArray[np.uint8]]
"""Level, x and y in its pixels, width and height, to RGB as OpenSlide gives it."""


@dataclass(frozen=True)
class _Level:
    """Where the blocks of one pyramid level lie in the file."""

    width: int
    height: int
    block_width: int
    block_height: int
    columns: int
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    tables: bytes | None
    colours: str


class JpegBlocks:
    """The levels of one file that can be decoded block by block. Threads may share one object."""

    def __init__(self, path: Path, levels: dict[int, _Level]) -> None:
        self._levels = levels
        self._lock = threading.Lock()
        self._file = path.open("rb")

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    @property
    def levels(self) -> tuple[int, ...]:
        """Pyramid levels that :meth:`read` can give."""
        return tuple(self._levels)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8] | None:
        """Pixels of a level, in its own pixels.

        Args:
            level: pyramid level, as OpenSlide counts.
            x, y: left top corner.
            width, height: of the result. It must lie inside the level.

        Returns:
            Shape (height, width, 3), uint8 RGB; ``None`` where OpenSlide has to decide.
        """
        at = self._levels.get(level)
        if at is None or not _is_inside(at, x, y, width, height):
            return None
        if (width, height) == (at.block_width, at.block_height):
            column, row = x // width, y // height
            if (x, y) == (column * width, row * height):
                return self._block(at, row * at.columns + column)
        rgb = np.empty((height, width, 3), np.uint8)
        for row in range(y // at.block_height, -(-(y + height) // at.block_height)):
            for column in range(x // at.block_width, -(-(x + width) // at.block_width)):
                block = self._block(at, row * at.columns + column)
                if block is None:
                    return None
                left, top = column * at.block_width, row * at.block_height
                x0, y0 = max(x, left), max(y, top)
                x1 = min(x + width, left + at.block_width)
                y1 = min(y + height, top + at.block_height)
                rgb[y0 - y : y1 - y, x0 - x : x1 - x] = block[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return rgb

    def _block(self, level: _Level, index: int) -> NDArray[np.uint8] | None:
        size = int(level.sizes[index])
        if size <= 0:
            return None  # not stored
        try:
            with self._lock:
                self._file.seek(int(level.offsets[index]))
                data = self._file.read(size)
        except OSError as error:
            # A share that has gone: OpenSlide meets the same and says so with the slide's name.
            log.info("block %d: %s", index, error)
            return None
        if len(data) != size:
            return None
        # Its place is made here: a block of 2 kB may say of itself that it is 65,500 px wide, and
        # the decoder would make room for that before anybody could look.
        block = np.empty((level.block_height, level.block_width, 3), np.uint8)
        try:
            imagecodecs.jpeg8_decode(
                data,
                tables=level.tables,
                colorspace=level.colours,
                outcolorspace="RGB",
                out=block,
            )
        except (imagecodecs.Jpeg8Error, ValueError, RuntimeError):
            return None
        return block

    def _agrees(self, level: int, downsample: float, openslide: OpenSlideReader) -> bool:
        """Whether the block with most to see is what OpenSlide gives at the same place."""
        at = self._levels[level]
        row, column = divmod(int(at.sizes.argmax()), at.columns)
        x, y = column * at.block_width, row * at.block_height
        size = min(at.block_width, at.width - x), min(at.block_height, at.height - y)
        here = self.read(level, x, y, *size)
        if here is None:
            return False
        difference = np.abs(here.astype(np.int16) - openslide(level, x, y, *size))
        # OpenSlide is asked in level-0 pixels: where they do not fall on the level's pixels it
        # interpolates, and only a likeness can be asked for.
        is_exact = all(abs(v * downsample - round(v * downsample)) < 1e-6 for v in (x, y)) and (
            round(downsample) == downsample
        )
        if is_exact:
            return int(difference.max()) <= _MOST_ROUNDING
        return float(difference.mean()) <= _MOST_SHIFTED


def open_jpeg_blocks(
    path: Path,
    vendor: str,
    dimensions: tuple[tuple[int, int], ...],
    downsamples: tuple[float, ...],
    openslide: OpenSlideReader,
) -> JpegBlocks | None:
    """The levels of a file that are certain to be what OpenSlide reads.

    Args:
        path: the slide file.
        vendor: OpenSlide's word for its format.
        dimensions: width and height of each level, as OpenSlide says.
        downsamples: level-0 px per px of each level.
        openslide: reads a level through OpenSlide, to compare with.

    Returns:
        ``None`` where no level is.
    """
    if vendor not in _VENDORS:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            found: dict[tuple[int, int], list[_Level | None]] = {}
            for page in tiff.pages:
                if not isinstance(page, tifffile.TiffPage):  # of a frame only places are known
                    return None
                size = int(page.imagewidth), int(page.imagelength)
                found.setdefault(size, []).append(_level(page))
    except _UNREADABLE:
        return None
    levels: dict[int, _Level] = {}
    for number, size in enumerate(dimensions):
        candidates = found.get(size, [])
        # Two pages of one size: which of them OpenSlide takes for the level is a guess.
        level = candidates[0] if len(candidates) == 1 else None
        if level is None:
            continue
        # Where an Aperio file stores no block, OpenSlide 4 paints finer levels made smaller there,
        # and over the edges of its neighbours. In a generic TIFF such a block is just empty.
        if vendor == "aperio" and not level.sizes.all():
            continue
        levels[number] = level
    if not levels:
        return None
    blocks = JpegBlocks(path, levels)
    for number in list(levels):
        if not blocks._agrees(number, downsamples[number], openslide):
            del levels[number]
    if levels:
        return blocks
    blocks.close()
    return None


def _level(page: tifffile.TiffPage) -> _Level | None:
    """A page as a level, ``None`` if there is anything about it to interpret."""
    if not page.is_tiled or int(page.compression) != _JPEG or int(page.planarconfig) != 1:
        return None
    colours = _COLOURS.get(int(page.photometric))
    if colours is None or page.samplesperpixel != 3 or page.bitspersample != 8:
        return None
    width, height = int(page.tilewidth), int(page.tilelength)
    if not 0 < width <= _MOST_BLOCK_PX or not 0 < height <= _MOST_BLOCK_PX:
        return None
    columns, rows = -(-int(page.imagewidth) // width), -(-int(page.imagelength) // height)
    offsets = np.array(page.dataoffsets, np.int64)
    sizes = np.array(page.databytecounts, np.int64)
    if len(offsets) != columns * rows or len(sizes) != columns * rows:
        return None
    return _Level(
        int(page.imagewidth),
        int(page.imagelength),
        width,
        height,
        columns,
        offsets,
        sizes,
        page.jpegtables,
        colours,
    )


def _is_inside(level: _Level, x: int, y: int, width: int, height: int) -> bool:
    return (
        width > 0
        and height > 0
        and x >= 0
        and y >= 0
        and x + width <= level.width
        and y + height <= level.height
    )
