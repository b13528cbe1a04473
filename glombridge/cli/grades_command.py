"""``grades``: its options, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, TARGET, common, patients_from

if TYPE_CHECKING:
    from ..review.grades import Figures, ShareFigure
    from ..schemes import Scheme
    from ..steps.grades_result import CaseGrades, GradesResult

OPEN = "?"
"""Behind a figure that may change when the glomeruli not graded yet are."""


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--out", type=TARGET, help="Folder for the CSV tables and grades.json.")
@click.option("--scheme", help="lupus, oxford, three-grade or FILE.toml, instead of the settings'.")
@click.option(
    "--counting",
    multiple=True,
    metavar="IMAGE",
    help="The one slide that counts for its patient; may be given again.",
)
@click.option(
    "--distinct",
    multiple=True,
    metavar="IMAGE",
    help="A slide of other tissue than the patient's other distinct ones; may be given again.",
)
@click.option(
    "--case-items",
    type=PROJECT,
    metavar="CSV",
    help="What is entered per case; default: glombridge/cases.csv of the project.",
)
@click.option(
    "--case-template",
    type=TARGET,
    metavar="CSV",
    help="Only write such a table, to be filled in.",
)
@patients_from
@common
def grades(
    project: Path,
    out: Path | None,
    scheme: str | None,
    counting: tuple[str, ...],
    distinct: tuple[str, ...],
    case_items: Path | None,
    case_template: Path | None,
    patient_from: Any,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Figures per glomerulus, slide and case from the grades in a project. Research use only."""
    from ..steps.grades import grades as run
    from ..steps.grades import write_case_items_template
    from ..steps.project import Project
    from . import console

    opened = Project.open(project)
    if patient_from is not None:
        opened = opened.with_patients_from(patient_from)
    if case_template is not None:
        n = write_case_items_template(opened, case_template, scheme=scheme)
        if as_json:
            console.print_json({"template": str(case_template), "patients": n})
        else:
            console.line(f"written, to be filled in: {case_template} ({n} patients)")
        return
    result = run(
        opened,
        scheme=scheme,
        counting=counting,
        distinct=distinct,
        case_items=case_items,
        out=out,
        reporter=reporter,
    )
    if as_json:
        console.print_json({**result.as_dict(), "files": [str(file) for file in result.files]})
    else:
        show_grades(result)


def show_grades(result: GradesResult) -> None:
    """One row per case; what has no figure, and why; then what a reader must know."""
    from ..review.grades import RESEARCH_USE
    from . import console

    scheme = result.scheme
    shares, scores, items = _shown(scheme)
    indices = [index.name for index in scheme.indices]
    rows = [_row(case, scheme) for case in result.cases]
    console.table(
        f"{scheme.title} ({scheme.stamp})",
        ["case", "glomeruli", "graded", "adequate", *shares, *scores, *items, *indices],
        rows,
    )
    if any(str(cell).endswith(OPEN) for row in rows for cell in row[4:]):
        console.line(
            f"{OPEN} may still change: not every glomerulus that it is about has been graded"
        )
    _list([f"{c.patient}: no figures: {c.choice.why}" for c in result.cases if c.figures is None])
    _list(
        [
            f"{case.patient}: no {index.name}: missing {', '.join(index.missing)}"
            for case in result.cases
            if case.figures is not None
            for index in case.figures.indices
            if index.missing
        ]
    )
    _list([f"{c.patient}: {c.choice.why}" for c in result.cases if c.figures and len(c.slides) > 1])
    names = {slide.entry.id: slide.entry.name for slide in result.slides}
    _list([f"look at {names[c.image]}, object {c.object}: {c.text}" for c in result.contradictions])
    for note in result.notes:
        console.line(f"note: {note}")
    for file in result.files:
        console.line(f"written: {file}")
    console.line(RESEARCH_USE)


def _shown(scheme: Scheme) -> tuple[list[str], list[str], list[str]]:
    """What is not a part of something else in the table; the parts stand in the files."""
    parts = {part.item for index in scheme.indices for part in index.parts}
    scored = {score.share for score in scheme.scores}
    return (
        [share.name for share in scheme.shares if share.name not in scored],
        [score.name for score in scheme.scores if score.name not in parts],
        [item.name for item in scheme.case_items if item.name not in parts],
    )


def _row(case: CaseGrades, scheme: Scheme) -> list[Any]:
    shares, scores, items = _shown(scheme)
    figures = case.figures
    if figures is None:
        empty = 3 + len(shares) + len(scores) + len(items) + len(scheme.indices)
        return [case.patient, *[None] * empty]
    levels = {item.name: item.levels for item in scheme.case_items}
    least = scheme.adequacy.min_glomeruli if scheme.adequacy else None
    adequate = {True: "yes", False: f"no (<{least})", None: None}[case.is_adequate]
    entered = [levels[n][case.items[n]] if n in case.items else None for n in items]
    return [
        case.patient,
        figures.glomeruli,
        figures.graded,
        adequate,
        *(_share(share) for share in figures.shares if share.name in shares),
        *_scores(figures, scores),
        *entered,
        *(
            None if i.value is None else f"{i.value}/{i.max}{'' if i.is_final else OPEN}"
            for i in figures.indices
        ),
    ]


def _scores(figures: Figures, names: list[str]) -> list[str | None]:
    return [
        None if score.label is None else score.label + ("" if score.is_final else OPEN)
        for score in figures.scores
        if score.name in names
    ]


def _share(share: ShareFigure) -> str | None:
    if share.percent is None:
        return None
    return f"{share.n}/{share.of} {share.percent:.0f} %{OPEN if share.ungraded else ''}"


def _list(lines: list[str]) -> None:
    from . import console

    for text in lines[: console.MOST_LINES]:
        console.line(text)
    if len(lines) > console.MOST_LINES:
        console.line(f"... and {len(lines) - console.MOST_LINES} more (--json)")
