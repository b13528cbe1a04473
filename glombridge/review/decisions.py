"""What a reader decides of an object, as it is written onto the object.

Pure functions from the object before to the object after, which is how ``docs/review-format.md`` wants
it and how the review window in QuPath does it. Undo is to keep the object as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from ..errors import InputError, UsageError
from ..ledger.history import utc_now
from ..objects import CLASS_SEPARATOR, Color, PathClass, SlideObject
from ..provenance import GRADED, LESION, PROPOSED, REVIEWED, REVIEWER, SECONDS
from ..schemes import Lesion, Scheme
from ..settings import Settings

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_TENTH = Decimal("0.1")


@dataclass(frozen=True)
class Reader:
    """Who decides, when, and how long the object stood before them until then.

    Attributes:
        name: of the reader.
        at: UTC, as ``2026-11-25T08:30:00Z``; empty = now.
        seconds: since the reader's last decision on the object, or since it was shown; ``None`` =
            unknown.

    Raises:
        UsageError: no name, a time that is none, or seconds that cannot be.
    """

    name: str
    at: str = ""
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            msg = "a decision needs the name of its reader, and the name given is empty"
            raise UsageError(msg)
        if self.at and not _UTC.fullmatch(self.at):
            msg = f"{self.at!r} is no time of a decision: give UTC, as 2026-11-25T08:30:00Z"
            raise UsageError(msg)
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            msg = (
                f"a decision cannot take {self.seconds} seconds: give 0 or more, or None = unknown"
            )
            raise UsageError(msg)


@dataclass(frozen=True)
class Rules:
    """What decisions need to know of a project.

    Attributes:
        classes: of glomeruli, below which the labels of lesions stand.
        rejected: the class that says "this is not one".
        scheme: of grading, ``None`` = nothing can be graded.
    """

    classes: tuple[str, ...]
    rejected: str
    scheme: Scheme | None = None

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Those of a project's settings.

        Raises:
            InputError: the settings name no class for what is rejected.
        """
        if not settings.rejected:
            msg = "the settings name no class for what is rejected: give one in 'rejected'"
            raise InputError(msg)
        return cls(tuple(settings.class_names), settings.rejected[0], settings.scheme)

    def grading_scheme(self) -> Scheme:
        """The scheme.

        Raises:
            InputError: there is none.
        """
        if self.scheme is None:
            msg = (
                "the project has no grading scheme, so nothing can be graded. Name one in [review] of "
                'the settings: scheme = "lupus"'
            )
            raise InputError(msg)
        return self.scheme


def accept(obj: SlideObject, reader: Reader, rules: Rules) -> SlideObject:
    """It is one: ``Glomerulus: Proposed`` becomes ``Glomerulus``; a class that says so already stays.

    Args:
        obj: as it is, its outline in QuPath px; it is not changed.
        reader: who decides, when, and how long it took.
        rules: of the project; see :meth:`Rules.of`.
    """
    path_class = obj.path_class
    if path_class is None or path_class.levels[-1] == PROPOSED or _base(path_class, rules) is None:
        path_class = _base_or_first(path_class, rules)
    return _decided(obj, reader, path_class, obj.measurements, obj.metadata)


def reject(obj: SlideObject, reader: Reader, rules: Rules) -> SlideObject:
    """It is none: the class for that, and nothing is said of lesions any more.

    Args:
        obj: as it is, its outline in QuPath px; it is not changed.
        reader: who decides, when, and how long it took.
        rules: of the project; see :meth:`Rules.of`.
    """
    path_class = PathClass.parse(rules.rejected)
    return _decided(obj, reader, path_class, *_without_grades(obj))


def set_lesion(
    obj: SlideObject, lesion: str, value: int, reader: Reader, rules: Rules
) -> SlideObject:
    """A lesion is there, in this grade, or is not (0). It says that the object is a glomerulus, too.

    What the lesion excludes is not there then. A lesion that only the class names is kept as measured.

    Args:
        obj: as it is, its outline in QuPath px; it is not changed.
        lesion: its name in the scheme.
        value: 0 = absent, 1 = present, or a grade up to the lesion's ``max``.
        reader: who decides, when, and how long it took.
        rules: of the project; see :meth:`Rules.of`.

    Raises:
        InputError: no scheme, no such lesion in it, or a grade outside its range.
    """
    scheme = rules.grading_scheme()
    known = scheme.lesion_of.get(lesion)
    if known is None:
        msg = (
            f"the scheme {scheme.stamp!r} has no lesion {lesion!r}. It has: "
            f"{', '.join(scheme.lesion_of)}."
        )
        raise InputError(msg)
    if value != int(value) or not 0 <= value <= known.max:
        msg = f"{lesion!r} cannot be {value}: it is a whole number from 0 to {known.max}"
        raise InputError(msg)
    numbers = {**obj.measurements, **_of_class(obj, scheme)}
    numbers[LESION + lesion] = float(value)
    if value:
        numbers |= {LESION + other: 0.0 for other in scheme.excluded_by[lesion]}
    return _decided(obj, reader, _shown_class(obj, numbers, rules), numbers, obj.metadata)


def grading_done(obj: SlideObject, reader: Reader, rules: Rules) -> SlideObject:
    """Every lesion of the scheme was looked for: those nobody has said anything of are not there.

    Args:
        obj: as it is, its outline in QuPath px; it is not changed.
        reader: who decides, when, and how long it took.
        rules: of the project; see :meth:`Rules.of`.

    Raises:
        InputError: no scheme.
    """
    scheme = rules.grading_scheme()
    absent = {LESION + name: 0.0 for name in scheme.lesion_of}
    numbers = {**absent, **_of_class(obj, scheme), **obj.measurements}
    metadata = {**obj.metadata, GRADED: scheme.stamp}
    return _decided(obj, reader, _shown_class(obj, numbers, rules), numbers, metadata)


def ungrade(obj: SlideObject, reader: Reader, rules: Rules) -> SlideObject:
    """It is a glomerulus of which nothing is said.

    Args:
        obj: as it is, its outline in QuPath px; it is not changed.
        reader: who decides, when, and how long it took.
        rules: of the project; see :meth:`Rules.of`.
    """
    path_class = _base_or_first(obj.path_class, rules)
    return _decided(obj, reader, path_class, *_without_grades(obj))


def unlock(obj: SlideObject) -> SlideObject:
    """Its outline is to be edited in QuPath: only the lock is taken off, nothing is decided yet."""
    return replace(obj, locked=False)


def _decided(
    obj: SlideObject,
    reader: Reader,
    path_class: PathClass,
    measurements: Mapping[str, float],
    metadata: Mapping[str, str],
) -> SlideObject:
    said = {**metadata, REVIEWER: reader.name.strip(), REVIEWED: reader.at or utc_now()}
    if reader.seconds is not None:
        said[SECONDS] = _total(metadata.get(SECONDS), reader.seconds)
    if path_class == obj.path_class:
        path_class = obj.path_class  # with the colour it has
    return replace(obj, path_class=path_class, measurements=dict(measurements), metadata=said)


def _total(before: str | None, seconds: float) -> str:
    """Text of the sum, rounded as on paper, so that every language writes the same digit."""
    try:
        so_far = Decimal(before or "0")
    except InvalidOperation:
        so_far = Decimal(0)
    return str((so_far + Decimal(str(seconds))).quantize(_TENTH, ROUND_HALF_UP))


def _base(path_class: PathClass | None, rules: Rules) -> PathClass | None:
    """The class of glomeruli that a class is, or stands below."""
    text = str(path_class)
    for name in rules.classes:
        if text == name or text.startswith(name + CLASS_SEPARATOR):
            return PathClass.parse(name)
    return None


def _base_or_first(path_class: PathClass | None, rules: Rules) -> PathClass:
    return _base(path_class, rules) or PathClass.parse(rules.classes[0])


def _of_class(obj: SlideObject, scheme: Scheme) -> dict[str, float]:
    """The lesion that only the class names, as a measurement; empty = none, or it is measured too."""
    leaf = obj.path_class.levels[-1] if obj.path_class else None
    lesion = scheme.lesion_labelled.get(str(leaf))
    if lesion is None or LESION + lesion.name in obj.measurements:
        return {}
    return {LESION + lesion.name: 1.0}


def _shown_class(obj: SlideObject, numbers: Mapping[str, float], rules: Rules) -> PathClass:
    scheme = rules.grading_scheme()
    base = _base_or_first(obj.path_class, rules)
    for name in scheme.dominance:
        lesion = scheme.lesion_of[name]
        if lesion.label is not None and numbers.get(LESION + name, 0) > 0:
            return base.derive(lesion.label, _color(lesion))
    return base


def _color(lesion: Lesion) -> Color:
    value = int(lesion.color[1:], 16)
    return Color(value >> 16, value >> 8 & 255, value & 255)


def _without_grades(obj: SlideObject) -> tuple[dict[str, float], dict[str, str]]:
    return (
        {k: v for k, v in obj.measurements.items() if not k.startswith(LESION)},
        {k: v for k, v in obj.metadata.items() if k != GRADED},
    )
