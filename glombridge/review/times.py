"""Seconds per glomerulus, by reader and round: from what the review window wrote onto objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..ledger.ledger import Step
from ..ledger.pushed import UNKNOWN

DRAWN = "drawn"
"""The round of what a human drew."""


@dataclass(frozen=True)
class ReviewTime:
    """What one reader decided of the proposals of one round.

    Attributes:
        round: the detection run whose push had put the objects there, as they were when decided;
            :data:`DRAWN` = no run had.
        objects: decided.
        known: of these, how many have a time; the others' is unknown, and in no figure.
        median_seconds, total_seconds: over the known ones, ``None`` where there is none.
    """

    reader: str
    round: str
    objects: int
    known: int
    median_seconds: float | None
    total_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "reader": self.reader,
            "round": self.round,
            "objects": self.objects,
            "known": self.known,
            "unknown": self.objects - self.known,
            "median_seconds": self.median_seconds,
            "total_seconds": self.total_seconds,
        }


def review_times(steps: Iterable[Step]) -> list[ReviewTime]:
    """Seconds of each reader and round.

    An object carries the sum of all visits. What a decision added to it is the reader's who made it.
    An object whose time went down, or that was decided without one, is of unknown time.

    Args:
        steps: of every object, each object's together and in order; undone ones are left out.
    """
    spent: dict[tuple[str, str], dict[tuple[int, Any], float | None]] = defaultdict(dict)
    key: tuple[int, Any] | None = None
    run, so_far = DRAWN, 0.0
    for step in steps:
        if step.undone:
            continue
        if key != (step.image, step.object):
            key, run, so_far = (step.image, step.object), DRAWN, 0.0
        if step.write is not None:
            run = step.run or run
            continue
        if not step.state.is_judged:
            # Taken back: it is as pushed again, and carries no time.
            so_far = 0.0
            continue
        of_reader = spent[step.who or UNKNOWN, run]
        added = None if step.seconds is None else round(step.seconds - so_far, 1)
        if added is not None and added < 0:
            added = None
        if added is not None or key not in of_reader:
            before = of_reader.get(key)
            of_reader[key] = added if before is None else round(before + (added or 0.0), 1)
        so_far = so_far if step.seconds is None else step.seconds
    return [_time(*who, list(spent[who].values())) for who in sorted(spent)]


def _time(reader: str, round_: str, seconds: list[float | None]) -> ReviewTime:
    known = [s for s in seconds if s is not None]
    return ReviewTime(
        reader,
        round_,
        len(seconds),
        len(known),
        round(median(known), 2) if known else None,
        round(sum(known), 1) if known else None,
    )
