"""What an evaluation stored beside the weights: the confidence to work at, and how to read scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..documents import expecting, parse_json
from ..evaluation.calibration import Calibration

FILE = "operating_point.json"


@dataclass(frozen=True)
class StoredPoint:
    """What is used of it when slides are detected on.

    Attributes:
        confidence: chosen on the validation slides.
        target: what it was chosen for, in words.
        calibration: from scores to probabilities; ``None`` where the validation slides could not
            tell, as all detections there were true or all false.
    """

    confidence: float
    target: str
    calibration: Calibration | None


def stored_point(weights: Path) -> StoredPoint | None:
    """What the newest evaluation of weights chose; ``None`` if they have not been evaluated.

    Raises:
        DamagedFileError: the file is there and says something else.
    """
    path = weights.parent.parent / FILE
    if not path.is_file():
        return None
    with expecting(path, "an operating point", "Run 'glombridge evaluate' again."):
        told = parse_json(path.read_text(encoding="utf-8"))
        # Of evaluations from before there was one, nothing is known.
        calibration = told.get("calibration")
        return StoredPoint(
            float(told["confidence"]),
            str(told["target"]),
            None if calibration is None else Calibration.from_dict(calibration),
        )
