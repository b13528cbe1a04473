"""Where a slide shows tissue, found on a coarse overview."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..frames import Frame
from .reader import RgbArray, Slide
from .strips import Region, read_regions

CELL_UM = 8.0
"""Side of a cell of the mask in µm: a glomerulus is 20 cells wide, a 100,000 px slide 3,000."""

_GUESSED_MPP = 0.5  # for a slide without a pixel size: only the size of a cell depends on it
_PIECE_CELLS = 256
_MOST_PIECE_PX = 8192  # of the level that an overview is made from: 200 MB
_MOST_OVERVIEW_PX = 50_000_000_000  # 22 x 22 cm without a smaller level; an hour to decode
_MOST_CELLS = 12_000_000  # 3 x 2.5 cm in cells of 8 µm

# Optical densities, log10. Empty glass and its dust stay below 0.04; pale stains (a thin PAS or a
# bleached H&E) begin near 0.09; Otsu between glass and a dark stain can land as high as 0.3, which
# would lose pale tissue beside dark tissue.
_LEAST_DENSITY = 0.05
_MOST_DENSITY = 0.08
_STAINED_DENSITY = 0.16  # an even field this dense is tissue, not dirty glass
_LEAST_SPAN = 0.05  # between glass and the densest hundredth; less is an empty slide
_SMALLEST_PIECE_UM = 80.0


@dataclass(frozen=True)
class TissueMask:
    """Which cells of a coarse grid over the image show tissue.

    Attributes:
        mask: shape (rows, columns), True where there is tissue.
        px_per_cell_x, px_per_cell_y: QuPath px along a side of a cell.
        background_rgb: mean colour of the glass; near white where no glass is seen.
    """

    mask: NDArray[np.bool_]
    px_per_cell_x: float
    px_per_cell_y: float
    background_rgb: tuple[int, int, int]

    def shares(self, boxes_px: ArrayLike) -> NDArray[np.float64]:
        """Share of tissue in boxes of QuPath px, shape (n, 4); every cell touched counts."""
        boxes = np.asarray(boxes_px, float).reshape(-1, 4)
        rows, columns = self.mask.shape
        left, right = _cells(boxes[:, 0], boxes[:, 2], self.px_per_cell_x, columns)
        top, bottom = _cells(boxes[:, 1], boxes[:, 3], self.px_per_cell_y, rows)
        total = np.zeros((rows + 1, columns + 1))
        total[1:, 1:] = self.mask.cumsum(0).cumsum(1)
        count = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        share: NDArray[np.float64] = count / ((right - left) * (bottom - top))
        return share


def tissue_mask(slide: Slide, *, cell_um: float = CELL_UM) -> TissueMask:
    """Find the tissue of a slide.

    Args:
        slide: to look at.
        cell_um: side of a cell in µm; twice or four times as much where a slide is so large that
            its cells would not fit into little memory.

    Raises:
        InputError: the file is damaged.
    """
    frame = slide.frame if slide.frame.mpp_x else slide.frame.with_mpp(_GUESSED_MPP)
    while math.prod(frame.target_size_px(cell_um)) > _MOST_CELLS:
        cell_um *= 2
    rgb, frame = overview(slide, cell_um)
    mask, background = tissue_of(rgb, cell_um)
    scale_x, scale_y = frame.target_scale(cell_um)
    return TissueMask(mask, 1 / scale_x, 1 / scale_y, background)


def overview(slide: Slide, mpp: float) -> tuple[RgbArray, Frame]:
    """The whole image at a coarse resolution, and the frame with the pixel size that was used.

    Read in pieces, so that a huge slide without a pyramid needs no more memory than its overview.

    Raises:
        InputError: the file is damaged, or of an absurd size without a smaller level.
    """
    if slide.frame.mpp_x is None:
        with Slide(slide.path, slide.frame.with_mpp(_GUESSED_MPP)) as scaled:
            return overview(scaled, mpp)
    frame = slide.frame
    scale_x, scale_y = frame.target_scale(mpp)
    width, height = frame.target_size_px(mpp)
    piece = _piece_cells(slide, mpp)
    corners = [(x, y) for y in range(0, height, piece) for x in range(0, width, piece)]
    regions = [
        Region(x / scale_x, y / scale_y, min(piece, width - x), min(piece, height - y))
        for x, y in corners
    ]
    rgb = np.empty((height, width, 3), np.uint8)
    for index, pixels in read_regions(slide, regions, mpp=mpp):
        x, y = corners[index]
        rgb[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return rgb, frame


def _piece_cells(slide: Slide, mpp: float) -> int:
    """Cells along a side of the pieces that an overview is read in."""
    whole = slide.window(0, 0, *slide.frame.target_size_px(mpp), mpp=mpp)
    if whole.width * whole.height > _MOST_OVERVIEW_PX:
        msg = (
            f"slide {slide.path.name!r} says that it is {slide.frame.width_px} x "
            f"{slide.frame.height_px} px, and holds no smaller level to look at first. If that is "
            "its true size, save it with a pyramid."
        )
        raise InputError(msg)
    cells = _PIECE_CELLS
    while cells > 1 and max(slide.window(0, 0, cells, cells, mpp=mpp)[3:]) > _MOST_PIECE_PX:
        cells //= 2
    return cells


def tissue_of(rgb: RgbArray, cell_um: float) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
    """Tissue and glass of an overview.

    Optical density against the glass, thresholded by Otsu's method within limits that hold for
    kidney stains from pale PAS to silver. Pen marks are left out before the threshold is chosen:
    ink is many times denser and would lift it above pale tissue.

    Args:
        rgb: overview, shape (rows, columns, 3).
        cell_um: µm per px of it.

    Returns:
        The mask, shape (rows, columns), and the mean colour of the glass.
    """
    smooth = np.asarray(cv2.medianBlur(rgb, 3), np.uint8)
    glass = _glass(smooth)
    density = _density(smooth, glass)
    pen = _pen(smooth)
    seen = density[~pen]
    empty = np.zeros(rgb.shape[:2], bool)
    if seen.size == 0 or np.percentile(seen, 99) - np.percentile(seen, 1) < _LEAST_SPAN:
        # One even colour: glass, unless the whole overview is evenly stained.
        is_stained = seen.size > 0 and float(np.median(seen)) > _STAINED_DENSITY
        return (~pen if is_stained else empty), glass
    threshold = float(np.clip(_otsu(seen), _LEAST_DENSITY, _MOST_DENSITY))
    dense = ((density > threshold) & ~pen).astype(np.uint8)
    opened = cv2.morphologyEx(dense, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    close = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, close)
    return _without_specks(np.asarray(closed, np.uint8), cell_um), glass


def _density(rgb: RgbArray, glass: tuple[int, int, int]) -> NDArray[np.float32]:
    """Optical density against the glass in the densest channel, 0 to 2, shape (rows, columns).

    Every stain absorbs somewhere, and colour alone misses silver.
    """
    # In place and channel by channel: a huge slide has millions of cells.
    density: NDArray[np.float32] = np.ones(rgb.shape[:2], np.float32)
    for channel, clear in enumerate(glass):
        ratio: NDArray[np.float32] = rgb[..., channel].astype(np.float32)
        np.add(ratio, 1, out=ratio)
        np.divide(ratio, clear + 1, out=ratio)
        np.minimum(density, ratio, out=density)
    np.log10(density, out=density)
    np.negative(density, out=density)
    return np.clip(density, 0, 2, out=density)


def _glass(rgb: RgbArray) -> tuple[int, int, int]:
    """Mean colour of empty glass: the brightest, least coloured part of the overview."""
    brightest = rgb.min(axis=2)
    level = float(np.percentile(brightest, 95))
    if level < 190:  # all tissue: no glass to be seen, take a clean scanner white
        return 243, 243, 243
    chosen = rgb[brightest >= level - 6].reshape(-1, 3)
    red, green, blue = (round(float(v)) for v in chosen.mean(axis=0))
    return red, green, blue


def _pen(rgb: RgbArray) -> NDArray[np.bool_]:
    """Ink: vivid green, blue or red, or black. At this scale no stain is as vivid or as black."""
    hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    vivid = saturation > 130
    green = (hue >= 40) & (hue <= 88) & (saturation > 70)
    # Masson's blue collagen averages to a saturation below 160 and above a value of 120.
    blue = (hue >= 95) & (hue <= 125) & (saturation > 165)
    red = ((hue <= 8) | (hue >= 174)) & (saturation > 175)
    black = (value < 60) & ~vivid
    ink = (green | blue | red | black).astype(np.uint8)
    # Single cells are stain; a stroke is hundreds of µm wide. Its soft edge belongs to it.
    strokes = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return np.asarray(cv2.dilate(strokes, np.ones((5, 5), np.uint8)), bool)


def _otsu(density: NDArray[np.float32]) -> float:
    scaled = np.clip(density * 255, 0, 255).astype(np.uint8).reshape(-1, 1)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold) / 255


def _without_specks(mask: NDArray[np.uint8], cell_um: float) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= (_SMALLEST_PIECE_UM / cell_um) ** 2
    large[0] = False
    return np.asarray(large[labels], bool)


def _cells(
    low_px: NDArray[np.float64], high_px: NDArray[np.float64], px_per_cell: float, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first = np.clip(np.floor(low_px / px_per_cell).astype(np.intp), 0, count - 1)
    last = np.clip(np.ceil(high_px / px_per_cell).astype(np.intp), first + 1, count)
    return first, last
