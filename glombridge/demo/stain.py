"""From dye to colour: stain, thickness and texture of the section, glass, lamp and focus."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from .anatomy import Anatomy
from .canvas import Image
from .study import Stain

_ABSORBANCE: dict[Stain, NDArray[np.float64]] = {
    # Rows: haematoxylin, matrix dye, cytoplasm dye at full strength; columns: red, green, blue.
    Stain.PAS: np.array([[1.45, 1.30, 0.62], [0.30, 1.15, 0.52], [0.17, 0.50, 0.23]]),
    Stain.HE: np.array([[1.50, 1.45, 0.65], [0.16, 0.85, 0.40], [0.10, 0.72, 0.36]]),
}

_ABSORBANCE_STEP = 110.0
"""A stored absorbance of this many units lets 1/e of the light through."""

_STRIP_PX = 256
_TEXTURE_PX = 512
_GLASS_UM = 16
"""Pixel size of what varies slowly: lamp, pen, bubbles, thickness."""

_SHIFT = 4
"""cv2 takes coordinates as integers with this many binary places."""

_PEN_COLORS = ((40, 70, 190), (30, 120, 70), (45, 45, 55))


def develop(dyes: Image, anatomy: Anatomy, stain: Stain, rng: np.random.Generator) -> Image:
    """Turn a canvas of dyes into an RGB image of the same shape, in place.

    Args:
        dyes: shape (height, width, 3), 1 µm per pixel; its memory becomes the image's.
        anatomy: for folds, pen marks and bubbles.
        stain: of the slide.
        rng: each slide's hue, strength, blur and lamp come from it.

    Returns:
        The same array, now holding red, green, blue.
    """
    height, width = dyes.shape[:2]
    for fold in anatomy.folds:
        _fold_over(dyes, fold)
    matrix = _stain_matrix(stain, rng)
    light = np.exp(-np.arange(256) / _ABSORBANCE_STEP) * 255.0
    table = np.round(light).astype(np.uint8)
    texture = _texture(rng, width)
    thickness = _slow_noise(rng, height, width, amplitude=0.10, scale_px=14)
    glass = _glass(anatomy, height, width, rng)
    sigma = rng.uniform(0.55, 1.05)
    pad = math.ceil(4 * sigma)
    # Strips keep temporaries small; each is blurred with rows of its neighbours around it.
    above: Image | None = None
    for top in range(0, height, _STRIP_PX):
        bottom = min(top + _STRIP_PX, height)
        below = dyes[bottom : bottom + pad]
        parts = [dyes[top:bottom], below] if above is None else [above, dyes[top:bottom], below]
        n_above = 0 if above is None else len(above)
        above = dyes[bottom - pad : bottom].copy()
        lamp = _stretch(glass, top, bottom, height, width)
        if parts[-2].any():
            strip = cv2.GaussianBlur(np.vstack(parts), (0, 0), sigma)
            strip = strip[n_above : n_above + bottom - top]
            strip = cv2.multiply(strip, texture[: bottom - top], scale=1 / 128)
            thick = cv2.merge([_stretch(thickness, top, bottom, height, width)] * 3)
            strip = cv2.multiply(strip, thick, scale=1 / 200)
            color = cv2.LUT(cv2.transform(strip, matrix), table)
            dyes[top:bottom] = cv2.multiply(color, lamp, scale=1 / 255)
        else:
            dyes[top:bottom] = lamp
    return dyes


def _stain_matrix(stain: Stain, rng: np.random.Generator) -> NDArray[np.float64]:
    """3 x 3: from dyes to stored absorbance, with this slide's own strength and hue."""
    absorbance = _ABSORBANCE[stain] * rng.uniform(0.82, 1.2)
    absorbance = absorbance * rng.uniform(0.86, 1.16, (3, 1)) * rng.uniform(0.9, 1.1, (3, 3))
    return np.ascontiguousarray(absorbance.T) * (_ABSORBANCE_STEP / 255.0)


def _texture(rng: np.random.Generator, width: int) -> Image:
    """Fine and coarse grain of the dyes about 128, one strip high, repeating to the right."""
    shape = (_STRIP_PX, _TEXTURE_PX)
    grain = np.zeros((*shape, 3), np.float32)
    for sigma, strength in ((0.8, 0.07), (2.4, 0.065), (7.0, 0.04)):
        noise = rng.standard_normal((*shape, 3), np.float32)
        # Wrapping the border before the blur makes the tile repeat without a seam.
        margin = int(4 * sigma) + 1
        wrapped = np.pad(noise, ((margin, margin), (margin, margin), (0, 0)), mode="wrap")
        soft = cv2.GaussianBlur(wrapped, (0, 0), sigma)[margin:-margin, margin:-margin]
        grain += soft * (strength / float(soft.std()))
    tile = np.clip(128 * (1 + grain), 0, 255).astype(np.uint8)
    return np.asarray(np.tile(tile, (1, -(-width // _TEXTURE_PX), 1))[:, :width], np.uint8)


def _slow_noise(
    rng: np.random.Generator, height: int, width: int, *, amplitude: float, scale_px: float
) -> Image:
    """Slow variation about 200, at the glass resolution."""
    shape = (height // _GLASS_UM + 1, width // _GLASS_UM + 1)
    blurred = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), scale_px)
    noise = np.asarray(blurred) * (amplitude / max(float(np.std(blurred)), 1e-6))
    return np.asarray(np.clip(200 * (1 + noise), 120, 255), dtype=np.uint8)


def _stretch(coarse: Image, top: int, bottom: int, height: int, width: int) -> Image:
    """Rows ``top`` to ``bottom`` of a coarse layer at 1 µm per pixel."""
    scale_x, scale_y = coarse.shape[1] / width, coarse.shape[0] / height
    # Maps a pixel of the strip to the coarse layer, both by their centres.
    move = np.array(
        [[scale_x, 0, scale_x / 2 - 0.5], [0, scale_y, (top + 0.5) * scale_y - 0.5]], np.float64
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    stretched = cv2.warpAffine(
        coarse, move, (width, bottom - top), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(stretched, dtype=np.uint8)


def _glass(anatomy: Anatomy, height: int, width: int, rng: np.random.Generator) -> Image:
    """What the light passes besides tissue: colour of empty glass, pen and bubbles, as RGB."""
    rows, columns = height // _GLASS_UM + 1, width // _GLASS_UM + 1
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    tilt = rng.normal(0, 0.012, 2)
    shade = 1 + tilt[0] * (x - 0.5) + tilt[1] * (y - 0.5) - 0.02 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    white = rng.uniform(238, 247) + rng.normal(0, 1.3, 3)
    glass = np.clip(shade[..., None] * white, 0, 252).astype(np.float32)
    for stroke in anatomy.pen:
        soft = np.asarray(cv2.GaussianBlur(_mask(stroke, rows, columns), (0, 0), 0.7))[..., None]
        color = np.array(_PEN_COLORS[int(rng.integers(len(_PEN_COLORS)))], np.float32)
        streaks = 0.72 + 0.12 * rng.random((rows, columns, 1), np.float32)
        glass += (color - glass) * soft * streaks
    for bubble in anatomy.bubbles:
        mask = _mask(bubble, rows, columns)
        edge = np.zeros((rows, columns), np.uint8)
        cv2.polylines(edge, [_glass_points(bubble)], True, 255, 1, cv2.LINE_AA, _SHIFT)
        soft = np.asarray(cv2.GaussianBlur(edge / np.float32(255), (0, 0), 0.8))[..., None]
        glass *= 1 - 0.6 * soft
        glass *= 1 - 0.03 * mask[..., None]
    return np.asarray(np.clip(glass, 0, 255), dtype=np.uint8)


def _mask(polygon: Polygon, rows: int, columns: int) -> NDArray[np.float32]:
    mask = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(mask, [_glass_points(polygon)], 255, cv2.LINE_AA, _SHIFT)
    return np.asarray(mask / np.float32(255), dtype=np.float32)


def _glass_points(polygon: Polygon) -> NDArray[np.int32]:
    """The outline for cv2, with fractions: whole pixels of 16 µm would show as steps."""
    xy = np.asarray(polygon.exterior.coords) / _GLASS_UM
    return np.asarray(np.round(xy * 2**_SHIFT), dtype=np.int32)


def _fold_over(dyes: Image, fold: Polygon) -> None:
    """Where the section lies double, light passes the dye twice."""
    height, width = dyes.shape[:2]
    x0, y0, x1, y1 = (int(v) for v in fold.bounds)
    x0, y0, x1, y1 = max(x0 - 8, 0), max(y0 - 8, 0), min(x1 + 8, width), min(y1 + 8, height)
    if x0 >= x1 or y0 >= y1:
        return
    view = dyes[y0:y1, x0:x1]
    mask = np.zeros(view.shape[:2], np.uint8)
    points = np.round(np.asarray(fold.exterior.coords) - (x0, y0)).astype(np.int32)
    cv2.fillPoly(mask, [points], 100)
    gain = cv2.merge([cv2.GaussianBlur(mask, (0, 0), 2.0)] * 3)
    view[...] = cv2.add(view, cv2.multiply(view, gain, scale=0.9 / 100))
