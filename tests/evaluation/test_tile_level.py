"""Tiles are shown to ultralytics in batches that fit into memory."""

from __future__ import annotations

import pytest

from glombridge.evaluation.tile_level import fitting_batch


@pytest.mark.parametrize(
    ("tile_px", "batch"),
    [((192, 192), 16), ((640, 640), 16), ((1600, 1200), 3), ((4096, 4096), 1)],
)
def test_large_tiles_come_in_small_batches(tile_px: tuple[int, int], batch: int) -> None:
    assert fitting_batch(tile_px) == batch
