"""What one annotation says of a glomerulus: lesions by measurement and class, by whom and when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from ..errors import InputError
from ..objects import SlideObject
from ..provenance import GRADED, LESION, REVIEWED, REVIEWER, SECONDS
from ..schemes import Lesion, Scheme

UNKNOWN_READER = "unknown"
"""Who graded it, where nothing says so."""


@dataclass(frozen=True)
class Glomerulus:
    """One glomerulus as graded.

    Attributes:
        id: of the annotation.
        image: entry id.
        path_class: display text.
        values: by lesion of the scheme: 0 = absent, 1 or a grade = present, ``None`` = unknown.
        present: lesions that are there in an unknown grade: only the class says so.
        reader: the last who decided, :data:`UNKNOWN_READER` where the annotation does not say.
        reviewed: when, UTC as ISO 8601; ``None`` = unknown.
        seconds: it stood before the reader; ``None`` = unknown.
        graded: the scheme whose every lesion was looked for, as name and version.
        state: of the object in the loop: ``accepted``, ``edited`` or ``added``.
    """

    id: UUID
    image: int
    path_class: str
    values: Mapping[str, int | None]
    present: frozenset[str] = frozenset()
    reader: str = UNKNOWN_READER
    reviewed: str | None = None
    seconds: float | None = None
    graded: str | None = None
    state: str = "added"

    def has(self, lesion: str, min_grade: int = 1) -> bool | None:
        """Whether it has a lesion in this grade or a higher one; ``None`` = unknown."""
        value = self.values[lesion]
        if value is not None:
            return value >= min_grade
        return True if min_grade == 1 and lesion in self.present else None

    def has_any(self, lesions: tuple[str, ...], min_grade: int = 1) -> bool | None:
        """Whether it has one of some lesions; ``None`` = no one is known to be there and one is open."""
        found = [self.has(lesion, min_grade) for lesion in lesions]
        if True in found:
            return True
        return None if None in found else False

    @property
    def n_known(self) -> int:
        """Lesions that are known to be there or not."""
        return sum(v is not None or name in self.present for name, v in self.values.items())

    @property
    def is_graded(self) -> bool:
        """Whether every lesion of the scheme is known."""
        return None not in self.values.values()


@dataclass(frozen=True)
class Contradiction:
    """Something that a human has to look at: an object that says two things.

    Attributes:
        image: entry id.
        object: id of the object.
        text: what it says, and what became of it in the figures.
    """

    image: int
    object: UUID
    text: str


@dataclass(frozen=True)
class Reading:
    """A glomerulus, and what contradicts itself in it."""

    glomerulus: Glomerulus
    contradictions: tuple[Contradiction, ...] = field(default=())


def read_glomerulus(obj: SlideObject, image: int, scheme: Scheme, *, state: str) -> Reading:
    """Take the grades of an annotation.

    A lesion is what its measurement says. Where there is none, a class ``...: LABEL`` says that its
    lesion is there, and a lesion that is there says that those it excludes are not. What contradicts
    itself counts as unknown. A lesion without either is unknown, whatever ``glombridge.graded`` says.

    Args:
        obj: a truth annotation.
        image: entry id.
        scheme: what was looked for.
        state: of the object in the loop.

    Raises:
        InputError: a grade outside its range; all of them are named.
    """
    values: dict[str, int | None] = {x.name: None for x in scheme.lesions}
    values |= measured_grades(obj, scheme)
    texts: list[str] = []
    present: set[str] = set()
    by_class = _lesion_of_class(obj, scheme)
    if by_class is not None and values[by_class.name] == 0:
        texts.append(
            f"the class is {str(obj.path_class)!r} and the measurement '{LESION}{by_class.name}' is 0; "
            "the lesion counts as not graded"
        )
        values[by_class.name] = None
    elif by_class is not None and values[by_class.name] is None:
        if by_class.max == 1:
            values[by_class.name] = 1
        else:
            present.add(by_class.name)
    clashes = set(_clashes(values, present, scheme))
    for first, second in sorted(clashes):
        texts.append(
            f"it has {first!r} and {second!r}, which exclude each other; both count as not graded"
        )
    for name in {name for pair in clashes for name in pair}:
        values[name] = None
        present.discard(name)
    _exclude(values, present, scheme, keep={name for pair in clashes for name in pair})
    done = obj.metadata.get(GRADED, "").strip() or None
    open_lesions = [name for name, v in values.items() if v is None and name not in present]
    if done == scheme.stamp and open_lesions and not texts:
        texts.append(
            f"it is marked as graded with {done!r} and says nothing of {', '.join(open_lesions)}; "
            "these count as not graded"
        )
    glomerulus = Glomerulus(
        obj.id,
        image,
        str(obj.path_class),
        values,
        frozenset(present),
        obj.metadata.get(REVIEWER, "").strip() or UNKNOWN_READER,
        obj.metadata.get(REVIEWED, "").strip() or None,
        _seconds(obj),
        done,
        state,
    )
    return Reading(glomerulus, tuple(Contradiction(image, obj.id, text) for text in texts))


def measured_grades(obj: SlideObject, scheme: Scheme) -> dict[str, int]:
    """The lesions of a scheme that an object has a measurement of; NaN is none.

    Raises:
        InputError: a grade outside its range; all of them are named.
    """
    grades: dict[str, int] = {}
    bad: list[str] = []
    for lesion in scheme.lesions:
        value = obj.measurements.get(LESION + lesion.name, math.nan)
        if math.isnan(value):
            continue
        if value != int(value) if math.isfinite(value) else True:
            bad.append(f"'{LESION}{lesion.name}' is {value:g}, not a whole number")
        elif not 0 <= value <= lesion.max:
            bad.append(f"'{LESION}{lesion.name}' is {value:g}, outside 0 to {lesion.max}")
        else:
            grades[lesion.name] = int(value)
    if bad:
        msg = f"object {obj.id}: {'; '.join(bad)} (scheme {scheme.stamp!r}). Correct it in QuPath."
        raise InputError(msg)
    return grades


def contradiction_of(obj: SlideObject, image: int, what: str) -> Contradiction | None:
    """What is wrong with an object that carries grades though it is no glomerulus; ``None`` = nothing.

    Args:
        obj: rejected, or still a proposal.
        image: entry id.
        what: it is, in words.
    """
    grades = sorted(
        name for name, v in obj.measurements.items() if name.startswith(LESION) and v > 0
    )
    said = [f"graded with {obj.metadata[GRADED]!r}"] if obj.metadata.get(GRADED) else []
    said += [f"{name!r} is {obj.measurements[name]:g}" for name in grades]
    if not said:
        return None
    text = f"it is {what} and graded ({', '.join(said)}); it is in no figure"
    return Contradiction(image, obj.id, text)


def _lesion_of_class(obj: SlideObject, scheme: Scheme) -> Lesion | None:
    if obj.path_class is None or len(obj.path_class.levels) < 2:
        return None
    return scheme.lesion_labelled.get(obj.path_class.levels[-1])


def _there(values: Mapping[str, int | None], present: set[str]) -> list[str]:
    return [name for name, v in values.items() if v or name in present]


def _clashes(
    values: Mapping[str, int | None], present: set[str], scheme: Scheme
) -> Iterator[tuple[str, str]]:
    there = _there(values, present)
    for first in there:
        for second in scheme.excluded_by[first].intersection(there):
            yield (first, second) if first < second else (second, first)


def _exclude(
    values: dict[str, int | None], present: set[str], scheme: Scheme, *, keep: set[str]
) -> None:
    for name in _there(values, present):
        for other in scheme.excluded_by[name] - keep:
            values[other] = 0


def _seconds(obj: SlideObject) -> float | None:
    try:
        seconds = float(obj.metadata.get(SECONDS, "nan"))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
