"""A table of what is entered once per case: a row per patient, a column per item of the scheme."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..schemes import CaseItem, Scheme

PATIENT = "patient"


@dataclass(frozen=True)
class CaseItems:
    """What was entered.

    Attributes:
        values: by patient and item; what is empty in the table is not there.
    """

    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def of(self, patient: str) -> Mapping[str, int]:
        """The items of a patient, empty where none was entered."""
        return self.values.get(patient, {})


def read_case_items(path: Path, scheme: Scheme) -> CaseItems:
    """Read a CSV file: a column ``patient``, and one for each item, named as in the scheme.

    UTF-8, separated by commas, semicolons or tabs. A value is a number from 0 on or the name of a
    level (``T1``); an empty one is missing. Columns of other names are refused, so that a misspelt
    item is never taken for a missing one.

    Raises:
        InputError: it cannot be read, lacks the column ``patient``, has a column or value that
            cannot be, or a patient twice; the message names line and column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the case items {path} cannot be read as UTF-8 text: {error}"
        raise InputError(msg) from error
    header = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=header.count))
    columns = [name.strip() for name in next(rows, [])]
    items = {item.name.casefold(): item for item in scheme.case_items}
    known = ", ".join([PATIENT, *(item.name for item in scheme.case_items)])
    folded = [name.casefold() for name in columns]
    wrong = [c for c, f in zip(columns, folded, strict=True) if f != PATIENT and f not in items]
    if PATIENT not in folded or wrong or len(set(folded)) != len(folded):
        msg = (
            f"the case items {path} have the columns {', '.join(map(repr, columns)) or 'none'}; those of "
            f"scheme {scheme.stamp!r} are {known}, each once"
        )
        raise InputError(msg)
    values: dict[str, dict[str, int]] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        at = f"line {rows.line_num} of the case items {path}"
        cells = {f: cell.strip() for f, cell in zip(folded, row, strict=False)}
        patient = cells.pop(PATIENT, "")
        if not patient or len(row) > len(columns):
            msg = f"{at} names no patient" if not patient else f"{at} has more cells than columns"
            raise InputError(msg)
        if patient in values:
            msg = f"{at} names patient {patient!r} a second time"
            raise InputError(msg)
        values[patient] = {
            items[f].name: _value(items[f], cell, at) for f, cell in cells.items() if cell
        }
    return CaseItems(values)


def case_items_template(scheme: Scheme, patients: Iterable[str]) -> str:
    """The text of a table to be filled in: a row per patient, every item empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([PATIENT, *(item.name for item in scheme.case_items)])
    for patient in sorted(set(patients)):
        writer.writerow([patient, *("" for _ in scheme.case_items)])
    return out.getvalue()


def _value(item: CaseItem, cell: str, at: str) -> int:
    for value, level in enumerate(item.levels):
        if cell.casefold() in (str(value), level.casefold()):
            return value
    levels = ", ".join(f"{value} ({level})" for value, level in enumerate(item.levels))
    msg = f"{at}, column {item.name!r}: {cell!r} is none of {levels}; leave it empty if it is not known"
    raise InputError(msg)
