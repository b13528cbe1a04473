"""Grades as CSV tables: one row per glomerulus, slide or case; ``docs/grading.md`` lists the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from ..filenames import cell_text
from ..provenance import LESION
from ..schemes import Scheme
from .glomerulus import Glomerulus
from .grades import RESEARCH_USE, Figures

Cell = str | int | float | None


def csv_text(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str], scheme: Scheme) -> str:
    """A table as CSV: UTF-8, commas, a header even without rows; an unknown value is empty.

    The last columns say on each row which scheme it is by and that it is for research, so that a
    row keeps both wherever it is copied to.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, [*columns, "scheme", "use"], lineterminator="\n")
    writer.writeheader()
    said = {"scheme": scheme.stamp, "use": RESEARCH_USE}
    for row in rows:
        writer.writerow({**{k: _text(v) for k, v in row.items()}, **said})
    return out.getvalue()


def glomerulus_columns(scheme: Scheme) -> list[str]:
    """Columns of the table of glomeruli."""
    first = ["patient", "image", "image_id", "id", "class", "state"]
    last = ["lesions_known", "lesions", "reader", "reviewed", "seconds", "graded_with"]
    return [*first, *(LESION + lesion.name for lesion in scheme.lesions), *last]


def glomerulus_row(
    glomerulus: Glomerulus, scheme: Scheme, *, patient: str | None, image_name: str
) -> dict[str, Cell]:
    """One glomerulus. A lesion there in an unknown grade reads ``present``, an unknown one is empty."""
    return {
        "patient": patient,
        "image": image_name,
        "image_id": glomerulus.image,
        "id": str(glomerulus.id),
        "class": glomerulus.path_class,
        "state": glomerulus.state,
        **{
            LESION + name: "present" if name in glomerulus.present else value
            for name, value in glomerulus.values.items()
        },
        "lesions_known": glomerulus.n_known,
        "lesions": len(scheme.lesions),
        "reader": glomerulus.reader,
        "reviewed": glomerulus.reviewed,
        "seconds": glomerulus.seconds,
        "graded_with": glomerulus.graded,
    }


def figure_columns(scheme: Scheme, *, of_case: bool) -> list[str]:
    """Columns of the figures of a slide or a case."""
    columns = ["glomeruli", "graded", "partly_graded", "readers"]
    for share in scheme.shares:
        columns += [f"{share.name} {what}" for what in ("percent", "n", "of", "ungraded")]
    for score in scheme.scores:
        columns += [score.name, f"{score.name} label", f"{score.name} final"]
    if of_case:
        columns += [item.name for item in scheme.case_items]
        for index in scheme.indices:
            columns += [index.name, f"{index.name} missing", f"{index.name} final"]
    return columns


def figure_cells(figures: Figures | None) -> dict[str, Cell]:
    """The figures of a slide or a case as cells; none where there are no figures."""
    if figures is None:
        return {}
    cells: dict[str, Cell] = {
        "glomeruli": figures.glomeruli,
        "graded": figures.graded,
        "partly_graded": figures.partly,
        "readers": _joined(f"{reader} ({n})" for reader, n in figures.readers.items()),
    }
    for share in figures.shares:
        cells |= {
            f"{share.name} percent": None if share.percent is None else round(share.percent, 2),
            f"{share.name} n": share.n,
            f"{share.name} of": share.of,
            f"{share.name} ungraded": share.ungraded,
        }
    for score in figures.scores:
        cells |= {
            score.name: score.value,
            f"{score.name} label": score.label,
            f"{score.name} final": _yes(score.is_final),
        }
    for index in figures.indices:
        cells |= {
            index.name: index.value,
            f"{index.name} missing": _joined(index.missing),
            f"{index.name} final": _yes(index.is_final),
        }
    return cells


def _joined(names: Iterable[str]) -> str:
    return "; ".join(names)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _text(value: Cell) -> str | int | float:
    if value is None:
        return ""
    return cell_text(value) if isinstance(value, str) else value
