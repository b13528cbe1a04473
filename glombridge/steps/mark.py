"""``mark``: says that an image has been searched completely, so that its rest is background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, UsageError
from ..provenance import SEARCHED
from ..qupath.saving import PROJECT_ENTRY
from ..qupath.store import ImageEntry, ProjectStore
from ..sync.guards import Guards
from ..sync.roles import is_marked
from ..sync.writing import open_desk
from .project import Project


@dataclass(frozen=True)
class MarkResult:
    """Which images were marked, or would be.

    Attributes:
        changed, unchanged: names of images.
    """

    searched: bool
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "searched": self.searched,
            "changed": list(self.changed),
            "unchanged": list(self.unchanged),
            "dry_run": self.dry_run,
        }


def mark(
    project: Project,
    images: Sequence[str],
    *,
    searched: bool = True,
    guards: Guards = Guards(),
) -> MarkResult:
    """Write into the project that every object of some images has been marked, or that it has not.

    Args:
        project: the project.
        images: names, or ``#`` and the entry id where two have one name.
        searched: what is said of them.
        guards: dry run or not, and which guards of the project are lifted.

    Raises:
        UsageError: no image given.
        InputError: an image that is not in the project, or a name that two have.
        ProtectedError: somebody else is writing, QuPath runs, or the project changed meanwhile.
    """
    if not images:
        msg = "name the images to be marked"
        raise UsageError(msg)
    with open_desk(project.store, project.workspace, project.settings, guards) as desk:
        chosen = images_named(project.store, images)
        changing = [e for e in chosen if is_marked(e) is not searched]
        if changing and not guards.dry_run:
            value = "true" if searched else None
            desk.store.set_metadata_of_images(
                {e.id: {SEARCHED: value} for e in changing},
                snapshot_folder=desk.workspace.snapshots,
            )
            for entry in changing:
                desk.ledger.record("mark", image=entry.id, searched=searched)
            desk.prune([PROJECT_ENTRY])
    same = [e.name for e in chosen if e not in changing]
    return MarkResult(searched, tuple(e.name for e in changing), tuple(same), guards.dry_run)


def images_named(store: ProjectStore, images: Sequence[str]) -> list[ImageEntry]:
    """Images by what a human calls them.

    Args:
        store: the project.
        images: names, or ``#`` and the entry id where two have one name.

    Raises:
        InputError: an image that is not in the project, or a name that two have.
    """
    entries = list(store.images())
    chosen: dict[int, ImageEntry] = {}
    for name in images:
        found = [e for e in entries if e.name == name]
        if not found and name.startswith("#"):
            found = [e for e in entries if name[1:] == str(e.id)]
        if not found:
            msg = f"no image {name!r} in {store.project_file} ('glombridge status' lists them)"
            raise InputError(msg)
        if len(found) > 1:
            ids = ", ".join(f"'#{e.id}'" for e in found)
            msg = f"{len(found)} images are called {name!r}; say which one: {ids}"
            raise InputError(msg)
        chosen[found[0].id] = found[0]
    return list(chosen.values())
