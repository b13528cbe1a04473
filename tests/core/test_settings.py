"""Settings: what is written is read back, and what cannot be is refused with the key's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.errors import InputError
from glombridge.objects import PathClass
from glombridge.provenance import ERROR_CLASSES
from glombridge.settings import (
    PatientSettings,
    Settings,
    TileSettings,
    TrainSettings,
    load_settings,
    parse_overlap,
    render_settings,
)

names = st.text(
    st.characters(exclude_characters=":\r\n", exclude_categories=["Cs"]), min_size=1
).filter(lambda s: s == s.strip() and s not in ("Proposed", *ERROR_CLASSES))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "glombridge.toml"
    path.write_text(text, encoding="utf-8")
    return path


@given(
    target=names,
    alias=names,
    seed=st.integers(0, 2**31),
    mpp=st.none() | st.floats(0.05, 50),
    overlap=st.just("auto") | st.floats(0, 0.95),
    key=names,
)
def test_rendered_settings_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    target: str,
    alias: str,
    seed: int,
    mpp: float | None,
    overlap: float | str,
    key: str,
) -> None:
    settings = Settings(
        seed=seed,
        classes={target: [alias]},
        ignore=[],
        regions=[],
        rejected=[],
        patients=PatientSettings(source="metadata", key=key),
        tiles=TileSettings(mpp=mpp, overlap=overlap),
        train=TrainSettings(model="yolov5l", learning_rate=0.001),
    )
    path = written(tmp_path_factory.mktemp("s"), render_settings(settings))
    assert load_settings(path).model_dump(exclude={"tiles": {"mpp"}}) == settings.model_dump(
        exclude={"tiles": {"mpp"}}
    )
    if mpp is not None:  # left out means the default, which is a resolution
        assert load_settings(path).tiles.mpp == mpp


def test_defaults_read_back_equal(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, render_settings(Settings()))) == Settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "[tiles]\nwidht_px = 5",
            r"tiles\.widht_px: .* Did you mean 'width_px'\?",
            id="misspelt-key",
        ),
        pytest.param("colour = 1", r"colour: there is no such key\. Known are ", id="unknown-key"),
        pytest.param("[tile]\nmpp = 1", r"tile: .* Did you mean 'tiles'\?", id="unknown-section"),
        pytest.param("[tiles]\nwidth_px = 1", "tiles.width_px", id="too-small"),
        pytest.param("[tiles]\noverlap = 1.0", "overlap", id="overlap-leaves-no-step"),
        pytest.param("seed = ", "not valid TOML", id="not-toml"),
        pytest.param(
            '[classes]\nG = ["Glomerulus: Proposed"]', "never truth", id="proposal-as-truth"
        ),
        pytest.param('ignore = ["Glomerulus"]', "stands both", id="two-meanings"),
        pytest.param('[classes]\nG = ["A:"]', "class name", id="class-qupath-cannot-read"),
        pytest.param("[classes]", "classes", id="no-class"),
        pytest.param('[patients]\nsource = "name"', "patients.pattern", id="pattern-missing"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=says) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)


def test_missing_settings_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="glombridge init"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("Glomerulus", 0),
        ("Glomerulus: Sclerotic", 0),
        ("Glomerulus: Proposed", None),
        ("Glomerulus: Crescent", None),
        ("glomerulus", None),
        ("Tubule", 1),
    ],
)
def test_class_names_match_whole_names(name: str, index: int | None) -> None:
    settings = Settings(
        classes={"Glomerulus": ["Glomerulus", "Glomerulus: Sclerotic"], "Tubule": ["Tubule"]}
    )
    assert settings.class_index(PathClass.parse(name)) == index
    assert settings.class_index(None) is None


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("auto", ("auto", 0.0)),
        (0.25, ("share", 0.25)),
        ("1/3", ("share", 1 / 3)),
        (".5", ("share", 0.5)),
        ("400px", ("px", 400)),
        ("400 px", ("px", 400)),
        ("200 um", ("um", 200)),
        ("12.5 µm", ("um", 12.5)),
    ],
)
def test_overlaps_mean_what_they_say(value: float | str, meaning: tuple[str, float]) -> None:
    assert parse_overlap(value) == meaning


@pytest.mark.parametrize("value", [1.0, -0.1, "1.5", "4/3", "much", "-4 px", "3.5 px", "1/0", ""])
def test_overlaps_that_mean_nothing(value: float | str) -> None:
    with pytest.raises(ValueError, match="an overlap is a share from 0 to below 1"):
        parse_overlap(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tiles]\nwidth_um = 500.0\n", "given together"),
        ("[tiles]\nmpp = 0\n", "tiles.mpp"),
        ('[patients]\nsource = "csv"\n', "needs patients.file"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_settings(written(tmp_path, text))


def test_sizes_in_micrometres_are_read_back(tmp_path: Path) -> None:
    tiles = TileSettings(width_um=800, height_um=600, overlap="200 um", task="segment")
    settings = Settings(tiles=tiles, patients=PatientSettings(source="csv", file="p.csv"))
    assert load_settings(written(tmp_path, render_settings(settings))) == settings
