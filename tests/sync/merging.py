"""A project of one image without files: what the laws of the merge are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from glombridge.ledger import PushedObject, State
from glombridge.ledger.pushed import Version
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.review.queue import Candidate, Ranked, queued
from glombridge.settings import Settings
from glombridge.sync.look import Look, look_at
from glombridge.sync.merge import MergePlan, Ours, merge
from glombridge.sync.proposals import Proposals, Source, as_objects

SPACE = UUID("22222222-2222-5333-8444-555555555555")
WHOLE = shapely.box(0, 0, 100_000, 100_000)
SETTINGS = Settings(
    classes={"Glomerulus": ["Glomerulus", "Glomerulus: Sclerotic"], "Vessel": ["Vessel"]}
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seen:
    """One detection: where, how sure, which class."""

    box: Box
    score: float = 0.5
    class_index: int = 0


def run_of(
    *found: Seen,
    run: str = "detect-001",
    layer: str = "main",
    scanned: BaseGeometry | None = WHOLE,
    kind: ObjectKind = ObjectKind.ANNOTATION,
    settings: Settings = SETTINGS,
) -> tuple[Ours, Source]:
    wanted = Proposals(
        1,
        np.array([f.box for f in found], float).reshape(-1, 4),
        np.array([f.score for f in found], float),
        np.array([f.class_index for f in found], np.int64),
        0.5,
        "slide",
        probability=np.array([f.score**1.3 for f in found], float),
    )
    source = Source(run, "abc", layer)
    return Ours(layer, as_objects(wanted, source, settings, kind=kind), scanned), source


@dataclass
class Image:
    """What is in the project, and what we remember to have put there."""

    theirs: dict[UUID, SlideObject] = field(default_factory=dict)
    base: dict[UUID, PushedObject] = field(default_factory=dict)
    settings: Settings = SETTINGS
    writes: int = 0

    def look(self) -> Look:
        return look_at(list(self.base.values()), {}, list(self.theirs.values()), self.settings)

    def record_look(self) -> Look:
        """What the ledger does with what was found."""
        look = self.look()
        for decision in look.decisions:
            if decision.id in self.base:
                known = self.base[decision.id]
                lost = known.losses + (decision.after is State.LOST)
                self.base[decision.id] = replace(known, state=decision.after, losses=lost)
        return look

    def plan(self, ours: Ours, theirs: Sequence[SlideObject] | None = None) -> MergePlan:
        there = list(self.theirs.values()) if theirs is None else theirs
        return merge(self.look(), there, ours, self.settings)

    def push(self, ours: Ours, source: Source) -> MergePlan:
        look = self.record_look()
        plan = merge(look, list(self.theirs.values()), ours, self.settings)
        self.writes += 1
        write = f"write-{self.writes:03d}"
        for obj in plan.withdraw:
            del self.theirs[obj.id]
            self.base[obj.id] = replace(self.base[obj.id], state=State.WITHDRAWN)
        for obj in (*plan.add, *plan.update):
            known = self.base.get(obj.id)
            self.theirs[obj.id] = obj
            appears = known is None or not known.state.is_there
            self.base[obj.id] = PushedObject(
                obj.id,
                (*(known.versions if known else ()), Version(obj, write=write)),
                source.layer,
                source.run,
                source.model,
                write if appears or known is None else known.write,
                known is None if appears else known is not None and known.is_new_in_write,
                State.PROPOSAL,
                known.losses if known else 0,
            )
        return plan

    def queue(self) -> None:
        """Write a place in the queue onto every untouched proposal, as a new form of it."""
        self.writes += 1
        seen = self.look().seen
        free = [i for i in sorted(self.theirs) if i in seen and seen[i].untouched]
        for place, i in enumerate(free, start=1):
            ranked = queued(
                Ranked(Candidate(1, self.theirs[i]), place, "unsure"), strategy="random", seed=0
            )
            known = self.base[i]
            self.theirs[i] = ranked
            version = Version(ranked, write=f"write-{self.writes:03d}")
            self.base[i] = replace(known, versions=(*known.versions, version))

    def draw(self, class_name: str | None, box: Box) -> SlideObject:
        obj = SlideObject(
            id=uuid5(SPACE, f"{class_name}{box}{len(self.theirs)}"),
            kind=ObjectKind.ANNOTATION,
            outline=Outline.rectangle(*box),
            path_class=PathClass.parse(class_name) if class_name else None,
        )
        self.theirs[obj.id] = obj
        return obj

    def change(self, object_id: UUID, **values: object) -> SlideObject:
        self.theirs[object_id] = replace(self.theirs[object_id], **values)  # type: ignore[arg-type]
        return self.theirs[object_id]

    @property
    def human(self) -> dict[UUID, SlideObject]:
        """Everything that is not as we pushed it."""
        untouched = {i for i, s in self.look().seen.items() if s.untouched}
        return {i: o for i, o in self.theirs.items() if i not in untouched}


def class_of(name: str) -> PathClass:
    return PathClass.parse(name)
