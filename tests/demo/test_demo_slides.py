"""Painted slides: what OpenSlide sees, what the truth says, and that both can be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import shapely

from glombridge.demo.anatomy import lay_out
from glombridge.demo.slides import (
    MPP,
    SlideTruth,
    StudyOptions,
    load_truth,
    paint_slide,
    paint_study,
    plan_study,
    save_truth,
)
from glombridge.demo.truth import TRUTH_FILE, Subtype
from glombridge.errors import DamagedFileError, UsageError


def test_openslide_reads_pixel_size_and_halving_levels(painted: Any) -> None:
    for truth in painted.truths:
        with openslide.OpenSlide(painted.folder / truth.name) as slide:
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
            assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
            assert slide.dimensions == (truth.width_px, truth.height_px)
            assert slide.level_count >= 3
            assert slide.level_downsamples == tuple(2.0**i for i in range(slide.level_count))


def test_levels_show_the_same_place(painted: Any) -> None:
    truth = painted.truths[0]
    with openslide.OpenSlide(painted.folder / truth.name) as slide:
        full = slide.read_region((0, 0), 0, slide.level_dimensions[0]).convert("RGB")
        for level in range(1, slide.level_count):
            size = slide.level_dimensions[level]
            seen = np.asarray(slide.read_region((0, 0), level, size).convert("RGB"), float)
            expected = np.asarray(full.resize(size, openslide.Image.Resampling.BOX), float)
            error = np.abs(seen - expected).mean()
            assert error < 7
            for axis in (0, 1):
                assert error < 0.75 * np.abs(np.roll(seen, 1, axis) - expected).mean()


def test_truth_is_inside_the_image_and_of_plausible_size(painted: Any) -> None:
    for plan, truth in zip(painted.plans, painted.truths, strict=True):
        assert len(truth.glomeruli) == 4
        assert (truth.name, truth.patient, truth.annotated, truth.mpp) == (
            plan.name, plan.patient, plan.annotated, MPP,
        )  # fmt: skip
        frame = shapely.box(0, 0, truth.width_px, truth.height_px)
        for glomerulus in truth.glomeruli:
            assert glomerulus.outline.is_valid
            assert frame.covers(glomerulus.outline)
            x0, y0, x1, y1 = glomerulus.outline.bounds
            assert 100 < max(x1 - x0, y1 - y0) * truth.mpp < 300


def test_glomeruli_do_not_overlap(painted: Any) -> None:
    for truth in painted.truths:
        outlines = [g.outline for g in truth.glomeruli]
        for i, outline in enumerate(outlines):
            for other in outlines[i + 1 :]:
                assert outline.intersection(other).area < 1


def test_background_is_bright_and_glomeruli_are_stained(painted: Any) -> None:
    for truth in painted.truths:
        with openslide.OpenSlide(painted.folder / truth.name) as slide:
            corner = np.asarray(slide.read_region((4, 4), 0, (60, 60)).convert("RGB"))
            assert corner.min() > 200
            for glomerulus in truth.glomeruli:
                x, y = glomerulus.outline.centroid.coords[0]
                place = (int(x) - 40, int(y) - 40)
                tuft = np.asarray(slide.read_region(place, 0, (80, 80)).convert("RGB"), float)
                assert tuft[..., 1].mean() < corner[..., 1].mean() - 40


@pytest.mark.parametrize("seed", [0, 1])
def test_full_size_study_has_enough_glomeruli_of_both_kinds(seed: int) -> None:
    anatomies = [lay_out(plan) for plan in plan_study(seed)]
    counts = [len(anatomy.visible) for anatomy in anatomies]
    assert min(counts) >= 15
    assert max(counts) <= 26
    kinds = [blob.subtype for anatomy in anatomies for blob in anatomy.blobs if blob.subtype]
    assert 0.06 < kinds.count(Subtype.SCLEROTIC) / len(kinds) < 0.26
    assert max(anatomy.width_um / MPP for anatomy in anatomies) < 22_500


def test_same_plan_same_bytes_and_truth(painted: Any, tmp_path: Path) -> None:
    plan, truth = painted.plans[1], painted.truths[1]
    again = paint_slide(plan, tmp_path / "again.tif")
    assert again == truth
    assert (tmp_path / "again.tif").read_bytes() == (painted.folder / plan.name).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.tif"]


def test_slides_and_seeds_differ(painted: Any, tiny_options: StudyOptions, tmp_path: Path) -> None:
    assert painted.truths[0].glomeruli != painted.truths[1].glomeruli
    other = paint_slide(plan_study(4, tiny_options)[1], tmp_path / "other.tif")
    assert other.glomeruli != painted.truths[1].glomeruli


def test_two_processes_paint_the_same_study(painted: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    truths = paint_study(
        painted.plans,
        tmp_path,
        workers=2,
        on_progress=lambda done, total, truth: seen.append((done, total, truth.name)),
    )
    assert truths == painted.truths
    assert seen == [(i + 1, 3, plan.name) for i, plan in enumerate(painted.plans)]
    for plan in painted.plans:
        assert (tmp_path / plan.name).read_bytes() == (painted.folder / plan.name).read_bytes()


def test_truth_survives_its_file(painted: Any, tmp_path: Path) -> None:
    assert load_truth(painted.folder / TRUTH_FILE) == painted.truths
    empty = [SlideTruth("P01-1_HE.tif", "P01", False, 100, 80, 0.5, ())]
    save_truth(empty, tmp_path / "t.json")
    assert load_truth(tmp_path / "t.json") == empty


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "other", "slides": []}',
     '{"format": "glombridge-demo-truth-1", "slides": [{}]}'],
)  # fmt: skip
def test_damaged_truth_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"truth\.json"):
        load_truth(path)


def test_no_workers_is_refused(painted: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one worker, got 0"):
        paint_study(painted.plans, tmp_path, workers=0)
