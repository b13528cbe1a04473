"""Our figures and those of independent programs on random data: equal to 1e-6."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import precision_recall_curve

from glombridge.detection.boxes import Boxes
from glombridge.evaluation.calibration import calibrate
from glombridge.evaluation.intervals import patient_resamples
from glombridge.evaluation.matching import match_boxes
from glombridge.evaluation.ranking import (
    COCO_IOUS,
    Ranking,
    average_precision,
    precision_recall,
)

Slide = tuple[Boxes, np.ndarray]


def random_slides(seed: int, n_slides: int, *, ties: bool) -> list[Slide]:
    """Objects, detections near most of them, and some that are near none."""
    rng = np.random.default_rng(seed)
    slides = []
    for _ in range(n_slides):
        n = int(rng.integers(0, 12))
        corner = rng.uniform(0, 300, (n, 2))
        truth = np.hstack([corner, corner + rng.uniform(10, 60, (n, 2))])
        near = truth[rng.random(n) < 0.8]
        near = np.repeat(near, rng.integers(1, 3, len(near)), axis=0)
        near = near + rng.normal(0, rng.uniform(0.5, 8), near.shape)
        stray = rng.uniform(0, 300, (int(rng.integers(0, 6)), 2))
        xyxy = np.vstack([near, np.hstack([stray, stray + 30])])
        xyxy = np.hstack([xyxy[:, :2], np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)])
        score = rng.uniform(0.01, 1, len(xyxy))
        score = np.round(score, 1) if ties else score
        order = np.argsort(-score, kind="stable")
        slides.append((Boxes(xyxy[order], score[order], np.zeros(len(order), np.int64)), truth))
    return slides


def coco_figures(slides: Sequence[Slide]) -> np.ndarray:
    """(10,) AP of pycocotools at each of COCO's overlaps."""

    def xywh(xyxy: np.ndarray) -> list[float]:
        return [*xyxy[:2].tolist(), *(xyxy[2:] - xyxy[:2]).tolist()]

    objects = [
        {"image_id": k, "category_id": 1, "bbox": xywh(b), "area": 1.0, "iscrowd": 0}
        for k, (_, truth) in enumerate(slides)
        for b in truth
    ]
    found = [
        {"image_id": k, "category_id": 1, "bbox": xywh(b), "score": float(s)}
        for k, (boxes, _) in enumerate(slides)
        for b, s in zip(boxes.xyxy, boxes.score, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": k} for k in range(len(slides))],
            "categories": [{"id": 1}],
            "annotations": [{**o, "id": i} for i, o in enumerate(objects, start=1)],
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.params.maxDets = [10000]
        run.evaluate()
        run.accumulate()
    return np.asarray(run.eval["precision"][:, :, 0, 0, 0].mean(axis=1))


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 6), st.booleans())
@settings(max_examples=150)
def test_average_precision_is_that_of_pycocotools(seed: int, n: int, ties: bool) -> None:
    slides = random_slides(seed, n, ties=ties)
    if not sum(len(t) for _, t in slides) or not sum(len(b) for b, _ in slides):
        return
    expected = coco_figures(slides)
    for k, iou in enumerate(COCO_IOUS):
        ranking = Ranking.of([(b, match_boxes(b, t, min_iou=iou)) for b, t in slides])
        assert average_precision(ranking) == pytest.approx(expected[k], abs=1e-6)


@given(seeds, st.integers(1, 5))
@settings(max_examples=60)
def test_weights_are_slides_that_stand_there_more_than_once(seed: int, n: int) -> None:
    slides = random_slides(seed, n, ties=False)
    weights = np.random.default_rng(seed).integers(0, 4, n)
    pairs = [(b, match_boxes(b, t)) for b, t in slides]
    copied = [pair for pair, w in zip(pairs, weights, strict=True) for _ in range(w)]
    weighted = average_precision(Ranking.of(pairs), weights.astype(float))
    expected = average_precision(Ranking.of(copied)) if copied else None
    if expected is None:
        assert weighted is None
    else:
        assert weighted == pytest.approx(expected, abs=1e-9)


def at_every_detection(ranking: Ranking, slide_weights: np.ndarray) -> float:
    """Average precision with recall and precision at each detection, also where neither can rise."""
    n_truth = float(slide_weights @ ranking.n_truth)
    weight = slide_weights[ranking.slide]
    true, seen = np.cumsum(weight * ranking.is_true), np.cumsum(weight)
    precision = true / (seen + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true / n_truth, np.linspace(0, 1, 101), side="left")
    return float(np.append(best, 0.0)[at].mean())


@given(seeds, st.integers(1, 6), st.booleans())
@settings(deadline=None, max_examples=150)
def test_average_precision_looks_at_true_detections_only(seed: int, n: int, ties: bool) -> None:
    slides = random_slides(seed, n, ties=ties)
    ranking = Ranking.of([(b, match_boxes(b, t)) for b, t in slides])
    for weights in patient_resamples(n, resamples=5, seed=seed):
        if weights @ ranking.n_truth:
            assert average_precision(ranking, weights) == at_every_detection(ranking, weights)


@given(seeds, st.integers(1, 6), st.booleans())
@settings(max_examples=150)
def test_precision_and_recall_are_those_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    slides = random_slides(seed, n, ties=ties)
    ranking = Ranking.of([(b, match_boxes(b, t)) for b, t in slides])
    if not ranking.n_truth.sum() or not len(ranking.score):
        return
    # scikit-learn knows no objects that nobody found: they come last, below every score.
    missed = int(ranking.n_truth.sum() - ranking.is_true.sum())
    label = np.append(ranking.is_true, np.ones(missed, bool))
    score = np.append(ranking.score, np.full(missed, -1.0))
    precision, recall, threshold = precision_recall_curve(label, score)
    real = threshold >= 0
    ours = precision_recall(ranking)
    assert ours[0] == pytest.approx(threshold[real][::-1])
    assert ours[1] == pytest.approx(precision[:-1][real][::-1], abs=1e-6)
    assert ours[2] == pytest.approx(recall[:-1][real][::-1], abs=1e-6)


@given(seeds)
@settings(max_examples=60)
def test_isotonic_calibration_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = np.round(rng.random(400), 2)
    true = rng.random(400) < score**2
    ours = calibrate(score, true, n_objects=250)
    assert ours is not None
    assert ours.method == "isotonic"
    theirs = IsotonicRegression(out_of_bounds="clip").fit(score, true)
    at = rng.random(100)
    assert ours.probability(at) == pytest.approx(theirs.predict(at), abs=1e-6)
