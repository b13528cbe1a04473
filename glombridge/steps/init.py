"""``init``: set a QuPath project up for glombridge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, MissingComponentError
from ..ledger import ProjectLock, Workspace
from ..objects import ObjectKind
from ..qupath import NativeStore, StoreKind, find_installation, version_numbers
from ..settings import DEFAULT_CLASS, Settings
from ..sync.roles import is_proposed
from .scripts import write_scripts


@dataclass(frozen=True)
class InitResult:
    """What was found and set.

    Attributes:
        created: whether a settings file was written; an existing one is never touched.
        found: human annotations by class, ``None`` for an image set that could not be read.
    """

    settings_file: Path
    settings: Settings
    created: bool
    found: Mapping[str, int]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "settings": str(self.settings_file),
            "created": self.created,
            "classes": self.settings.classes,
            "scheme": self.settings.scheme.stamp if self.settings.scheme else None,
            "annotations": dict(self.found),
            "notes": list(self.notes),
        }


def init(
    path: Path,
    *,
    settings: Settings | None = None,
    store_kind: StoreKind | None = None,
    scheme: str | None = None,
) -> InitResult:
    """Write the settings file of a project, with the classes its annotations use, and its scripts.

    Args:
        path: project folder or ``.qpproj``.
        settings: to be written instead of the defaults; its classes are kept as given.
        store_kind: how image data is read and written. By default what ``settings`` say, and
            without ``settings`` "paquo" if a QuPath is installed that is not older than the
            project, else "native". No QuPath is started.
        scheme: how glomeruli are graded; a file is relative to the glombridge folder of the project.

    Raises:
        InputError: not a QuPath project, or no such grading scheme.
        ProtectedError: somebody else is writing, or ``scripts/`` is a link out of the project.
        MachineError: the folder cannot be written.
        MissingComponentError: "paquo" was asked for and no QuPath is installed.
    """
    store = NativeStore.open(path)
    workspace = Workspace.of(store.folder)
    found, notes = _count_classes(store)
    chosen = settings or _with_classes(Settings(), found)
    if store_kind is not None or settings is None:
        kind, note = _store_kind(store_kind, store)
        project = chosen.project.model_copy(update={"store": kind})
        chosen = chosen.model_copy(update={"project": project})
        notes += [note] if note and not workspace.exists else []
    if scheme is not None:
        chosen = chosen.with_scheme(scheme, workspace.folder)
    if workspace.exists:
        notes.append(f"{workspace.settings_file} was there already and is unchanged")
        if scheme is not None and workspace.settings().review.scheme != scheme:
            notes.append(f"to grade with {scheme!r}, write it there: 'scheme' in [review]")
        return InitResult(workspace.settings_file, workspace.settings(), False, found, tuple(notes))
    missing = [c for c, aliases in chosen.classes.items() if not any(a in found for a in aliases)]
    if missing:
        there = ", ".join(f"{n} x {c!r}" for c, n in found.items()) or "none at all"
        notes.append(
            f"no annotation of class {', '.join(missing)} yet (annotations in the project: {there}). "
            f"If yours has another name, write it into [classes] of {workspace.settings_file}."
        )
    if not any(chosen.patients.key in e.metadata for e in store.images()):
        notes.append(
            f"no image has metadata {chosen.patients.key!r}: say in [patients] of the settings where "
            "the patient of an image comes from, or tiles cannot be split safely"
        )
    with ProjectLock(workspace.lock_file):
        created = workspace.create(chosen)
        notes += write_scripts(workspace, chosen).notes
        workspace.history.append("init", qupath=store.qupath_version, images=len(store.images()))
    return InitResult(workspace.settings_file, chosen, created, found, tuple(notes))


def _store_kind(asked: StoreKind | None, store: NativeStore) -> tuple[StoreKind, str | None]:
    """The store to be written into the settings, and what to say about it."""
    if asked == "native":
        return "native", None
    installed = find_installation()
    if installed is None:
        if asked == "paquo":
            msg = (
                "--store paquo needs an installed QuPath, and none was found. Set PAQUO_QUPATH_DIR "
                "to its folder, or use --store native, which needs none."
            )
            raise MissingComponentError(msg)
        return "native", None
    version = installed.version or "of an unknown version"
    is_older = version_numbers(store.qupath_version) > version_numbers(installed.version)
    if asked is None and installed.version is not None and is_older:
        note = (
            f"QuPath {version} is installed, older than the project ({store.qupath_version}): it "
            "is not used, and the project is read and written natively"
        )
        return "native", note
    note = (
        f"image data is read and written by the installed QuPath {version}; 'store' in [project] "
        "of the settings changes that"
    )
    return "paquo", note


def _count_classes(store: NativeStore) -> tuple[dict[str, int], list[str]]:
    counts: Counter[str] = Counter()
    notes: list[str] = []
    for entry in store.images():
        try:
            objects = store.read(entry.id).objects
        except GlombridgeError as error:
            # Setting up must be possible while one image is damaged; pull and tile refuse it.
            notes.append(f"image {entry.name!r} (entry {entry.id}) cannot be read: {error}")
            continue
        for obj in objects:
            if (
                obj.kind is ObjectKind.ANNOTATION
                and obj.path_class
                and not is_proposed(obj.path_class)
            ):
                counts[str(obj.path_class)] += 1
    return dict(counts.most_common()), notes


def _with_classes(settings: Settings, found: Mapping[str, int]) -> Settings:
    """Every class at or below the default one that is in use counts as it."""
    below = [c for c in found if c.split(":")[0] == DEFAULT_CLASS and c != DEFAULT_CLASS]
    return settings.model_copy(update={"classes": {DEFAULT_CLASS: [DEFAULT_CLASS, *sorted(below)]}})
