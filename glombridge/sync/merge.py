"""The merge: what we put there, what is there now, and what a new run sees, become one plan.

A pure function. Its laws, which ``tests/sync/test_merge_laws.py`` holds:

- what a human made or touched is in no plan;
- an untouched proposal of the same layer keeps its id: updated where the run sees it, withdrawn where
  the run looked and does not; other layers are left alone;
- where a human rejected or deleted, nothing is proposed, unless a detection scores more than
  ``reopen_above`` and more than what was rejected;
- a detection that is a human's object adds nothing;
- merging twice is merging once; the order of objects and detections does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.boxes import Bools, Floats
from ..ledger.states import State
from ..objects import ObjectKind, SlideObject, box_polygons
from ..provenance import CONFIDENCE, ERROR_CLASSES, QUEUE, QUEUE_RANK, REASON
from ..qupath.store import HierarchyEdit
from ..qupath.stored_form import as_stored, differences, same_box
from ..settings import Settings
from .comparison import same_place
from .look import Look, Seen, Verdict, verdict
from .matching import pair_up
from .proposals import boxes_of, free_id

SCANNED_SHARE = 0.5
"""A run looked at a proposal if this share of it lies in what it scanned."""


@dataclass(frozen=True)
class Ours:
    """What a new run sees in one image.

    Attributes:
        layer: the layer it speaks for.
        objects: its proposals, in an order that does not depend on how they were made.
        scanned: what it looked at, QuPath px; ``None`` = not known, so nothing is withdrawn.
    """

    layer: str
    objects: Sequence[SlideObject]
    scanned: BaseGeometry | None


@dataclass(frozen=True)
class Match:
    """A detection that is something that is there, or was.

    Attributes:
        id: of that object.
        score: of the detection.
        iou: of the two boxes.
    """

    id: UUID
    score: float
    iou: float

    def as_list(self) -> list[Any]:
        """For the history."""
        return [str(self.id), round(self.score, 6), round(self.iou, 3)]


@dataclass(frozen=True)
class Conflict:
    """A human and the run say different things of one object; the human's word stands.

    Attributes:
        id: of the object.
        text: what each says.
    """

    id: UUID
    text: str

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return {"id": str(self.id), "text": self.text}


@dataclass(frozen=True)
class MergePlan:
    """What a push does in one image, and why the rest is not done.

    Attributes:
        add: new proposals, and earlier ones that return under their id.
        update: untouched proposals of the layer in their new form.
        withdraw: untouched proposals of the layer that the run no longer sees, as they are now.
        kept: proposals that already are as the run has them.
        known: detections that are a human's object, or a proposal that is not ours to change.
        suppressed: detections where a human rejected or deleted.
        conflicts: what a human and the run see differently.
    """

    add: tuple[SlideObject, ...] = ()
    update: tuple[SlideObject, ...] = ()
    withdraw: tuple[SlideObject, ...] = ()
    kept: tuple[UUID, ...] = ()
    known: tuple[Match, ...] = ()
    suppressed: tuple[Match, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def edit(self) -> HierarchyEdit:
        """The plan for a project store."""
        return HierarchyEdit(self.add, frozenset(o.id for o in self.withdraw), self.update)


def merge(look: Look, theirs: Sequence[SlideObject], ours: Ours, settings: Settings) -> MergePlan:
    """Decide what to do in one image.

    Args:
        look: the objects we ever pushed there, as they are now.
        theirs: every object of the image now.
        ours: what the new run sees.
        settings: which class says what, and when a rejection may be reopened.
    """
    there = _There.sort(look, theirs, ours.layer, settings)
    found = list(ours.objects)
    open_ = _Open(found)
    known = open_.take_all(there.humans, boxes_of(there.humans))
    # Who moved a proposal away from a place has judged that place.
    known += open_.take_all(there.left_places, boxes_of(there.left_places))
    known += open_.take_all(there.strangers, boxes_of(there.strangers))
    rejected = [o for o, _ in there.tombstones]
    suppressed = open_.take_all(
        rejected,
        boxes_of(rejected),
        least_score=_reopening(there.tombstones, settings.push.reopen_above),
    )
    update, kept, replaced, again = [], [], [], []
    mine_now = boxes_of(s.now for s in there.mine if s.now is not None)
    for k, j in open_.take_pairs(mine_now, there.mine):
        seen = there.mine[j]
        assert seen.now is not None  # noqa: S101 (mine are there)
        new = _with_queue_of(seen.now, found[k])
        if new.kind is not seen.now.kind:
            # QuPath cannot turn an annotation into a detection: the new one takes its place.
            replaced.append(seen.now)
            again.append(new)
            continue
        asked = replace(new, id=seen.base.id, parent=seen.now.parent)
        # A new run is another metadata; then the costly comparison is not needed.
        is_new = dict(seen.now.metadata) != dict(asked.metadata)
        if is_new or _differ(seen.now, as_stored(asked)):
            update.append(asked)
        else:
            kept.append(seen.base.id)
    matched = {*(o.id for o in update), *kept, *(o.id for o in replaced)}
    unseen = [s for s in there.mine if s.base.id not in matched]
    for k, j in open_.take_pairs(boxes_of(s.base.object for s in there.away), there.away):
        same_kind = found[k].kind is there.away[j].base.object.kind
        again.append(replace(found[k], id=there.away[j].base.id) if same_kind else found[k])
    again += [found[k] for k in np.flatnonzero(open_.free)]
    withdraw = [s.now for s in unseen if s.now is not None]
    gone = was_scanned(boxes_of(withdraw), ours.scanned)
    return MergePlan(
        _with_free_ids(again, {o.id for o in theirs} | look.seen.keys(), there.away),
        tuple(sorted(update, key=_by_id)),
        tuple(
            sorted([*replaced, *(o for o, g in zip(withdraw, gone, strict=True) if g)], key=_by_id)
        ),
        tuple(sorted([*kept, *(o.id for o, g in zip(withdraw, gone, strict=True) if not g)])),
        tuple(sorted((m for m, _ in known), key=lambda m: (m.id, -m.score))),
        tuple(sorted((m for m, _ in suppressed), key=lambda m: (m.id, -m.score))),
        _conflicts(there, found, known, ours, settings),
    )


def _differ(now: SlideObject, asked: SlideObject) -> bool:
    fields = differences(now, asked)
    # An edge that QuPath could not hold to its last bit would be written again at each push.
    return bool(fields) and not (fields == ["outline"] and same_box(now, asked))


def _with_queue_of(now: SlideObject, new: SlideObject) -> SlideObject:
    """A push keeps the place in the queue that it finds on a proposal."""
    numbers = {k: now.measurements[k] for k in (QUEUE_RANK,) if k in now.measurements}
    words = {k: now.metadata[k] for k in (REASON, QUEUE) if k in now.metadata}
    if not (numbers or words):
        return new
    return replace(
        new, measurements={**new.measurements, **numbers}, metadata={**new.metadata, **words}
    )


@dataclass(frozen=True)
class _There:
    """The objects of an image, by what a detection in their place means.

    Attributes:
        mine: untouched proposals of the layer.
        away: proposals of the layer that we withdrew or that were lost.
        judged: objects of any layer that a human judged, moved or touched, rejected ones left out.
        left_places: those that are no longer where they were pushed, as pushed.
        humans: the judged ones as they are now, and what a human drew.
        strangers: proposals that we did not put there, or not under an id we know.
        tombstones: what a human rejected or deleted, with the score it had.
    """

    mine: list[Seen]
    away: list[Seen]
    judged: list[Seen]
    left_places: list[SlideObject]
    humans: list[SlideObject]
    strangers: list[SlideObject]
    tombstones: list[tuple[SlideObject, float]]

    @classmethod
    def sort(
        cls, look: Look, theirs: Sequence[SlideObject], layer: str, settings: Settings
    ) -> _There:
        made = cls([], [], [], [], [], [], [])
        ours = {s.now.id for s in look.seen.values() if s.now is not None}
        for _, s in sorted(look.seen.items()):
            if s.state is State.DELETED:
                made.tombstones.append((s.base.object, s.base.score))
            elif s.state is State.REJECTED and s.now is not None:
                made.tombstones.append((s.now, s.base.score))
                if not same_place(s.now.outline, s.base.object.outline):
                    made.tombstones.append((s.base.object, s.base.score))
            elif s.state is State.PROPOSAL and s.untouched:
                if s.base.layer == layer:
                    made.mine.append(s)
            elif s.now is not None:
                made.judged.append(s)
                made.humans.append(s.now)
                if not same_place(s.now.outline, s.base.object.outline):
                    made.left_places.append(s.base.object)
            elif s.base.layer == layer:
                made.away.append(s)
        for obj in sorted(theirs, key=_by_id):
            if obj.id in ours or obj.outline is None or not obj.outline.is_area:
                continue
            says = verdict(obj.path_class, settings)
            if says is Verdict.PROPOSED:
                made.strangers.append(obj)
            elif obj.kind is not ObjectKind.ANNOTATION:
                continue
            elif says is Verdict.REJECTED:
                made.tombstones.append((obj, 0.0))
            # Any human annotation of that place and size counts, whatever its class: a proposal
            # over a mark the settings do not know would only ask the human the same thing again.
            elif str(obj.path_class) not in (*settings.regions, *ERROR_CLASSES):
                made.humans.append(obj)
        made.humans.sort(key=_by_id)
        return made


class _Open:
    """The detections that nothing has been found for yet."""

    def __init__(self, found: Sequence[SlideObject]) -> None:
        self._boxes = boxes_of(found)
        self._scores = np.array([o.measurements[CONFIDENCE] for o in found], np.float64)
        self._classes = [str(o.path_class) for o in found]
        self.free: Bools = np.ones(len(found), np.bool_)

    def take_pairs(self, boxes: Floats, seen: Sequence[Seen]) -> list[tuple[int, int]]:
        """Take the detections that are one of some objects; one each.

        Args:
            boxes: of the objects.
            seen: the objects, of whose class those of one overlap are paired first.

        Returns:
            Positions of detection and object.
        """
        which = np.flatnonzero(self.free)
        names = {name: n for n, name in enumerate(sorted(set(self._classes)))}
        ours = np.array([names[self._classes[k]] for k in which], np.int64)
        others = np.array([names.get(str(s.base.object.path_class), -1) for s in seen], np.int64)
        pairs = pair_up(self._boxes[which], boxes, alike=(ours, others))
        self.free[which[pairs.found]] = False
        return list(zip(which[pairs.found].tolist(), pairs.there.tolist(), strict=True))

    def take_all(
        self,
        objects: Sequence[SlideObject],
        boxes: Floats,
        *,
        least_score: Floats | None = None,
    ) -> list[tuple[Match, int]]:
        """Take every detection that is one of some objects: paired, or covering the same place.

        Args:
            objects: what may be there.
            boxes: where.
            least_score: (M,) of each object; a detection that scores more than all that it covers
                is not taken.

        Returns:
            What each paired detection is, and the position of that detection.
        """
        which = np.flatnonzero(self.free)
        scores = self._scores[which]
        against = np.full(len(boxes), np.inf) if least_score is None else least_score
        pairs = pair_up(self._boxes[which], boxes)
        taken = scores[pairs.found] <= against[pairs.there]
        i, j = pairs.same
        self.free[which[pairs.found[taken]]] = False
        self.free[which[i[scores[i] <= against[j]]]] = False
        return [
            (Match(objects[j].id, float(self._scores[which[k]]), float(iou)), int(which[k]))
            for k, j, iou in zip(pairs.found, pairs.there, pairs.iou, strict=True)
            if not self.free[which[k]]
        ]


def _reopening(tombstones: Sequence[tuple[SlideObject, float]], above: float | None) -> Floats:
    """(N,) the score that each rejection stands against."""
    if above is None:
        return np.full(len(tombstones), np.inf)
    return np.array([max(above, score) for _, score in tombstones], np.float64)


def was_scanned(boxes: Floats, scanned: BaseGeometry | None) -> Bools:
    """(N,) which places a run looked at."""
    if scanned is None or not len(boxes):
        return np.zeros(len(boxes), np.bool_)
    shapes = box_polygons(boxes)
    shapely.prepare(scanned)
    inside = np.asarray(shapely.covers(scanned, shapes), np.bool_)
    at_border = np.flatnonzero(~inside & shapely.intersects(scanned, shapes))
    shared = shapely.area(shapely.intersection(shapes[at_border], scanned))
    inside[at_border] = shared >= SCANNED_SHARE * shapely.area(shapes[at_border])
    return inside


def _with_free_ids(
    objects: Iterable[SlideObject], taken: set[UUID], away: Sequence[Seen]
) -> tuple[SlideObject, ...]:
    """New objects under ids that nothing else has, in order of place."""
    returning = {s.base.id for s in away}
    made = []
    for obj in sorted(objects, key=lambda o: (o.outline.bounds if o.outline else (), o.id)):
        # One that was there before comes back as itself.
        chosen = obj.id if obj.id in returning else free_id(taken, obj.id)
        returning.discard(chosen)
        taken.add(chosen)
        made.append(obj if chosen == obj.id else replace(obj, id=chosen))
    return tuple(made)


def _conflicts(
    there: _There,
    found: Sequence[SlideObject],
    known: Sequence[tuple[Match, int]],
    ours: Ours,
    settings: Settings,
) -> tuple[Conflict, ...]:
    texts: dict[UUID, str] = {}
    by_id: Mapping[UUID, SlideObject] = {o.id: o for o in there.humans}
    judged = {s.now.id: s for s in there.judged if s.now is not None}
    matched = {match.id for match, _ in known}
    for match, k in known:
        obj = by_id.get(match.id)
        if obj is None:
            continue
        sees = str(found[k].path_class).rsplit(":", 1)[0]
        index = settings.class_index(obj.path_class)
        if index is not None and settings.class_names[index] != sees:
            texts[match.id] = f"a human says {obj.path_class}, the run {sees} ({match.score:.2f})"
        elif obj.id in judged and judged[obj.id].state is State.MOVED:
            x0, y0, x1, y1 = found[k].outline.bounds  # type: ignore[union-attr]
            texts[match.id] = (
                f"a human moved it, the run sees it at {x0:.0f}, {y0:.0f} to {x1:.0f}, {y1:.0f} "
                f"({match.score:.2f})"
            )
    mine = [s for s in there.judged if s.base.layer == ours.layer and s.base.id not in matched]
    unjudged = [s for s in mine if s.state in (State.MOVED, State.PROPOSAL) and s.now is not None]
    looked_at = was_scanned(boxes_of(s.now for s in unjudged if s.now is not None), ours.scanned)
    for s, was_looked_at in zip(unjudged, looked_at, strict=True):
        if was_looked_at:
            touched = "moved" if s.state is State.MOVED else "changed"
            texts[s.base.id] = f"a human {touched} it, the run does not see it"
    return tuple(Conflict(object_id, texts[object_id]) for object_id in sorted(texts))


def _by_id(obj: SlideObject) -> UUID:
    return obj.id
