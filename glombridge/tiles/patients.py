"""A table that says whose slide each image is."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..errors import InputError

IMAGE_COLUMN, PATIENT_COLUMN = "image", "patient"


@dataclass(frozen=True)
class PatientTable:
    """Patients by image name.

    Attributes:
        path: the file, for messages.
        patients: by image name as in the table.
    """

    path: Path
    patients: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> PatientTable:
        """Read a CSV file with the columns ``image`` and ``patient``; others are left alone.

        UTF-8, separated by commas, semicolons or tabs. An image is named as in QuPath; the
        extension may be left out.

        Raises:
            InputError: no such file, a column is missing, a row is not complete, or an image has
                two patients.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"the patient table {path} cannot be read as UTF-8 text: {error}"
            raise InputError(msg) from error
        lines = text.splitlines()
        header = lines[0] if lines else ""
        delimiter = max(",;\t", key=header.count)
        rows = csv.DictReader(lines, delimiter=delimiter)
        rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or []]
        missing = [c for c in (IMAGE_COLUMN, PATIENT_COLUMN) if c not in rows.fieldnames]
        if missing:
            msg = (
                f"the patient table {path} has no column {' and no column '.join(map(repr, missing))} "
                f"(its first line is {header!r}). It needs 'image' and 'patient'."
            )
            raise InputError(msg)
        patients: dict[str, str] = {}
        for row in rows:
            image, patient = ((row[c] or "").strip() for c in (IMAGE_COLUMN, PATIENT_COLUMN))
            if not image and not patient:
                continue
            if not image or not patient:
                msg = f"line {rows.line_num} of the patient table {path} lacks the image or the patient"
                raise InputError(msg)
            if patients.setdefault(image, patient) != patient:
                msg = (
                    f"the patient table {path} gives image {image!r} two patients, "
                    f"{patients[image]!r} and {patient!r} (line {rows.line_num})"
                )
                raise InputError(msg)
        return cls(path, patients)

    def patient_of(self, image_name: str) -> str:
        """Patient of an image.

        Raises:
            InputError: the table does not name it.
        """
        for name in (image_name, PurePath(image_name).stem):
            if name in self.patients:
                return self.patients[name]
        msg = (
            f"image {image_name!r}: the patient is not known (the patient table {self.path} has no "
            "row for it). Add one."
        )
        raise InputError(msg)
