"""Order and augmentation are functions of seed, epoch and tile."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.training.order import EpochSampler, SeededTiles, epoch_order, tile_seed

SEEDS = st.integers(0, 2**31)


@given(seed=SEEDS, epoch=st.integers(0, 500), n=st.integers(1, 200))
def test_an_epoch_shows_each_tile_once_in_its_own_order(seed: int, epoch: int, n: int) -> None:
    order = epoch_order(seed, epoch, n)
    assert sorted(order) == list(range(n))
    assert np.array_equal(order, epoch_order(seed, epoch, n))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    seeds = {tile_seed(s, e, i) for s in range(4) for e in range(4) for i in range(4)}
    assert len(seeds) == 64


@given(seed=SEEDS, first=st.integers(0, 20), n=st.integers(1, 60), ranks=st.integers(1, 5))
def test_a_sampler_that_starts_late_goes_on_alike(
    seed: int, first: int, n: int, ranks: int
) -> None:
    whole = EpochSampler(n, seed, rank=ranks - 1, ranks=ranks)
    epochs = [list(whole) for _ in range(first + 2)]
    late = EpochSampler(n, seed, rank=ranks - 1, ranks=ranks)
    late.epoch = first
    assert [list(late), list(late)] == epochs[first:]
    assert all(len(epoch) == len(whole) for epoch in epochs)


@given(seed=SEEDS, n=st.integers(1, 60), ranks=st.integers(1, 5))
def test_several_processes_share_an_epoch(seed: int, n: int, ranks: int) -> None:
    shares = [list(EpochSampler(n, seed, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert {index for share in shares for index in share} == set(range(n))
    assert sum(map(len, shares)) < n + ranks


class Drawing:
    """Stands for a dataset that augments: what it draws is the tile."""

    labels = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        return index, random.random(), float(np.random.random())  # noqa: NPY002


def test_augmentation_depends_on_nothing_that_was_drawn_before() -> None:
    tiles = SeededTiles(Drawing(), 5)
    first = [tiles[k] for k in range(6)]
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert [tiles[k] for k in reversed(range(6))] == first[::-1]
    assert first[0][0] == first[3][0] == 0
    assert first[0] != first[3], "the same tile in two epochs"


def test_what_others_draw_is_left_alone() -> None:
    random.seed(1)
    expected = random.random()
    random.seed(1)
    _ = SeededTiles(Drawing(), 5)[4]
    assert random.random() == expected


def test_it_travels_to_worker_processes() -> None:
    tiles = pickle.loads(pickle.dumps(SeededTiles(Drawing(), 5)))
    assert tiles.labels == Drawing.labels
    assert tiles[2] == SeededTiles(Drawing(), 5)[2]
    with pytest.raises(AttributeError):
        _ = tiles.nothing_of_the_kind
