"""Changing one image so that project and history agree whatever happens in between.

The write is announced in the history right before the data file is replaced, and confirmed after. A
process killed in between leaves an announcement; :func:`settle_writes` finds out what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import DamagedFileError, GlombridgeError, InputError, PartlyDoneError
from ..ledger import Ledger, ProjectLock, Workspace
from ..ledger.ledger import OpenWrite
from ..ledger.pushed import record_of
from ..ledger.running_qupath import refuse_while_qupath_runs
from ..ledger.schema import REVIEW, WRITE_BEGUN, WRITE_DONE, WRITE_DROPPED
from ..ledger.writes import prune_snapshots
from ..objects import SlideObject
from ..progress import Reporter
from ..qupath.store import HierarchyEdit, ImageContents, ImageEntry, ProjectStore, WriteReceipt
from ..settings import Settings
from .guards import Guards
from .look import Decision, Look, look_at
from .proposals import Source

T = TypeVar("T")


@dataclass
class Outcomes(Generic[T]):
    """What became of each image of a command."""

    done: list[T] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    last_error: GlombridgeError | None = None

    def raise_if_failed(self, what: str) -> None:
        """Name every image that failed.

        Args:
            what: did not happen to them, in words.

        Raises:
            GlombridgeError: the last one, where not one image is done.
            PartlyDoneError: some are.
        """
        if self.last_error is None:
            return
        if not self.done:
            raise self.last_error
        total = len(self.done) + len(self.failed)
        msg = f"{len(self.failed)} of {total} images were not {what}:\n" + "\n".join(self.failed)
        raise PartlyDoneError(msg)


def each_image(
    entries: Sequence[ImageEntry],
    work: Callable[[ImageEntry], T],
    *,
    title: str,
    reporter: Reporter,
) -> Outcomes[T]:
    """Do something to each image; one that fails does not stop the others."""
    outcomes: Outcomes[T] = Outcomes()
    with reporter.task(title, len(entries)) as task:
        for entry in entries:
            try:
                outcomes.done.append(work(entry))
            except GlombridgeError as error:
                outcomes.failed.append(f"  image {entry.name!r} (entry {entry.id}): {error}")
                outcomes.last_error = error
            task.advance(note=entry.name)
    return outcomes


@contextmanager
def open_desk(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    guards: Guards = Guards(),
) -> Iterator[Desk]:
    """Hold the project for a command that changes images; for a dry run only look at it.

    Raises:
        ProtectedError: QuPath runs, or somebody else is writing.
        DamagedFileError: the history cannot be read.
    """
    if guards.dry_run:
        with workspace.ledger_view() as ledger:
            yield Desk(store, workspace, ledger, settings, guards.dry_run)
        return
    refuse_while_qupath_runs(allow=guards.while_qupath_runs)
    lock = ProjectLock(workspace.lock_file, break_lock=guards.break_lock)
    with lock, workspace.ledger() as ledger:
        settle_writes(store, ledger)
        yield Desk(store, workspace, ledger, settings, guards.dry_run)


@dataclass(frozen=True)
class Desk:
    """What is needed to change images; see :func:`open_desk`.

    Attributes:
        ledger: to record in; of a dry run only to read.
    """

    store: ProjectStore
    workspace: Workspace
    ledger: Ledger
    settings: Settings
    dry_run: bool = False

    def look(self, contents: ImageContents) -> Look:
        """Compare an image with what we put there; changes nothing.

        Raises:
            DamagedFileError: its data file is gone.
        """
        refuse_vanished(self.ledger, contents)
        image = contents.entry_id
        return look_at(
            self.ledger.base(image), self.ledger.drawn(image), contents.objects, self.settings
        )

    def record_decisions(self, image: int, decisions: Sequence[Decision]) -> None:
        """Put what humans decided since the last look on record."""
        if decisions and not self.dry_run:
            self.ledger.record(
                REVIEW,
                image=image,
                after=self.ledger.last_look(image),
                decisions=[d.as_dict() for d in decisions],
            )

    def write(
        self,
        contents: ImageContents,
        edit: HierarchyEdit,
        *,
        command: str,
        write: str,
        source: Source | None = None,
        about: tuple[str | None, str | None] = (None, None),
        is_followed: bool = True,
    ) -> WriteReceipt:
        """Change an image, announced and confirmed in the history.

        Args:
            contents: of the image, as read.
            edit: what to change.
            command: what undo and the history call it.
            write: id of the write.
            source: whose proposals these are.
            about: the run and layer it is about, where it puts no proposals in.
            is_followed: whether its objects are proposals that the loop follows, as pushed; otherwise
                they are only put on record.

        Raises:
            GlombridgeError: as :meth:`ProjectStore.write`; the announcement is taken back.
        """
        image = contents.entry_id
        announced = False

        def announce(receipt: WriteReceipt) -> None:
            nonlocal announced
            said = announcement(self.workspace, receipt, contents, edit, source, about)
            if not is_followed:
                changes = {what: said[what] for what in ("add", "update", "withdraw")}
                said |= {**{what: [] for what in changes}, "unfollowed": changes}
            announced = True
            self.ledger.record(WRITE_BEGUN, command=command, write=write, image=image, **said)

        try:
            receipt = self.store.write(
                image,
                edit,
                expected=contents.stamp,
                snapshot_folder=self.workspace.snapshots,
                ready=announce,
            )
        except GlombridgeError as error:
            if announced:
                self.ledger.record(WRITE_DROPPED, write=write, image=image, why=str(error))
            raise
        if receipt.changed:
            self.ledger.record(WRITE_DONE, write=write, image=image)
        return receipt

    def prune(self, images: Collection[int]) -> None:
        """Delete the oldest kept copies of some images, as the settings say."""
        if images and not self.dry_run:
            keep = self.settings.project
            prune_snapshots(
                self.workspace,
                self.ledger,
                images,
                keep=keep.keep_snapshots,
                keep_days=keep.keep_snapshots_days,
            )


def announcement(
    workspace: Workspace,
    receipt: WriteReceipt,
    contents: ImageContents,
    edit: HierarchyEdit,
    source: Source | None,
    about: tuple[str | None, str | None],
) -> dict[str, Any]:
    """What the history says of a write before it happens, so that it can be told, merged and undone."""
    shared: Mapping[str, str] = source.metadata if source else {}

    def records(objects: Sequence[SlideObject]) -> list[dict[str, Any]]:
        return [record_of(obj, shared) for obj in objects]

    run, layer = (source.run, source.layer) if source else about
    return {
        "run": run,
        "layer": layer,
        "model": source.model if source else None,
        "sha256": receipt.stamp.sha256,
        "replaced": contents.stamp.sha256,
        "snapshot": workspace.relative(receipt.snapshot) if receipt.snapshot else None,
        "shared": dict(shared),
        "add": records(edit.add),
        "update": records(edit.replace),
        "withdraw": [str(object_id) for object_id in sorted(edit.remove)],
    }


def refuse_vanished(ledger: Ledger, contents: ImageContents) -> None:
    """Refuse an image that has no data file where one with objects was seen before.

    QuPath never deletes the file of an image that stays in the project. A share that is half there, or
    a copy that was cut short, would otherwise look like a human who deleted everything.

    Raises:
        DamagedFileError: so it is.
    """
    if contents.stamp.exists or not (n := ledger.n_there(contents.entry_id)):
        return
    image, seen = contents.entry_id, ledger.last_look(contents.entry_id)
    msg = (
        f"the data file of entry {image} (data/{image}/data.qpdata) is not there, and {n} objects were in "
        f"it at the last look ({seen}). Restore it from a backup; copies that glombridge replaced are in "
        "glombridge/snapshots. If all is to begin anew, open the image in QuPath and save it."
    )
    raise DamagedFileError(msg)


def read_seen(store: ProjectStore, ledger: Ledger, image: int) -> ImageContents:
    """Read an image, unless its data file is gone.

    Raises:
        DamagedFileError: as :func:`refuse_vanished` says, or the file is damaged.
    """
    contents = store.read(image)
    refuse_vanished(ledger, contents)
    return contents


def settle_writes(store: ProjectStore, ledger: Ledger) -> None:
    """Find out what became of writes whose process was killed, under the project lock."""
    for write in ledger.open_writes():
        try:
            happened = _happened(store, write)
        except InputError:
            happened = False  # the image was taken out of the project
        except GlombridgeError:
            # It cannot be read now. Whoever needs it will be told so; then it stays open.
            continue
        if happened:
            ledger.record(WRITE_DONE, write=write.write, image=write.image, recovered=True)
        else:
            why = "the program was interrupted before the file was replaced"
            ledger.record(WRITE_DROPPED, write=write.write, image=write.image, why=why)


def _happened(store: ProjectStore, write: OpenWrite) -> bool:
    now = store.stamp(write.image)
    if now.sha256 in (write.sha256, write.replaced):
        return now.sha256 == write.sha256
    # Somebody saved it since.
    there = {obj.id for obj in store.read(write.image).objects}
    if write.put:
        return not there.isdisjoint(write.put)
    return there.isdisjoint(write.withdrawn)
