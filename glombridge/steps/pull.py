"""``pull``: annotations as GeoJSON."""

from __future__ import annotations

from pathlib import Path

from ..ledger import ProjectLock
from ..progress import SILENT, Reporter
from ..sync.pull import Pull
from ..sync.pull import pull as pull_annotations
from .project import Project


def pull(
    project: Project,
    *,
    out: Path | None = None,
    every_kind: bool = False,
    break_lock: bool = False,
    reporter: Reporter = SILENT,
) -> Pull:
    """Take the annotations out; see :func:`glombridge.sync.pull.pull`.

    Args:
        project: the project.
        out: folder for the files, made; by default a new one among the project's pulls.
        every_kind: also detections, cells, tiles and cores.
        break_lock: take the project lock whoever holds it.
        reporter: for progress.

    Raises:
        PartlyDoneError: some image could not be read; nothing was written.
        ProtectedError: somebody else is writing.
    """
    with ProjectLock(project.workspace.lock_file, break_lock=break_lock):
        return pull_annotations(
            project.store,
            project.workspace,
            project.settings,
            out=out,
            every_kind=every_kind,
            reporter=reporter,
        )
