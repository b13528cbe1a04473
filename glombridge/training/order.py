"""The order of an epoch's tiles and their augmentation: functions of seed, epoch and tile alone.

ultralytics draws both from generators that run on from epoch to epoch, and ahead of them in worker
processes; a training that was interrupted could never see again what it would have seen. Here
nothing that happened before matters, nor how many workers there are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, n_tiles: int) -> NDArray[np.int64]:
    """The order in which an epoch shows its tiles.

    Args:
        seed: of the run.
        epoch: from 0.
        n_tiles: in the dataset.

    Returns:
        (n_tiles,) each index once.
    """
    return np.random.default_rng([seed, epoch]).permutation(n_tiles)


def tile_seed(seed: int, epoch: int, index: int) -> int:
    """What the augmentation of one tile in one epoch starts from, 32 bits."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Start Python's, NumPy's and torch's generators for an epoch: what models draw themselves."""
    import torch

    value = int(np.random.SeedSequence([seed, epoch, rank, 1]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - what ultralytics draws from
    torch.manual_seed(value)


class EpochSampler:
    """Indices of epoch after epoch, for a loader that never ends an iteration.

    The loader asks for the next epoch as early as its workers want work, so the epochs are counted
    here and not told from outside.

    Attributes:
        epoch: the one that the next iteration is for; set it before the first.
    """

    def __init__(self, n_tiles: int, seed: int, *, rank: int = 0, ranks: int = 1) -> None:
        """Give each of ``ranks`` processes an equal share, the first tiles twice to fill up."""
        self.epoch = 0
        self._n_tiles = n_tiles
        self._seed = seed
        self._rank = rank
        self._ranks = ranks

    def __len__(self) -> int:
        return -(-self._n_tiles // self._ranks)

    def __iter__(self) -> Iterator[int]:
        """Indices that tell the epoch too: ``epoch * n_tiles + tile``."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = np.resize(epoch_order(self._seed, epoch, self._n_tiles), len(self) * self._ranks)
        return iter((epoch * self._n_tiles + order[self._rank :: self._ranks]).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Nothing: ultralytics calls this after its loader has taken the order already."""


class SeededTiles:
    """A dataset of ultralytics whose augmentation depends on seed, epoch and tile alone.

    Everything but taking a tile is the dataset's own.
    """

    def __init__(self, tiles: Any, seed: int) -> None:
        self._tiles = tiles
        self._seed = seed

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Any:
        """The tile of an index that :class:`EpochSampler` gave, augmented."""
        epoch, tile = divmod(index, len(self._tiles))
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        value = tile_seed(self._seed, epoch, tile)
        random.seed(value)
        np.random.seed(value)  # noqa: NPY002 - what ultralytics draws from
        try:
            return self._tiles[tile]
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002

    def __getattr__(self, name: str) -> Any:
        # A spawned worker asks before there is anything: that must not go round in circles.
        if name.startswith("__") or name == "_tiles":
            raise AttributeError(name)
        return getattr(self._tiles, name)
