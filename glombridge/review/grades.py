"""The roll-up: from graded glomeruli to the figures of a slide or a case; pure functions.

A figure counts what is known and says what is not: a glomerulus that was not graded for a lesion is
neither in its numerator nor in its denominator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..schemes import Index, Scheme, Score, Share
from .glomerulus import Glomerulus

RESEARCH_USE = "Research use only: counts of what a reader marked, no diagnosis."
"""Stands in every output."""


@dataclass(frozen=True)
class ShareFigure:
    """A share of glomeruli.

    Attributes:
        n: glomeruli that have it.
        of: glomeruli of which it is known, less those left out.
        left_out: glomeruli that the share is not about.
        ungraded: glomeruli of which it is not known.
    """

    name: str
    n: int
    of: int
    left_out: int
    ungraded: int

    @property
    def share(self) -> Fraction | None:
        """0 to 1, ``None`` = known of no glomerulus."""
        return Fraction(self.n, self.of) if self.of else None

    @property
    def percent(self) -> float | None:
        """0 to 100, ``None`` = known of no glomerulus."""
        return None if self.share is None else float(self.share * 100)

    @property
    def bounds(self) -> tuple[Fraction, Fraction] | None:
        """What the share can become once all are graded; ``None`` = it is about no glomerulus."""
        total = self.of + self.ungraded
        if not total:
            return None
        return Fraction(self.n, total), Fraction(self.n + self.ungraded, total)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        least, most = self.bounds or (None, None)
        return {
            "name": self.name,
            "n": self.n,
            "of": self.of,
            "percent": self.percent,
            "least_percent": None if least is None else float(least * 100),
            "most_percent": None if most is None else float(most * 100),
            "left_out": self.left_out,
            "ungraded": self.ungraded,
        }


@dataclass(frozen=True)
class ScoreFigure:
    """A score of a share.

    Attributes:
        value, label: ``None`` = the share is known of no glomerulus.
        of, ungraded: of the share.
        is_final: whether it stays so whatever the glomeruli not graded yet turn out to have.
    """

    name: str
    value: int | None
    label: str | None
    of: int
    ungraded: int
    is_final: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "label": self.label,
            "of": self.of,
            "ungraded": self.ungraded,
            "final": self.is_final,
        }


@dataclass(frozen=True)
class IndexFigure:
    """A sum of scores and case items.

    Attributes:
        value: ``None`` = a part is missing.
        max: the highest it can be.
        missing: parts that are not known.
        is_final: whether all its scores are.
    """

    name: str
    value: int | None
    max: int
    missing: tuple[str, ...]
    is_final: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "max": self.max,
            "missing": list(self.missing),
            "final": self.is_final,
        }


@dataclass(frozen=True)
class Figures:
    """What some glomeruli together say.

    Attributes:
        glomeruli: marked by a human, graded or not.
        graded: of these, every lesion is known.
        partly: some lesion is known and some is not.
        readers: glomeruli with any grade, by reader; ``unknown`` where the annotation does not say.
        indices: of a case only.
    """

    glomeruli: int
    graded: int
    partly: int
    readers: Mapping[str, int]
    shares: tuple[ShareFigure, ...]
    scores: tuple[ScoreFigure, ...]
    indices: tuple[IndexFigure, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "glomeruli": self.glomeruli,
            "graded": self.graded,
            "partly_graded": self.partly,
            "readers": dict(self.readers),
            "shares": [share.as_dict() for share in self.shares],
            "scores": [score.as_dict() for score in self.scores],
            "indices": [index.as_dict() for index in self.indices],
        }


def figures_of(
    glomeruli: Iterable[Glomerulus], scheme: Scheme, items: Mapping[str, int] | None = None
) -> Figures:
    """Roll glomeruli up.

    Args:
        glomeruli: each once; their order does not matter.
        scheme: the rules.
        items: what was entered for the case, by case item; ``None`` = these are not a case, and no
            index is made.
    """
    found = list(glomeruli)
    shares = tuple(_share(share, found) for share in scheme.shares)
    by_name = {share.name: share for share in shares}
    scores = tuple(_score(score, by_name[score.share]) for score in scheme.scores)
    readers = Counter(g.reader for g in found if g.n_known)
    return Figures(
        len(found),
        sum(g.is_graded for g in found),
        sum(g.n_known > 0 and not g.is_graded for g in found),
        dict(sorted(readers.items())),
        shares,
        scores,
        () if items is None else tuple(_index(i, scores, items) for i in scheme.indices),
    )


def _share(share: Share, glomeruli: Sequence[Glomerulus]) -> ShareFigure:
    n = of = left_out = ungraded = 0
    for glomerulus in glomeruli:
        is_out = glomerulus.has_any(share.without)
        has = glomerulus.has_any(share.any_of, share.min_grade)
        if is_out:
            left_out += 1
        elif is_out is None or has is None:
            ungraded += 1
        else:
            of += 1
            n += has
    return ShareFigure(share.name, n, of, left_out, ungraded)


def _score(score: Score, share: ShareFigure) -> ScoreFigure:
    if share.share is None or share.bounds is None:
        return ScoreFigure(score.name, None, None, share.of, share.ungraded, is_final=False)
    level = score.level(share.share)
    is_final = all(score.level(bound) == level for bound in share.bounds)
    return ScoreFigure(score.name, level.value, level.label, share.of, share.ungraded, is_final)


def _index(index: Index, scores: Sequence[ScoreFigure], items: Mapping[str, int]) -> IndexFigure:
    by_score = {score.name: score for score in scores}
    total, missing, is_final = 0, [], True
    for part in index.parts:
        score = by_score.get(part.item)
        value = items.get(part.item) if score is None else score.value
        if value is None:
            missing.append(part.item)
        else:
            total += part.weight * value
        is_final = is_final and (score is None or score.is_final)
    if missing:
        return IndexFigure(index.name, None, index.max, tuple(missing), is_final=False)
    return IndexFigure(index.name, total, index.max, (), is_final)
