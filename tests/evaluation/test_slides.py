"""Slides, patients, free-response curves and faults, on cases small enough to count by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.detection.boxes import Boxes
from glombridge.detection.raw import SlideDetections
from glombridge.detection.stitch import stitch
from glombridge.evaluation.faults import Fault, FaultKind, faults_of
from glombridge.evaluation.matching import match_boxes, match_centers
from glombridge.evaluation.results import PartResults
from glombridge.evaluation.slides import JudgedSlide, Truth
from glombridge.evaluation.sweep import FALSE_PER_SLIDE, Sweep

SIDE = 100.0


def box(x: float, y: float = 0, side: float = SIDE) -> list[float]:
    return [x, y, x + side, y + side]


def slide(
    objects: list[list[float]],
    detections: list[tuple[list[float], float]],
    *,
    number: int = 1,
    patient: str = "A",
    known: shapely.Geometry | None = None,
    mpp: float | None = 1.0,
    stain: str = "PAS",
    labels: tuple[str, ...] | None = None,
) -> JudgedSlide:
    size = 10000
    xyxy = np.array([b for b, _ in detections], float).reshape(-1, 4)
    tile = np.array([[0.0, 0.0, size, size]])
    boxes = Boxes(
        xyxy,
        np.array([s for _, s in detections], float),
        np.zeros(len(xyxy), np.int64),
        tiles=tile,
    )
    n = len(objects)
    return JudgedSlide(
        number,
        f"slide-{number}",
        patient,
        "test",
        Truth(
            np.array(objects, float).reshape(-1, 4),
            np.zeros(n, np.int64),
            labels or ("Glomerulus",) * n,
            tuple(f"object-{k}" for k in range(n)),
        ),
        SlideDetections(boxes, tile, 1, size, size),
        shapely.box(0, 0, size, size) if known is None else known,
        stain,
        mpp,
    )


def results(slides: list[JudgedSlide], confidence: float = 0.5) -> dict:
    sweep = Sweep.over(slides, min_iou=0.5)
    part = PartResults.of(slides, sweep, confidence=confidence, min_iou=0.5)
    return part.figures(["Glomerulus"], resamples=200, seed=0)


def value(told: dict, name: str) -> float | None:
    return told["figures"][name]["value"]


THREE = [
    # Both objects found, one false.
    slide([box(0), box(500)], [(box(0), 0.9), (box(500), 0.6), (box(900), 0.7)], number=1),
    # One of two missed at 0.5.
    slide([box(0), box(500)], [(box(0), 0.8), (box(500), 0.3)], number=2, patient="B", stain="HE"),
    # Nothing there, two false.
    slide([], [(box(0), 0.55), (box(500), 0.95)], number=3, patient="B", stain="HE"),
]


def test_figures_by_hand() -> None:
    told = results(THREE)
    assert (told["truth"], told["found"], told["missed"], told["false"]) == (4, 3, 1, 3)
    assert value(told, "precision") == 0.5
    assert value(told, "recall") == 0.75
    assert value(told, "f1") == pytest.approx(0.6)
    assert value(told, "false_per_slide") == 1.0
    # Found and false minus there: +1, -1, +2.
    assert value(told, "count_error") == pytest.approx(4 / 3, abs=1e-6)
    assert value(told, "count_bias") == pytest.approx(2 / 3, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 101), st.integers(0, 3)), max_size=40),
    st.permutations(range(0, 102, 3)),
)
def test_a_slide_stitched_at_any_confidence_is_that_stitched_anew(
    detections: list[tuple[int, int, int]], order: list[int]
) -> None:
    """Slides keep what they stitched, and a sweep goes on where no box is left out; neither is seen."""
    of_tiles = [(box(40 * x, y), score / 101) for x, score, y in detections]
    kept = slide([box(0), box(400)], of_tiles)
    for score in (*order, 50, *order):
        found, anew = kept.stitched(score / 101), stitch(kept.seen.boxes.above(score / 101))
        assert np.array_equal(found.xyxy, anew.xyxy)
        assert np.array_equal(found.score, anew.score)
    sweep = Sweep.over([kept], min_iou=0.5)
    for t, threshold in enumerate(sweep.thresholds):
        match = match_boxes(stitch(kept.seen.boxes.above(threshold)), kept.truth.xyxy)
        assert (sweep.found[t, 0], sweep.false[t, 0]) == (match.found, match.false)


def test_a_sweep_leaves_little_behind() -> None:
    """Ten thousand slides, each stitched at 99 confidences, were gigabytes."""
    many = [(box(200 * k), k / 100) for k in range(1, 100)]
    one = slide([box(0)], many)
    before = len(pickle.dumps(one))
    Sweep.over([one], min_iou=0.5)
    assert len(pickle.dumps(one)) < 4 * before


def test_completeness_counts_who_has_objects() -> None:
    told = results(THREE)
    assert value(told, "complete_slides") == 0.5, "of the two slides that have objects"
    assert value(told, "complete_patients") == 0.5, "of B something was missed"
    assert value(results(THREE, 0.2), "complete_patients") == 1.0


def test_groups() -> None:
    told = results(THREE)
    assert told["by_stain"]["HE"]["missed"] == 1
    assert told["by_stain"]["PAS"]["recall"] == 1.0
    assert told["by_patient"]["B"]["false"] == 2
    assert told["by_size"] == {
        "100 to 150 µm": {
            "truth": 4,
            "found": 3,
            "missed": 1,
            "false": 3,
            "precision": 0.5,
            "recall": 0.75,
            "f1": 0.6,
        }
    }
    two = [
        slide([box(0), box(500)], [(box(0), 0.9)], labels=("Glomerulus", "Glomerulus: Sclerotic"))
    ]
    by_class = results(two)["by_class"]
    assert by_class["Glomerulus"]["recall"] == 1.0
    assert by_class["Glomerulus: Sclerotic"] == {"truth": 1, "found": 0, "missed": 1, "recall": 0.0}


def test_a_slide_without_pixel_size_is_in_no_size_group() -> None:
    assert results([slide([box(0)], [(box(0), 0.9)], mpp=None)])["by_size"] == {}


def test_free_response_by_hand() -> None:
    told = results(THREE)
    # Above .95 nothing; at .9 one found, one false (1/3 a slide); at .8 two found;
    # at .6 three found, two false (2/3); at .3 all four, three false (1).
    expected = {0.5: 0.5, 1.0: 1.0, 2.0: 1.0, 4.0: 1.0, 8.0: 1.0}
    assert set(expected) == set(FALSE_PER_SLIDE)
    assert {k: value(told, f"froc_{k:g}") for k in expected} == expected


def test_no_slides_and_no_objects() -> None:
    told = results([])
    assert (told["slides"], told["patients"]) == (0, 0)
    assert {f["value"] for f in told["figures"].values()} == {None}
    empty = results([slide([], [])])
    assert value(empty, "recall") is None
    assert value(empty, "false_per_slide") == 0.0


def test_false_detections_count_only_where_truth_is_known() -> None:
    seen = [(box(0), 0.9), (box(5000), 0.9)]
    told = results([slide([box(0)], seen, known=shapely.box(0, 0, 2000, 2000))])
    assert (told["found"], told["false"], told["not_counted"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("detection", "kinds"),
    [
        pytest.param(box(0), [], id="exact"),
        pytest.param(box(40), [FaultKind.MISPLACED], id="center-inside-too-little-overlap"),
        pytest.param(box(80), [FaultKind.MISSED, FaultKind.FALSE], id="center-outside"),
        pytest.param(box(30, 30, 40), [FaultKind.MISPLACED], id="a-part-of-it"),
        pytest.param(box(3000), [FaultKind.MISSED, FaultKind.FALSE], id="elsewhere"),
    ],
)
def test_faults(detection: list[float], kinds: list[FaultKind]) -> None:
    found = faults_of(slide([box(0)], [(detection, 0.8)]), 0.5, 0.5)
    assert [f.kind for f in found] == kinds
    for fault in found:
        assert Fault.from_dict(fault.as_dict()) == fault
        if fault.kind is not FaultKind.FALSE:
            assert fault.object == "object-0"


def test_centres_are_matched_one_to_one() -> None:
    twice = Boxes(
        np.array([box(0), box(10), box(5, 5)], float),
        np.array([0.9, 0.8, 0.7]),
        np.zeros(3, np.int64),
    )
    match = match_centers(twice, np.array([box(0), box(20)], float))
    assert match.truth_of.tolist() == [0, 1, -1]
    assert (match.found, match.missed, match.false) == (2, 0, 1)
