"""What was written into QuPath's files: the ground that ``undo`` stands on.

Each write of an image is announced in the history right before the file is replaced, with ``write``
(its id), ``image``, ``sha256`` of the new data file, ``replaced`` (SHA-256 of the one before) and
``snapshot`` (where that is kept), and confirmed afterwards. All images of one command are one write.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..qupath.saving import SNAPSHOT_NAME
from .ledger import Ledger
from .schema import UNDONE
from .workspace import Workspace

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
        event: the command that wrote: ``push``, ``withdraw``.
        run, layer: of which detection run and layer, where there was one.
        at: when the first image was written, UTC.
    """

    id: str
    event: str
    run: str | None
    layer: str | None
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
            "layer": self.layer,
            "at": self.at,
            "undone": self.undone,
            "images": [
                {"id": i.image, "snapshot": i.snapshot, "undone": i.undone} for i in self.images
            ],
        }


def read_writes(ledger: Ledger) -> list[Write]:
    """Every write that can be known, oldest first."""
    images: defaultdict[tuple[Any, ...], list[WrittenImage]] = defaultdict(list)
    for row in ledger.write_rows():
        number, state, sha256, replaced, snapshot = row[5:]
        made = WrittenImage(int(number), sha256, replaced, snapshot, undone=state == UNDONE)
        images[row[:5]].append(made)
    return [
        Write(name, command, run, layer, at, tuple(of_write))
        for (name, command, run, layer, at), of_write in images.items()
    ]


def prune_snapshots(
    workspace: Workspace,
    ledger: Ledger,
    images: Collection[int],
    *,
    keep: int,
    keep_days: int | None = None,
) -> list[str]:
    """Delete the oldest kept copies of some images, under the project lock.

    The copy that an undo of an image's last write needs stays however old it is.

    Args:
        workspace: of the project.
        ledger: of the project.
        images: entry ids.
        keep: how many copies of each image stay.
        keep_days: copies older than this go too, ``None`` = never for their age.

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
    # The time stands in the name after the image, so names sort by age.
    oldest = _day_in_names(keep_days)
    too_many = [
        (image, name)
        for image, names in kept.items()
        for place, name in enumerate(sorted(names, reverse=True))
        if place >= keep or SNAPSHOT_NAME.fullmatch(name)["time"] < oldest  # type: ignore[index]
    ]
    if not too_many:
        return []
    needed: dict[int, str | None] = {}
    for write in read_writes(ledger):
        needed.update({i.image: i.snapshot for i in write.images if not i.undone})
    deleted = []
    for image, name in too_many:
        if (needed.get(image) or "").endswith(name):
            continue
        try:
            (workspace.snapshots / name).unlink()
        except OSError as error:
            _LOG.warning("cannot delete the old copy %s: %s", name, error)
        else:
            deleted.append(name)
    return sorted(deleted)


def _day_in_names(keep_days: int | None) -> str:
    """The time before which copies are too old, as their names write it."""
    if keep_days is None:
        return ""
    return (datetime.now(timezone.utc) - timedelta(days=keep_days)).strftime("%Y%m%dT%H%M%S%fZ")
