"""What was written into QuPath's files, read from the history: the ground that ``undo`` stands on.

Each write leaves one event per image with ``write`` (its id), ``image``, ``sha256`` of the data file
it made, ``replaced`` (SHA-256 of the one before) and ``snapshot`` (where that is kept); the latter
two say that there was none. All images of one command are one write.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from ..qupath.saving import SNAPSHOT_NAME
from ..qupath.store import FileStamp, WriteReceipt
from .history import History
from .workspace import Workspace

UNDO = "undo"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenImage:
    """One image of a write.

    Attributes:
        image: entry id.
        sha256: of the data file the write made.
        replaced: SHA-256 of the data file before, empty = there was none.
        snapshot: where that is kept, relative to the project folder.
        undone: whether it was brought back since.
    """

    image: int
    sha256: str
    replaced: str
    snapshot: str | None
    undone: bool = False


@dataclass(frozen=True)
class Write:
    """Everything one command wrote.

    Attributes:
        id: ``write-001`` and so on, in order.
        event: what it was, for example ``push``.
        run: of which run, where there was one.
        at: when the first image was written, UTC.
    """

    id: str
    event: str
    run: str | None
    at: str
    images: tuple[WrittenImage, ...]

    @property
    def undone(self) -> bool:
        """Whether every image was brought back."""
        return all(i.undone for i in self.images)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "write": self.id,
            "event": self.event,
            "run": self.run,
            "at": self.at,
            "undone": self.undone,
            "images": [
                {"id": i.image, "snapshot": i.snapshot, "undone": i.undone} for i in self.images
            ],
        }


def read_writes(history: History) -> list[Write]:
    """Every write that can be known, oldest first.

    Raises:
        DamagedFileError: the history cannot be read.
    """
    writes: dict[str, Write] = {}
    images: dict[str, dict[int, WrittenImage]] = {}
    for event in history.events():
        if event["event"] == UNDO:
            number, of_write = int(event["image"]), images.get(str(event["undoes"]), {})
            if number in of_write:
                of_write[number] = replace(of_write[number], undone=True)
        elif "write" in event and "sha256" in event:
            name, number = str(event["write"]), int(event["image"])
            known = images.setdefault(name, {})
            run = event.get("run")
            writes.setdefault(name, Write(name, event["event"], run, str(event["at"]), ()))
            if number in known:  # twice in one write: what was before the first is what counts
                known[number] = replace(known[number], sha256=event["sha256"])
            else:
                known[number] = WrittenImage(
                    number, event["sha256"], event.get("replaced") or "", event.get("snapshot")
                )
    return [replace(write, images=tuple(images[name].values())) for name, write in writes.items()]


def new_write_id(history: History) -> str:
    """The id of the next write; only the holder of the project lock may use it."""
    numbers = [0]
    for event in history.events():
        number = str(event.get("write")).removeprefix("write-")
        numbers.append(int(number) if number.isdecimal() else 0)
    return f"write-{max(numbers) + 1:03d}"


def write_record(workspace: Workspace, receipt: WriteReceipt, before: FileStamp) -> dict[str, Any]:
    """What the event of a write must say besides its id, so that it can be undone.

    Args:
        workspace: of the project.
        receipt: what the store gave back.
        before: the stamp of the data file that was replaced.
    """
    return {
        "image": receipt.entry_id,
        "sha256": receipt.stamp.sha256,
        "replaced": before.sha256,
        "snapshot": workspace.relative(receipt.snapshot) if receipt.snapshot else None,
    }


def prune_snapshots(workspace: Workspace, images: Collection[int], *, keep: int) -> list[str]:
    """Delete the oldest kept copies of some images, under the project lock.

    The copy that an undo of an image's last write needs stays however old it is.

    Args:
        workspace: of the project.
        images: entry ids.
        keep: how many copies of each image stay.

    Returns:
        Names of the files deleted. One that cannot be deleted stays, which harms nothing.
    """
    if not workspace.snapshots.is_dir():
        return []
    kept: dict[int, list[str]] = defaultdict(list)
    for path in workspace.snapshots.iterdir():
        match = SNAPSHOT_NAME.fullmatch(path.name)
        if match and int(match["image"]) in images:
            kept[int(match["image"])].append(path.name)
    if all(len(names) <= keep for names in kept.values()):
        return []
    needed: dict[int, str | None] = {}
    for write in read_writes(workspace.history):
        needed.update({i.image: i.snapshot for i in write.images if not i.undone})
    deleted = []
    for image, names in kept.items():
        # The time stands in the name after the image, so names sort by age.
        for name in sorted(names)[:-keep]:
            if (needed.get(image) or "").endswith(name):
                continue
            try:
                (workspace.snapshots / name).unlink()
            except OSError as error:
                _LOG.warning("cannot delete the old copy %s: %s", name, error)
            else:
                deleted.append(name)
    return sorted(deleted)
