"""Overlapping tiles of a slide with each part of it decoded once, in bounded memory.

The pyramid level is cut into blocks, each a whole number of the file's own compressed blocks. A
block is decoded when the first tile needs it and forgotten when no later tile does, so what two
tiles share is decoded once and areas without tiles are never touched. A tile's window of level
pixels (:meth:`Slide.window`) is put together from blocks and resampled by itself: the numbers that
go in are those of :meth:`Slide.read_region`, hence so are those that come out.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .reader import RgbArray, Slide, Window, resample

_DIRECT_AIM_PX = 256
_BLOCK_AIM_PX = 512  # large enough that a read costs little beside its decoding
_DEFAULT_MAX_BYTES = 96 * 1024 * 1024


class Region(NamedTuple):
    """A region to cut: left top corner in QuPath px, size in px of the result."""

    x_px: float
    y_px: float
    width: int
    height: int


def read_regions(
    slide: Slide,
    regions: Sequence[Region],
    *,
    mpp: float | None,
    max_bytes: int = _DEFAULT_MAX_BYTES,
) -> Iterator[tuple[int, RgbArray]]:
    """Cut many regions of one slide.

    They come in the order that needs least memory: band by band from the left, each from the top.
    A band is as wide as ``max_bytes`` of decoded blocks allow, so memory does not grow with the
    slide; only blocks on the border between two bands are decoded twice.

    Args:
        slide: to read from.
        regions: what to cut, in any order.
        mpp: µm per px of the results; ``None`` = the slide's own pixels.
        max_bytes: bound on decoded blocks kept, as far as one row of blocks below one tile allows.

    Yields:
        Index into ``regions`` and the pixels, as :meth:`Slide.read_region` gives them.

    Raises:
        InputError: the slide has no pixel size, or its file is damaged.
    """
    if not regions:
        return
    windows = [slide.window(*region, mpp=mpp) for region in regions]
    blocks = _Blocks(slide, windows[0].level)
    for band in _bands(windows, blocks, max_bytes):
        order = sorted(band, key=lambda i: (windows[i].y, windows[i].x))
        blocks.expect(windows[i] for i in order)
        for index in order:
            region = regions[index]
            pixels = blocks.take(windows[index])
            yield index, resample(pixels, region.width, region.height)


def split_regions(
    slide: Slide,
    regions: Sequence[Region],
    *,
    mpp: float | None,
    pieces: int,
    max_bytes: int = _DEFAULT_MAX_BYTES,
) -> list[list[int]]:
    """Share regions out so that several threads can cut one slide.

    Each part is a band or some rows of one, so that only blocks at the seams are decoded twice.
    How regions are shared out changes no pixel of them.

    Args:
        slide: they are of.
        regions: what will be cut.
        mpp: µm per px of the results.
        pieces: parts wanted; there may be fewer, or more where memory asks for more bands.
        max_bytes: as for :func:`read_regions`.

    Returns:
        Indices into ``regions``; each stands in exactly one part.

    Raises:
        InputError: the slide has no pixel size.
    """
    if not regions:
        return []
    windows = [slide.window(*region, mpp=mpp) for region in regions]
    bands = _bands(windows, _Blocks(slide, windows[0].level), max_bytes)
    per_band = math.ceil(pieces / len(bands))
    return [part for band in bands for part in _rows_of(band, windows, per_band)]


class _Blocks:
    """Decoded blocks of one level, each kept until the last window that needs it was taken."""

    def __init__(self, slide: Slide, level: int) -> None:
        self._slide = slide
        self._level = level
        file_width, file_height = slide.level_block_px(level)
        # Blocks decoded one by one need no joining; each question to OpenSlide has its price.
        aim = _DIRECT_AIM_PX if level in slide.direct_levels else _BLOCK_AIM_PX
        self.width = file_width * max(1, aim // file_width)
        self.height = file_height * max(1, aim // file_height)
        # Odd layouts (one block per line, or per level) must not decide what a read costs.
        if max(self.width, self.height) > 4 * _BLOCK_AIM_PX:
            self.width = self.height = _BLOCK_AIM_PX
        self._kept: dict[tuple[int, int], RgbArray] = {}
        self._awaited: defaultdict[tuple[int, int], int] = defaultdict(int)

    def expect(self, windows: Iterator[Window]) -> None:
        """Say which windows will be taken."""
        for window in windows:
            for key in self._keys(window):
                self._awaited[key] += 1

    def take(self, window: Window) -> RgbArray:
        """Put a window together, and forget blocks that nobody else awaits."""
        pixels = np.empty((window.height, window.width, 3), np.uint8)
        for column, row in self._keys(window):
            block = self._block(column, row)
            left, top = column * self.width, row * self.height
            x0, y0 = max(window.x, left), max(window.y, top)
            x1 = min(window.x + window.width, left + self.width)
            y1 = min(window.y + window.height, top + self.height)
            pixels[y0 - window.y : y1 - window.y, x0 - window.x : x1 - window.x] = block[
                y0 - top : y1 - top, x0 - left : x1 - left
            ]
            self._awaited[column, row] -= 1
            if self._awaited[column, row] == 0:
                del self._awaited[column, row], self._kept[column, row]
        return pixels

    def _block(self, column: int, row: int) -> RgbArray:
        key = (column, row)
        if key not in self._kept:
            self._kept[key] = self._slide.read_level(
                Window(self._level, column * self.width, row * self.height, self.width, self.height)
            )
        return self._kept[key]

    def _keys(self, window: Window) -> list[tuple[int, int]]:
        columns = range(window.x // self.width, -(-(window.x + window.width) // self.width))
        rows = range(window.y // self.height, -(-(window.y + window.height) // self.height))
        return [(column, row) for row in rows for column in columns]


def _bands(windows: Sequence[Window], blocks: _Blocks, max_bytes: int) -> list[list[int]]:
    """Indices of the windows, grouped by their left edge into bands of bounded width."""
    tallest = max(window.height for window in windows)
    # A window touches at most this many rows of blocks, and one more row may be half used.
    rows = math.ceil(tallest / blocks.height) + 1
    most = max(1, max_bytes // (rows * blocks.width * blocks.height * 3))
    order = sorted(range(len(windows)), key=lambda i: windows[i].x)
    count = len(_cut_at(order, windows, most * blocks.width))
    # As few bands as memory allows, and then as even as they come: threads share them.
    columns = bisect.bisect_left(
        range(1, most + 1),
        True,
        key=lambda n: len(_cut_at(order, windows, n * blocks.width)) <= count,
    )
    return _cut_at(order, windows, (columns + 1) * blocks.width)


def _cut_at(order: Sequence[int], windows: Sequence[Window], band_px: int) -> list[list[int]]:
    bands: list[list[int]] = []
    band_left = -math.inf
    for index in order:
        window = windows[index]
        # One column of tiles always fits, however wide a tile is.
        is_full = window.x > band_left and window.x + window.width > band_left + band_px
        if is_full:
            bands.append([])
            band_left = window.x
        bands[-1].append(index)
    return bands


def _rows_of(band: list[int], windows: Sequence[Window], pieces: int) -> list[list[int]]:
    """A band in parts of as many windows, row by row."""
    order = sorted(band, key=lambda i: (windows[i].y, windows[i].x))
    cuts = sorted({round(len(order) * k / pieces) for k in range(pieces + 1)})
    return [order[begin:end] for begin, end in itertools.pairwise(cuts)]
