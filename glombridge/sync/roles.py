"""What each object of an image is to us: truth, pending proposal, rejection, area or none of these."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..objects import ObjectKind, PathClass, SlideObject, sound_area
from ..provenance import ERROR_CLASSES, PROPOSED, RUN, SEARCHED
from ..qupath.store import ImageEntry
from ..settings import Settings
from ..tiles.split import spelling


@dataclass(frozen=True)
class LabelledObject:
    """An object that counts as truth, and the detector class it counts as."""

    object: SlideObject
    class_index: int


@dataclass(frozen=True)
class Roles:
    """The objects of one image, by what they are to us.

    Attributes:
        truth: annotations of a detector class: drawn, edited or accepted by a human.
        pending: proposals nobody has judged; never truth, never background.
        rejected: objects a human said are not one.
        hard_negatives: those of them that overlap no truth: a place that was looked at and is none.
        ignored: areas that are neither object nor background.
        regions: areas inside which everything was marked.
        unknown: class names that the settings do not mention, below one of a detector class, a region or
            what is ignored, or spelt like it; such an object must not silently become background, nor a
            whole image searched.
        unusable: annotations of a detector class that enclose no area (points, lines).
        errors: what shows a detector's errors; nobody's mark.
        n_human: annotations that a human made or judged.
    """

    truth: tuple[LabelledObject, ...] = ()
    pending: tuple[SlideObject, ...] = ()
    rejected: tuple[SlideObject, ...] = ()
    ignored: tuple[SlideObject, ...] = ()
    regions: tuple[SlideObject, ...] = ()
    unknown: Counter[str] = field(default_factory=Counter)
    unusable: tuple[SlideObject, ...] = ()
    errors: tuple[SlideObject, ...] = ()
    n_human: int = 0

    @cached_property
    def hard_negatives(self) -> tuple[SlideObject, ...]:
        """Rejected objects that overlap no truth."""
        truth = [t.object for t in self.truth]
        return tuple(
            o
            for o, meets in zip(self.rejected, _meet(self.rejected, truth), strict=True)
            if not meets
        )


def is_proposed(path_class: PathClass | None) -> bool:
    """Whether a class says: proposed, judged by nobody."""
    return path_class is not None and path_class.levels[-1] == PROPOSED


def says_something(obj: SlideObject) -> bool:
    """Whether a human's word may stand in an object: annotations, and detections that we pushed."""
    is_ours = obj.kind is ObjectKind.DETECTION and RUN in obj.metadata
    return is_ours or obj.kind is ObjectKind.ANNOTATION


def is_error(obj: SlideObject) -> bool:
    """Whether an object shows a detector's error, and no human has made it something else."""
    return str(obj.path_class) in ERROR_CLASSES


def assign_roles(objects: Iterable[SlideObject], settings: Settings) -> Roles:
    """Sort the objects of one image.

    Only annotations can be truth or areas, and detections that we pushed and a human judged.
    """
    truth, pending, rejected, ignored, regions, unusable = [], [], [], [], [], []
    errors = []
    unknown: Counter[str] = Counter()
    named = [*(alias for a in settings.classes.values() for alias in a), *settings.ignore]
    # However they are spelt: QuPath keeps Glomerulus and glomerulus apart, humans do not.
    bases = {spelling(name.split(":")[0]) for name in (*named, *settings.regions)}
    is_known = dict.fromkeys(settings.unused, True)
    n_human = 0
    for obj in objects:
        if is_proposed(obj.path_class):
            pending.append(obj)
            continue
        if is_error(obj):
            errors.append(obj)
            continue
        if obj.outline is None or not says_something(obj):
            continue
        n_human += 1
        name = str(obj.path_class)
        index = settings.class_index(obj.path_class)
        if index is not None:
            if obj.outline.is_area:
                truth.append(LabelledObject(obj, index))
            else:
                unusable.append(obj)
        elif name in settings.rejected:
            rejected.append(obj)
        elif name in settings.ignore:
            ignored.append(obj)
        elif name in settings.regions:
            regions.append(obj)
        elif obj.path_class is not None:
            if name not in is_known:
                is_known[name] = spelling(obj.path_class.levels[0]) not in bases
            if not is_known[name]:
                unknown[name] += 1
    return Roles(
        tuple(truth),
        tuple(pending),
        tuple(rejected),
        tuple(ignored),
        tuple(regions),
        unknown,
        tuple(unusable),
        tuple(errors),
        n_human,
    )


class SearchedBy(str, Enum):
    """Why an area counts as searched completely."""

    REGIONS = "regions"
    """A human drew annotations around what was searched."""
    MARK = "marked as searched"
    """A human said so of the whole image."""
    ASSUMED = "assumed: the image has annotations"
    """The settings take each image that a human has annotated as searched."""
    NOWHERE = "nowhere"


def searched_by(entry: ImageEntry, roles: Roles, settings: Settings) -> SearchedBy:
    """Why an image, or a part of it, counts as searched.

    Region annotations say it most precisely and win; then a human's mark on the image; then, if
    the settings say so, any human annotation in the image.
    """
    if any(o.outline and o.outline.is_area for o in roles.regions):
        return SearchedBy.REGIONS
    if is_marked(entry):
        return SearchedBy.MARK
    if settings.project.searched == "annotated-images" and roles.n_human:
        return SearchedBy.ASSUMED
    return SearchedBy.NOWHERE


def is_marked(entry: ImageEntry) -> bool:
    """Whether a human marked the whole image as searched."""
    return entry.metadata.get(SEARCHED, "").strip().lower() in ("true", "yes", "1")


def searched_area(entry: ImageEntry, roles: Roles, settings: Settings) -> BaseGeometry | None:
    """Where every object has been marked, in QuPath pixels; ``None`` = nowhere."""
    why = searched_by(entry, roles, settings)
    if why is SearchedBy.REGIONS:
        return union_of(roles.regions)
    if why is SearchedBy.NOWHERE:
        return None
    return shapely.box(0, 0, entry.width or 1e9, entry.height or 1e9)


def areas_sha256(objects: Iterable[SlideObject], classes: Collection[str]) -> str:
    """Hash of the areas of some classes, to see whether they were changed since."""
    areas = sorted(
        shapely.to_wkt(shapely.normalize(o.outline.geometry), rounding_precision=1)
        for o in objects
        if str(o.path_class) in classes and o.outline is not None and o.outline.is_area
    )
    return hashlib.sha256("\n".join(areas).encode()).hexdigest()


def union_of(objects: Iterable[SlideObject]) -> BaseGeometry | None:
    """The area of some objects together, QuPath px; ``None`` = they enclose none."""
    areas = [o.outline.geometry for o in objects if o.outline is not None and o.outline.is_area]
    return shapely.union_all([sound_area(a) for a in areas]) if areas else None


def _meet(objects: Sequence[SlideObject], others: Sequence[SlideObject]) -> np.ndarray:
    """(N,) whether the area of an object overlaps that of any of the others."""
    meeting = np.zeros(len(objects), np.bool_)
    if not (objects and others):
        return meeting
    shapes = [_shape(o) for o in objects]
    tree = shapely.STRtree([_shape(o) for o in others])
    i, j = tree.query(shapes, predicate="intersects")
    shared = shapely.area(shapely.intersection(np.array(shapes, object)[i], tree.geometries[j]))
    meeting[i[shared > 0]] = True
    return meeting


def _shape(obj: SlideObject) -> BaseGeometry:
    return shapely.Polygon() if obj.outline is None else sound_area(obj.outline.geometry)
