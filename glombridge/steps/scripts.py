"""``scripts``: brings the review scripts of a project up to date, and the scheme they grade by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ledger import ProjectLock, Workspace
from ..qupath import NativeStore
from ..qupath.saving import atomic_write
from ..review.installation import (
    NEW_SUFFIX,
    Installed,
    ScriptChange,
    install_scripts,
    shipped_scripts,
)
from ..schemes import scheme_json
from ..schemes.export import FORMAT
from ..settings import Settings

SCRIPTS = "scripts"
"""Folder of a QuPath project that QuPath lists under *Automate > Project scripts*."""
SCHEME = "scheme.json"


@dataclass(frozen=True)
class ScriptsResult:
    """What was done, or would be.

    Attributes:
        scheme: name and version of the grading scheme, ``None`` = nothing is graded.
        scheme_changed: whether the scheme's file was written.
    """

    changes: tuple[ScriptChange, ...]
    scheme_file: Path
    scheme: str | None
    scheme_changed: bool
    dry_run: bool

    @property
    def notes(self) -> list[str]:
        """What somebody should know."""
        notes = []
        for change in self.changes:
            beside = change.path.with_name(change.path.name + NEW_SUFFIX)
            # One that was changed after the newest of ours has nothing beside it, and gets nothing.
            if change.what is Installed.BESIDE or (
                change.what is Installed.KEPT and beside.exists()
            ):
                would = "would be" if change.what is Installed.BESIDE and self.dry_run else "is"
                notes.append(
                    f"{change.path.name} was changed by somebody and is left as it is; "
                    f"ours {would} {beside.name}"
                )
        return notes

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "scripts": {change.path.name: change.what.value for change in self.changes},
            "folder": str(self.changes[0].path.parent),
            "scheme": self.scheme,
            "scheme_file": str(self.scheme_file),
            "scheme_changed": self.scheme_changed,
            "dry_run": self.dry_run,
            "notes": self.notes,
        }


def update_scripts(path: Path, *, dry_run: bool = False, break_lock: bool = False) -> ScriptsResult:
    """Install or update the Groovy scripts of a project, never over a script that somebody changed.

    Args:
        path: project folder or ``.qpproj``; ``init`` must have been there.
        dry_run: say what would be done and write nothing.
        break_lock: take the project lock whoever holds it.

    Raises:
        InputError: no QuPath project, not initialised, or settings that cannot be read.
        ProtectedError: somebody else is writing, or ``scripts/`` is a link out of the project.
        MachineError: the project folder cannot be written.
        MissingComponentError: this installation of glombridge has no scripts.
    """
    workspace = Workspace.of(NativeStore.open(path).folder)
    settings = workspace.settings()
    if dry_run:
        return write_scripts(workspace, settings, dry_run=True)
    with ProjectLock(workspace.lock_file, break_lock=break_lock):
        return write_scripts(workspace, settings)


def write_scripts(
    workspace: Workspace, settings: Settings, *, dry_run: bool = False
) -> ScriptsResult:
    """The same for the holder of the project lock."""
    changes = install_scripts(
        workspace.project_folder / SCRIPTS, shipped_scripts(), dry_run=dry_run
    )
    file = workspace.folder / SCHEME
    data = (json.dumps(_document(settings), ensure_ascii=False, indent=1) + "\n").encode("utf-8")
    changed = not file.is_file() or file.read_bytes() != data
    if changed and not dry_run:
        atomic_write(file, data)
    scheme = settings.scheme
    return ScriptsResult(tuple(changes), file, scheme.stamp if scheme else None, changed, dry_run)


def _document(settings: Settings) -> dict[str, Any]:
    rejected = settings.rejected[0] if settings.rejected else "Rejected*"
    if settings.scheme is not None:
        return scheme_json(settings.scheme, settings.class_names, rejected)
    # Nothing is graded, but the window must still know the classes.
    return {
        "format": FORMAT,
        "name": "",
        "version": "",
        "title": "",
        "classes": settings.class_names,
        "rejected": rejected,
        "lesions": [],
        "dominance": [],
    }
