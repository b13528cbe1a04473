"""``history``: who did what to an object, when; and what was done to the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import InputError, UsageError
from ..ledger.ledger import Step
from ..review.times import ReviewTime, review_times
from .project import Project

SHORTEST_ID = 4
"""Fewer characters would be a search, not a name."""


@dataclass(frozen=True)
class HistoryResult:
    """The life of one object, or the events of the project.

    Attributes:
        object: id asked for, ``None`` = the project as a whole.
        steps: of the object, oldest first.
        events: of the project, oldest first, without their lists of objects.
        images: image names by entry id.
    """

    object: str | None
    steps: tuple[Step, ...]
    events: tuple[dict[str, Any], ...]
    images: dict[int, str]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "object": self.object,
            "steps": [{**s.as_dict(), "image_name": self.images.get(s.image)} for s in self.steps],
            "events": list(self.events),
        }


def history(
    project: Project, object_id: str | None = None, *, newest: int | None = None
) -> HistoryResult:
    """What is on record of an object, or of the project.

    Args:
        project: the project.
        object_id: id of the object as QuPath shows it, or its beginning.
        newest: of the project's events only so many.

    Raises:
        UsageError: too short a beginning of an id.
        InputError: nothing is on record of such an object, or several objects begin like that.
        DamagedFileError: the history cannot be read.
    """
    names = {e.id: e.name for e in project.store.images()}
    with project.workspace.ledger_view() as ledger:
        if object_id is None:
            return HistoryResult(None, (), tuple(ledger.events(newest=newest)), names)
        wanted = object_id.strip().lower()
        if len(wanted) < SHORTEST_ID:
            msg = f"{object_id!r} is too short: give the id, or its first {SHORTEST_ID} characters or more"
            raise UsageError(msg)
        steps = ledger.steps(wanted)
    objects = sorted({str(s.object) for s in steps})
    if not objects:
        msg = (
            f"nothing is on record of an object {object_id!r}. Objects come on record when they are "
            "pushed, and those of humans when they are pulled."
        )
        raise InputError(msg)
    if len(objects) > 1:
        shown = ", ".join(objects[:5])
        msg = f"{len(objects)} objects begin with {object_id!r}: {shown}. Give more of the id."
        raise InputError(msg)
    return HistoryResult(objects[0], tuple(steps), (), names)


def times(project: Project) -> list[ReviewTime]:
    """Seconds per glomerulus, by reader and round, as of the last pull or push.

    Args:
        project: the project.

    Raises:
        DamagedFileError: the history cannot be read.
    """
    with project.workspace.ledger_view() as ledger:
        return review_times(ledger.steps(""))
