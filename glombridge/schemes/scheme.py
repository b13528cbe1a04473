"""A grading scheme as values: lesions, what is entered per case, and the rules of the roll-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

from pydantic import ConfigDict

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Lesion:
    """Something a reader looks for in a glomerulus.

    Attributes:
        name: also the end of the measurement, ``Lesion: NAME``.
        key: one letter or digit in the review window.
        label: leaf of the class of a glomerulus in which it is the dominant lesion, ``None`` = it
            never becomes the class.
        max: 1 = present or absent, above that the highest grade.
        excludes: lesions that cannot be present beside it.
        color: of the class, ``#RRGGBB``.
        help: what it is, for the reader.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    key: str
    label: str | None = None
    max: int = 1
    excludes: tuple[str, ...] = ()
    color: str = "#BBBBBB"
    help: str = ""


@dataclass(frozen=True)
class CaseItem:
    """Something that cannot be told per glomerulus and is entered once per case.

    Attributes:
        levels: what each value from 0 on is called.
        source: of the levels.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    levels: tuple[str, ...]
    source: str = ""

    @property
    def max(self) -> int:
        """The highest value."""
        return len(self.levels) - 1


@dataclass(frozen=True)
class Share:
    """A share of glomeruli.

    Attributes:
        any_of: a glomerulus counts if it has one of these lesions.
        min_grade: the least grade that counts as having it.
        without: glomeruli with one of these are left out of numerator and denominator.
        source: of the choice of lesions and denominator.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    any_of: tuple[str, ...]
    min_grade: int = 1
    without: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Level:
    """One step of a score and where it begins.

    Attributes:
        value: the score.
        label: what it is called.
        from_percent: the share is at least this.
        above_percent: the share is more than this. Neither of the two = the lowest level.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    value: int
    label: str
    from_percent: float | None = None
    above_percent: float | None = None

    def begins_at_or_below(self, share: Fraction) -> bool:
        """Whether a share reaches this level; exact, so that 25 % is 25 %."""
        if self.from_percent is not None:
            return share * 100 >= _exact(self.from_percent)
        return self.above_percent is None or share * 100 > _exact(self.above_percent)

    @property
    def begin(self) -> tuple[Fraction, bool]:
        """Sorts levels: the percentage, and whether the level begins only above it."""
        if self.from_percent is not None:
            return _exact(self.from_percent), False
        if self.above_percent is not None:
            return _exact(self.above_percent), True
        return Fraction(-1), False


@dataclass(frozen=True)
class Score:
    """A score that a share of glomeruli gives.

    Attributes:
        share: name of the share.
        levels: from the lowest to the highest.
        source: of the cut-offs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    share: str
    levels: tuple[Level, ...]
    source: str

    def level(self, share: Fraction) -> Level:
        """The level that a share, 0 to 1, reaches."""
        return [level for level in self.levels if level.begins_at_or_below(share)][-1]


@dataclass(frozen=True)
class IndexPart:
    """One addend of an index: a score or a case item, times a weight."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    item: str
    weight: int = 1


@dataclass(frozen=True)
class Index:
    """A sum of scores and case items.

    Attributes:
        max: its highest value, checked against its parts when the scheme is read.
        source: of the parts and weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    max: int
    parts: tuple[IndexPart, ...]
    source: str


@dataclass(frozen=True)
class Adequacy:
    """When a biopsy is large enough for the scheme.

    Attributes:
        min_glomeruli: as many marked glomeruli, graded or not.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    min_glomeruli: int
    source: str


@dataclass(frozen=True)
class Scheme:
    """A grading scheme, complete and free of contradictions as :func:`load_scheme` gives it.

    Attributes:
        dominance: lesions in the order in which they become the visible class.
        sources: publications it is made from.
        adequacy: ``None`` = the scheme names no least number.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    version: str
    title: str
    lesions: tuple[Lesion, ...]
    dominance: tuple[str, ...]
    sources: tuple[str, ...] = ()
    adequacy: Adequacy | None = None
    case_items: tuple[CaseItem, ...] = ()
    shares: tuple[Share, ...] = ()
    scores: tuple[Score, ...] = ()
    indices: tuple[Index, ...] = ()

    @property
    def stamp(self) -> str:
        """What stands in ``glombridge.graded``: name and version."""
        return f"{self.name} {self.version}"

    @cached_property
    def lesion_of(self) -> Mapping[str, Lesion]:
        """Lesions by name."""
        return {lesion.name: lesion for lesion in self.lesions}

    @cached_property
    def lesion_labelled(self) -> Mapping[str, Lesion]:
        """Lesions by the leaf of their class."""
        return {lesion.label: lesion for lesion in self.lesions if lesion.label is not None}

    @cached_property
    def excluded_by(self) -> Mapping[str, frozenset[str]]:
        """By lesion, those that cannot be beside it; what one says of the other holds both ways."""
        pairs = {(a.name, b) for a in self.lesions for b in a.excludes}
        both = pairs | {(b, a) for a, b in pairs}
        return {
            lesion.name: frozenset(b for a, b in both if a == lesion.name)
            for lesion in self.lesions
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The leaves of classes, in the order of the lesions."""
        return tuple(self.lesion_labelled)


def _exact(percent: float) -> Fraction:
    # By its text: 33.3 in a file is meant as 333/10, not as the nearest binary number.
    return Fraction(str(percent))
