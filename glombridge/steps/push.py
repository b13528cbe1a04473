"""``push``: a detection run into the project, and ``withdraw``: out of it again."""

from __future__ import annotations

from pathlib import Path

from ..errors import GlombridgeError, UsageError
from ..ledger.schema import DEFAULT_LAYER
from ..objects import ObjectKind
from ..progress import SILENT, Reporter
from ..slides.reader import fingerprint
from ..sync.guards import Guards
from ..sync.push import Proposals, PushResult
from ..sync.push import push as push_proposals
from ..sync.withdraw import WithdrawResult
from ..sync.withdraw import withdraw as withdraw_proposals
from .detect_proposals import load_proposals
from .project import Project


def push(
    project: Project,
    detections: Path | None = None,
    *,
    layer: str = DEFAULT_LAYER,
    objects: ObjectKind | None = None,
    min_confidence: float | None = None,
    include_test: bool = False,
    skip_bad: bool = False,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> PushResult:
    """Put a detection run, the newest by default, into the project as proposals.

    Args:
        project: the project.
        detections: folder of the run, or the id of one in the project.
        layer: whose proposals the run replaces; others are left alone.
        objects: annotations or detections, instead of what the settings say.
        min_confidence: instead of the run's; boxes are stitched anew at it.
        include_test: into images of test patients too, which are then no longer marked blind to the
            model.
        skip_bad: leave out images whose detections cannot be pushed.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        UsageError: the layer has no name.
        InputError: no detections, or detections of other images, classes, frames or slides.
        ProtectedError: QuPath runs, somebody else writes, or an image changed meanwhile.
        PartlyDoneError: some images could not be written.
    """
    if not layer.strip():
        msg = "a layer needs a name: --layer NAME"
        raise UsageError(msg)
    proposals, run, model = load_proposals(project, detections, min_confidence=min_confidence)
    bad = _other_slides(project, proposals)
    if not include_test:
        for image, problem in _test_images(project, proposals).items():
            bad.setdefault(image, []).append(problem)
    return push_proposals(
        project.store,
        project.workspace,
        project.settings,
        proposals,
        run=run,
        model=model,
        layer=layer,
        objects=objects,
        bad=bad,
        skip_bad=skip_bad,
        guards=guards,
        reporter=reporter,
    )


def withdraw(
    project: Project,
    *,
    run: str | None = None,
    layer: str | None = None,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> WithdrawResult:
    """Take a run's or a layer's proposals out; see :func:`glombridge.sync.withdraw.withdraw`.

    Args:
        project: the project.
        run: id of a detection run.
        layer: name of a layer.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        UsageError: neither a run nor a layer is given.
        InputError: nothing was ever pushed by that run into that layer.
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    return withdraw_proposals(
        project.store,
        project.workspace,
        project.settings,
        run=run,
        layer=layer,
        guards=guards,
        reporter=reporter,
    )


def _other_slides(project: Project, proposals: list[Proposals]) -> dict[int, list[str]]:
    """Images whose slide file is not the one that was searched.

    Where the slide is missing, the image's name has to do; a name alone may have been changed.
    """
    bad: dict[int, list[str]] = {}
    entries = {e.id: e for e in project.store.images()}
    for wanted in proposals:
        entry = entries.get(wanted.entry_id)
        if entry is None or not wanted.slide:
            continue
        path = project.store.slide_path(entry, project.slides)
        if path is None:
            if wanted.name and wanted.name != entry.name:
                problem = (
                    f"was called {wanted.name!r} when it was searched, and its slide is not there to "
                    "tell whether it is the same. Say where the slides are with --slides OLD=NEW"
                )
                bad[entry.id] = [problem]
            continue
        try:
            now = fingerprint(path)
        except GlombridgeError as error:
            bad[entry.id] = [f"its slide cannot be read: {error}"]
            continue
        if now != wanted.slide:
            bad[entry.id] = [f"{path} is not the slide file that was searched. Detect again"]
    return bad


def _test_images(project: Project, proposals: list[Proposals]) -> dict[int, str]:
    """Images of test patients: these must be marked blind to the model, or testing is worth nothing."""
    entries = {e.id: e for e in project.store.images()}
    wanted = [entries[p.entry_id] for p in proposals if p.entry_id in entries]
    problem = (
        "is of a test patient and gets no proposals, so that it is marked blind to the model. Give "
        "--include-test if its testing days are over"
    )
    return dict.fromkeys(project.test_images(wanted), problem)
