"""Stain jitter changes amounts of stain, and nothing that is not stained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed import OPTIONS
from tiny_dataset import write_tiny_dataset

from glombridge.training.arguments import train_arguments
from glombridge.training.dataset import open_dataset
from glombridge.training.sandbox import load_ultralytics
from glombridge.training.stain import OFFSET_OD, STAINS_RGB, STRENGTH, StainJitter, jittered
from glombridge.training.start import OWN_MODELS

ONES, NONE = np.ones(3), np.zeros(3)
FACTORS = st.lists(st.floats(1 - STRENGTH, 1 + STRENGTH), min_size=3, max_size=3).map(np.array)


def painted(amounts: np.ndarray) -> np.ndarray:
    """(N, 1, 3) pixels, blue first, of tissue that holds (N, 3) amounts of the three stains."""
    light = 256 * 10 ** -(amounts @ STAINS_RGB.astype(float)) - 1
    return np.rint(light[:, None, ::-1]).astype(np.uint8)


def test_without_a_change_every_colour_stays() -> None:
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 1, 3)
    assert np.array_equal(jittered(colours, ONES, NONE), colours)


@given(factors=FACTORS, seed=st.integers(0, 1000))
def test_each_stain_is_as_much_stronger_as_was_asked_for(factors: np.ndarray, seed: int) -> None:
    amounts = np.random.default_rng(seed).uniform(0, 0.4, (50, 3))
    got = jittered(painted(amounts), factors, NONE).astype(int)
    expected = painted(amounts * factors).astype(int)
    # Two roundings to whole bytes lie between.
    assert np.abs(got - expected).max() <= 3


@given(factors=FACTORS)
def test_glass_stays_glass(factors: np.ndarray) -> None:
    white = np.full((1, 1, 3), 255, np.uint8)
    assert np.array_equal(jittered(white, factors, NONE), white)
    darker = jittered(white, factors, np.full(3, OFFSET_OD))
    assert darker.min() >= 255 * 10 ** (-3 * OFFSET_OD)


def test_what_is_given_is_not_changed_and_seeds_decide() -> None:
    tile = painted(np.random.default_rng(0).uniform(0, 0.4, (50, 3)))
    before = tile.copy()
    made = []
    for seed in (1, 1, 2):
        np.random.seed(seed)  # noqa: NPY002
        made.append(StainJitter()({"img": tile})["img"])
    assert np.array_equal(tile, before)
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("stain")
    load_ultralytics(folder / "cache")
    from glombridge.training.engine import DetectTrainer

    data = open_dataset(write_tiny_dataset(folder / "data", width=160, height=96), validate=True)
    arguments = train_arguments(OPTIONS, data, folder / "work", "cpu", has_weights=False)
    made = DetectTrainer(overrides={**arguments, "model": str(OWN_MODELS["glom-pico"])})
    made._setup_train()
    return made


def test_training_tiles_are_jittered_and_validation_tiles_are_not(trainer: object) -> None:
    kinds = [type(t) for t in trainer.train_loader.dataset.transforms.transforms]  # type: ignore[attr-defined]
    assert kinds.count(StainJitter) == 1
    assert kinds[0] is StainJitter
    assert StainJitter not in map(type, trainer.test_loader.dataset.transforms.transforms)  # type: ignore[attr-defined]


def test_tiles_are_shown_whole_as_they_were_cut(trainer: object) -> None:
    seen = {tuple(b["img"].shape[2:]) for b in trainer.train_loader}  # type: ignore[attr-defined]
    assert seen == {(96, 160)}, "neither squares nor cut"


def test_cached_tiles_stay_as_they_were_read(trainer: object) -> None:
    tiles = trainer.train_loader.dataset  # type: ignore[attr-defined]
    first = tiles.load_image(0)[0].copy()
    _ = [tiles[k] for k in range(len(tiles))]
    assert np.array_equal(tiles.load_image(0)[0], first)
