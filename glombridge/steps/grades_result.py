"""What ``grades`` found in a project, as JSON values and as tables in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ledger.file_set import write_file_set
from ..ledger.manifest import json_text
from ..qupath.store import ImageEntry
from ..review.counting import Choice, Counting
from ..review.glomerulus import Contradiction, Glomerulus
from ..review.grade_tables import (
    Cell,
    csv_text,
    figure_cells,
    figure_columns,
    glomerulus_columns,
    glomerulus_row,
)
from ..review.grades import RESEARCH_USE, Figures
from ..schemes import Scheme
from ..sync.roles import SearchedBy


@dataclass(frozen=True)
class SlideGrades:
    """The grades of one image.

    Attributes:
        patient: ``None`` = nothing says who it is.
        pending: proposals that nobody has judged; some may be glomeruli too.
        searched: why the image counts as searched for glomeruli.
        counted: whether it is part of its case's figures.
    """

    entry: ImageEntry
    patient: str | None
    glomeruli: tuple[Glomerulus, ...]
    figures: Figures
    pending: int
    searched: SearchedBy
    counting: Counting
    counted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "image": self.entry.name,
            "image_id": self.entry.id,
            "patient": self.patient,
            "counting": self.counting.value,
            "counted": self.counted,
            "pending_proposals": self.pending,
            "searched_by": self.searched.value,
            **self.figures.as_dict(),
        }


@dataclass(frozen=True)
class CaseGrades:
    """The grades of one patient.

    Attributes:
        choice: which slides count and why, or why none does.
        figures: of these slides, ``None`` = there are none.
        items: as entered for the case.
        missing_items: not entered.
        is_adequate: whether there are as many glomeruli as the scheme asks for; ``None`` = it asks
            for none, or there are no figures.
        pending: proposals nobody has judged that may change the figures: on the counted slides if
            these are declared, else on all.
    """

    patient: str
    slides: tuple[str, ...]
    choice: Choice
    figures: Figures | None
    items: dict[str, int]
    missing_items: tuple[str, ...]
    is_adequate: bool | None
    pending: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "patient": self.patient,
            "slides": list(self.slides),
            "counted_images": list(self.choice.images),
            "why": self.choice.why,
            "adequate": self.is_adequate,
            "pending_proposals": self.pending,
            "items": self.items,
            "missing_items": list(self.missing_items),
            "figures": self.figures.as_dict() if self.figures else None,
        }


@dataclass(frozen=True)
class GradesResult:
    """Everything that was graded in a project.

    Attributes:
        slides: in the project's order.
        cases: in order of the patient.
        contradictions: objects that say two things.
        notes: what a reader of the figures must know.
        files: written.
    """

    scheme: Scheme
    slides: tuple[SlideGrades, ...]
    cases: tuple[CaseGrades, ...]
    contradictions: tuple[Contradiction, ...]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()

    @property
    def glomeruli(self) -> int:
        """Over all slides; the same one may be on several."""
        return sum(s.figures.glomeruli for s in self.slides)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and ``grades.json``."""
        scheme, adequacy = self.scheme, self.scheme.adequacy
        return {
            "use": RESEARCH_USE,
            "scheme": {
                "name": scheme.name,
                "version": scheme.version,
                "title": scheme.title,
                "sources": list(scheme.sources),
                "min_glomeruli": adequacy.min_glomeruli if adequacy else None,
                "cut_offs": {score.name: score.source for score in scheme.scores},
            },
            "cases": [case.as_dict() for case in self.cases],
            "slides": [slide.as_dict() for slide in self.slides],
            "glomeruli": [row for slide in self.slides for row in _glomerulus_rows(slide, scheme)],
            "contradictions": [
                {"image_id": c.image, "id": str(c.object), "text": c.text}
                for c in self.contradictions
            ],
            "notes": list(self.notes),
        }


def _glomerulus_rows(slide: SlideGrades, scheme: Scheme) -> list[dict[str, Cell]]:
    return [
        glomerulus_row(g, scheme, patient=slide.patient, image_name=slide.entry.name)
        for g in slide.glomeruli
    ]


def write_tables(result: GradesResult, folder: Path) -> tuple[Path, ...]:
    """The tables and the JSON, all of them of this call.

    Args:
        result: of :func:`glombridge.steps.grades.grades`.
        folder: made where it is not there.

    Raises:
        ProtectedError: another process is writing there.
        MachineError: disk full, no permission; the files are as they were.
    """
    scheme = result.scheme
    slide_rows: list[dict[str, Cell]] = [
        {
            "patient": s.patient,
            "image": s.entry.name,
            "image_id": s.entry.id,
            "counting": s.counting.value,
            "counted": "yes" if s.counted else "no",
            "pending_proposals": s.pending,
            "searched_by": s.searched.value,
            **figure_cells(s.figures),
        }
        for s in result.slides
    ]
    case_rows: list[dict[str, Cell]] = [
        {
            "patient": c.patient,
            "slides": len(c.slides),
            "slides_counted": len(c.choice.images),
            "why": c.choice.why,
            "adequate": {True: "yes", False: "no", None: None}[c.is_adequate],
            "pending_proposals": c.pending,
            **c.items,
            **figure_cells(c.figures),
        }
        for c in result.cases
    ]
    slide_columns = ["patient", "image", "image_id", "counting", "counted"]
    slide_columns += ["pending_proposals", "searched_by", *figure_columns(scheme, of_case=False)]
    case_columns = ["patient", "slides", "slides_counted", "why", "adequate", "pending_proposals"]
    case_columns += figure_columns(scheme, of_case=True)
    glomerulus_rows = [row for slide in result.slides for row in _glomerulus_rows(slide, scheme)]
    texts = {
        "grades_cases.csv": csv_text(case_rows, case_columns, scheme),
        "grades_slides.csv": csv_text(slide_rows, slide_columns, scheme),
        "grades_glomeruli.csv": csv_text(glomerulus_rows, glomerulus_columns(scheme), scheme),
        "grades.json": json_text(result.as_dict()),
    }
    return write_file_set(folder, texts)
