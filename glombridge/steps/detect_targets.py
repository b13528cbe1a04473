"""What ``detect`` looks at: images of a project, or slide files, and where on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from ..documents import expecting, parse_json
from ..errors import InputError, UsageError
from ..filenames import require_inside, safe_name
from ..frames import Frame
from ..objects import SlideObject, sound_area
from ..qupath.store import ImageEntry
from ..slides.reader import Slide
from ..sync.roles import areas_sha256, assign_roles
from .project import Project, open_entry

STATES = ("annotated", "unannotated", "proposed", "new")
"""An image with a human's annotation; without one; with a pending proposal; in no detection run yet."""

LEAST_MPP, MOST_MPP = 0.01, 20.0
"""µm per pixel of anything a microscope scanner makes, with room on both sides."""


@dataclass(frozen=True)
class Target:
    """One slide to detect on. It can be sent to another process, or another machine.

    Attributes:
        id: entry id in the project, or the number of the file on the command line.
        name: of the image.
        entry: the project's image, ``None`` for a slide file.
        path: the slide file, ``None`` for a project's image that was not :meth:`located` yet.
        mpp: µm per px of a slide that does not say a usable one itself.
        regions: areas in QuPath px that count, none = everywhere.
        roi_classes: classes of the annotations among them, and
        roi_sha256: the hash of these annotations' areas.
    """

    id: int
    name: str
    entry: ImageEntry | None = None
    path: Path | None = None
    mpp: float | None = None
    regions: tuple[BaseGeometry, ...] = ()
    roi_classes: tuple[str, ...] = ()
    roi_sha256: str = ""

    @property
    def file(self) -> str:
        """Stem of the files written for it."""
        return f"{self.id:04d}_{safe_name(self.name)}"

    @property
    def region(self) -> BaseGeometry | None:
        """Where to look, in QuPath px; ``None`` = everywhere."""
        return shapely.union_all(self.regions) if self.regions else None

    def as_plan(self) -> dict[str, Any]:
        """All of it that decides what is found, as JSON knows it."""
        entry = self.entry
        return {
            "id": self.id,
            "name": self.name,
            "regions": [region.wkt for region in self.regions],
            "roi_classes": list(self.roi_classes),
            "roi_sha256": self.roi_sha256,
            # A human may calibrate or turn an image in QuPath before a run is continued.
            "mpp": [self.mpp] if entry is None else [entry.mpp_x, entry.mpp_y],
            "transforms": [] if entry is None else [str(step) for step in entry.geometry],
        }

    def located(self, project: Project | None) -> Target:
        """The same with all that :meth:`open` needs, so that it needs no project.

        Raises:
            InputError: the slide is not where the project says.
        """
        if self.entry is None or project is None:
            return self
        path, mpp = project.slide_path(self.entry), project.settings.project.mpp
        return replace(self, path=path, mpp=mpp)

    def open(self) -> Slide:
        """The slide in its QuPath frame, to be used with ``with``.

        Raises:
            InputError: it is missing, is no slide, or has a pixel size that cannot be.
        """
        path = self.path or Path(self.name)
        if self.entry is not None:
            slide = open_entry(self.entry, path, self.mpp)
        else:
            slide = Slide(path)
            if self.mpp is not None and not _is_possible(slide.frame.mpp_x, slide.frame.mpp_y):
                slide.frame = slide.frame.with_mpp(self.mpp)
        try:
            check_pixel_size(slide.frame)
        except InputError:
            slide.close()
            raise
        return slide


@dataclass(frozen=True)
class Choice:
    """Which images of a project, and where on them; what is empty chooses nothing out.

    Attributes:
        names: image names.
        tags: images that carry one of these tags.
        metadata: image metadata that must be so, key to value.
        states: images in one of :data:`STATES`.
        include_test: images of test patients too.
        regions: (x, y, width, height) in QuPath px.
        roi_classes: annotations of these classes say where; an image without one is left out.
    """

    names: Sequence[str] = ()
    tags: Sequence[str] = ()
    metadata: Sequence[tuple[str, str]] = ()
    states: Sequence[str] = ()
    include_test: bool = False
    regions: Sequence[tuple[float, float, float, float]] = ()
    roi_classes: Sequence[str] = field(default=())


def targets_of_project(project: Project, choice: Choice) -> list[Target]:
    """The images of a project to detect on, in the project's order.

    Raises:
        InputError: a name that is not in the project, or no image left.
        UsageError: no such state.
    """
    entries = _chosen(project, choice)
    given = _rectangles(choice.regions)
    targets = []
    for entry in entries:
        target = Target(entry.id, entry.name, entry, regions=tuple(given))
        if choice.roi_classes:
            objects = project.store.read(entry.id).objects
            drawn = _drawn(objects, choice.roi_classes)
            if not drawn:
                continue
            target = replace(
                target,
                regions=(*given, *drawn),
                roi_classes=tuple(choice.roi_classes),
                roi_sha256=areas_sha256(objects, choice.roi_classes),
            )
        targets.append(target)
    if not targets:
        wanted = ", ".join(map(repr, choice.roi_classes))
        msg = f"none of the {len(entries)} images has an area annotation of class {wanted}"
        raise InputError(msg)
    return targets


def targets_of_files(
    files: Sequence[Path],
    *,
    mpp: float | None = None,
    regions: Sequence[tuple[float, float, float, float]] = (),
) -> list[Target]:
    """Slide files without a project.

    Args:
        files: slides that OpenSlide can read.
        mpp: µm per px of slides that do not say a usable one themselves.
        regions: (x, y, width, height) in QuPath px, on each of them.

    Raises:
        InputError: a file is not there.
    """
    missing = [str(f) for f in files if not f.is_file()]
    if missing:
        msg = f"no slide file {', '.join(missing)}"
        raise InputError(msg)

    areas = tuple(_rectangles(regions))
    return [
        Target(number, path.name, path=path, mpp=mpp, regions=areas)
        for number, path in enumerate(files, 1)
    ]


def check_pixel_size(frame: Frame) -> None:
    """Refuse a pixel size that no scanner has: objects would be searched at a wrong scale.

    Raises:
        InputError: it is absurd. A missing one is refused where it is needed.
    """
    if frame.mpp_x is not None and not _is_possible(frame.mpp_x, frame.mpp_y):
        msg = (
            f"slide {frame.image_name!r} says {frame.mpp_x:g} x {frame.mpp_y:g} µm per pixel, which "
            f"no scanner has ({LEAST_MPP:g} to {MOST_MPP:g}). Set it in QuPath (tab Image, "
            "double-click Pixel width), or give it with --mpp for a slide without a project."
        )
        raise InputError(msg)


def _is_possible(*mpp: float | None) -> bool:
    return all(m is not None and LEAST_MPP <= m <= MOST_MPP for m in mpp)


def _chosen(project: Project, choice: Choice) -> list[ImageEntry]:
    entries = list(project.store.images())
    unknown = sorted(set(choice.names) - {e.name for e in entries})
    if unknown:
        msg = f"no image named {', '.join(map(repr, unknown))} in {project.store.project_file}"
        raise InputError(msg)
    odd = sorted(set(choice.states) - set(STATES))
    if odd:
        msg = f"no state {', '.join(map(repr, odd))}; there are {', '.join(STATES)}"
        raise UsageError(msg)
    wanted = [e for e in entries if _is_wanted(e, choice)]
    if choice.states:
        in_state = _states(project, wanted)
        wanted = [e for e in wanted if in_state[e.id] & set(choice.states)]
    if not wanted:
        msg = f"none of the {len(entries)} images of {project.store.project_file} is chosen"
        raise InputError(msg)
    if not choice.include_test:
        # A test patient's slides stay blind to the model, or later tests would be worth nothing.
        tested = project.test_images(wanted)
        wanted = [e for e in wanted if e.id not in tested]
    if not wanted:
        msg = "no image left to detect on: all are of test patients. Give --include-test to do it."
        raise InputError(msg)
    return wanted


def _is_wanted(entry: ImageEntry, choice: Choice) -> bool:
    return (
        (not choice.names or entry.name in choice.names)
        and (not choice.tags or bool(set(entry.tags) & set(choice.tags)))
        and all(entry.metadata.get(key) == value for key, value in choice.metadata)
    )


def _states(project: Project, entries: Sequence[ImageEntry]) -> dict[int, set[str]]:
    seen: set[int] = set()
    for manifest in sorted(project.workspace.detections.glob("*/manifest.json")):
        require_inside(manifest, project.workspace.detections)
        with expecting(manifest, "the manifest of a detection run", f"Remove {manifest.parent}."):
            document = parse_json(manifest.read_text(encoding="utf-8"))
            seen.update(int(image["id"]) for image in document["images"])
    states = {}
    for entry in entries:
        objects = project.store.read(entry.id).objects
        roles = assign_roles(objects, project.settings)
        of_entry = {"annotated" if roles.n_human else "unannotated"}
        if roles.pending:
            of_entry.add("proposed")
        if entry.id not in seen:
            of_entry.add("new")
        states[entry.id] = of_entry
    return states


def _drawn(objects: Sequence[SlideObject], classes: Sequence[str]) -> list[BaseGeometry]:
    """Areas of a human's annotations of these classes; holes and overlaps count as drawn."""
    return [
        sound_area(o.outline.geometry)
        for o in objects
        if str(o.path_class) in classes and o.outline is not None and o.outline.is_area
    ]


def _rectangles(regions: Sequence[tuple[float, float, float, float]]) -> list[BaseGeometry]:
    for region in regions:
        if not all(map(math.isfinite, region)) or region[2] <= 0 or region[3] <= 0:
            msg = f"a region needs a width and a height above 0, got {region}"
            raise UsageError(msg)
    return [shapely.box(x, y, x + w, y + h) for x, y, w, h in regions]
