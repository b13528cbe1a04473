"""In which order proposals should be looked at, and why; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..detection.boxes import Floats
from ..evaluation.orders import chance, disagreement, doubt
from ..objects import SlideObject
from ..provenance import CONFIDENCE, QUEUE, QUEUE_RANK, REASON, SCORE_SD

EVEN = 0.5
"""Stands for the operating point of a run that left none: where yes and no are even."""


@dataclass(frozen=True)
class Candidate:
    """A proposal that waits for a human.

    Attributes:
        image: entry id.
        object: as it is in the project.
        confidence: its run works at, ``None`` = not known.
        layer: it is of.
        others: further layers whose run has looked at its place, to whether they propose it too.
    """

    image: int
    object: SlideObject
    confidence: float | None = None
    layer: str = ""
    others: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranked:
    """A candidate and its place.

    Attributes:
        rank: 1 is first.
        reason: for a human.
    """

    candidate: Candidate
    rank: int
    reason: str


class Strategy(Protocol):
    """What comes first."""

    @property
    def name(self) -> str:
        """As the command line has it."""
        ...

    def weigh(self, candidates: Sequence[Candidate]) -> tuple[Floats, list[str]]:
        """(N,) the greatest first, and the reason for each."""
        ...


@dataclass(frozen=True)
class Uncertainty:
    """Those first that the model is least sure of; see :func:`glombridge.evaluation.orders.doubt`."""

    name: str = "uncertainty"

    def weigh(self, candidates: Sequence[Candidate]) -> tuple[Floats, list[str]]:
        """By nearness to the operating point."""
        return _doubts(candidates), [self._reason(c) for c in candidates]

    @staticmethod
    def _reason(candidate: Candidate) -> str:
        score = _score(candidate)
        point = EVEN if candidate.confidence is None else candidate.confidence
        named = "an even chance" if candidate.confidence is None else "the operating point"
        side = "above" if score >= point else "below"
        text = f"confidence {score:.2f}, {abs(score - point):.2f} {side} {named} ({point:.2f})"
        sd = candidate.object.measurements.get(SCORE_SD, math.nan)
        return text if math.isnan(sd) else f"{text}, changes by {sd:.2f} when mirrored"


@dataclass(frozen=True)
class Disagreement:
    """Those first that some layers see and others do not, where both have looked.

    See :func:`glombridge.evaluation.orders.disagreement`.
    """

    name: str = "disagreement"

    def weigh(self, candidates: Sequence[Candidate]) -> tuple[Floats, list[str]]:
        """By the entropy of the layers' votes."""
        votes = np.array([1 + sum(c.others.values()) for c in candidates], np.int64)
        voters = np.array([1 + len(c.others) for c in candidates], np.int64)
        return disagreement(votes, voters), [self._reason(c) for c in candidates]

    @staticmethod
    def _reason(candidate: Candidate) -> str:
        seeing = [candidate.layer, *sorted(n for n, sees in candidate.others.items() if sees)]
        blind = sorted(n for n, sees in candidate.others.items() if not sees)
        if not candidate.others:
            return f"seen by {candidate.layer}; no other layer has looked here"
        missed = f", not by {' and '.join(blind)}" if blind else ""
        return f"seen by {' and '.join(seeing)}{missed}"


@dataclass(frozen=True)
class Random:
    """In any order, to compare with."""

    seed: int = 0
    name: str = "random"

    def weigh(self, candidates: Sequence[Candidate]) -> tuple[Floats, list[str]]:
        """By chance, the same for the same seed."""
        keys = (f"{c.image}|{c.object.id}" for c in candidates)
        return chance(keys, self.seed), ["drawn at random"] * len(candidates)


def strategy_of(name: str, *, seed: int) -> Strategy:
    """The strategy of a name: ``uncertainty``, ``disagreement`` or ``random``."""
    made: dict[str, Strategy] = {
        "uncertainty": Uncertainty(),
        "disagreement": Disagreement(),
        "random": Random(seed),
    }
    return made[name]


def rank(candidates: Sequence[Candidate], strategy: Strategy) -> list[Ranked]:
    """Every candidate once, in order; what weighs the same by doubt, then by image and id."""
    weights, reasons = strategy.weigh(candidates)
    doubts = _doubts(candidates)
    order = sorted(
        range(len(candidates)),
        key=lambda k: (-weights[k], -doubts[k], candidates[k].image, candidates[k].object.id),
    )
    return [Ranked(candidates[k], place, reasons[k]) for place, k in enumerate(order, start=1)]


def queued(ranked: Ranked, *, strategy: str, seed: int) -> SlideObject:
    """The object with its place in the queue written on it."""
    obj = ranked.candidate.object
    return replace(
        obj,
        measurements={**obj.measurements, QUEUE_RANK: float(ranked.rank)},
        metadata={**obj.metadata, REASON: ranked.reason, QUEUE: f"{strategy}, seed {seed}"},
    )


def unqueued(obj: SlideObject) -> SlideObject:
    """The object without a place in a queue."""
    return replace(
        obj,
        measurements={k: v for k, v in obj.measurements.items() if k != QUEUE_RANK},
        metadata={k: v for k, v in obj.metadata.items() if k not in (REASON, QUEUE)},
    )


def _score(candidate: Candidate) -> float:
    return float(candidate.object.measurements.get(CONFIDENCE, EVEN))


def _doubts(candidates: Sequence[Candidate]) -> Floats:
    points = [EVEN if c.confidence is None else c.confidence for c in candidates]
    sds = [c.object.measurements.get(SCORE_SD, math.nan) for c in candidates]
    scores = np.array([_score(c) for c in candidates], np.float64)
    return doubt(scores, np.array(points, np.float64), np.array(sds, np.float64))
