"""``undo``: bring back the data files that a write replaced, unless a human has changed them since."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import (
    DamagedFileError,
    GlombridgeError,
    InputError,
    PartlyDoneError,
    ProtectedError,
)
from ..ledger import Ledger, Workspace
from ..ledger.schema import UNDO
from ..ledger.writes import Write, WrittenImage, read_writes
from ..progress import SILENT, Reporter
from ..qupath import NativeStore
from ..qupath.saving import stamp_of
from ..sync.guards import Guards
from ..sync.writing import open_desk
from .project import Project


class Outcome(str, Enum):
    """What became of one image."""

    RESTORED = "restored"
    ALREADY = "already as it was"


@dataclass(frozen=True)
class UndoneImage:
    """One image of an undone write.

    Attributes:
        snapshot: where the data file that the write made is kept now.
    """

    image: int
    name: str
    outcome: Outcome
    snapshot: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.image,
            "name": self.name,
            "outcome": self.outcome.value,
            "snapshot": self.snapshot,
        }


@dataclass(frozen=True)
class UndoResult:
    """What was brought back, or would be."""

    write: Write
    images: tuple[UndoneImage, ...]
    dry_run: bool
    before: str | None
    """The newest write before this one that is not undone, for who wants to go further back."""

    @property
    def restored(self) -> int:
        """How many images changed."""
        return sum(i.outcome is Outcome.RESTORED for i in self.images)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "write": self.write.id,
            "event": self.write.event,
            "run": self.write.run,
            "dry_run": self.dry_run,
            "restored": self.restored,
            "images": [i.as_dict() for i in self.images],
            "before": self.before,
        }


def list_writes(project: Project) -> list[Write]:
    """Every write that is on record, oldest first.

    Args:
        project: the project.

    Raises:
        DamagedFileError: the history cannot be read.
    """
    with project.workspace.ledger_view() as ledger:
        return read_writes(ledger)


def undo(
    project: Project,
    write: str | None = None,
    *,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> UndoResult:
    """Bring back what a write replaced. Doing it twice is doing it once.

    Args:
        project: the project.
        write: id of the write; the newest on record by default, also if it is undone already.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: there is no such write.
        ProtectedError: a data file is no longer what the write made, QuPath runs, or somebody else
            is writing.
        PartlyDoneError: some images could not be brought back; each is named.
    """
    # Bytes are put back as they were: that needs no QuPath, whichever store wrote them.
    store = NativeStore(project.store.project_file)
    workspace = project.workspace
    names = {e.id: e.name for e in store.images()}
    done: list[UndoneImage] = []
    failed: list[str] = []
    last: GlombridgeError | None = None
    with open_desk(project.store, workspace, project.settings, guards) as desk:
        writes = read_writes(desk.ledger)
        chosen = _choose(writes, write, workspace)
        undoing = _Undoing(store, workspace, desk.ledger, writes, chosen, guards.dry_run)
        with reporter.task("undo", len(chosen.images)) as task:
            for image in chosen.images:
                name = names.get(image.image, "?")
                try:
                    outcome, kept = undoing.image(image)
                    done.append(UndoneImage(image.image, name, outcome, kept))
                except GlombridgeError as error:
                    failed.append(f"  image {name!r} (entry {image.image}): {error}")
                    last = error
                task.advance(note=name)
        desk.prune([i.image for i in done])
    if last is not None:
        lines = "\n".join(failed)
        if not done:
            msg = f"{chosen.id} was not undone, nothing was changed:\n{lines}"
            raise type(last)(msg)
        msg = (
            f"{len(failed)} of {len(chosen.images)} images of {chosen.id} were not undone:\n{lines}"
        )
        raise PartlyDoneError(msg)
    earlier = [w.id for w in writes[: writes.index(chosen)] if not w.undone]
    return UndoResult(chosen, tuple(done), guards.dry_run, earlier[-1] if earlier else None)


def _choose(writes: list[Write], write: str | None, workspace: Workspace) -> Write:
    if not writes:
        msg = (
            f"project {workspace.project_folder} has no write on record; there is nothing to undo."
        )
        raise InputError(msg)
    if write is None:
        return writes[-1]
    for known in writes:
        if known.id == write:
            return known
    names = ", ".join(w.id for w in writes[-10:])
    msg = f"no write {write!r} on record; the newest are: {names}. 'undo --list' shows all."
    raise InputError(msg)


@dataclass(frozen=True)
class _Undoing:
    """One undo under way."""

    store: NativeStore
    workspace: Workspace
    ledger: Ledger
    writes: list[Write]
    write: Write
    dry_run: bool

    def image(self, image: WrittenImage) -> tuple[Outcome, str | None]:
        """Bring one image back; gives what became of it and where the replaced file is kept."""
        if image.undone:
            return Outcome.ALREADY, None
        now = self.store.stamp(image.image)
        kept: str | None = None
        outcome = Outcome.ALREADY
        if now.sha256 != image.replaced:
            if now.sha256 != image.sha256:
                raise ProtectedError(
                    _why_not(self.store, self.workspace, self.writes, self.write, image)
                )
            copy = _copy_of(self.workspace, image)
            outcome = Outcome.RESTORED
            if not self.dry_run:
                snapshots = self.workspace.snapshots
                receipt = self.store.restore(
                    image.image, copy, expected=now, snapshot_folder=snapshots
                )
                kept = self.workspace.relative(receipt.snapshot) if receipt.snapshot else None
        if not self.dry_run:
            # Also for a file that is back already: the one who was killed before saying so.
            self.ledger.record(
                UNDO,
                undoes=self.write.id,
                run=self.write.run,
                image=image.image,
                sha256=image.replaced,
                replaced=image.sha256,
                snapshot=kept,
            )
        return outcome, kept


def _copy_of(workspace: Workspace, image: WrittenImage) -> Path | None:
    """The kept copy of what the write replaced, checked; ``None`` if there was no file."""
    if image.snapshot is None:
        return None
    copy = workspace.snapshot(image.snapshot)
    found = stamp_of(copy)
    if not found.exists:
        msg = (
            f"the copy of what was there before, {copy}, is gone. glombridge keeps the last ones of "
            "each image (keep_snapshots in [project] of the settings). Restore it from a backup."
        )
        raise InputError(msg)
    if found.sha256 != image.replaced:
        msg = (
            f"the copy {copy} is not the file that was replaced: its bytes changed. Check the disk."
        )
        raise DamagedFileError(msg)
    return copy


def _why_not(
    store: NativeStore,
    workspace: Workspace,
    writes: list[Write],
    write: Write,
    image: WrittenImage,
) -> str:
    later = [
        w
        for w in writes[writes.index(write) + 1 :]
        if any(i.image == image.image and not i.undone for i in w.images)
    ]
    if later:
        return (
            f"{later[-1].id} wrote this image again. Undo that first: "
            f"glombridge undo {workspace.project_folder} --write {later[-1].id}"
        )
    file = store.data_file(image.image)
    kept = workspace.snapshot(image.snapshot) if image.snapshot else None
    by_hand = (
        f"The file from before is {kept}: to go back to it by hand, close QuPath, put a copy of "
        f"{file} aside, and copy the old one to its place."
        if kept
        else "There was no file before: to go back by hand, delete the proposals in QuPath."
    )
    return (
        f"{file} is no longer what {write.id} made: it was changed since, probably saved in QuPath, "
        "and going back would lose that work. 'glombridge withdraw --run "
        f"{write.run}' takes out the proposals that nobody has touched. {by_hand}"
    )
