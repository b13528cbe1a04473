"""The leak check: one patient or one slide on two sides is refused, whatever the names say."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.errors import ProtectedError
from glombridge.slides.reader import Slide, fingerprint
from glombridge.tiles.grid import TileSpec
from glombridge.tiles.labels import ClassMap
from glombridge.tiles.leaks import (
    LeakItem,
    SlideLook,
    _detail,
    _like_pairs,
    check_leaks,
    look_at,
)
from glombridge.tiles.writer import DatasetSettings, write_dataset

SETTINGS = DatasetSettings(ClassMap.of(["Glomerulus"]), TileSpec(400, 300, 1 / 3, 0.5))


def saved_anew(source, path, *, quality=90, brighter=0, mpp=0.5):
    """The same slide as other software would write it."""
    with Slide(source) as slide:
        rgb = slide.read_region(0, 0, slide.frame.width_px, slide.frame.height_px, mpp=None)
    rgb = np.clip(rgb.astype(int) + brighter, 0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(2):
            tiff.write(
                rgb,
                tile=(512, 512),
                compression="jpeg",
                compressionargs={"level": quality},
                photometric="rgb",
                subfiletype=level,
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                software="another program",
            )
            rgb = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return path


@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 40}, {"brighter": 8}, {"mpp": 0.25}],
    ids=["other container", "lower quality", "brighter", "other pixel size"],
)
def test_a_copy_saved_anew_is_the_same_slide(make_job, tmp_path, options):
    train, test = make_job(1, part="train"), make_job(2, part="test")
    copy = saved_anew(train.slide_path, tmp_path / "anonymous.tif", **options)
    assert fingerprint(copy) != fingerprint(train.slide_path)
    leaking = replace(test, slide_path=copy)
    with pytest.raises(
        ProtectedError, match=r"(?s)'K1.tif' \(train\).*'K2.tif' \(test\).*same slide"
    ):
        write_dataset([train, leaking], tmp_path / "data", SETTINGS)
    assert not (tmp_path / "data").exists()


def test_slides_of_one_outline_are_not_the_same(make_job):
    first, second = (look_at(make_job(k).slide_path) for k in (1, 2))
    items = [LeakItem("a", "p", "train", first), LeakItem("b", "q", "test", second)]
    found = check_leaks(items)
    assert (found.twice, found.alike) == ((), ())


def test_one_slide_twice_on_one_side_is_said_and_allowed(make_job, tmp_path):
    first, other = make_job(1, part="train"), make_job(2, part="test")
    twice = replace(first, entry_id=3, image_name="K1 again.tif")
    result = write_dataset([first, twice, other], tmp_path / "data", SETTINGS)
    check = json.loads(result.manifest.read_text("utf-8"))["leak_check"]
    assert check["same_slide_twice_on_one_side"] == [["K1.tif", "K1 again.tif"]]
    assert check["verdict"] == "no patient and no slide is on two sides"


def noisy(seed, amount, base):
    rng = np.random.default_rng(seed)
    cells = base + rng.normal(0, amount, (64, 64))
    return SlideLook(str(seed), 1.0, np.clip(cells, 0, 255).astype(np.uint8))


def test_neighbouring_sections_are_named():
    base = cv2.resize(np.random.default_rng(0).random((32, 32)) * 200, (64, 64))
    items = [
        LeakItem("a", "p", "train", noisy(1, 9, base)),
        LeakItem("b", "q", "test", noisy(2, 9, base)),
        LeakItem("c", "q", "test", noisy(3, 9, base.T)),
    ]
    ((first, second, likeness),) = check_leaks(items).alike
    assert (first, second) == ("a", "b")
    assert 0.9 < likeness < 0.99


def every_pair(items):
    """Each slide compared with each other, which is what the search must not miss."""
    cells = np.stack([_detail(i.look.thumbnail) for i in items])
    spread = cells.std(axis=1)
    cells /= np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-9)
    likeness = cells @ cells.T
    aspects = np.array([i.look.aspect for i in items])
    return {
        (a, b)
        for b in range(len(items))
        for a in range(b)
        if likeness[a, b] >= 0.9
        and min(spread[a], spread[b]) >= 0.004
        and abs(aspects[a] / aspects[b] - 1) <= 0.02
    }, likeness


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 40),
    families=st.integers(1, 5),
    amount=st.sampled_from([0.0, 0.1, 5.0, 25.0]),
    grain=st.sampled_from([4, 8, 16, 32, 64]),
    shapes=st.sampled_from([0.0, 0.01, 0.02, 0.1, 2.0]),
    uneven=st.sampled_from([0.0, 0.5, 0.6, 0.7, 0.8]),
    together=st.sampled_from([4, 1024]),
    many=st.sampled_from([0.0, 0.01, 1.0]),
    directions=st.sampled_from([1, 31, 63]),
)
def test_no_pair_is_missed(
    seed, n, families, amount, grain, shapes, uneven, together, many, directions
):
    rng = np.random.default_rng(seed)
    bases = [cv2.resize(rng.random((grain, grain)) * 200 + 20, (64, 64)) for _ in range(families)]
    items = []
    for k in range(n):
        cells = bases[rng.integers(families)] * rng.uniform(0.02, 1)
        # Other parts stronger: what tells slides apart by the lengths of their parts, as far as can be.
        cells = cells * np.kron(1 - uneven * rng.random((8, 8)), np.ones((8, 8)))
        cells = cells + rng.normal(0, amount * rng.random(), (64, 64))
        thumbnail = np.clip(cells, 0, 255).astype(np.uint8)
        aspect = float(1.3 * np.exp(rng.uniform(-shapes, shapes)))
        items.append(LeakItem(str(k), f"p{k}", "train", SlideLook(str(k), aspect, thumbnail)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glombridge.tiles.leaks._TOGETHER", together)
        patch.setattr("glombridge.tiles.leaks._MANY", many)
        patch.setattr("glombridge.tiles.leaks._DIRECTIONS", directions)
        found = {(a, b) for a, b, _ in _like_pairs(items)}
    wanted, likeness = every_pair(items) if items else (set(), None)
    # What lies on the threshold may be rounded to either side.
    assert all(abs(likeness[pair] - 0.9) < 1e-5 for pair in found ^ wanted)


def test_empty_slides_are_not_all_one():
    glass = np.full((64, 64), 6.0)
    items = [
        LeakItem(str(k), f"p{k}", part, noisy(k, 0.3, glass))
        for k, part in enumerate(("train", "test"))
    ]
    assert check_leaks(items).alike == ()


def test_the_check_is_written_down(make_job, tmp_path):
    jobs = [make_job(1, part="train"), make_job(2, part="val"), make_job(3, part="test")]
    settings = replace(SETTINGS, patients_from="image")
    result = write_dataset(jobs, tmp_path / "data", settings)
    check = json.loads(result.manifest.read_text("utf-8"))["leak_check"]
    assert check["slides_compared"] == 3
    assert check["patients"] == {"train": 1, "val": 1, "test": 1}
    assert check["patients_on_two_sides"] == check["slides_on_two_sides"] == []
    assert "slides of one patient may be" in check["verdict"]
    assert check == result.leaks.as_dict()


def test_looks_are_kept_and_not_taken_again(make_job, monkeypatch):
    path = make_job(1).slide_path
    look = look_at(path)
    again = SlideLook.from_dict(json.loads(json.dumps(look.as_dict())))
    assert np.array_equal(again.thumbnail, look.thumbnail)
    monkeypatch.setattr("glombridge.tiles.leaks.overview", lambda *_: pytest.fail("looked again"))
    assert look_at(path, {again.fingerprint: again}) is again
