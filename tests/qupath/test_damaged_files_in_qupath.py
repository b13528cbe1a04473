"""Files that somebody changed, read by a real QuPath: what the native store says, or a clean error.

QuPath itself opens a damaged file as an empty image, or never comes back from it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from qupath_golden import GOLDEN
from test_damaged_files import damaged, time_limit

from glombridge.errors import DamagedFileError, GlombridgeError
from glombridge.qupath import ImageContents, NativeStore, PaquoStore
from glombridge.qupath.paquo.store import Worker

VERSION = "v0.4.4"  # every QuPath that the store takes reads it
MOST_SECONDS = 60
pytestmark = pytest.mark.qupath


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.close()


def said(error: GlombridgeError) -> str:
    text = str(error)
    assert "\tat " not in text
    assert ".java:" not in text
    assert len(text.splitlines()) == 1, text
    return text


def attempt(store: PaquoStore, image: int) -> ImageContents | DamagedFileError:
    """Any other error fails the test."""
    try:
        return store.read(image)
    except DamagedFileError as error:
        return error


@pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(300, 20261125, id="300"),
        pytest.param(5000, 1, id="5000", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_image_is_never_an_empty_one(
    tmp_path: Path, worker: Worker, count: int, seed: int
) -> None:
    chance = random.Random(seed)
    project = Path(shutil.copytree(GOLDEN / VERSION, tmp_path / "project"))
    native, paquo = NativeStore.open(project), PaquoStore.open(project)
    paquo._running = worker
    outcomes = {"read": 0, "refused": 0, "refused by QuPath": 0}
    for number in range(count):
        image = 1 + number % 2
        file = GOLDEN / VERSION / "data" / str(image) / "data.qpdata"
        native.data_file(image).write_bytes(damaged(file.read_bytes(), chance))
        where = f"number {number} of seed {seed}"
        expected: DamagedFileError | None = None
        found = None
        try:
            found = native.read(image)
        except DamagedFileError as error:
            expected = error
        with time_limit(MOST_SECONDS):
            seen = attempt(paquo, image)
        if isinstance(seen, DamagedFileError):
            assert f"image {image} " in said(seen), where
            outcomes["refused" if expected else "refused by QuPath"] += 1
            continue
        outcomes["read"] += 1
        # Each object is read, or named as one that cannot be; QuPath may understand one more.
        here, there = ({o.id for o in one.objects} if one else set() for one in (found, seen))
        assert here <= there or seen.problems, where
        assert there <= here or found is None or found.problems, where
        assert there or not here, where
    assert outcomes["refused"] > count / 3, outcomes
    assert outcomes["read"] > count / 50, outcomes
    assert paquo._running is worker, "QuPath was lost on the way"


@pytest.mark.parametrize("count", [pytest.param(300, id="300")])
def test_a_damaged_project_file_gives_the_same_errors(tmp_path: Path, count: int) -> None:
    """It is read natively there, too: the answer must not depend on the store."""
    chance = random.Random(7)
    project = Path(shutil.copytree(GOLDEN / VERSION, tmp_path / "project"))
    file = project / "project.qpproj"
    original = file.read_bytes()

    def answer(store: type[NativeStore]) -> str:
        try:
            return repr(store.open(project).images())
        except GlombridgeError as error:
            return f"{type(error).__name__} {said(error)}"

    refused = 0
    for _ in range(count):
        file.write_bytes(damaged(original, chance))
        told = answer(PaquoStore)
        assert told == answer(NativeStore)
        refused += "project.qpproj" in told
    assert refused > count / 10
