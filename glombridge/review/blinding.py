"""What a reader may see of a project: places to judge, and nothing of who or what put them there.

Nothing is taken away from objects; new ones are made of the outline alone. What is not named here
cannot get through.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ..objects import Color, ObjectKind, OutlineKind, PathClass, SlideObject
from ..provenance import (
    BOX,
    ERROR_CLASSES,
    LAYER,
    PROPOSAL_STATE,
    QUEUE,
    QUEUE_RANK,
    REASON,
    RUN,
    STATE,
)
from ..settings import Settings
from ..sync.roles import assign_roles

COPY_RUN = "copy"
COPY_LAYER = "copy"
"""Not ``main``: a push into a copy must leave alone what the reader is to judge."""

RANDOM_REASON = "in random order"

_ORIGIN = {STATE: PROPOSAL_STATE, RUN: COPY_RUN, LAYER: COPY_LAYER}
"""Metadata of each proposal of a copy, whatever it was before."""


class Shown(str, Enum):
    """What a copy holds to begin with."""

    PROPOSALS = "proposals"
    """Pending proposals and what humans outlined, both as proposals to judge."""
    OUTLINES = "outlines"
    """What humans outlined, as glomeruli to grade."""
    NOTHING = "nothing"
    """The images alone: the reader searches, too."""


@dataclass(frozen=True)
class BlindedImage:
    """What a reader gets of one image.

    Attributes:
        image: entry id.
        objects: new objects, in the order of their rank.
        left_out: what does not go over, counted by what it is.
    """

    image: int
    objects: tuple[SlideObject, ...]
    left_out: Mapping[str, int]


def blind(
    images: Mapping[int, Iterable[SlideObject]],
    settings: Settings,
    shown: Shown,
    *,
    reader: str,
    seed: int,
) -> tuple[BlindedImage, ...]:
    """The objects of a copy for one reader; a pure function.

    An object keeps its id, so that readers judge the same one. Its outline stays; its class becomes
    that of a proposal of the same detector class (or that class itself, with :attr:`Shown.OUTLINES`);
    measurements, metadata, name, colour, parent and nucleus are those of no object before.

    Args:
        images: every object by entry id.
        settings: of the project, which say what is truth.
        shown: what goes over.
        reader: another reader gets another order.
        seed: of the order.
    """
    chosen: dict[int, list[SlideObject]] = {}
    left_out: dict[int, Counter[str]] = {}
    for image, objects in images.items():
        chosen[image], left_out[image] = _choose(objects, settings, shown)
    # By id first: the order of the file would tell what a human drew and what a model put there.
    keys = sorted((image, obj.id) for image, objects in chosen.items() for obj in objects)
    random.Random(f"{seed} {reader}").shuffle(keys)  # noqa: S311 (an order, no secret)
    rank = {key: place for place, key in enumerate(keys, 1)}
    made = []
    for image, kept in chosen.items():
        ranked = sorted(((rank[image, o.id], o) for o in kept), key=lambda pair: pair[0])
        if shown is Shown.PROPOSALS:
            ranked = [(place, _ranked(obj, place, seed)) for place, obj in ranked]
        told = dict(sorted(left_out[image].items()))
        made.append(BlindedImage(image, tuple(obj for _, obj in ranked), told))
    return tuple(made)


def blinded_classes(classes: Iterable[PathClass], settings: Settings) -> tuple[PathClass, ...]:
    """The classes a reader needs: the detector's, what is below them, and what the settings name.

    Args:
        classes: what the project copied offers.
        settings: of that project.
    """
    bases = {
        PathClass.parse(a).names[0] for names in settings.class_aliases.values() for a in names
    }
    bases.update(PathClass.parse(name).names[0] for name in settings.class_names)
    named = {*settings.rejected, *settings.ignore, *settings.regions}
    return tuple(
        c
        for c in classes
        if str(c) not in ERROR_CLASSES and (c.names[0] in bases or str(c) in named)
    )


def blinded_settings(settings: Settings) -> Settings:
    """Settings under which an accepted proposal of a copy is truth.

    Accepting gives the detector class its plain name, which need not be among the classes that
    count as it in the project copied.
    """
    others = {*settings.rejected, *settings.ignore, *settings.regions, *settings.unused}
    taken = {alias for aliases in settings.classes.values() for alias in aliases} | others
    classes = {
        name: list(aliases) if name in taken else [name, *aliases]
        for name, aliases in settings.classes.items()
    }
    return settings.model_copy(update={"classes": classes})


def _choose(
    objects: Iterable[SlideObject], settings: Settings, shown: Shown
) -> tuple[list[SlideObject], Counter[str]]:
    everything = list(objects)
    roles = assign_roles(everything, settings)
    made: list[SlideObject] = []
    left_out = Counter(
        f"objects of kind {o.kind.value}" for o in everything if o.kind is not ObjectKind.ANNOTATION
    )
    truth = [(t.object, settings.class_names[t.class_index]) for t in roles.truth]
    going: list[tuple[SlideObject, str | None]] = []
    if shown is not Shown.NOTHING:
        going += truth
    if shown is Shown.PROPOSALS:
        going += [(o, _detector_class(o.path_class, settings)) for o in roles.pending]
    color = settings.push.proposed_color
    for obj, name in going:
        if name is None or obj.outline is None or not obj.outline.is_area:
            continue
        is_proposal = shown is Shown.PROPOSALS
        made.append(_plain(obj, name, settings, color if is_proposal else None))
        if obj.kind is not ObjectKind.ANNOTATION:
            left_out[f"objects of kind {obj.kind.value}"] -= 1
    gone = {o.id for o in everything if o.kind is ObjectKind.ANNOTATION} - {o.id for o in made}
    left_out["annotations"] = len(gone)
    return made, +left_out


def _detector_class(path_class: PathClass | None, settings: Settings) -> str | None:
    for name in settings.class_names:
        if settings.proposed_class(name) == path_class:
            return name
    return None


def _plain(
    obj: SlideObject, class_name: str, settings: Settings, proposed: Color | None
) -> SlideObject:
    if proposed is None:
        path_class = PathClass.parse(class_name)
        metadata: dict[str, str] = {}
    else:
        path_class = PathClass(settings.proposed_class(class_name).names, proposed)
        metadata = dict(_ORIGIN)
    assert obj.outline is not None  # noqa: S101 (the caller's part)
    # That a rectangle is only a box must not be lost: it would train a segmentation.
    is_box = BOX in obj.metadata and obj.outline.kind is OutlineKind.RECTANGLE
    metadata |= {BOX: "true"} if is_box else {}
    return SlideObject(
        id=obj.id,
        kind=ObjectKind.ANNOTATION,
        outline=obj.outline,
        path_class=path_class,
        locked=True,
        metadata=metadata,
    )


def _ranked(obj: SlideObject, rank: int, seed: int) -> SlideObject:
    return SlideObject(
        id=obj.id,
        kind=obj.kind,
        outline=obj.outline,
        path_class=obj.path_class,
        locked=obj.locked,
        measurements={QUEUE_RANK: float(rank)},
        metadata={**obj.metadata, QUEUE: f"random, seed {seed}", REASON: RANDOM_REASON},
    )


def is_blind(obj: SlideObject) -> bool:
    """Whether an object says nothing that the copy did not put there; the last check of a copy."""
    allowed = {*_ORIGIN, BOX, QUEUE, REASON}
    return (
        set(obj.measurements) <= {QUEUE_RANK}
        and set(obj.metadata) <= allowed
        and obj.name is None
        and obj.color is None
        and obj.nucleus is None
        and obj.parent is None
        and math.isnan(obj.probability)
    )
