"""What went wrong on a slide, object by object, for a pathologist to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .slides import JudgedSlide


class FaultKind(str, Enum):
    """How a detection and an object disagree."""

    MISSED = "missed"
    """An object that nothing was found on."""
    FALSE = "false"
    """A detection on nothing."""
    MISPLACED = "misplaced"
    """A detection whose centre lies in an object, but whose box overlaps it too little."""


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        image: entry id.
        box: of the missed object or of the detection, QuPath px.
        truth_box: of the object that a misplaced detection is near.
        score: of the detection.
        object: id of the true object.
        label: QuPath class of the true object.
    """

    kind: FaultKind
    image: int
    name: str
    part: str
    box: tuple[float, ...]
    truth_box: tuple[float, ...] = ()
    score: float | None = None
    object: str | None = None
    label: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind.value,
            "image": self.image,
            "name": self.name,
            "part": self.part,
            "box": [round(v, 2) for v in self.box],
            "truth_box": [round(v, 2) for v in self.truth_box],
            "score": None if self.score is None else round(self.score, 6),
            "object": self.object,
            "class": self.label,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Fault:
        """What :meth:`as_dict` gave."""
        return cls(
            FaultKind(told["kind"]),
            int(told["image"]),
            told["name"],
            told["part"],
            tuple(told["box"]),
            tuple(told["truth_box"]),
            told["score"],
            told["object"],
            told["class"],
        )


def faults_of(slide: JudgedSlide, confidence: float, min_iou: float) -> list[Fault]:
    """Missed objects first, then misplaced, then false detections, the surest first.

    A detection that is false and an object that is missed by overlap, but that are a pair by their
    centres, are one misplaced detection and not two faults.
    """
    found = slide.stitched(confidence)
    by_box, by_center = slide.match(confidence, min_iou), slide.match_centers(confidence)
    missed, false = by_box.is_missed.copy(), by_box.is_false.copy()
    where = (slide.id, slide.name, slide.part)
    misplaced: list[Fault] = []
    for k in range(len(found)):
        j = int(by_center.truth_of[k])
        if by_box.truth_of[k] < 0 and j >= 0 and missed[j]:
            missed[j] = false[k] = False
            misplaced.append(
                Fault(
                    FaultKind.MISPLACED,
                    *where,
                    tuple(found.xyxy[k].tolist()),
                    tuple(slide.truth.xyxy[j].tolist()),
                    float(found.score[k]),
                    slide.truth.ids[j],
                    slide.truth.labels[j],
                )
            )
    told = [
        Fault(
            FaultKind.MISSED,
            *where,
            tuple(slide.truth.xyxy[j].tolist()),
            object=slide.truth.ids[j],
            label=slide.truth.labels[j],
        )
        for j in missed.nonzero()[0].tolist()
    ]
    told += misplaced
    told += [
        Fault(
            FaultKind.FALSE,
            *where,
            tuple(found.xyxy[k].tolist()),
            score=float(found.score[k]),
        )
        for k in false.nonzero()[0].tolist()
    ]
    return told
