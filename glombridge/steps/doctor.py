"""``doctor``: what is installed, found and reachable, on this machine and in a project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, InputError, MissingComponentError
from ..frames import frame_of
from ..ledger import Workspace
from ..ledger.lock import lock_holder
from ..progress import SILENT, Reporter
from ..qupath import ImageEntry, NativeStore, SlideFile, SlideFinder
from ..settings import Settings
from .installed import FAILURES, Check, State, check_machine

_MANY = 10


@dataclass(frozen=True)
class ImageHealth:
    """What was found out about one image.

    Attributes:
        files: every file it is made of, and where each was looked for.
        size_px: width and height in QuPath's frame, ``None`` = the slide was not opened.
        mpp: µm per pixel that would be used, along x and y.
        checks: what is wrong or worth knowing, empty = nothing.
    """

    entry: ImageEntry
    files: tuple[SlideFile, ...]
    size_px: tuple[int, int] | None
    mpp: tuple[float | None, float | None]
    checks: tuple[Check, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.entry.id,
            "name": self.entry.name,
            "files": [
                {
                    "uri": f.uri,
                    "found": str(f.found) if f.found else None,
                    "tried": [str(p) for p in f.tried],
                }
                for f in self.files
            ],
            "size_px": list(self.size_px) if self.size_px else None,
            "mpp": list(self.mpp),
            "transforms": list(self.entry.transforms),
            "checks": [c.as_dict() for c in self.checks],
        }


@dataclass(frozen=True)
class DoctorResult:
    """All checks."""

    machine: tuple[Check, ...]
    project: tuple[Check, ...] = ()
    images: tuple[ImageHealth, ...] = ()

    @property
    def checks(self) -> list[Check]:
        """Of machine, project and images, in this order."""
        return [*self.machine, *self.project, *(c for i in self.images for c in i.checks)]

    def count(self, state: State) -> int:
        """How many checks came out like this."""
        return sum(c.state is state for c in self.checks)

    def raise_if_ill(self) -> None:
        """Give the command its exit code.

        Raises:
            MissingComponentError: a component that is needed is missing or does not work.
            InputError: the project has problems.
        """
        missing, problems = self.count(State.MISSING), self.count(State.PROBLEM)
        if missing:
            names = ", ".join(c.name for c in self.checks if c.state is State.MISSING)
            msg = f"needed and missing or broken: {names}. The way out stands beside each."
            raise MissingComponentError(msg)
        if problems:
            msg = f"the project has {problems} problems. The way out stands beside each."
            raise InputError(msg)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "missing": self.count(State.MISSING),
            "problems": self.count(State.PROBLEM),
            "machine": [c.as_dict() for c in self.machine],
            "project": [c.as_dict() for c in self.project],
            "images": [i.as_dict() for i in self.images],
        }


def doctor(
    path: Path | None = None, *, slides: Iterable[str] = (), reporter: Reporter = SILENT
) -> DoctorResult:
    """Look at the machine, and at a project if one is given. Changes nothing, starts no QuPath.

    Args:
        path: of a project.
        slides: ``OLD=NEW`` path maps, which come before those of the settings.
        reporter: for progress.

    Raises:
        UsageError: a path map that is none.
    """
    if path is None:
        return DoctorResult(tuple(check_machine()))
    try:
        store = NativeStore.open(path)
        entries = store.images()
    except GlombridgeError as error:
        return DoctorResult(tuple(check_machine()), (_problem("project", error),))
    workspace = Workspace.of(store.folder)
    settings, check = _settings(workspace)
    needs_qupath = settings is not None and settings.project.store == "paquo"
    machine = check_machine(needs_qupath=needs_qupath)
    project = [
        Check("project", State.OK, f"{len(entries)} images, QuPath {store.qupath_version or '?'}"),
        check,
        *_lock(workspace),
        _history(workspace),
        *_names(entries),
    ]
    finder = store.slide_finder(workspace.slide_map(None, slides))
    try:
        finder = store.slide_finder(workspace.slide_map(settings, slides))
    except InputError as error:
        project.append(_problem("settings", error))
    images = []
    with reporter.task("look at images", len(entries)) as task:
        for entry in entries:
            images.append(_image(store, finder, settings, entry))
            task.advance(note=entry.name)
    return DoctorResult(tuple(machine), tuple(project), tuple(images))


def _problem(name: str, error: GlombridgeError) -> Check:
    # Messages of ours say the way out themselves, in their last sentences.
    return Check(name, State.PROBLEM, " ".join(str(error).split()))


def _settings(workspace: Workspace) -> tuple[Settings | None, Check]:
    if not workspace.exists:
        way_out = f"Run 'glombridge init {workspace.project_folder}'."
        return None, Check("settings", State.NOTE, "the project is not set up yet", way_out)
    try:
        settings = workspace.settings()
    except GlombridgeError as error:
        return None, _problem("settings", error)
    return settings, Check("settings", State.OK, str(workspace.settings_file))


def _lock(workspace: Workspace) -> list[Check]:
    holder = lock_holder(workspace.lock_file)
    if holder is None:
        return [Check("lock", State.OK, "free")]
    way_out = "The next writer takes it over." if holder.is_dead else "Wait until it is done."
    return [Check("lock", State.NOTE, holder.text, way_out)]


def _history(workspace: Workspace) -> Check:
    try:
        n = sum(1 for _ in workspace.history.events())
    except GlombridgeError as error:
        return _problem("history", error)
    except OSError as error:
        text = f"{workspace.history.path} cannot be read: {error.strerror or error}"
        return Check("history", State.PROBLEM, text, "Ask for permission to read it.")
    return Check("history", State.OK, f"{n} events")


def _names(entries: Iterable[ImageEntry]) -> list[Check]:
    ids: dict[str, list[int]] = {}
    for entry in entries:
        ids.setdefault(entry.name, []).append(entry.id)
    twice = {name: found for name, found in ids.items() if len(found) > 1}
    if not twice:
        return []
    shown = "; ".join(
        f"{name!r} (entries {', '.join(map(str, found))})"
        for name, found in list(twice.items())[:_MANY]
    )
    more = f" and {len(twice) - _MANY} more" if len(twice) > _MANY else ""
    text = f"images of the same name: {shown}{more}"
    way_out = "They are told apart by entry; --image NAME takes all of a name."
    return [Check("image names", State.NOTE, text, way_out)]


def _image(
    store: NativeStore, finder: SlideFinder, settings: Settings | None, entry: ImageEntry
) -> ImageHealth:
    name = f"image {entry.name!r} (entry {entry.id})"
    checks: list[Check] = []
    try:
        # A damaged file is an error here and an empty image in QuPath.
        contents = store.read(entry.id)
    except GlombridgeError as error:
        checks.append(_problem(name, error))
    else:
        if contents.problems:
            text = f"{len(contents.problems)} objects not understood, first: {contents.problems[0]}"
            checks.append(Check(name, State.NOTE, text, "They stay in the file as they are."))
    files = finder.files(entry)
    slide = next((f.found for f in files if f.found is not None), None)
    size_px: tuple[int, int] | None = None
    mpp: tuple[float | None, float | None] = (entry.mpp_x, entry.mpp_y)
    if slide is None:
        tried = ", ".join(str(p) for f in files for p in f.tried) or "nowhere"
        uris = ", ".join(entry.uris) or "no file"
        text = f"its slide is not found: the project says {uris}, looked at {tried}"
        way_out = "Move it back, or say where the slides are: --slides OLD=NEW."
        checks.append(Check(name, State.PROBLEM, text, way_out))
    else:
        try:
            size_px, mpp, found = _slide(name, slide, entry, settings)
            checks += found
        except GlombridgeError as error:
            checks.append(_problem(name, error))
        except FAILURES as error:
            text = f"its slide was not opened, a library does not work: {error}"
            checks.append(
                Check(name, State.NOTE, " ".join(text.split()), "See the machine's part.")
            )
    return ImageHealth(entry, files, size_px, mpp, tuple(checks))


def _slide(
    name: str, path: Path, entry: ImageEntry, settings: Settings | None
) -> tuple[tuple[int, int], tuple[float | None, float | None], list[Check]]:
    from ..slides.reader import Slide  # imports OpenCV and OpenSlide, which may not load

    with Slide(path) as slide:
        frame = frame_of(entry, slide.properties)
    checks = [Check(name, State.NOTE, note) for note in frame.notes]
    if entry.transforms:
        text = f"QuPath shows it {' and '.join(entry.transforms)}"
        checks.append(Check(name, State.NOTE, text))
    if frame.mpp_x is None and not (settings and settings.project.mpp):
        way_out = "Set it in QuPath (tab Image), or mpp in [project] of the settings."
        checks.append(Check(name, State.PROBLEM, "its slide has no pixel size", way_out))
    return (frame.width_px, frame.height_px), (frame.mpp_x, frame.mpp_y), checks


def summary(images: Iterable[ImageHealth]) -> str:
    """How many images there are, and how many are in which state."""
    counts: Counter[str] = Counter()
    for image in images:
        counts["images"] += 1
        counts["slides found"] += any(f.found for f in image.files)
        counts["slides opened"] += image.size_px is not None
        counts["with a problem"] += any(c.state is State.PROBLEM for c in image.checks)
    return ", ".join(f"{n} {what}" for what, n in counts.items()) or "no images"
