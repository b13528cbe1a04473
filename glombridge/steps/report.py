"""``report``: one HTML file about one evaluated training run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import parse_json
from ..errors import DamagedFileError, GlombridgeError, InputError, ProtectedError
from ..ledger import open_codes
from ..progress import SILENT, Reporter
from ..qupath.saving import atomic_write
from ..report.page import FAULTS, Content, Model, Picture, render
from ..report.thumbnails import thumbnail
from .deidentify import SUFFIX, coded_content, unread_notes
from .evaluate import DOCUMENT, FORMAT
from .evaluate_rounds import DOCUMENT as ROUNDS
from .project import Project

MOST_PICTURES = 60
"""Of each kind of error: enough to see what goes wrong, in a file that can still be mailed."""

MARK = b'<meta name="generator" content="glombridge">'
"""In the head of each report, which a later one may replace."""

_EARLIER_MARK = (
    b'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:'
)
"""In reports from before they were marked."""

FEW_PATIENTS = 10
"""Below this many clusters the percentile bootstrap is known to cover too little."""


@dataclass(frozen=True)
class ReportResult:
    """A report that was written.

    Attributes:
        notes: what a reader should know, one sentence each.
    """

    run: str
    file: Path
    pictures: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "file": str(self.file),
            "pictures": self.pictures,
            "notes": list(self.notes),
        }


def report(
    project: Project,
    *,
    run: str | None = None,
    out: Path | None = None,
    deidentify: bool = False,
    reporter: Reporter = SILENT,
) -> ReportResult:
    """Write the report of an evaluated run, the newest by default.

    Args:
        project: the project.
        run: id of a training run that was evaluated.
        out: the file; ``glombridge/reports/RUN.html`` by default.
        deidentify: codes instead of the names of images and patients; ``-deidentified`` is
            appended to the default name.
        reporter: for progress.

    Raises:
        InputError: no such run, or it was not evaluated.
        ProtectedError: ``out`` is there already and is no report.
        MachineError: the file cannot be written.
    """
    if out is not None and out.exists() and not _is_report(out):
        msg = (
            f"{out} is there already and is no report that glombridge wrote; it is left as it is. "
            "Give another file with --out."
        )
        raise ProtectedError(msg)
    folder = evaluated_run(project, run)
    document = read_evaluation(folder)
    numbers = _to_show(document["faults"])
    pictures, unread = _pictures(project, document["faults"], numbers, reporter)
    notes = unread_notes(unread)
    if not document["results"]["test"]["slides"]:
        notes.append(
            "There is no searched slide of a test patient: nothing is known about new slides."
        )
    content = Content(
        project.store.folder.name,
        document,
        _read_json(folder / "manifest.json"),
        _training_rows(folder / "results.csv"),
        _models(project),
        pictures,
        _rounds(project),
        notes,
    )
    if deidentify:
        with open_codes(project.workspace) as codes:
            content = coded_content(content, unread, codes)
    suffix = SUFFIX if deidentify else ""
    file = out or project.workspace.reports / f"{folder.name}{suffix}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, render(content).encode())
    shown = sum(p.uri is not None for p in pictures)
    return ReportResult(folder.name, file, shown, tuple(notes))


def _is_report(path: Path) -> bool:
    """Whether it is one, of this or an earlier version, or an empty file that waits for one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1024)
    return not head or MARK in head or _EARLIER_MARK in head


def evaluated_run(project: Project, run: str | None) -> Path:
    """Folder of an evaluated training run, the newest by default.

    Raises:
        InputError: no such run, or it was not evaluated.
    """
    runs = project.workspace.finished_runs(project.workspace.runs, "train", containing=DOCUMENT)
    if run is None:
        if not runs:
            msg = (
                f"no run of {project.workspace.project_folder} has been evaluated. "
                "Run 'glombridge evaluate' first."
            )
            raise InputError(msg)
        return runs[-1]
    for folder in runs:
        if folder.name == run:
            return folder
    known = ", ".join(p.name for p in runs) or "none"
    msg = f"{run!r} is no evaluated run of this project (evaluated: {known})"
    raise InputError(msg)


def read_evaluation(folder: Path) -> dict[str, Any]:
    """The evaluation of a run.

    Raises:
        DamagedFileError: it is of an older glombridge, or no evaluation.
    """
    document = _read_json(folder / DOCUMENT)
    if document.get("format") != FORMAT:
        msg = f"{folder / DOCUMENT} was written by another glombridge. Run 'glombridge evaluate' again."
        raise DamagedFileError(msg)
    return document


def _to_show(faults: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of the faults to picture: of each kind, those of test slides first."""
    chosen: list[int] = []
    for kind in FAULTS:
        of_kind = [i for i, f in enumerate(faults) if f["kind"] == kind]
        of_kind.sort(key=lambda i: (faults[i]["part"] != "test", -(faults[i]["score"] or 0), i))
        chosen += of_kind[:MOST_PICTURES]
    return chosen


def _pictures(
    project: Project,
    faults: Sequence[Mapping[str, Any]],
    numbers: Sequence[int],
    reporter: Reporter,
) -> tuple[list[Picture], dict[str, str]]:
    """Thumbnails in the order asked for, and why slides gave none."""
    entries = {e.id: e for e in project.store.images()}
    made: dict[int, Picture] = {}
    unread: dict[str, str] = {}
    images = sorted({faults[i]["image"] for i in numbers})
    with reporter.task("cut thumbnails", len(images)) as task:
        for image in images:
            of_image = [i for i in numbers if faults[i]["image"] == image]
            name = faults[of_image[0]]["name"]
            try:
                if image not in entries:
                    msg = "the image is no longer in the project"
                    raise InputError(msg)
                with project.open_slide(entries[image]) as slide:
                    for i in of_image:
                        made[i] = Picture(i, faults[i]["kind"], _drawn(slide, faults[i]))
            except GlombridgeError as error:
                unread[name] = str(error)
            task.advance(note=name)
    return [made.get(i, Picture(i, faults[i]["kind"], None)) for i in numbers], unread


def _drawn(slide: Any, fault: Mapping[str, Any]) -> str:
    is_missed = fault["kind"] == "missed"
    truth = fault["box"] if is_missed else fault["truth_box"]
    return thumbnail(slide, fault["box"], found=() if is_missed else fault["box"], truth=truth)


def _models(project: Project) -> list[Model]:
    """Every evaluated run of the project."""
    models = []
    for folder in project.workspace.finished_runs(
        project.workspace.runs, "train", containing=DOCUMENT
    ):
        try:
            document = read_evaluation(folder)
        except DamagedFileError:
            continue  # of an older program; the table shows what can be compared
        options = _read_json(folder / "manifest.json").get("options", {})
        name = Path(str(options.get("model", "model"))).stem
        models.append(Model(folder.name, name, document))
    return models


def _rounds(project: Project) -> dict[str, Any] | None:
    path = project.workspace.reports / ROUNDS
    return _read_json(path) if path.is_file() else None


def _training_rows(path: Path) -> list[dict[str, float]]:
    """Ultralytics' table, an epoch a row; what is no number in it is left out."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = []
        for row in csv.DictReader(file):
            numbers = {}
            for key, text in row.items():
                try:
                    numbers[key.strip()] = float(text)
                except (TypeError, ValueError):
                    continue
            rows.append(numbers)
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}. Run 'glombridge evaluate' again."
        raise DamagedFileError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path} is not what 'glombridge evaluate' writes. Run it again."
        raise DamagedFileError(msg)
    return document
