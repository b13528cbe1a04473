"""Matching is one to one; figures are what their definitions say; the threshold is chosen on validation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.detection.boxes import Boxes
from glombridge.evaluation.matching import match_boxes
from glombridge.evaluation.metrics import Score, choose_operating_point


def found(*rows: tuple[float, float, float, float, float]) -> Boxes:
    t = np.array(rows, float).reshape(-1, 5)
    n = len(t)
    return Boxes(t[:, :4], t[:, 4], np.zeros(n, np.int64))


def truth(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


@pytest.mark.parametrize(
    ("detections", "objects", "counts"),
    [
        pytest.param(found(), truth(), (0, 0, 0), id="nothing"),
        pytest.param(found((0, 0, 10, 10, 1)), truth(), (0, 0, 1), id="only-false"),
        pytest.param(found(), truth((0, 0, 10, 10)), (0, 1, 0), id="only-missed"),
        pytest.param(found((0, 0, 10, 10, 1)), truth((0, 0, 10, 10)), (1, 0, 0), id="exact"),
        pytest.param(
            found((0, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.8)),
            truth((0, 0, 10, 10)),
            (1, 0, 1),
            id="found-twice-is-one-false",
        ),
        pytest.param(
            found((0, 0, 10, 10, 0.9)),
            truth((0, 0, 10, 10), (0, 0, 10, 10)),
            (1, 1, 0),
            id="two-objects-one-detection",
        ),
        pytest.param(found((0, 0, 10, 4.9, 1)), truth((0, 0, 10, 10)), (0, 1, 1), id="iou-.49"),
        pytest.param(found((0, 0, 10, 5, 1)), truth((0, 0, 10, 10)), (1, 0, 0), id="iou-.50"),
        pytest.param(
            # The better-scoring detection takes the object, though the other fits it more closely.
            found((0, 0, 10, 8, 0.9), (0, 0, 10, 10, 0.5)),
            truth((0, 0, 10, 10)),
            (1, 0, 1),
            id="by-score-first",
        ),
    ],
)
def test_cases(detections: Boxes, objects: np.ndarray, counts: tuple[int, int, int]) -> None:
    match = match_boxes(detections, objects)
    assert (match.found, match.missed, match.false) == counts


def test_ignored_detections_count_neither_way() -> None:
    match = match_boxes(
        found((0, 0, 10, 10, 0.9), (50, 50, 60, 60, 0.8)),
        truth((0, 0, 10, 10)),
        ignored=np.array([True, True]),
    )
    assert (match.found, match.missed, match.false) == (1, 0, 0)


coordinates = st.integers(0, 12)
a_box = st.tuples(coordinates, coordinates, st.integers(1, 8), st.integers(1, 8))


@given(st.lists(st.tuples(a_box, st.integers(1, 9)), max_size=7), st.lists(a_box, max_size=7))
def test_against_a_plain_loop(detections: list, objects: list) -> None:
    d = found(*[(x, y, x + w, y + h, s / 10) for (x, y, w, h), s in detections])
    t = truth(*[(x, y, x + w, y + h) for x, y, w, h in objects])
    free = set(range(len(t)))
    expected = 0
    for i in sorted(range(len(d)), key=lambda i: (-d.score[i], i)):
        best = max(free, key=lambda j: (iou(d.xyxy[i], t[j]), -j), default=None)
        if best is not None and iou(d.xyxy[i], t[best]) >= 0.5:
            free.remove(best)
            expected += 1
    match = match_boxes(d, t)
    assert match.found == expected
    assert match.found + match.missed == len(t)
    assert match.found + match.false == len(d)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_figures() -> None:
    score = Score(truth=10, found=8, false=2)
    assert (score.precision, score.recall, score.f1) == (0.8, 0.8, 0.8)
    assert Score(0, 0, 0).f1 is None
    assert Score(5, 0, 0).precision is None
    assert Score(5, 0, 0).recall == 0


def test_best_f1_takes_the_middle_of_its_plateau() -> None:
    curve = [
        (t, Score(10, f, 0))
        for t, f in zip((0.1, 0.2, 0.3, 0.4, 0.5), (5, 9, 9, 9, 4), strict=True)
    ]
    for order in itertools.islice(itertools.permutations(curve), 10):
        assert choose_operating_point(order, target="f1").confidence == 0.3


@pytest.mark.parametrize(
    ("wanted", "confidence", "reached"), [(0.9, 0.4, True), (1.0, 0.1, True), (1.01, 0.1, False)]
)
def test_a_target_recall_is_reached_or_said_not_to_be(
    wanted: float, confidence: float, reached: bool
) -> None:
    curve = [(t, Score(10, f, 3)) for t, f in ((0.1, 10), (0.4, 9), (0.5, 8))]
    point = choose_operating_point(curve, target="recall", target_recall=wanted)
    assert (point.confidence, point.reached) == (confidence, reached)


@pytest.mark.parametrize("target", ["f1", "recall"])
def test_a_detector_that_finds_nothing_hides_nothing(target: str) -> None:
    curve = [(t, Score(10, 0, 0)) for t in (0.1, 0.4, 0.9)]
    point = choose_operating_point(curve, target=target)  # type: ignore[arg-type]
    assert (point.confidence, point.reached) == (0.1, False)
