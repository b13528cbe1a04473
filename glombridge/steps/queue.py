"""``queue``: what to review next, and why, written where QuPath's own tables sort by it."""

from __future__ import annotations

from ..documents import expecting, parse_json
from ..progress import SILENT, Reporter
from ..review.queue import strategy_of
from ..review.queue_writing import QueueResult, write_queue
from ..sync.guards import Guards
from .project import Project


def queue(
    project: Project,
    *,
    strategy: str = "uncertainty",
    seed: int | None = None,
    clear: bool = False,
    include_test: bool = False,
    skip_bad: bool = False,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> QueueResult:
    """Rank the untouched proposals of all images; see :func:`glombridge.review.queue_writing.write_queue`.

    Args:
        project: the project.
        strategy: ``uncertainty``, ``disagreement`` or ``random``.
        seed: of the random order; that of the settings by default.
        clear: take every rank and reason away instead.
        include_test: rank those of test patients too.
        skip_bad: leave out images of test patients, instead of refusing.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: proposals on images of test patients, or for disagreement only one layer.
        ProtectedError: QuPath runs, somebody else writes, or an image changed meanwhile.
        PartlyDoneError: some images could not be read or written.
    """
    seed = project.settings.seed if seed is None else seed
    return write_queue(
        project.store,
        project.workspace,
        project.settings,
        strategy_of(strategy, seed=seed),
        seed=seed,
        confidences=_confidences(project),
        blind=set() if include_test else project.test_images(project.store.images()),
        skip_bad=skip_bad,
        clear=clear,
        guards=guards,
        reporter=reporter,
    )


def _confidences(project: Project) -> dict[str, float]:
    """The confidence that each detection run of the project works at, where it is on record."""
    runs = project.workspace.finished_runs(project.workspace.detections, "detect")
    found: dict[str, float] = {}
    for run in runs:
        file = run / "manifest.json"
        with expecting(file, "the manifest of a detection run", "Remove the run, or detect again."):
            manifest = parse_json(file.read_text(encoding="utf-8"))
            if "confidence" in manifest:
                found[run.name] = float(manifest["confidence"])
    return found
