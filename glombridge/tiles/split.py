"""Which patient trains, validates and tests: pure functions, decided once and kept."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

import regex

from ..errors import InputError, ProtectedError, UsageError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

PATTERN_SECONDS = 2.0
"""For one name; a match takes microseconds."""

_ALL = ""
_FILL_ORDER: tuple[Part, ...] = ("train", "test", "val")  # who comes first when few patients exist


class Fractions(NamedTuple):
    """Share of the objects each part should get. Only their ratio matters.

    The default is the paper's 4 : 1 by patient, with validation a fifth of the 4.
    """

    train: float = 0.64
    val: float = 0.16
    test: float = 0.20


class SplitItem(NamedTuple):
    """One slide in a split, for :func:`check_no_leaks`."""

    image_name: str
    patient: str
    fingerprint: str
    part: Part


def split_patients(
    patients: Mapping[str, int],
    *,
    seed: int = 0,
    fractions: Fractions = Fractions(),
    frozen: Mapping[str, Part] | None = None,
    allow_few: bool = False,
    stains: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Part]:
    """Give every patient one part, so that the objects, in all and of each stain, are shared out.

    The larger patients come first, in an order drawn from the seed, each to the part furthest
    below its share of what this patient brings: iterative stratification (Sechidis, Tsoumakas and
    Vlahavas 2011, "On the Stratification of Multi-label Data") with patients for examples. Frozen
    patients keep theirs, so a project that passes the last answer as ``frozen`` never sees a
    patient change side. No part stays empty where there are 3 patients.

    Args:
        patients: name to number of annotated objects.
        seed: another seed, another split.
        fractions: wanted shares.
        frozen: parts decided earlier; names that are not in ``patients`` are ignored.
        allow_few: accept one or two patients; then validation, and with one also test, is empty.
        stains: per patient, number of objects by stain.

    Returns:
        Part of each patient, in the order of ``patients``.

    Raises:
        InputError: fewer than 3 patients, or a frozen part that does not exist.
        UsageError: fractions that are negative or all zero.
    """
    shares = dict(zip(PARTS, fractions, strict=True))
    if min(fractions) < 0 or sum(fractions) <= 0:
        msg = f"the parts of a split must be 0 or more and not all 0, got {tuple(fractions)}"
        raise UsageError(msg)
    if len(patients) < len(PARTS) and not allow_few:
        msg = (
            f"{len(patients)} patient(s) cannot be split into train, validation and test without "
            "one patient being on two sides. Annotate slides of at least 3 patients, or go on with "
            "--allow-few-patients and read no quality from the result."
        )
        raise InputError(msg)
    weights = {name: _strata(patients[name], (stains or {}).get(name, {})) for name in patients}
    total: Counter[str] = Counter()
    for strata in weights.values():
        total.update(strata)
    filled: dict[Part, Counter[str]] = {part: Counter() for part in PARTS}
    decided: dict[str, Part] = {}
    for name, part in (frozen or {}).items():
        if part not in PARTS:
            msg = f"patient {name!r} is frozen in {part!r}; it must be one of {', '.join(PARTS)}"
            raise InputError(msg)
        if name in weights:
            decided[name] = part
            filled[part].update(weights[name])
    open_parts = [part for part in _FILL_ORDER if shares[part] > 0]

    def need(part: Part, name: str) -> float:
        wanted = shares[part] / sum(fractions)
        return sum(
            (1 - filled[part][stratum] / (wanted * total[stratum])) * weight / total[stratum]
            for stratum, weight in weights[name].items()
        )

    def order(name: str) -> tuple[int, bytes]:
        return -weights[name][_ALL].bit_length(), _draw(seed, name)

    for name in sorted(weights, key=order):
        if name not in decided:
            part = max(open_parts, key=lambda p: need(p, name))
            decided[name] = part
            filled[part].update(weights[name])
    return {name: decided[name] for name in patients}


def _strata(objects: int, by_stain: Mapping[str, int]) -> dict[str, int]:
    # One is added so that patients without objects, who bring background, are shared out too.
    strata = {_ALL: max(0, objects) + 1}
    for stain, count in sorted(by_stain.items()):
        strata[f"stain {stain}"] = max(0, count) + 1
    return strata


def patient_of(
    image_name: str,
    metadata: Mapping[str, str],
    *,
    key: str | None = None,
    pattern: str | None = None,
) -> str:
    """Name of the patient an image belongs to.

    Args:
        image_name: as in QuPath.
        metadata: of the image in QuPath.
        key: metadata key that holds the patient. Tried first.
        pattern: regular expression on the image name; its group ``patient``, else its first group,
            else the whole match is the patient.

    Raises:
        InputError: nothing says who the patient is.
        UsageError: the pattern is not a regular expression, or takes too long on this name.
    """
    if key is not None and metadata.get(key, "").strip():
        return metadata[key].strip()
    if pattern is not None:
        match = _search(pattern, image_name)
        if match is not None:
            groups = match.groupdict()
            name = groups["patient"] if "patient" in groups else match[1 if match.groups() else 0]
            if name and name.strip():
                return str(name).strip()
    tried = []
    if key is not None:
        tried.append(f"it has no metadata {key!r}")
    if pattern is not None:
        tried.append(f"its name does not match {pattern!r}")
    why = ", ".join(tried) or "nothing was given"
    msg = (
        f"image {image_name!r}: the patient is not known ({why}). "
        'Say in [patients] of the settings where it comes from: source = "metadata" with a key, "name" '
        'with a pattern, "csv" with a file, or "image" to treat every image as a patient of its own '
        "(also --patient-from image)."
    )
    raise InputError(msg)


def _search(pattern: str, image_name: str) -> regex.Match[str] | None:
    """As ``re.search``, but with an end: ``(a+)+$`` takes re for ever on a name of forty letters."""
    try:
        return regex.search(pattern, image_name, timeout=PATTERN_SECONDS)
    except TimeoutError:
        msg = (
            f"the patient pattern {pattern[:200]!r} was stopped after {PATTERN_SECONDS:g} seconds on image "
            f"{image_name[:200]!r}. It repeats what repeats already, as in (a+)+; write [patients] pattern "
            "in the settings without that."
        )
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        msg = f"the patient pattern {pattern[:200]!r} is not a regular expression: {error}"
    raise UsageError(msg)


def check_no_leaks(items: Iterable[SplitItem]) -> None:
    """Refuse a split in which one patient, or one slide under any name, is on two sides.

    Raises:
        ProtectedError: names both images.
    """
    by_patient: dict[str, SplitItem] = {}
    by_slide: dict[str, SplitItem] = {}
    for item in items:
        first = by_patient.setdefault(item.patient, item)
        if first.part != item.part:
            msg = (
                f"patient {item.patient!r} would be on two sides: {first.image_name!r} in "
                f"{first.part}, {item.image_name!r} in {item.part}. Give both images the same part."
            )
            raise ProtectedError(msg)
        first = by_slide.setdefault(item.fingerprint, item)
        if first.part != item.part:
            msg = (
                f"images {first.image_name!r} ({first.part}) and {item.image_name!r} "
                f"({item.part}) are the same slide file under two names and patients. Correct the "
                "patient of one, or remove it from the project."
            )
            raise ProtectedError(msg)


def spelling(name: str) -> str:
    """What two ways to write one name, of a patient or class, have in common."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_spelling(patients: Mapping[str, str]) -> None:
    """Refuse names of patients that only case, spaces or the form of letters tell apart.

    Args:
        patients: name to an image of that patient.

    Raises:
        InputError: names two and their images. As two patients they could be on two sides.
    """
    seen: dict[str, str] = {}
    for patient, image in patients.items():
        other = seen.setdefault(spelling(patient), patient)
        if other != patient:
            msg = (
                f"patients {other!r} (image {patients[other]!r}) and {patient!r} (image {image!r}) differ in "
                "case or spaces only, and as two patients they could be on two sides of the split. Write them "
                "alike; if they are two people, name them apart."
            )
            raise InputError(msg)


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
