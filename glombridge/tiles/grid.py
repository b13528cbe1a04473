"""Where the tiles of a slide lie: pure functions over a :class:`Frame` and a :class:`TileSpec`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, UsageError
from ..frames import Frame, check_mpp

_WHOLE_SLACK_PX = 1e-6  # a border that differs only by rounding still counts as inside

MOST_TILE_PX = 16_384
"""Longest side of a tile: one of 16,384 x 16,384 px has 800 MB."""
MOST_TILES = 2_000_000
"""Of one image. Planning as many takes seconds and some hundred MB; the paper's tiles on 200,000 x 200,000 px are
47,000."""


@dataclass(frozen=True)
class TileBox:
    """One tile.

    Attributes:
        index: place in the grid, row by row.
        column, row: place in the grid, from 0.
        x_target_px, y_target_px: left top corner in target px.
        width_target_px, height_target_px: size of the tile's pixel array.
        x_px, y_px, width_px, height_px: the same box in QuPath px.
    """

    index: int
    column: int
    row: int
    x_target_px: int
    y_target_px: int
    width_target_px: int
    height_target_px: int
    x_px: float
    y_px: float
    width_px: float
    height_px: float


@dataclass(frozen=True)
class TileSpec:
    """Size, overlap and resolution of tiles.

    Attributes:
        width_px, height_px: of a tile, in target px.
        overlap: a fraction of width and height (below 1), or target px for both (an ``int``), or
            ``"auto"`` (to be replaced with :func:`resolve_overlap` before a grid is made).
        mpp: µm per target px; ``None`` = the slide's own pixels.

    Raises:
        UsageError: a size below 1 or above :data:`MOST_TILE_PX`, or an overlap that leaves no step.
    """

    width_px: int
    height_px: int
    overlap: int | float | Literal["auto"] = 1 / 3
    mpp: float | None = None

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            msg = f"a tile must be at least 1 x 1 px, got {self.width_px} x {self.height_px}"
            raise UsageError(msg)
        if max(self.width_px, self.height_px) > MOST_TILE_PX:
            msg = (
                f"a tile must be at most {MOST_TILE_PX} px wide and high, and is {self.width_px} x "
                f"{self.height_px} px or more. Choose smaller tiles or a coarser --mpp."
            )
            raise UsageError(msg)
        if self.mpp is not None:
            check_mpp(self.mpp)
        if self.overlap != "auto":
            self._check_overlap(self.overlap)

    @classmethod
    def in_um(
        cls,
        width_um: float,
        height_um: float,
        *,
        mpp: float,
        overlap_um: float | None = None,
        overlap: int | float | Literal["auto"] = 1 / 3,
    ) -> TileSpec:
        """From sizes in µm, rounded to whole target px; ``overlap_um`` wins over ``overlap``."""
        check_mpp(mpp)
        # What is beyond any tile stays a number: a tiny mpp gives an infinite one.
        width, height = (
            max(1, round(min(um / mpp, MOST_TILE_PX + 1))) for um in (width_um, height_um)
        )
        if overlap_um is not None:
            overlap = math.ceil(min(overlap_um / mpp, MOST_TILE_PX + 1) - _WHOLE_SLACK_PX)
        return cls(width, height, overlap, mpp)

    @property
    def stride_px(self) -> tuple[int, int]:
        """Step between neighbouring tiles along x and y in target px, rounded down.

        Raises:
            UsageError: the overlap is still ``"auto"``.
        """
        if self.overlap == "auto":
            msg = "the overlap 'auto' must be resolved from the annotations first (resolve_overlap)"
            raise UsageError(msg)
        return self._stride(self.width_px, self.overlap), self._stride(self.height_px, self.overlap)

    @property
    def overlap_px(self) -> tuple[int, int]:
        """Overlap of neighbouring tiles along x and y in target px."""
        stride_x, stride_y = self.stride_px
        return self.width_px - stride_x, self.height_px - stride_y

    @staticmethod
    def _stride(size_px: int, overlap: int | float) -> int:
        if isinstance(overlap, int):
            return size_px - overlap
        # Exact arithmetic: as floats, 10 px at an overlap of 0.9 would give a step of 0.
        share = Fraction(overlap).limit_denominator(100_000)
        return math.floor(size_px * (1 - share))

    def _check_overlap(self, overlap: int | float) -> None:
        if isinstance(overlap, bool) or not math.isfinite(overlap) or overlap < 0:
            msg = f"an overlap must be a number of 0 or more, or 'auto', got {overlap!r}"
            raise UsageError(msg)
        if min(self._stride(self.width_px, overlap), self._stride(self.height_px, overlap)) < 1:
            given = f"{overlap} px" if isinstance(overlap, int) else f"{overlap:.4g} of the tile"
            msg = (
                f"an overlap of {given} leaves no step between tiles of {self.width_px} x "
                f"{self.height_px} px. Choose a smaller overlap or larger tiles."
            )
            raise UsageError(msg)


PAPER = TileSpec(width_px=1600, height_px=1200, overlap=1 / 3)
"""1600 x 1200 px of the slide itself, overlapping by one third in width and in height."""


@dataclass(frozen=True)
class Grid(Sequence[TileBox]):
    """All tiles of one image, row by row from the top left.

    Neighbours are one stride apart; the last column and row are moved back to end at the image's
    edge, and fall away where they would repeat the one before. An image smaller than a tile gives
    one tile that reaches over the edge (its reader pads it with white).
    """

    frame: Frame
    spec: TileSpec
    x_starts: tuple[int, ...]
    y_starts: tuple[int, ...]
    scale_x: float
    scale_y: float

    @classmethod
    def of(cls, frame: Frame, spec: TileSpec) -> Grid:
        """Lay tiles over an image.

        Raises:
            InputError: the spec names a resolution and the image has no pixel size.
            UsageError: the overlap is still ``"auto"``.
        """
        stride_x, stride_y = spec.stride_px
        width, height = frame.target_size_px(spec.mpp)
        return cls(
            frame,
            spec,
            axis_starts(width, spec.width_px, stride_x),
            axis_starts(height, spec.height_px, stride_y),
            *frame.target_scale(spec.mpp),
        )

    def __len__(self) -> int:
        return len(self.x_starts) * len(self.y_starts)

    @overload
    def __getitem__(self, index: int) -> TileBox: ...
    @overload
    def __getitem__(self, index: slice) -> list[TileBox]: ...
    def __getitem__(self, index: int | slice) -> TileBox | list[TileBox]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            msg = f"tile {index} of {len(self)}"
            raise IndexError(msg)
        return self._tile(index % len(self))

    def __iter__(self) -> Iterator[TileBox]:
        return map(self._tile, range(len(self)))

    def _tile(self, index: int) -> TileBox:
        row, column = divmod(index, len(self.x_starts))
        x, y = self.x_starts[column], self.y_starts[row]
        return TileBox(
            index,
            column,
            row,
            x,
            y,
            self.spec.width_px,
            self.spec.height_px,
            x / self.scale_x,
            y / self.scale_y,
            self.spec.width_px / self.scale_x,
            self.spec.height_px / self.scale_y,
        )

    def boxes_px(self) -> NDArray[np.float64]:
        """Every tile as left, top, right, bottom in QuPath px, shape (n, 4)."""
        x = np.asarray(self.x_starts, float) / self.scale_x
        y = np.asarray(self.y_starts, float) / self.scale_y
        left, top = (a.ravel() for a in np.meshgrid(x, y))
        right = left + self.spec.width_px / self.scale_x
        bottom = top + self.spec.height_px / self.scale_y
        return np.column_stack([left, top, right, bottom])


def check_tile_count(frame: Frame, spec: TileSpec) -> None:
    """Refuse tiles of which an image has more than :data:`MOST_TILES`, before any is laid out.

    The overlap ``"auto"`` is taken for none, which gives the fewest tiles there can be.

    Raises:
        InputError: there are more, or the spec names a resolution and the image has no pixel size.
    """
    size_px = frame.target_size_px(spec.mpp)
    tile_px = (spec.width_px, spec.height_px)
    stride_px = tile_px if spec.overlap == "auto" else spec.stride_px
    count = math.prod(map(_axis_count, size_px, tile_px, stride_px))
    if count > MOST_TILES:
        at = "" if spec.mpp is None else f" at mpp = {spec.mpp:g}"
        msg = (
            f"image {frame.image_name!r} of {frame.width_px} x {frame.height_px} px would have {count:,} "
            f"tiles, and at most {MOST_TILES:,} can be laid over one image: tiles of {spec.width_px} x "
            f"{spec.height_px} px{at}, one every {stride_px[0]} x {stride_px[1]} px. Choose larger tiles "
            "(width_px, height_px), a smaller overlap or a coarser mpp in [tiles] of the settings, or "
            "correct the pixel size of the image."
        )
        raise InputError(msg)


def _axis_count(length_px: int, tile_px: int, stride_px: int) -> int:
    """How many starts :func:`axis_starts` gives."""
    return 1 if length_px <= tile_px else 1 - (tile_px - length_px) // stride_px


def axis_starts(length_px: int, tile_px: int, stride_px: int) -> tuple[int, ...]:
    """Where tiles begin along one axis; all in target px. The last one ends at ``length_px``."""
    if length_px <= tile_px:
        return (0,)
    last = length_px - tile_px
    return (*range(0, last, stride_px), last)


def resolve_overlap(
    spec: TileSpec, frames_and_boxes: Sequence[tuple[Frame, ArrayLike]]
) -> TileSpec:
    """Replace the overlap ``"auto"`` by the smallest that keeps every object whole in some tile.

    That is the extent of the largest object, wherever on the slide it lies: along one axis, some
    tile begins less than a stride before the object, so an object no longer than tile minus stride
    ends inside it. A spec with a given overlap is returned as it is.

    Args:
        spec: the tiles wanted.
        frames_and_boxes: per image its frame and its objects: left, top, right, bottom in
            QuPath px, shape (n, 4).

    Raises:
        InputError: an object is as large as a tile, or an image has no pixel size.
    """
    if spec.overlap != "auto":
        return spec
    largest_px = 0.0
    largest_image = ""
    for frame, boxes in frames_and_boxes:
        clipped = _target_boxes(frame, spec.mpp, boxes)
        if len(clipped) == 0:
            continue
        extent = float((clipped[:, 2:] - clipped[:, :2]).max())
        if extent > largest_px:
            largest_px, largest_image = extent, frame.image_name
    overlap_px = math.ceil(largest_px - _WHOLE_SLACK_PX)
    if overlap_px >= min(spec.width_px, spec.height_px):
        msg = (
            f"no overlap keeps every object whole: image {largest_image!r} has an object "
            f"{largest_px:.0f} px long, and a tile is {spec.width_px} x {spec.height_px} px. "
            "Choose larger tiles or a coarser --mpp, or correct that object."
        )
        raise InputError(msg)
    return replace(spec, overlap=overlap_px)


def whole_object_check(grid: Grid, boxes_px: ArrayLike) -> NDArray[np.intp]:
    """Which objects are whole in no tile.

    Args:
        grid: the tiles.
        boxes_px: objects as left, top, right, bottom in QuPath px, shape (n, 4). What lies outside
            the image is left out of account, since no tile can show it.

    Returns:
        Indices into ``boxes_px``, ascending.
    """
    boxes = _target_boxes(grid.frame, grid.spec.mpp, boxes_px)
    whole = np.ones(len(boxes), bool)
    for axis, starts, size in (
        (0, grid.x_starts, grid.spec.width_px),
        (1, grid.y_starts, grid.spec.height_px),
    ):
        begin = np.asarray(starts)
        # The last tile that begins at or before the object reaches furthest beyond it.
        nearest = np.searchsorted(begin, boxes[:, axis] + _WHOLE_SLACK_PX, side="right") - 1
        end = begin[np.maximum(nearest, 0)] + size
        whole &= (nearest >= 0) & (boxes[:, axis + 2] <= end + _WHOLE_SLACK_PX)
    return np.flatnonzero(~whole)


def _target_boxes(frame: Frame, mpp: float | None, boxes_px: ArrayLike) -> NDArray[np.float64]:
    boxes = np.asarray(boxes_px, float).reshape(-1, 4)
    limit = np.array([frame.width_px, frame.height_px] * 2, float)
    clipped: NDArray[np.float64] = np.clip(boxes, 0, limit) * (frame.target_scale(mpp) * 2)
    return clipped
