"""Everything that is said of one part of the slides, as plain JSON values with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..detection.boxes import Bools, Floats, pair_overlaps
from ..detection.detector import RAW_CONFIDENCE
from .drawn import outline_figures, outline_ious
from .intervals import Statistic, difference, intervals
from .matching import Match, match_boxes
from .metrics import Score
from .ranking import COCO_IOUS, Ranking, average_precision
from .slides import JudgedSlide
from .sweep import Sweep

SIZES_UM = (0.0, 100.0, 150.0, 200.0, np.inf)
"""Edges of the size groups. A normal glomerulus measures 150 to 250 µm across; sections cut most of
them off their equator, and shrunken (sclerotic) ones are smaller."""

GROWTH = ("precision", "recall", "f1", "ap50", "false_per_slide", "complete_patients")
"""What is followed from round to round."""

COMPARED = ("precision", "recall", "f1", "ap50", "ap50_95", "complete_slides", "complete_patients")


@dataclass(frozen=True)
class PartResults:
    """One part of the slides at one confidence.

    Attributes:
        boxes: counts of matching by overlap, at every threshold.
        centers: the same by centre.
        rankings: at the overlaps of :data:`COCO_IOUS`, of the slides stitched once at the lowest
            confidence.
    """

    slides: tuple[JudgedSlide, ...]
    boxes: Sweep
    centers: Sweep
    rankings: tuple[Ranking, ...]
    confidence: float
    min_iou: float

    @classmethod
    def of(
        cls,
        slides: Sequence[JudgedSlide],
        sweep: Sweep,
        *,
        confidence: float,
        min_iou: float,
    ) -> PartResults:
        """Match the slides of a part in every way that is reported."""
        return cls(
            tuple(slides),
            sweep,
            Sweep.over(slides, min_iou=None, thresholds=[confidence]),
            tuple(ranking(slides, iou) for iou in COCO_IOUS),
            confidence,
            min_iou,
        )

    def statistics(self) -> dict[str, Statistic]:
        """Every figure as a function of how often each patient counts."""
        by_box = self.boxes.statistics(self.boxes.at(self.confidence))
        by_center = self.centers.statistics(0)
        patient = self.boxes.patient

        def ap(rankings: Sequence[Ranking]) -> Statistic:
            def mean(w: Floats) -> float | None:
                values = [average_precision(r, w[patient]) for r in rankings]
                known = [v for v in values if v is not None]
                return sum(known) / len(known) if known else None

            return mean

        return {
            **by_box,
            **{f"center_{k}": by_center[k] for k in ("precision", "recall", "f1")},
            "ap50": ap(self.rankings[:1]),
            "ap50_95": ap(self.rankings),
        }

    def figures(self, class_names: Sequence[str], *, resamples: int, seed: int) -> dict[str, Any]:
        """Counts, figures, intervals and groups, for JSON."""
        statistics = self.statistics()
        n_patients = self.boxes.n_patients
        once = np.ones(n_patients)
        spread = intervals(statistics, n_patients, resamples=resamples, seed=seed)
        values = {name: s(once) if n_patients else None for name, s in statistics.items()}
        score = self.boxes.score(self.boxes.at(self.confidence))
        return {
            "slides": len(self.slides),
            "patients": n_patients,
            **score.as_dict(),
            "not_counted": sum(self.match(s).not_counted for s in self.slides),
            "figures": {
                name: {
                    "value": None if value is None else round(value, 6),
                    "interval": None if (i := spread[name]) is None else i.as_list(),
                }
                for name, value in values.items()
            },
            "outlines": outline_figures(
                outline_ious(s, self.confidence, self.match(s)) for s in self.slides
            ),
            "by_class": self._by_label(),
            "by_detector_class": self._by_detector_class(class_names),
            "by_size": self._by_size(),
            "by_stain": self._by(lambda s: s.stain or "not known"),
            "by_patient": self._by(lambda s: s.patient),
        }

    def match(self, slide: JudgedSlide) -> Match:
        """One slide at the confidence of these results."""
        return slide.match(self.confidence, self.min_iou)

    def _by(self, key: Callable[[JudgedSlide], str]) -> dict[str, Any]:
        groups: dict[str, list[Match]] = {}
        for slide in self.slides:
            groups.setdefault(key(slide), []).append(self.match(slide))
        return {name: Score.of(groups[name]).as_dict() for name in sorted(groups)}

    def _by_label(self) -> dict[str, Any]:
        """By QuPath class of the true objects: a false detection belongs to none of them."""
        counts: dict[str, list[int]] = {}
        for slide in self.slides:
            for label, missed in zip(slide.truth.labels, self.match(slide).is_missed, strict=True):
                count = counts.setdefault(label, [0, 0])
                count[0] += 1
                count[1] += not missed
        return {
            label: {
                "truth": n,
                "found": found,
                "missed": n - found,
                "recall": round(found / n, 6),
            }
            for label, (n, found) in sorted(counts.items())
        }

    def _by_detector_class(self, class_names: Sequence[str]) -> dict[str, Any]:
        """By detector class, class with class: here a detection of another class is false."""
        classes = sorted({int(c) for s in self.slides for c in s.truth.class_index})
        told = {}
        for c in classes:
            pairs = []
            for slide in self.slides:
                found = slide.stitched(RAW_CONFIDENCE)
                of_class = found.take(found.class_index == c)
                truth = slide.truth.xyxy[slide.truth.class_index == c]
                ignored = slide.ignored(of_class)
                pairs.append((of_class, match_boxes(of_class, truth, ignored=ignored)))
            value = average_precision(Ranking.of(pairs))
            told[class_names[c]] = {
                "truth": sum(m.n_truth for _, m in pairs),
                "ap50": None if value is None else round(value, 6),
            }
        return told

    def _by_size(self) -> dict[str, Any]:
        edges = list(pairwise(SIZES_UM))
        counts = np.zeros((len(edges), 3), np.int64)
        for slide in self.slides:
            match = self.match(slide)
            true_um = slide.diameter_um(slide.truth.xyxy)
            false_um = slide.diameter_um(slide.stitched(self.confidence).xyxy[match.is_false])
            for k, (low, high) in enumerate(edges):
                inside = (true_um >= low) & (true_um < high)
                counts[k] += (
                    int(inside.sum()),
                    int((inside & ~match.is_missed).sum()),
                    int(((false_um >= low) & (false_um < high)).sum()),
                )
        return {
            _size_name(low, high): Score(*map(int, counts[k])).as_dict()
            for k, (low, high) in enumerate(edges)
            if counts[k].any()
        }


def ranking(slides: Iterable[JudgedSlide], min_iou: float) -> Ranking:
    """The detections of slides stitched at the lowest confidence, by score."""
    return Ranking.of(
        [(s.stitched(RAW_CONFIDENCE), s.match(RAW_CONFIDENCE, min_iou)) for s in slides]
    )


def rival_sees(
    slides: Sequence[JudgedSlide],
    rival: Sequence[JudgedSlide],
    ranked: Ranking,
    rival_confidence: float,
) -> Bools:
    """(N,) whether another model detects the same, at IoU 0.5 or more and its own confidence.

    Args:
        slides: of the model.
        rival: the same slides, as the other model saw them.
        ranked: the model's detections, of :func:`ranking`.
        rival_confidence: from which on a detection of the other model counts.
    """
    by_id = {s.id: s for s in rival}
    assert ranked.row is not None  # noqa: S101 (of slides)
    sees = np.zeros(len(ranked.score), np.bool_)
    for number, slide in enumerate(slides):
        boxes = slide.stitched(RAW_CONFIDENCE).xyxy
        others = by_id[slide.id].stitched(rival_confidence).xyxy
        i, _, shared, union = pair_overlaps(boxes, others)
        seen = np.zeros(len(boxes), np.bool_)
        seen[i[shared >= 0.5 * union]] = True
        here = ranked.slide == number
        sees[here] = seen[ranked.row[here]]
    return sees


def compare(
    first: PartResults, second: PartResults, *, resamples: int, seed: int
) -> dict[str, Any]:
    """Two detectors on the same slides, each at its own confidence: second minus first, for JSON."""
    a, b = first.statistics(), second.statistics()
    told: dict[str, Any] = {}
    for name in COMPARED:
        found = difference(a[name], b[name], first.boxes.n_patients, resamples=resamples, seed=seed)
        told[name] = found and {
            "difference": round(found.value, 6),
            "interval": found.interval.as_list() if found.interval else None,
            "second_better": None if found.second_better is None else round(found.second_better, 6),
        }
    return told


def _size_name(low: float, high: float) -> str:
    if low == 0:
        return f"below {high:.0f} µm"
    return f"{low:.0f} to {high:.0f} µm" if np.isfinite(high) else f"{low:.0f} µm and more"
