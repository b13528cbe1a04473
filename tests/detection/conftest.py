"""Fixtures of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from discs import paint_discs


@pytest.fixture(scope="session")
def disc_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted slide with objects that a plain function can find."""
    return paint_discs(tmp_path_factory.mktemp("discs") / "discs.tif")
