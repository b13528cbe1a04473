"""What humans drew, before it is learnt from or judged by: what would be misunderstood is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import InputError
from ..objects import Outline, SlideObject, sound_area
from ..sync.pull import ImageAnnotations, Pull
from ..sync.roles import union_of
from .project import Project


def check_truth(project: Project, pulled: Pull) -> None:
    """Refuse to learn from annotations that would be misunderstood, or from none.

    Raises:
        InputError: no annotation of any detector class, or as :func:`check_understood` says.
    """
    check_understood(project, pulled.images)
    settings = project.settings
    if not pulled.n_truth:
        there: Counter[str] = Counter(
            str(o.path_class) if o.path_class else "unclassified"
            for image in pulled.images
            for o in image.objects
        )
        names = ", ".join(f"{n} x {c!r}" for c, n in there.most_common()) or "none at all"
        wanted = ", ".join(repr(a) for aliases in settings.classes.values() for a in aliases)
        msg = (
            f"no annotation of class {wanted} in the project (annotations there: {names}). Annotate "
            f"in QuPath and save, or write your class into [classes] of {project.workspace.settings_file}."
        )
        raise InputError(msg)


def check_understood(project: Project, images: Sequence[ImageAnnotations]) -> None:
    """Refuse annotations whose places would be taken for background though something was marked there.

    Args:
        project: whose settings say what classes mean.
        images: what was read of each.

    Raises:
        InputError: an annotation of a class that the settings do not mention but that looks like one of
            theirs, one that encloses no area, or one that could not be understood at all.
    """
    unknown: Counter[str] = Counter()
    for image in images:
        unknown.update(image.roles.unknown)
    if unknown:
        names = ", ".join(f"{name!r} ({n})" for name, n in unknown.items())
        msg = (
            f"annotations of classes the settings do not mention: {names}. Give them the class that was "
            f"meant, or write each into [classes] of {project.workspace.settings_file} if it counts as an "
            "object, into regions or ignore if it is such an area, else into unused."
        )
        raise InputError(msg)
    bare = [(image, o) for image in images for o in _bare_marks(image)]
    if bare:
        image, first = bare[0]
        x, y = first.outline.bounds[:2] if first.outline else (0, 0)
        msg = (
            f"{len(bare)} annotations are points or lines, and nobody has outlined what they mark: the first is "
            f"{str(first.path_class)!r} at x={x:.0f}, y={y:.0f} in image {image.entry.name!r}. Taken for "
            "background it would teach the opposite. Outline them, or give them a class that is not in "
            f"[classes] of {project.workspace.settings_file}."
        )
        raise InputError(msg)
    for image in images:
        if image.searched is not None and image.not_understood:
            msg = (
                f"{len(image.not_understood)} annotations of image {image.entry.name!r} could not be understood, "
                f"and what they mark would count as background: {image.not_understood[0]}. Save the image "
                "again in QuPath, or delete them there."
            )
            raise InputError(msg)


def _bare_marks(image: ImageAnnotations) -> list[SlideObject]:
    """Points and lines of a detector class that lie, wholly or in part, on what would be background."""
    roles = image.roles
    marks = [o for o in roles.unusable if o.outline is not None]
    if image.searched is None or not marks:
        return []
    outlined = [t.object for t in roles.truth]
    known = union_of([*outlined, *roles.pending, *roles.rejected, *roles.ignored])
    background = sound_area(image.searched)
    if known is not None:
        background = background.difference(known)
    # A line may reach a little out of what it was drawn in; its middle tells.
    shapely.prepare(background)
    return [o for o in marks if o.outline and any(map(background.covers, _middles(o.outline)))]


def _middles(outline: Outline) -> list[BaseGeometry]:
    parts = shapely.get_parts(outline.geometry)
    return [p if p.length == 0 else p.interpolate(0.5, normalized=True) for p in parts]
