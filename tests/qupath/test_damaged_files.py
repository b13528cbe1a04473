"""Files that were cut or changed at random: one clean error, no hang, and nothing written."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import files_in
from qupath_golden import DATA_FILES, GOLDEN, SMALL_DATA_FILES, an_object, file_id

from glombridge.errors import DamagedFileError, GlombridgeError, ProtectedError
from glombridge.qupath import HierarchyEdit, NativeStore

FILES = SMALL_DATA_FILES
LARGEST = max(DATA_FILES, key=lambda path: path.stat().st_size)
MOST_SECONDS = 20  # a hundred times what the largest of these files takes


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End a hang where the platform can; the time is compared everywhere."""

    def out_of_time(*_: object) -> None:
        pytest.fail(f"longer than {seconds} s")

    started = time.perf_counter()
    if hasattr(signal, "setitimer"):
        before = signal.signal(signal.SIGALRM, out_of_time)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - started < seconds


def damaged(original: bytes, chance: random.Random) -> bytes:
    """A file with a few random bytes, numbers, runs or references changed, or a part missing."""
    data = bytearray(original)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        length = chance.choice([1, 2, 4, 8, 100, 2000])
        kind = chance.choice(["byte", "byte", "byte", "bit", "number", "drop", "repeat", "move"])
        if kind == "byte":
            data[at] = chance.randrange(256)
        elif kind == "bit":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "number":
            # Lengths, counts and references that are too large, too small or negative.
            number = chance.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7E0000, 0x7E0005])
            data[at : at + 4] = number.to_bytes(4, "big")
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            part = data[at : at + length]
            to = chance.randrange(len(data))
            data[to : to + len(part)] = part
        if not data:
            break
    if data and chance.random() < 0.2:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def check(count: int, seed: int, folder: Path) -> Counter[str]:
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    projects: dict[Path, NativeStore] = {}
    for number in range(count):
        # The large one takes a second each.
        file = LARGEST if number % 250 == 249 else FILES[number % len(FILES)]
        version, image = file.parts[-4], int(file.parts[-2])
        if file not in projects:
            project = folder / f"{version}-{image}"
            shutil.copytree(GOLDEN / version, project)
            projects[file] = NativeStore.open(project)
        store = projects[file]
        data = damaged(file.read_bytes(), chance)
        store.data_file(image).write_bytes(data)
        before = files_in(store.folder)
        where = f"{file_id(file)}, number {number} of seed {seed}"
        with time_limit(MOST_SECONDS):
            outcome, error = attempt(store, image)
        outcomes[outcome] += 1
        if error is None:
            shutil.rmtree(store.folder / "kept")
            continue
        assert f"image {image} " in str(error), where
        assert files_in(store.folder) == before, where
    return outcomes


def attempt(store: NativeStore, image: int) -> tuple[str, GlombridgeError | None]:
    """Read and write one file. Any error but these two kinds fails the test."""
    try:
        found = store.read(image)
    except DamagedFileError as error:
        return "not read", error
    data = store.data_file(image).read_bytes()
    edit = HierarchyEdit(add=(an_object("added"),))
    kept = store.folder / "kept"
    try:
        receipt = store.write(image, edit, expected=found.stamp, snapshot_folder=kept)
    except ProtectedError as error:
        return "not written", error
    assert len(store.read(image).objects) == len(found.objects) + 1
    assert receipt.snapshot is not None
    assert receipt.snapshot.read_bytes() == data
    return "written", None


@pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(500, 20240131, id="500"),
        pytest.param(10_000, 1, id="10000", marks=pytest.mark.slow),
    ],
)
def test_damaged_files_give_one_clean_error_and_nothing_is_written(tmp_path, count, seed):
    outcomes = check(count, seed, tmp_path)
    assert sum(outcomes.values()) == count
    assert outcomes["not read"] > count / 3
    assert outcomes["written"] > count / 50  # changed inside a text or a number
