"""An object as it was pushed, as one short JSON record, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import shapely

from ..documents import parse_wkb
from ..objects import ObjectKind, Outline, OutlineKind, PathClass, Plane, SlideObject
from ..provenance import CONFIDENCE
from .states import State

_SLACK_PX = 0.05
"""What rounding to a hundredth of a pixel and to 32 bits may move a vertex by, and a little."""


@dataclass(frozen=True)
class Version:
    """One form in which an object was pushed.

    Attributes:
        object: as pushed.
        in_full: whether measurements and metadata are on record too; pushes of the first format
            recorded only the outline and the class.
        write: that gave it this form.
    """

    object: SlideObject
    in_full: bool = True
    write: str = ""


UNKNOWN = "unknown"
"""Who did it, where QuPath does not say."""


@dataclass(frozen=True)
class Judgement:
    """What a human said of an object, as it stands on the object.

    Attributes:
        path_class: display text of its class, ``None`` = none.
        by: the reader, :data:`UNKNOWN` where nothing says so.
        at: when, UTC; ``None`` = unknown.
        seconds: the object stood before readers until then; ``None`` = unknown.
        graded: name and version of the scheme of which every lesion was looked for.
        grades: lesion to value, of those that have one; as written, also where it cannot be.
    """

    path_class: str | None = None
    by: str = UNKNOWN
    at: str | None = None
    seconds: float | None = None
    graded: str | None = None
    grades: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PushedObject:
    """What is known of an object that we put into an image: the base of a merge.

    Attributes:
        id: of the object.
        versions: every form it was pushed in, oldest first; the last one is the one that should be
            there. Undone ones are left out.
        layer, run, model: what put it there in its last form.
        write: the write it appeared by, the last time it was not there before.
        is_new_in_write: whether it had never been in the image before that write.
        state: as last recorded.
        losses: how often it was lost.
        judgement: what a human had said of it at the last look, ``None`` = nothing.
    """

    id: UUID
    versions: tuple[Version, ...]
    layer: str
    run: str
    model: str
    write: str
    is_new_in_write: bool = True
    state: State = State.PROPOSAL
    losses: int = 0
    judgement: Judgement | None = None

    @property
    def object(self) -> SlideObject:
        """The form that was pushed last."""
        return self.versions[-1].object

    @property
    def score(self) -> float:
        """The detector's confidence in the form that was pushed last."""
        return float(self.object.measurements.get(CONFIDENCE, 0.0))


@dataclass(frozen=True)
class Drawing:
    """Enough of an object that a human drew to see whether it was changed since.

    Attributes:
        path_class: display text of its class.
        box: bounds of its outline, QuPath px.
        area_px: of its outline.
        judgement: what was said of it, ``None`` = not on record.
    """

    path_class: str
    box: tuple[float, ...]
    area_px: float
    judgement: Judgement | None = field(default=None, compare=False)

    @classmethod
    def of(cls, obj: SlideObject) -> Drawing:
        """Of an object with an outline."""
        assert obj.outline is not None  # noqa: S101 (the caller's part)
        return cls(str(obj.path_class), obj.outline.bounds, float(obj.outline.geometry.area))

    def as_list(self) -> list[Any]:
        """For the history."""
        return [self.path_class, [round(v, 2) for v in self.box], round(self.area_px, 1)]

    @classmethod
    def from_list(cls, told: list[Any]) -> Drawing:
        """From the history."""
        return cls(told[0], tuple(told[1]), told[2])

    def is_like(self, other: Drawing) -> bool:
        """Whether the two are one, apart from QuPath's roundings and ours."""
        moved_px = max(abs(a - b) for a, b in zip(self.box, other.box, strict=True))
        around_px = 2 * (self.box[2] - self.box[0] + self.box[3] - self.box[1])
        return (
            self.path_class == other.path_class
            and moved_px <= _SLACK_PX
            and abs(self.area_px - other.area_px) <= _SLACK_PX * around_px + 1
        )


def record_of(obj: SlideObject, shared: Mapping[str, str]) -> dict[str, Any]:
    """An object as JSON values.

    Args:
        obj: as it is pushed; what a proposal does not have (parent, nucleus) is not kept.
        shared: metadata that the record of the write keeps once for all of its objects.
    """
    outline = obj.outline
    assert outline is not None  # noqa: S101 (a proposal has one)
    record: dict[str, Any] = {"id": str(obj.id)}
    if obj.kind is not ObjectKind.ANNOTATION:
        record["kind"] = obj.kind.value
    if outline.kind is OutlineKind.RECTANGLE and outline.plane == Plane():
        record["box"] = [*outline.bounds]
    else:
        # Well-known text would round the last digits.
        record["outline"] = {
            "kind": outline.kind.value,
            "wkb": shapely.to_wkb(outline.geometry, hex=True),
            "plane": [*outline.plane],
        }
    record["class"] = str(obj.path_class) if obj.path_class else None
    record["measurements"] = dict(obj.measurements)
    if dict(obj.metadata) != dict(shared):
        record["metadata"] = dict(obj.metadata)
    if not obj.locked:
        record["locked"] = False
    record["hash"] = hash_of(record)
    return record


def hash_of(record: Mapping[str, Any]) -> str:
    """Short hash of what a record says of its object, without the id."""
    said = {k: v for k, v in record.items() if k not in ("id", "hash")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def version_of(record: Mapping[str, Any], shared: Mapping[str, str], write: str = "") -> Version:
    """The object of a record, with the metadata shared by its write."""
    if "outline" in record:
        told = record["outline"]
        plane = Plane(*told["plane"])
        outline = Outline(parse_wkb(told["wkb"]), OutlineKind(told["kind"]), plane)
    else:
        outline = Outline.rectangle(*record["box"])
    in_full = "measurements" in record
    obj = SlideObject(
        id=UUID(record["id"]),
        kind=ObjectKind(record.get("kind", ObjectKind.ANNOTATION.value)),
        outline=outline,
        path_class=PathClass.parse(record["class"]) if record["class"] else None,
        locked=record.get("locked", True),
        measurements=record["measurements"] if in_full else {CONFIDENCE: record["score"]},
        metadata=record.get("metadata", shared),
    )
    return Version(obj, in_full, write)
