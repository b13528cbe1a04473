"""Showing a detector's errors in QuPath: signs of the classes ``Missed`` and ``False``."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.faults import Fault, FaultKind
from ..ledger import Workspace
from ..objects import Color, PathClass, SlideObject
from ..progress import SILENT, Reporter
from ..provenance import CONFIDENCE, ERROR, ERROR_STATE, MODEL, RUN
from ..qupath.store import ProjectStore
from ..settings import Settings
from .guards import Guards
from .signs import SignKind, SignsImage, show_signs, sign

MISSED = PathClass(("Missed",), Color(230, 150, 0))
FALSE = PathClass(("False",), Color(200, 40, 30))

ERRORS = SignKind(ERROR_STATE, (FALSE, MISSED), "push-errors")


@dataclass(frozen=True)
class PushErrorsResult:
    """What was shown, or would be.

    Attributes:
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
        left_out: errors on test slides, which were not asked for.
    """

    run: str
    images: tuple[SignsImage, ...]
    dry_run: bool
    write: str | None = None
    left_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "dry_run": self.dry_run,
            "write": self.write,
            "left_out_on_test_slides": self.left_out,
            "images": [i.as_dict() for i in self.images],
        }


def push_errors(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    faults: Sequence[Fault],
    *,
    run: str,
    model: str,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> PushErrorsResult:
    """Show errors in QuPath, in place of those shown before; see :func:`.signs.show_signs`.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        faults: what to show.
        run: id of the training run, kept on each object.
        model: short hash of the weights, kept on each object.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    by_image: dict[int, list[Fault]] = {}
    for fault in faults:
        by_image.setdefault(fault.image, []).append(fault)
    images, write = show_signs(
        store,
        workspace,
        settings,
        {image: as_objects(found, run=run, model=model) for image, found in by_image.items()},
        ERRORS,
        about=run,
        guards=guards,
        reporter=reporter,
    )
    return PushErrorsResult(run, images, guards.dry_run, write)


def as_objects(faults: Iterable[Fault], *, run: str, model: str) -> dict[uuid.UUID, SlideObject]:
    """The objects that show errors, by id."""
    objects = {}
    for fault in faults:
        made = sign(
            fault.box,
            MISSED if fault.kind is FaultKind.MISSED else FALSE,
            state=ERROR_STATE,
            measurements={} if fault.score is None else {CONFIDENCE: round(fault.score, 6)},
            metadata={ERROR: fault.kind.value, RUN: run, MODEL: model},
        )
        objects[made.id] = made
    return objects
