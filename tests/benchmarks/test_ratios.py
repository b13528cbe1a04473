"""Small versions of the benchmarks: growth and ratios of one run, with room for other work; never seconds.

The benchmarks beside this file record what was measured; only this fails when a ratio gets much worse.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bench_cover
import bench_growth
import bench_load
import bench_merge
import bench_scale
import bench_tiles

from glombridge.ledger import History, Ledger
from glombridge.ledger.writes import read_writes
from glombridge.tiles.leaks import LeakItem, SlideLook, check_leaks

pytestmark = pytest.mark.slow

MOST = 1.35
"""Exponent of growth that still passes; n log n has about 1.1 at these sizes, the square 2."""


def least(measured: Callable[[], float], times: int = 3) -> float:
    """The best of some runs, which other work disturbs the least."""
    return min(measured() for _ in range(times))


def exponent(sizes: tuple[int, int], taken: tuple[float, float]) -> float:
    """Slope of log(taken) over log(size)."""
    return math.log(taken[1] / taken[0]) / math.log(sizes[1] / sizes[0])


def test_the_merge_is_linear() -> None:
    sizes = 2000, 16_000
    small, large = (least(lambda n=n: bench_merge.measure_merge(n)["cpu_s"]) for n in sizes)
    assert exponent(sizes, (small, large)) < MOST


@pytest.mark.parametrize(
    ("sizes", "options"),
    [((300, 1500), lambda n: (n, 3, 5)), ((10_000, 60_000), lambda n: (1, n, n // 10))],
    ids=["images", "objects"],
)
def test_commands_grow_in_proportion(
    tmp_path: Path, sizes: tuple[int, int], options: Callable[[int], tuple[int, int, int]]
) -> None:
    """CPU seconds and memory beyond those of an empty project."""
    (tmp_path / "empty").mkdir()
    empty = bench_load.measure(bench_load.make_project(tmp_path / "empty", 1, 1, 1))
    rows = []
    for n in sizes:
        folder = tmp_path / str(n)
        folder.mkdir()
        project = bench_load.make_project(folder, *options(n))
        rows.append({"size": n, "commands": bench_load.measure(project)})
    growth = bench_load.exponents(rows, empty)
    assert all(g < MOST for told in growth.values() for g in told.values()), json.dumps(growth)


@pytest.mark.parametrize("name", bench_growth.SERIES)
def test_steps_over_whole_projects_grow_in_proportion(name: str) -> None:
    """Also looking for leaks, at these sizes: its share that grows with the square is small there."""
    growth = bench_growth.measured(name, quick=True)["exponents"]
    assert all(g < MOST for told in growth.values() for g in told.values()), json.dumps(growth)


def test_planned_tiles_take_little_memory() -> None:
    """Two million of them were 3 GB before the first was cut."""
    few, many = (bench_growth.called("plan_tiles", "", n)["peak_mb"] for n in (5000, 100_000))
    assert (many - few) * 2**20 < 600 * 95_000


def test_the_list_of_writes_grows_in_proportion(tmp_path: Path) -> None:
    def cpu(n_images: int) -> float:
        history = History(tmp_path / f"{n_images}.jsonl")
        said = {"write": "write-001", "sha256": "1", "replaced": "0", "at": "2025-01-01T00:00:00Z"}
        lines = [
            json.dumps({"v": 2, "event": event, "command": "push", "image": image, **said})
            for image in range(n_images)
            for event in ("write-begun", "write-done")
        ]
        history.path.write_text("\n".join(lines) + "\n", "utf-8")
        with Ledger.in_memory(history) as ledger:
            assert len(read_writes(ledger)[0].images) == n_images
            return least(lambda: bench_scale.cpu_seconds(lambda: read_writes(ledger))[0])

    sizes = 2000, 16_000
    small, large = map(cpu, sizes)
    assert exponent(sizes, (small, large)) < MOST


def test_a_push_takes_little_more_memory_than_a_pull(tmp_path: Path) -> None:
    """It once held the file's objects three times over, and took as much again for each byte written."""
    told = bench_load.measure(bench_load.make_project(tmp_path, 1, 60_000, 6000))
    assert told["push"]["peak_mb"] < 2.5 * told["pull"]["peak_mb"], told


def test_slides_are_searched_for_leaks_and_not_compared_one_by_one() -> None:
    rng = np.random.default_rng(0)
    looks = [bench_scale.drawn_biopsy(rng) for _ in range(3000)]
    items: list[Any] = [
        LeakItem(str(k), f"p{k}", "train", SlideLook(str(k), 1.3, look))
        for k, look in enumerate(looks)
    ]
    search = least(lambda: bench_scale.cpu_seconds(lambda: check_leaks(items))[0])
    every = least(lambda: bench_scale.cpu_seconds(lambda: bench_scale.every_pair(items))[0])
    assert search < 0.5 * every


@pytest.mark.parametrize("tiles", ["all of a slide", "12 pieces of tissue"])
def test_the_area_under_tiles_takes_a_fraction_of_a_plain_union(tiles: str) -> None:
    cpu = {
        name: bench_cover.cpu_of(partial(way, bench_cover.CASES[tiles]))
        for name, way in bench_cover.WAYS.items()
    }
    assert cpu["glombridge"] < 0.2 * cpu["shapely.union_all"], cpu


def test_cutting_takes_no_more_than_the_plain_loop(tmp_path: Path) -> None:
    slide = tmp_path / "slide.tif"
    bench_tiles.write_slide(slide, 8000, 6000)
    cpu = {
        way: least(lambda way=way: _cpu_per_megapixel(way, slide))
        for way in (bench_tiles.PLAIN, bench_tiles.ONE)
    }
    assert cpu[bench_tiles.ONE] < cpu[bench_tiles.PLAIN], cpu


def _cpu_per_megapixel(way: str, slide: Path) -> float:
    row = bench_tiles.measure(way, sys.executable, slide)
    return float(row["cpu_seconds"] / row["megapixels"])
