"""``push --errors``: what an evaluation found wrong, as objects in the QuPath project."""

from __future__ import annotations

from dataclasses import replace

from ..evaluation.faults import Fault
from ..progress import SILENT, Reporter
from ..sync.guards import Guards
from ..sync.push_errors import PushErrorsResult
from ..sync.push_errors import push_errors as push_faults
from .project import Project
from .report import evaluated_run, read_evaluation


def push_errors(
    project: Project,
    *,
    run: str | None = None,
    include_test: bool = False,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> PushErrorsResult:
    """Show the errors of an evaluated run, the newest by default, in QuPath.

    Args:
        project: the project.
        run: id of the training run.
        include_test: on images of test patients too, which are then no longer marked blind to the
            model.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: no such run, or it was not evaluated.
        ProtectedError: QuPath runs, somebody else writes, or an image changed meanwhile.
        PartlyDoneError: some images could not be written.
    """
    folder = evaluated_run(project, run)
    document = read_evaluation(folder)
    faults = [Fault.from_dict(told) for told in document["faults"]]
    shown = [f for f in faults if include_test or f.part != "test"]
    result = push_faults(
        project.store,
        project.workspace,
        project.settings,
        shown,
        run=folder.name,
        model=str(document["weights_sha256"])[:12],
        guards=guards,
        reporter=reporter,
    )
    return replace(result, left_out=len(faults) - len(shown))
