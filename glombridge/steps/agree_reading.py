"""What one reader left in a project, as findings that can be compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import InputError
from ..filenames import shown_line
from ..ledger import Ledger, State
from ..objects import SlideObject
from ..progress import Reporter
from ..provenance import GRADED, LESION, REVIEWER
from ..qupath.store import ImageEntry
from ..review.agreement import Finding, Word
from ..review.glomerulus import read_glomerulus
from ..schemes import Scheme
from ..sync.look import look_at
from ..sync.roles import assign_roles, is_marked
from ..sync.writing import each_image, read_seen
from .project import Project

MOST_NAMED = 20
"""Of what is named one by one in a message."""

HIGHEST_GRADE = 99
"""Where no scheme says how high grades go, a number above this is no grade."""


@dataclass
class Reading:
    """What one reader left.

    Attributes:
        findings: by entry id.
        begun: entry ids of images in which the reader has done something.
        stamps: schemes that glomeruli were graded with.
        reviewers: who decided, by number of objects.
        texts: what contradicts itself.
    """

    findings: dict[int, list[Finding]] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    stamps: set[str] = field(default_factory=set)
    reviewers: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)


def read_project(
    project: Project, scheme: Scheme | None, entries: Sequence[ImageEntry], reporter: Reporter
) -> Reading:
    """Take what a reader left in some images; changes nothing.

    Args:
        project: the reader's.
        scheme: that it was graded by; ``None`` = every lesion measured is taken.
        entries: the images.
        reporter: for progress.

    Raises:
        InputError: a grade outside its range; all of them are named.
        GlombridgeError: an image cannot be read.
    """
    reading = Reading()
    out_of_range: list[str] = []

    with project.workspace.ledger_view() as ledger:

        def read(entry: ImageEntry) -> None:
            objects = read_seen(project.store, ledger, entry.id).objects
            reading.findings[entry.id] = _findings(
                project, scheme, entry, objects, ledger, reading, out_of_range
            )

        outcomes = each_image(
            entries, read, title=f"read {project.store.folder.name}", reporter=reporter
        )
    if outcomes.last_error is not None:
        lines = "\n".join(outcomes.failed)
        msg = f"nothing was compared, images of {project.store.folder} cannot be read:\n{lines}"
        raise type(outcomes.last_error)(msg)
    if out_of_range:
        more = len(out_of_range) - MOST_NAMED
        lines = "\n".join(map(shown_line, out_of_range[:MOST_NAMED])) + (
            f"\n  and {more} more" if more > 0 else ""
        )
        msg = f"grades of {project.store.folder} that cannot be:\n{lines}"
        raise InputError(msg)
    return reading


def _findings(
    project: Project,
    scheme: Scheme | None,
    entry: ImageEntry,
    objects: Sequence[SlideObject],
    ledger: Ledger,
    reading: Reading,
    out_of_range: list[str],
) -> list[Finding]:
    settings = project.settings
    roles = assign_roles(objects, settings)
    found: list[Finding] = []
    for truth in roles.truth:
        try:
            grades, texts = _grades(truth.object, entry, scheme)
        except InputError as error:
            out_of_range.append(f"  image {entry.name!r} (entry {entry.id}): {error}")
            continue
        reading.texts += [f"{entry.name}: {truth.object.id}: {text}" for text in texts]
        found.append(_finding(truth.object, Word.GLOMERULUS, grades))
        if stamp := truth.object.metadata.get(GRADED, "").strip():
            reading.stamps.add(stamp)
    found += [_finding(o, Word.REJECTED) for o in roles.rejected if o.outline is not None]
    found += [_finding(o, Word.PENDING) for o in roles.pending if o.outline is not None]
    judged = [t.object for t in roles.truth] + list(roles.rejected)
    reading.reviewers.update(r for o in judged if (r := o.metadata.get(REVIEWER, "").strip()))
    seen = look_at(ledger.base(entry.id), {}, objects, settings).seen
    for s in seen.values():
        # What vanished with a whole push was not judged by anybody.
        if s.now is None and s.state in (State.DELETED, State.LOST):
            word = Word.DELETED if s.state is State.DELETED else Word.PENDING
            found.append(_finding(s.base.object, word))
    if is_marked(entry) or judged or any(s.state.is_judged for s in seen.values()):
        reading.begun.add(entry.id)
    return found


def _finding(
    obj: SlideObject, word: Word, grades: Mapping[str, int | None] | None = None
) -> Finding:
    assert obj.outline is not None  # noqa: S101 (the caller's part)
    return Finding(obj.id, obj.outline.bounds, word, grades or {})


def _grades(
    obj: SlideObject, entry: ImageEntry, scheme: Scheme | None
) -> tuple[Mapping[str, int | None], list[str]]:
    """Grades by lesion, and what contradicts itself.

    Raises:
        InputError: a grade that cannot be.
    """
    if scheme is not None:
        reading = read_glomerulus(obj, entry.id, scheme, state="")
        return reading.glomerulus.values, [c.text for c in reading.contradictions]
    grades: dict[str, int | None] = {}
    for name, value in obj.measurements.items():
        if not name.startswith(LESION) or math.isnan(value):
            continue
        if not (math.isfinite(value) and value == int(value) and 0 <= value <= HIGHEST_GRADE):
            msg = f"object {obj.id}: {name!r} is {value:g}, not a grade. Correct it in QuPath."
            raise InputError(msg)
        grades[name.removeprefix(LESION)] = int(value)
    return grades, []
