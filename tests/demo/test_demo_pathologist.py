"""The simulated pathologist."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from shapely.geometry import Point, Polygon

from glombridge.demo.anatomy import lay_out
from glombridge.demo.pathologist import annotate
from glombridge.demo.slides import MPP, SlideTruth, TrueGlomerulus, plan_study, truth_of
from glombridge.demo.truth import Subtype
from glombridge.errors import UsageError
from glombridge.objects import ObjectKind, OutlineKind


@pytest.fixture(scope="module")
def truths() -> list[SlideTruth]:
    """Full-size slides without their pixels."""
    anatomies = [(plan, lay_out(plan)) for plan in plan_study(11)[:4]]
    return [truth_of(p, a, int(2 * a.width_um), int(2 * a.height_um)) for p, a in anatomies]


def test_each_glomerulus_is_marked_once_and_well(truths: list[SlideTruth]) -> None:
    for truth in truths:
        objects = annotate(truth)
        assert len(objects) == len(truth.glomeruli)
        frame = shapely.box(0, 0, truth.width_px, truth.height_px)
        for marked, glomerulus in zip(objects, truth.glomeruli, strict=True):
            assert marked.outline is not None
            drawn = marked.outline.geometry
            assert isinstance(drawn, Polygon)
            assert drawn.is_valid
            assert frame.covers(drawn)
            common = drawn.intersection(glomerulus.outline).area
            assert common / drawn.union(glomerulus.outline).area > 0.8
            assert drawn != glomerulus.outline
            assert marked.kind is ObjectKind.ANNOTATION
            sclerotic = glomerulus.subtype is Subtype.SCLEROTIC
            assert str(marked.path_class) == "Glomerulus" + ": Sclerotic" * sclerotic
            if marked.outline.kind is OutlineKind.POLYGON:
                assert 12 <= len(drawn.exterior.coords) - 1 <= 44


def test_both_tools_and_both_classes_are_used(truths: list[SlideTruth]) -> None:
    objects = [o for truth in truths for o in annotate(truth)]
    assert {o.outline.kind for o in objects if o.outline} == {
        OutlineKind.POLYGON,
        OutlineKind.ELLIPSE,
    }
    assert {str(o.path_class) for o in objects} == {"Glomerulus", "Glomerulus: Sclerotic"}
    assert len({o.id for o in objects}) == len(objects)


def test_same_reader_same_marks_other_reader_others(truths: list[SlideTruth]) -> None:
    assert annotate(truths[0]) == annotate(truths[0])
    assert annotate(truths[0], seed=1) != annotate(truths[0])


def test_at_the_image_edge_marks_stay_inside() -> None:
    outline = Point(100, 100).buffer(160 / MPP / 2).intersection(shapely.box(0, 0, 400, 300))
    truth = SlideTruth(
        "x.tif", "P01", True, 400, 300, MPP, (TrueGlomerulus(outline, Subtype.NORMAL),)
    )
    for seed in range(30):
        (marked,) = annotate(truth, seed=seed)
        assert marked.outline is not None
        x0, y0, x1, y1 = marked.outline.bounds
        assert min(x0, y0) >= 0
        assert (x1 <= 400, y1 <= 300) == (True, True)


def test_miss_rate(truths: list[SlideTruth]) -> None:
    n = sum(len(truth.glomeruli) for truth in truths)
    found = sum(len(annotate(truth, miss_rate=0.5)) for truth in truths)
    assert 0.3 * n < found < 0.7 * n
    assert annotate(truths[0], miss_rate=1.0) == []


@pytest.mark.parametrize(
    "options", [{"miss_rate": 1.5}, {"miss_rate": -0.1}, {"seed": -1}, {"offset_um": -2.0}]
)
def test_impossible_readers_are_refused(truths: list[SlideTruth], options: Any) -> None:
    with pytest.raises(UsageError):
        annotate(truths[0], **options)
