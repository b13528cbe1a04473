"""Counts per slide at every threshold: what all curves, intervals and the threshold come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..detection.boxes import Floats, Ints
from .intervals import Statistic
from .metrics import Score
from .slides import JudgedSlide

THRESHOLDS = tuple(round(0.01 * k, 2) for k in range(1, 100))
"""Confidences that are tried. The slides are stitched anew at each, from raw boxes down to 0.01, so a
point of a curve is what working at that confidence would really give."""

FALSE_PER_SLIDE = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Where the free-response curve (FROC) is read."""


@dataclass(frozen=True)
class Sweep:
    """Objects found and false detections, by threshold and slide.

    Attributes:
        thresholds: (T,) rising.
        truth: (S,) objects on each slide.
        found, false: (T, S).
        patient: (S,) number of each slide's patient.
        n_patients: how many there are.
    """

    thresholds: Floats
    truth: Ints
    found: Ints
    false: Ints
    patient: Ints
    n_patients: int

    @classmethod
    def over(
        cls,
        slides: Sequence[JudgedSlide],
        *,
        min_iou: float | None,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> Sweep:
        """Stitch and match every slide at every threshold.

        Args:
            slides: of one part.
            min_iou: least overlap of a pair; ``None`` = by centre.
            thresholds: confidences, rising.
        """
        counts = np.zeros((2, len(thresholds), len(slides)), np.int64)
        for s, slide in enumerate(slides):
            n_before = -1
            for t, threshold in enumerate(thresholds):
                n = slide.n_above(threshold)
                if n == n_before:
                    counts[:, t, s] = counts[:, t - 1, s]
                    continue
                n_before = n
                match = (
                    slide.match_centers(threshold)
                    if min_iou is None
                    else slide.match(threshold, min_iou)
                )
                counts[:, t, s] = match.found, match.false
        names, patient = np.unique([s.patient for s in slides], return_inverse=True)
        return cls(
            np.array(thresholds),
            np.array([len(s.truth) for s in slides], np.int64),
            counts[0],
            counts[1],
            patient.astype(np.int64),
            len(names),
        )

    @cached_property
    def _as_floats(self) -> tuple[Floats, Floats]:
        """Found and false, which each resample would else turn into floats anew."""
        return self.found.astype(np.float64), self.false.astype(np.float64)

    def score(self, t: int) -> Score:
        """Summed over slides at one threshold, by its number."""
        return Score(int(self.truth.sum()), int(self.found[t].sum()), int(self.false[t].sum()))

    def curve(self) -> list[tuple[float, Score]]:
        """Threshold and score, rising."""
        return [(float(c), self.score(t)) for t, c in enumerate(self.thresholds)]

    def at(self, confidence: float) -> int:
        """Number of a threshold."""
        return int(np.abs(self.thresholds - confidence).argmin())

    def statistics(self, t: int) -> dict[str, Statistic]:
        """The figures at one threshold as functions of how often each patient counts."""
        truth, found, false = self.truth, self.found[t], self.false[t]
        missed, wrong = truth - found, found + false - truth
        has_any = truth > 0
        of_patient = np.zeros((2, self.n_patients))
        np.add.at(of_patient[0], self.patient, truth)
        np.add.at(of_patient[1], self.patient, missed)
        patient_any, patient_missed = of_patient[0] > 0, of_patient[1] > 0

        def slides(w: Floats) -> Floats:
            return w[self.patient]

        def froc(limit: float) -> Statistic:
            return lambda w: self.sensitivity(limit, slides(w))

        return {
            "precision": lambda w: _share(slides(w) @ found, float(slides(w) @ (found + false))),
            "recall": lambda w: _share(slides(w) @ found, float(slides(w) @ truth)),
            "f1": lambda w: _share(
                float(2 * slides(w) @ found), float(slides(w) @ (truth + found + false))
            ),
            "false_per_slide": lambda w: _share(slides(w) @ false, slides(w).sum()),
            "count_error": lambda w: _share(slides(w) @ np.abs(wrong), slides(w).sum()),
            "count_bias": lambda w: _share(slides(w) @ wrong, slides(w).sum()),
            "complete_slides": lambda w: _share(
                slides(w) @ (has_any & (missed == 0)), float(slides(w) @ has_any)
            ),
            "complete_patients": lambda w: _share(
                w @ (patient_any & ~patient_missed), float(w @ patient_any)
            ),
            **{f"froc_{limit:g}": froc(limit) for limit in FALSE_PER_SLIDE},
        }

    def sensitivity(self, false_per_slide: float, slide_weights: Floats) -> float | None:
        """The best recall of all thresholds that give no more false objects per slide than this.

        As in the free-response operating characteristic (Bunch et al., 1978; as read by the LUNA16
        challenge). 0 where every threshold gives more, ``None`` without objects or slides.
        """
        truth, n = float(slide_weights @ self.truth), float(slide_weights.sum())
        if truth == 0 or n == 0:
            return None
        found, false = self._as_floats
        allowed = (false @ slide_weights) / n <= false_per_slide + 1e-12
        recall = (found @ slide_weights) / truth
        return float(recall[allowed].max(initial=0.0))


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None
