"""What each object of an image is to us: truth, pending proposal, rejection, area or none of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import shapely
from shapely.geometry.base import BaseGeometry

from ..objects import ObjectKind, PathClass, SlideObject
from ..provenance import PROPOSED, SEARCHED
from ..qupath.store import ImageEntry
from ..settings import Settings


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
        ignored: areas that are neither object nor background.
        regions: areas inside which everything was marked.
        unknown: class names derived from a detector class that the settings do not mention; such
            an object must not silently become background.
        unusable: ids of annotations of a detector class that enclose no area (points, lines).
    """

    truth: tuple[LabelledObject, ...] = ()
    pending: tuple[SlideObject, ...] = ()
    rejected: tuple[SlideObject, ...] = ()
    ignored: tuple[SlideObject, ...] = ()
    regions: tuple[SlideObject, ...] = ()
    unknown: Counter[str] = field(default_factory=Counter)
    unusable: tuple[SlideObject, ...] = ()
    n_human: int = 0


def is_proposed(path_class: PathClass | None) -> bool:
    """Whether a class says: proposed, judged by nobody."""
    return path_class is not None and path_class.names[-1] == PROPOSED


def assign_roles(objects: Iterable[SlideObject], settings: Settings) -> Roles:
    """Sort the objects of one image. Only annotations can be truth or areas."""
    truth, pending, rejected, ignored, regions, unusable = [], [], [], [], [], []
    unknown: Counter[str] = Counter()
    bases = {alias.split(":")[0].strip() for a in settings.classes.values() for alias in a}
    n_human = 0
    for obj in objects:
        if is_proposed(obj.path_class):
            pending.append(obj)
            continue
        if obj.kind is not ObjectKind.ANNOTATION or obj.outline is None:
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
        elif obj.path_class and obj.path_class.names[0] in bases and name not in settings.unused:
            unknown[name] += 1
    return Roles(
        tuple(truth),
        tuple(pending),
        tuple(rejected),
        tuple(ignored),
        tuple(regions),
        unknown,
        tuple(unusable),
        n_human,
    )


def searched_area(entry: ImageEntry, roles: Roles, settings: Settings) -> BaseGeometry | None:
    """Where every object has been marked, in QuPath pixels; ``None`` = nowhere.

    Region annotations say it most precisely and win; then a human's mark on the image; then, if
    the settings say so, any human annotation in the image.
    """
    whole = shapely.box(0, 0, entry.width or 1e9, entry.height or 1e9)
    areas = [o.outline.geometry for o in roles.regions if o.outline and o.outline.is_area]
    if areas:
        return shapely.union_all([shapely.make_valid(a) for a in areas])
    if entry.metadata.get(SEARCHED, "").strip().lower() in ("true", "yes", "1"):
        return whole
    if settings.project.searched == "annotated-images" and roles.n_human:
        return whole
    return None
