"""Projects to spoil, and one QuPath for all tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qupath_golden import GOLDEN

from glombridge.qupath import (
    ImageServerInfo,
    NativeStore,
)
from glombridge.qupath.paquo.store import Worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One QuPath for all cases: starting it takes longer than most of them."""
    started = Worker()
    yield started
    started.close()


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str], Path]:
    def copied(version: str) -> Path:
        shutil.copytree(GOLDEN / version, tmp_path / version)
        return tmp_path / version

    return copied


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of two images whose slides are nowhere; the second has no data file."""
    store = NativeStore.create(tmp_path / "project", "0.4.4")
    info = ImageServerInfo(4000, 3000, 0.25, 0.25)
    store.add_image(tmp_path / "gone" / "a b#1.tif", metadata=info)
    store.add_image(tmp_path / "gone" / "b.tif", metadata=info, image_type=None)
    return store.folder
