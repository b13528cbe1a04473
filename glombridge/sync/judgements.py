"""What a review left on an object, and what of it cannot be: ``docs/review-format.md`` read back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from ..ledger.pushed import UNKNOWN, Judgement
from ..objects import SlideObject
from ..provenance import GRADED, LESION, REVIEWED, REVIEWER, SECONDS
from ..settings import Settings

# As Java writes an instant. Python's own reading of times takes more from 3.11 on than in 3.10, and
# what a review says must not depend on that.
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.[0-9]{1,9})?Z"
)


def judgement_of(obj: SlideObject) -> Judgement:
    """What stands on an object. A time or duration that cannot be read is unknown; NaN is no grade."""
    metadata = obj.metadata
    at = metadata.get(REVIEWED)
    return Judgement(
        str(obj.path_class) if obj.path_class else None,
        metadata.get(REVIEWER, "").strip() or UNKNOWN,
        at if _is_time(at) else None,
        _seconds(metadata.get(SECONDS)),
        metadata.get(GRADED, "").strip() or None,
        {
            name.removeprefix(LESION): float(value)
            for name, value in sorted(obj.measurements.items())
            if name.startswith(LESION) and math.isfinite(value)
        },
    )


def problems_of_review(objects: Iterable[SlideObject], settings: Settings) -> Iterator[str]:
    """What contradicts itself or cannot be in what a review left, one line each; sound objects none."""
    for obj in objects:
        for text in (*_of_words(obj), *_of_grades(obj, settings)):
            yield f"object {obj.id}: {text}"


def _of_words(obj: SlideObject) -> Iterator[str]:
    metadata = obj.metadata
    if REVIEWED in metadata and not metadata.get(REVIEWER, "").strip():
        yield f"reviewed at {metadata[REVIEWED]!r}, and nobody says by whom ({REVIEWER} is missing)"
    if REVIEWED in metadata and not _is_time(metadata[REVIEWED]):
        yield (
            f"{REVIEWED} is {metadata[REVIEWED]!r}, which is no time such as 2026-11-25T08:30:00Z; it "
            "counts as unknown"
        )
    if SECONDS in metadata and _seconds(metadata[SECONDS]) is None:
        yield f"{SECONDS} is {metadata[SECONDS]!r}, which is no duration; it counts as unknown"


def _of_grades(obj: SlideObject, settings: Settings) -> Iterator[str]:
    values = {
        name.removeprefix(LESION): value
        for name, value in obj.measurements.items()
        if name.startswith(LESION) and not math.isnan(value)
    }
    graded = obj.metadata.get(GRADED, "").strip()
    if str(obj.path_class) in settings.rejected and (values or graded):
        said = ", ".join(f"{name} = {value:g}" for name, value in values.items())
        yield f"rejected, and graded all the same ({said or graded}): decide for one of the two"
    scheme = settings.scheme
    if graded and graded != (scheme.stamp if scheme else None):
        ours = f"the project's is {scheme.stamp!r}" if scheme else "the project names none"
        yield f"graded by the scheme {graded!r}; {ours}"
    for name, value in values.items():
        known = scheme.lesion_of.get(name) if scheme else None
        if value < 0 or not float(value).is_integer():
            yield f"{LESION}{name} is {value:g}, which is no whole number from 0 on"
        elif known is not None and value > known.max:
            yield f"{LESION}{name} is {value:g}, and goes from 0 to {known.max}"
        elif scheme is not None and known is None:
            yield f"{LESION}{name} is {value:g}, and the scheme {scheme.stamp!r} has no such lesion"


def _is_time(text: str | None) -> bool:
    found = _TIME.fullmatch(text or "")
    if found is None:
        return False
    try:
        datetime.fromisoformat(found[1])
    except ValueError:
        return False
    return True


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
