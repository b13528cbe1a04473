"""What humans have done in an image since we last looked: the base compared with what is there now."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any
from uuid import UUID

from ..ledger.pushed import UNKNOWN, Drawing, Judgement, PushedObject
from ..ledger.states import State
from ..objects import ObjectKind, PathClass, SlideObject
from ..provenance import ERROR_CLASSES, PROPOSED
from ..settings import Settings
from .comparison import is_untouched, same_place, says_the_same
from .judgements import judgement_of

FEW = 3
"""Fewer objects of a push that vanished together may as well have been deleted one by one. If somebody
has worked on that push, or they vanished before, they count as deleted."""


class Verdict(str, Enum):
    """What a class says of an object."""

    TRUTH = "truth"
    PROPOSED = "proposed"
    REJECTED = "rejected"
    OTHER = "other"


def verdict(path_class: PathClass | None, settings: Settings) -> Verdict:
    """What a class says of an object, by the settings."""
    if path_class is None or str(path_class) in ERROR_CLASSES:
        return Verdict.OTHER
    if path_class.levels[-1] == PROPOSED:
        return Verdict.PROPOSED
    if settings.class_index(path_class) is not None:
        return Verdict.TRUTH
    return Verdict.REJECTED if str(path_class) in settings.rejected else Verdict.OTHER


@dataclass(frozen=True)
class Seen:
    """One object that we pushed, as it is now.

    Attributes:
        base: as pushed.
        now: as it is in the project, ``None`` = not there.
        state: what a human has made of it.
        untouched: whether it is there in every detail as we pushed it, now or earlier.
    """

    base: PushedObject
    now: SlideObject | None
    state: State
    untouched: bool


@dataclass(frozen=True)
class Decision:
    """Something a human did, or that happened, between two looks.

    Attributes:
        id: of the object.
        before: state at the last look, ``None`` = the object was not known.
        after: state now.
        path_class: display text of the class now, ``None`` = none or not there.
        box: outline's bounds in QuPath px, empty = not there.
        by, at: who, and when (UTC), where the review window wrote it down.
        drawing: of an object that a human drew.
        seconds: the object has stood before readers so far, ``None`` = unknown.
        graded: name and version of the scheme of which every lesion was looked for.
        grades: lesion to value, of those that have one.
        regraded: only what is said of the object changed, and not what it is in the loop.
    """

    id: UUID
    before: State | None
    after: State
    path_class: str | None = None
    box: tuple[float, ...] = ()
    by: str = UNKNOWN
    at: str | None = None
    drawing: Drawing | None = None
    seconds: float | None = None
    graded: str | None = None
    grades: Mapping[str, float] = field(default_factory=dict)
    regraded: bool = False

    @classmethod
    def of(
        cls,
        obj: SlideObject,
        judgement: Judgement,
        before: State | None,
        after: State,
        *,
        drawing: Drawing | None = None,
        regraded: bool = False,
    ) -> Decision:
        """What was decided of an object that is there."""
        return cls(
            obj.id,
            before,
            after,
            judgement.path_class,
            obj.outline.bounds if obj.outline else (),
            judgement.by,
            judgement.at,
            drawing,
            judgement.seconds,
            judgement.graded,
            judgement.grades,
            regraded,
        )

    def as_dict(self) -> dict[str, Any]:
        """For the history and ``--json``."""
        said = {
            "id": str(self.id),
            "from": self.before.value if self.before else None,
            "to": self.after.value,
            "class": self.path_class,
            "box": [round(v, 2) for v in self.box],
            "by": self.by,
            "at": self.at,
            "drawing": self.drawing.as_list() if self.drawing else None,
            "seconds": self.seconds,
            "graded": self.graded,
            "grades": dict(self.grades),
            "regraded": self.regraded or None,
        }
        return {k: v for k, v in said.items() if v is not None and v not in ([], {})}


@dataclass(frozen=True)
class Look:
    """An image compared with what we put there.

    Attributes:
        seen: every object we ever pushed, by id.
        decisions: what is new since the last look, in order of id.
    """

    seen: Mapping[UUID, Seen]
    decisions: tuple[Decision, ...]


def look_at(
    base: Sequence[PushedObject],
    drawn: Mapping[UUID, Drawing],
    theirs: Sequence[SlideObject],
    settings: Settings,
) -> Look:
    """Tell the state of every object; a pure function.

    Args:
        base: what we pushed into the image, as the ledger knows it.
        drawn: each object a human drew that was there at the last look.
        theirs: every object of the image now.
        settings: which class says what.
    """
    there = {obj.id: obj for obj in theirs}
    strangers = _Strangers(theirs)
    seen: dict[UUID, Seen] = {}
    for known in base:
        now = there.get(known.id)
        if now is not None:
            seen[known.id] = _present(known, now, settings)
        elif not known.state.is_there:
            seen[known.id] = Seen(known, None, known.state, untouched=False)
        elif (stranger := strangers.at(known)) is not None:
            # An id that changes at each opening is no handle to change it by: leave it alone.
            seen[known.id] = replace(_present(known, stranger, settings), untouched=False)
        else:
            seen[known.id] = Seen(known, None, State.DELETED, untouched=False)
    _find_lost(seen)
    decisions = [d for s in seen.values() if (d := _decision(s)) is not None]
    adopted = {s.now.id for s in seen.values() if s.now is not None}
    humans = [o for o in theirs if o.id not in seen and o.id not in adopted]
    decisions += _drawn_since(drawn, humans, settings)
    return Look(seen, tuple(sorted(decisions, key=lambda d: d.id)))


def _present(known: PushedObject, now: SlideObject, settings: Settings) -> Seen:
    # Also an earlier form is as we pushed it: a QuPath that had the image open saves what it had.
    untouched = any(is_untouched(v, now) for v in known.versions)
    in_place = untouched or any(same_place(v.object.outline, now.outline) for v in known.versions)
    says = verdict(now.path_class, settings)
    if says is Verdict.PROPOSED:
        state = State.PROPOSAL if in_place else State.MOVED
    elif says is Verdict.TRUTH:
        state = State.ACCEPTED if in_place else State.EDITED
    else:
        state = State.REJECTED if says is Verdict.REJECTED else State.RECLASSIFIED
    return Seen(known, now, state, untouched)


class _Strangers:
    """Objects without an id of their own (QuPath 0.3 makes new ones at each opening), by place."""

    def __init__(self, theirs: Iterable[SlideObject]) -> None:
        found = [o for o in theirs if not o.id_is_stored and o.outline is not None]
        self._sorted = sorted(found, key=_left)

    def at(self, known: PushedObject) -> SlideObject | None:
        """The one that is where an object was pushed."""
        for version in known.versions:
            outline = version.object.outline
            assert outline is not None  # noqa: S101 (a proposal has one)
            left = outline.bounds[0]
            first = bisect_left(self._sorted, left - 1, key=_left)
            for obj in self._sorted[first : bisect_right(self._sorted, left + 1, key=_left)]:
                if same_place(outline, obj.outline):
                    return obj
        return None


def _left(obj: SlideObject) -> float:
    assert obj.outline is not None  # noqa: S101 (chosen so)
    return obj.outline.bounds[0]


def _find_lost(seen: dict[UUID, Seen]) -> None:
    """Tell a push that vanished as a whole from objects that were deleted.

    A QuPath that had the image open before the push saves what it knows, and that is none of the
    push's new objects, and all others in the forms they had before. If anything there could only
    come from the push, or from a later one, QuPath had read it, and what is missing was deleted.
    """
    if not any(s.base.state.is_there and s.now is None for s in seen.values()):
        return
    of_write: dict[str, list[Seen]] = defaultdict(list)
    for s in seen.values():
        of_write[s.base.write].append(s)
    was_read = max((number for s in seen.values() for number in _writes_shown_by(s)), default=-1)
    for write, pushed in of_write.items():
        if _number(write) <= was_read:
            continue
        there = [s for s in pushed if s.base.state.is_there]
        gone = [s for s in there if s.now is None]
        telling = [s for s in there if s.base.is_new_in_write] or there
        if not gone or any(s.now is not None for s in telling):
            continue
        was_reviewed = any(s.base.state.is_judged for s in pushed)
        for s in gone:
            if len(telling) >= FEW or not (was_reviewed or s.base.losses):
                seen[s.base.id] = replace(s, state=State.LOST)


def _writes_shown_by(s: Seen) -> Iterator[int]:
    """Numbers of the writes that whoever saved this object had read."""
    if s.now is None:
        return
    if s.base.is_new_in_write:
        yield _number(s.base.write)
    # The first write that gave it this form: a later one that gave it again is shown by nothing.
    for version in s.base.versions:
        if says_the_same(version, s.now):
            yield _number(version.write)
            return


def _number(write: str) -> int:
    """Writes are numbered; -1 for what is none."""
    digits = write.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1


def _decision(s: Seen) -> Decision | None:
    is_new = s.state is not s.base.state
    if s.now is None:
        return Decision(s.base.id, s.base.state, s.state) if is_new else None
    judgement = judgement_of(s.now)
    if not is_new and (not s.state.is_judged or s.base.judgement in (None, judgement)):
        return None
    made = Decision.of(s.now, judgement, s.base.state, s.state, regraded=not is_new)
    # Objects of QuPath 0.3 have another id at each opening; the history knows the one we pushed.
    return replace(made, id=s.base.id)


def _drawn_since(
    drawn: Mapping[UUID, Drawing], humans: Iterable[SlideObject], settings: Settings
) -> list[Decision]:
    decisions = []
    there = set()
    for obj in humans:
        if not obj.id_is_stored or obj.kind is not ObjectKind.ANNOTATION or obj.outline is None:
            continue
        if verdict(obj.path_class, settings) not in (Verdict.TRUTH, Verdict.REJECTED):
            continue
        there.add(obj.id)
        now = Drawing.of(obj)
        before = drawn.get(obj.id)
        judgement = judgement_of(obj)
        is_other = before is None or not before.is_like(now)
        if is_other or (before and before.judgement not in (None, judgement)):
            known = State.ADDED if before else None
            decisions.append(
                Decision.of(obj, judgement, known, State.ADDED, drawing=now, regraded=not is_other)
            )
    gone = [Decision(i, State.ADDED, State.DELETED) for i in drawn.keys() - there]
    return decisions + gone
