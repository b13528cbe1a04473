"""Precision, recall and F1 over slides, and the threshold to work at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .matching import Match


@dataclass(frozen=True)
class Score:
    """Counts over one or many slides, after stitching, and the figures made of them.

    A figure whose denominator is zero is ``None``: nothing found is not a precision of 0 or 1.
    """

    truth: int
    found: int
    false: int

    @classmethod
    def of(cls, matches: Iterable[Match]) -> Score:
        """Summed over slides."""
        truth = found = false = 0
        for match in matches:
            truth += match.n_truth
            found += match.found
            false += match.false
        return cls(truth, found, false)

    @property
    def missed(self) -> int:
        """Objects nobody found."""
        return self.truth - self.found

    @property
    def precision(self) -> float | None:
        """Share of the detections that are objects."""
        return self.found / (self.found + self.false) if self.found + self.false else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that were found."""
        return self.found / self.truth if self.truth else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        total = 2 * self.found + self.false + self.missed
        return 2 * self.found / total if total else None

    def as_dict(self) -> dict[str, int | float | None]:
        """Counts and figures, the figures rounded to six digits."""
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {
            "truth": self.truth,
            "found": self.found,
            "missed": self.missed,
            "false": self.false,
            **{k: None if v is None else round(v, 6) for k, v in figures.items()},
        }


@dataclass(frozen=True)
class OperatingPoint:
    """The confidence to work at and what it gave on the validation slides.

    Attributes:
        reached: whether the target was met; a target recall may be out of reach at any threshold.
    """

    confidence: float
    target: str
    reached: bool
    validation: Score


def choose_operating_point(
    curve: Sequence[tuple[float, Score]],
    *,
    target: Literal["f1", "recall"],
    target_recall: float = 0.98,
) -> OperatingPoint:
    """Choose the threshold on validation slides.

    Args:
        curve: (threshold, score over all validation slides stitched at that threshold), any order.
        target: best F1 (the middle of the thresholds that share it, which moves least with chance),
            or the highest threshold whose recall reaches ``target_recall``. Where none reaches it,
            the highest of those with the best recall there is: lower ones only add false objects.
            Where nothing is found at all, the lowest. Both say so: ``reached`` is false.
    """
    curve = sorted(curve, key=lambda point: point[0])
    if target == "recall":
        name = f"recall >= {target_recall}"
        best_recall = max(s.recall or 0.0 for _, s in curve)
        if best_recall == 0:
            return OperatingPoint(curve[0][0], name, False, curve[0][1])
        wanted = min(best_recall, target_recall)
        threshold, score = [(t, s) for t, s in curve if (s.recall or 0.0) >= wanted][-1]
        return OperatingPoint(threshold, name, best_recall >= target_recall, score)
    best = max(s.f1 or 0.0 for _, s in curve)
    if best == 0:
        return OperatingPoint(curve[0][0], "best F1", False, curve[0][1])
    # The longest run of neighbouring thresholds within a hair of the best.
    good = [(s.f1 or 0.0) >= best - 1e-12 for _, s in curve]
    runs: list[list[int]] = []
    for position, is_good in enumerate(good):
        if is_good:
            if runs and runs[-1][-1] == position - 1:
                runs[-1].append(position)
            else:
                runs.append([position])
    longest = max(runs, key=len)
    threshold, score = curve[longest[len(longest) // 2]]
    return OperatingPoint(threshold, "best F1", True, score)
