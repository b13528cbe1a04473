"""Which tiles of a slide go into a dataset: all with objects, and a seeded choice of background."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .labels import TileLabels

TileKind = Literal["object", "hard_negative", "background"]

LEAST_TISSUE = 0.05
"""Share of tissue a background tile must show; below it the tile teaches only glass."""
LEAST_USABLE = 0.5
"""Share of a background tile that must not be painted out."""

_WHOLE_SLACK_PX = 1e-6


@dataclass(frozen=True)
class ChosenTile:
    """A tile that is written, and why."""

    labels: TileLabels
    kind: TileKind


def choose_tiles(
    labels: Sequence[TileLabels],
    tissue_shares: ArrayLike,
    hard_negative_boxes_px: ArrayLike,
    *,
    background_ratio: float,
    background_empty_slide: int,
    seed: int,
    slide_key: str,
) -> list[ChosenTile]:
    """Choose the tiles of one slide; no other slide matters, so slides can be cut anywhere.

    Args:
        labels: every tile of the slide.
        tissue_shares: share of tissue of each of them.
        hard_negative_boxes_px: left, top, right, bottom in QuPath px, shape (n, 4).
        background_ratio: background tiles per tile with objects.
        background_empty_slide: background tiles of a slide without objects.
        seed: with ``slide_key``, decides which background tiles are taken.
        slide_key: tells slides apart.

    Returns:
        In the order of the grid.
    """
    tissue = np.asarray(tissue_shares, float)
    with_hard = _showing_whole(labels, hard_negative_boxes_px)
    chosen: dict[int, TileKind] = {}
    background: list[tuple[bytes, int]] = []
    for position, tile in enumerate(labels):
        if tile.boxes:
            chosen[position] = "object"
        elif with_hard[position]:
            chosen[position] = "hard_negative"
        elif tissue[position] >= LEAST_TISSUE and tile.usable_share >= LEAST_USABLE:
            background.append((_draw(seed, slide_key, tile.tile.index), position))
    objects = sum(kind == "object" for kind in chosen.values())
    wanted = math.ceil(objects * background_ratio) if objects else background_empty_slide
    background.sort()
    chosen.update((position, "background") for _, position in background[:wanted])
    return [ChosenTile(labels[position], chosen[position]) for position in sorted(chosen)]


def _showing_whole(labels: Sequence[TileLabels], boxes_px: ArrayLike) -> NDArray[np.bool_]:
    boxes = np.asarray(boxes_px, float).reshape(-1, 4)
    showing = np.zeros(len(labels), bool)
    if len(labels) == 0 or len(boxes) == 0:
        return showing
    # One after the other: as objects two million tiles would take a gigabyte.
    sides = ((t.x_px, t.y_px, t.width_px, t.height_px) for t in (label.tile for label in labels))
    xywh = np.fromiter(chain.from_iterable(sides), float, 4 * len(labels)).reshape(-1, 4)
    low = xywh[:, :2] - _WHOLE_SLACK_PX
    high = xywh[:, :2] + xywh[:, 2:] + _WHOLE_SLACK_PX
    for box in boxes:  # few: each was rejected by hand
        showing |= (low <= box[:2]).all(axis=1) & (box[2:] <= high).all(axis=1)
    return showing


def _draw(seed: int, slide_key: str, tile_index: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{slide_key}\0{tile_index}".encode()).digest()
