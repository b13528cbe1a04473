"""``grades``: figures per glomerulus, slide and case from what readers wrote into the project."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, ProtectedError
from ..filenames import shown_line
from ..progress import SILENT, Reporter
from ..qupath.saving import atomic_write
from ..qupath.store import ImageEntry
from ..review.case_items import CaseItems, case_items_template, read_case_items
from ..review.counting import Counting, Slide, choose, declared
from ..review.glomerulus import (
    UNKNOWN_READER,
    Contradiction,
    Glomerulus,
    contradiction_of,
    read_glomerulus,
)
from ..review.grades import figures_of
from ..schemes import Scheme
from ..sync.look import look_at
from ..sync.roles import SearchedBy, assign_roles, searched_by
from ..sync.writing import each_image, read_seen
from .grades_result import CaseGrades, GradesResult, SlideGrades, write_tables
from .mark import images_named
from .project import Project

CASE_ITEMS_FILE = "cases.csv"
"""In the project's glombridge folder; read where it is there."""

MOST_NAMED = 20
"""Objects named in one error message."""


def grades(
    project: Project,
    *,
    scheme: str | None = None,
    counting: Sequence[str] = (),
    distinct: Sequence[str] = (),
    case_items: Path | None = None,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> GradesResult:
    """Roll up what readers wrote into a project; writes nothing into it and needs no ledger.

    Where two readers graded one glomerulus in one project, the last decision is what stands there.

    Args:
        project: the project.
        scheme: instead of the settings'; a file is relative to the working directory.
        counting: names of images that each count for their patient, beside what is declared.
        distinct: the same, of images of different tissue.
        case_items: table of what is entered per case; by default ``glombridge/cases.csv``, if there.
        out: folder for the tables; ``None`` = none are written.
        reporter: progress.

    Raises:
        InputError: no scheme, a grade outside its range (all are named), a case item that cannot be,
            or an image that is not in the project.
        PartlyDoneError: an image could not be read; there are no figures then.
        ProtectedError: another process is writing tables there.
        MachineError: the tables cannot be written; they are as they were.
    """
    if scheme is not None:
        settings = project.settings.with_scheme(scheme, Path.cwd())
        project = replace(project, settings=settings)
    chosen = _scheme_of(project)
    items, notes = _case_items(project, case_items, chosen)
    declarations = _declarations(project, counting, distinct)
    slides, contradictions = _read(project, chosen, declarations, reporter)
    notes += _notes(slides, chosen)
    slides, cases, unknown = _cases(slides, chosen, items)
    notes += unknown + _notes_on_searching(slides)
    strangers = sorted(set(items.values) - {case.patient for case in cases})
    if strangers:
        notes.append(f"the case items name patients who have no image here: {', '.join(strangers)}")
    result = GradesResult(chosen, slides, cases, contradictions, tuple(notes))
    return result if out is None else replace(result, files=write_tables(result, out))


def write_case_items_template(project: Project, path: Path, *, scheme: str | None = None) -> int:
    """Write a table of case items to be filled in, a row per patient.

    Args:
        project: the project.
        path: of the table, a CSV file that must not be there yet.
        scheme: name or file; by default that of the settings.

    Returns:
        The number of patients.

    Raises:
        InputError: no scheme, one without case items, or an image whose patient is not known.
        ProtectedError: there is a file already.
    """
    settings = (
        project.settings if scheme is None else project.settings.with_scheme(scheme, Path.cwd())
    )
    chosen = _scheme_of(replace(project, settings=settings))
    if not chosen.case_items:
        msg = f"the scheme {chosen.stamp!r} has nothing that is entered per case"
        raise InputError(msg)
    patients = {project.patient(entry) for entry in project.store.images()}
    if path.exists():
        msg = f"{path} is there already and is not overwritten"
        raise ProtectedError(msg)
    atomic_write(path, case_items_template(chosen, patients).encode())
    return len(patients)


def _scheme_of(project: Project) -> Scheme:
    chosen = project.settings.scheme
    if chosen is None:
        msg = (
            "no grading scheme: name one with --scheme, or 'scheme' in [review] of "
            f"{project.workspace.settings_file} (lupus, oxford, three-grade, or a file of your own)"
        )
        raise InputError(msg)
    return chosen


def _case_items(
    project: Project, given: Path | None, scheme: Scheme
) -> tuple[CaseItems, list[str]]:
    if given is not None:
        return read_case_items(given, scheme), []
    file = project.workspace.folder / CASE_ITEMS_FILE
    if file.is_file():
        return read_case_items(file, scheme), []
    if not scheme.case_items:
        return CaseItems(), []
    names = ", ".join(item.name for item in scheme.case_items)
    return CaseItems(), [
        f"nothing was entered per case ({names}): --case-template {file} writes a table to fill in"
    ]


def _declarations(
    project: Project, counting: Sequence[str], distinct: Sequence[str]
) -> dict[int, Counting]:
    """What is declared of each image: by its metadata and the settings, or for its patient by the call."""
    entries = project.store.images()
    review = project.settings.review
    said = {entry.id: declared(entry) for entry in entries}
    try:
        said |= _named(project, review.counting, review.distinct)
    except InputError as error:
        msg = f"{project.workspace.settings_file}: counting or distinct in [review]: {error}"
        raise InputError(msg) from error
    asked = _named(project, counting, distinct)
    patients = {_patient(project, entry) for entry in entries if entry.id in asked} - {None}
    for entry in entries:
        # The call overrides what is declared of a patient, not only of the images it names.
        if entry.id in asked or _patient(project, entry) in patients:
            said[entry.id] = asked.get(entry.id, Counting.NOTHING)
    return said


def _named(
    project: Project, counting: Sequence[str], distinct: Sequence[str]
) -> dict[int, Counting]:
    one = {e.id: Counting.COUNTING for e in images_named(project.store, counting)}
    other = {e.id: Counting.DISTINCT for e in images_named(project.store, distinct)}
    both = sorted(e.name for e in project.store.images() if e.id in one and e.id in other)
    if both:
        msg = (
            f"{', '.join(map(shown_line, both))}: an image is the one that counts or one of distinct "
            "tissue, not both"
        )
        raise InputError(msg)
    return one | other


def _patient(project: Project, entry: ImageEntry) -> str | None:
    try:
        return project.patient(entry)
    except InputError:
        return None


def _read(
    project: Project, scheme: Scheme, declarations: dict[int, Counting], reporter: Reporter
) -> tuple[tuple[SlideGrades, ...], tuple[Contradiction, ...]]:
    contradictions: list[Contradiction] = []
    out_of_range: list[str] = []
    settings = project.settings
    with project.workspace.ledger_view() as ledger:

        def read(entry: ImageEntry) -> SlideGrades:
            objects = read_seen(project.store, ledger, entry.id).objects
            roles = assign_roles(objects, settings)
            seen = look_at(ledger.base(entry.id), {}, objects, settings).seen
            found: list[Glomerulus] = []
            for truth in roles.truth:
                known = seen.get(truth.object.id)
                state = "added" if known is None else known.state.value
                try:
                    reading = read_glomerulus(truth.object, entry.id, scheme, state=state)
                except InputError as error:
                    out_of_range.append(f"image {entry.name!r} (entry {entry.id}): {error}")
                    continue
                found.append(reading.glomerulus)
                contradictions.extend(reading.contradictions)
            for objects_of, what in (
                (roles.rejected, "rejected"),
                (roles.pending, "still a proposal"),
            ):
                said = (contradiction_of(obj, entry.id, what) for obj in objects_of)
                contradictions.extend(c for c in said if c is not None)
            return SlideGrades(
                entry,
                _patient(project, entry),
                tuple(found),
                figures_of(found, scheme),
                len(roles.pending),
                searched_by(entry, roles, settings),
                declarations[entry.id],
            )

        slides = each_image(project.store.images(), read, title="read grades", reporter=reporter)
    slides.raise_if_failed("read")
    if out_of_range:
        shown = out_of_range[:MOST_NAMED]
        more = len(out_of_range) - len(shown)
        rest = [f"and {more} more"] if more else []
        msg = "grades that cannot be:\n" + "\n".join(
            f"  {shown_line(line)}" for line in shown + rest
        )
        raise InputError(msg)
    return tuple(slides.done), tuple(contradictions)


def _notes(slides: Sequence[SlideGrades], scheme: Scheme) -> list[str]:
    every = [g for slide in slides for g in slide.glomeruli]
    notes = []
    nobody = sum(g.reader == UNKNOWN_READER for g in every if g.n_known)
    if nobody:
        notes.append(f"of {nobody} graded glomeruli nothing says who graded them")
    others = Counter(g.graded for g in every if g.graded and g.graded != scheme.stamp)
    notes += [
        f"{n} glomeruli were graded with scheme {stamp!r}, and {scheme.stamp!r} is used: lesions that "
        "only the other has are left out, those that only this one has count as not graded"
        for stamp, n in sorted(others.items())
    ]
    pending = sum(slide.pending for slide in slides)
    if pending:
        notes.append(f"{pending} proposals have not been judged; they are in no figure")
    return notes


def _notes_on_searching(slides: Sequence[SlideGrades]) -> list[str]:
    """Shares of glomeruli mean little where only some were marked."""
    counted = [slide for slide in slides if slide.counted]
    assumed = [s for s in counted if s.searched is SearchedBy.ASSUMED]
    nowhere = [s.entry.name for s in counted if s.searched is SearchedBy.NOWHERE]
    notes = []
    if assumed:
        notes.append(
            f"assumed of {len(assumed)} counted slides, because they have annotations: every glomerulus "
            "has been marked ('glombridge mark' says so of a slide)"
        )
    if nowhere:
        notes.append(
            f"nothing says that every glomerulus has been marked on {', '.join(nowhere[:MOST_NAMED])}: "
            "shares may be those of a part"
        )
    return notes


def _cases(
    slides: Sequence[SlideGrades], scheme: Scheme, items: CaseItems
) -> tuple[tuple[SlideGrades, ...], tuple[CaseGrades, ...], list[str]]:
    by_patient: defaultdict[str, list[SlideGrades]] = defaultdict(list)
    unknown = []
    for slide in slides:
        if slide.patient is None:
            unknown.append(slide.entry.name)
        else:
            by_patient[slide.patient].append(slide)
    cases = tuple(
        _case(patient, by_patient[patient], scheme, items) for patient in sorted(by_patient)
    )
    counted = {image for case in cases for image in case.choice.images}
    notes = []
    if unknown:
        notes.append(
            f"the patient of {len(unknown)} images is not known ({', '.join(unknown[:MOST_NAMED])}): "
            "they are part of no case. Say in [patients] of the settings where it comes from."
        )
    return tuple(replace(s, counted=s.entry.id in counted) for s in slides), cases, notes


def _case(
    patient: str, slides: Sequence[SlideGrades], scheme: Scheme, items: CaseItems
) -> CaseGrades:
    choice = choose(
        [Slide(s.entry.id, s.entry.name, s.figures.glomeruli, s.counting) for s in slides]
    )
    counted = [s for s in slides if s.entry.id in choice.images]
    # Where nothing is declared, one more glomerulus may change which slide counts.
    is_declared = any(s.counting is not Counting.NOTHING for s in counted)
    entered = dict(items.of(patient))
    figures = None
    if counted:
        glomeruli = [g for slide in counted for g in slide.glomeruli]
        figures = figures_of(glomeruli, scheme, entered)
    is_adequate = None
    if figures is not None and scheme.adequacy is not None:
        is_adequate = figures.glomeruli >= scheme.adequacy.min_glomeruli
    return CaseGrades(
        patient,
        tuple(s.entry.name for s in slides),
        choice,
        figures,
        entered,
        tuple(item.name for item in scheme.case_items if item.name not in entered),
        is_adequate,
        sum(s.pending for s in (counted if is_declared else slides)),
    )
