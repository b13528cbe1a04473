"""Reading a scheme file: TOML text to a :class:`Scheme`, with everything checked that can be wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..documents import parse_toml
from ..errors import InputError
from ..objects import check_class_level
from ..provenance import ERROR_CLASSES, PROPOSED
from .scheme import Scheme

SHIPPED = ("lupus", "oxford", "three-grade")
"""Names of the schemes that come with glombridge."""

WINDOW_KEYS = {
    "N": "next",
    "P": "previous",
    "A": "accept",
    "X": "reject",
    "U": "undo",
    "E": "edit",
    "D": "grading done",
    "S": "image searched",
}
"""Keys of the review window itself."""

RESERVED_LABELS = (PROPOSED, *ERROR_CLASSES)
"""Leaves of classes that mean something else to glombridge."""

RESERVED_COLUMNS = frozenset(
    {
        "patient",
        "image",
        "image_id",
        "counting",
        "counted",
        "pending_proposals",
        "searched_by",
        "slides",
        "slides_counted",
        "why",
        "adequate",
        "glomeruli",
        "graded",
        "partly_graded",
        "readers",
        "scheme",
        "use",
    }
)
"""Columns that the tables of grades have beside those of the scheme."""

FORMAT = 1
"""Version of the format of scheme files."""

_LISTS = ("lesions", "case_items", "shares", "scores", "indices")


@cache
def shipped_scheme(name: str) -> Scheme:
    """A scheme that comes with glombridge.

    Raises:
        InputError: there is none of this name.
    """
    if name not in SHIPPED:
        msg = (
            f"no grading scheme {name!r}: glombridge brings {', '.join(SHIPPED)}. A scheme of your "
            "own is named by its file, which ends in .toml."
        )
        raise InputError(msg)
    file = resources.files(__package__) / f"{name}.toml"
    return parse_scheme(file.read_text(encoding="utf-8"), f"{name}.toml of glombridge")


def load_scheme(path: Path) -> Scheme:
    """Read and check a scheme file.

    Raises:
        InputError: it cannot be read, or something in it cannot be; the message names the file and
            every key that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the grading scheme {path} cannot be read as UTF-8 text: {error}"
        raise InputError(msg) from error
    return parse_scheme(text, str(path))


def parse_scheme(text: str, where: str) -> Scheme:
    """A scheme from the text of its file.

    Args:
        text: TOML.
        where: the file, for messages.

    Raises:
        InputError: as :func:`load_scheme`.
    """
    try:
        document = parse_toml(text)
    except ValueError as error:
        msg = f"the grading scheme {where} is not valid TOML: {error}"
        raise InputError(msg) from error
    if (written := document.pop("format", None)) != FORMAT:
        msg = f"the grading scheme {where} needs 'format = {FORMAT}' at its top, got {written!r}"
        raise InputError(msg)
    try:
        scheme = TypeAdapter(Scheme).validate_python(document)
    except ValidationError as error:
        faults = [
            f"{_key(e['loc'], document)}: {e['msg']} (got {_short(e['input'])})"
            for e in error.errors()
        ]
    else:
        faults = list(_faults(scheme))
        if not faults:
            return scheme
    lines = [f"  line {_line(text, f)}: {f}" if _line(text, f) else f"  {f}" for f in faults]
    msg = f"the grading scheme {where} cannot be used:\n" + "\n".join(lines)
    raise InputError(msg)


def _faults(scheme: Scheme) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", scheme.name):
        yield f"name: small letters, digits, '-' and '_' only, got {scheme.name!r}"
    if not scheme.version or scheme.version.split() != [scheme.version]:
        yield f"version: one word, got {scheme.version!r}"
    if not scheme.lesions:
        yield "lesions: at least one is needed"
    yield from _faults_of_lesions(scheme)
    yield from _faults_of_dominance(scheme)
    yield from _faults_of_rules(scheme)


def _faults_of_lesions(scheme: Scheme) -> Iterator[str]:
    yield from _twice("lesions", (lesion.name for lesion in scheme.lesions), "name")
    keys: dict[str, str] = {}
    labels: dict[str, str] = {}
    for number, lesion in enumerate(scheme.lesions, 1):
        at = _place("lesions", number, lesion.name)
        key = lesion.key.upper()
        if not re.fullmatch(r"[A-Z0-9]", key):
            yield f"{at}.key: one letter or digit, got {lesion.key!r}"
        elif key in WINDOW_KEYS:
            need = f"the review window needs {key} for {WINDOW_KEYS[key]!r}"
            free = "".join(sorted({*"ABCDEFGHIJKLMNOPQRSTUVWXYZ"} - {*WINDOW_KEYS}))
            yield f"{at}.key: {need}; these letters are left: {free}"
        elif key in keys:
            yield f"{at}.key: {key} is the key of {keys[key]!r} already"
        keys.setdefault(key, lesion.name)
        if lesion.max < 1:
            yield f"{at}.max: 1 (present or absent) or the highest grade, got {lesion.max}"
        if not lesion.name.strip() or lesion.name != lesion.name.strip():
            yield f"{at}.name: must not be empty, nor begin or end with a space"
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", lesion.color):
            yield f"{at}.color: a colour as #AA3377, got {lesion.color!r}"
        for other in lesion.excludes:
            if other not in scheme.lesion_of or other == lesion.name:
                yield f"{at}.excludes: {other!r} is no other lesion of this scheme"
        if lesion.label is None:
            continue
        try:
            check_class_level(lesion.label)
        except InputError as error:
            yield f"{at}.label: {error}"
        if lesion.label in RESERVED_LABELS or lesion.label.endswith("*"):
            meant = "means something else to glombridge or QuPath; choose another"
            yield f"{at}.label: {lesion.label!r} {meant}"
        if lesion.label in labels:
            yield f"{at}.label: {lesion.label!r} is the label of {labels[lesion.label]!r} already"
        labels.setdefault(lesion.label, lesion.name)


def _faults_of_dominance(scheme: Scheme) -> Iterator[str]:
    yield from _twice("dominance", scheme.dominance, "entry")
    for name in scheme.dominance:
        if name not in scheme.lesion_of:
            yield f"dominance: {name!r} is no lesion of this scheme"
    for lesion in scheme.lesions:
        if lesion.label is not None and lesion.name not in scheme.dominance:
            yield f"dominance: {lesion.name!r} has a label and is missing"


def _faults_of_rules(scheme: Scheme) -> Iterator[str]:
    if scheme.adequacy is not None and scheme.adequacy.min_glomeruli < 1:
        yield f"adequacy.min_glomeruli: at least 1, got {scheme.adequacy.min_glomeruli}"
    # They become columns of one table.
    names = [item.name for item in scheme.case_items] + [share.name for share in scheme.shares]
    names += [score.name for score in scheme.scores] + [index.name for index in scheme.indices]
    yield from _twice("case_items, shares, scores, indices", names, "name")
    for name in sorted(RESERVED_COLUMNS.intersection(names)):
        yield f"case_items, shares, scores, indices: {name!r} is the name of another column of the tables"
    for number, item in enumerate(scheme.case_items, 1):
        at = _place("case_items", number, item.name)
        if len(item.levels) < 2:
            yield f"{at}.levels: what 0, 1, ... are called, at least two"
        yield from _twice(f"{at}.levels", (level.casefold() for level in item.levels), "level")
    for number, share in enumerate(scheme.shares, 1):
        at = _place("shares", number, share.name)
        if not share.any_of:
            yield f"{at}.any_of: at least one lesion"
        for key, lesions in (("any_of", share.any_of), ("without", share.without)):
            for name in lesions:
                if name not in scheme.lesion_of:
                    yield f"{at}.{key}: {name!r} is no lesion of this scheme"
        known = [scheme.lesion_of[name] for name in share.any_of if name in scheme.lesion_of]
        if not 1 <= share.min_grade <= min((lesion.max for lesion in known), default=1):
            yield f"{at}.min_grade: from 1 to the max of its lesions, got {share.min_grade}"
    yield from _faults_of_scores(scheme)
    yield from _faults_of_indices(scheme)


def _faults_of_scores(scheme: Scheme) -> Iterator[str]:
    shares = {share.name for share in scheme.shares}
    for number, score in enumerate(scheme.scores, 1):
        at = _place("scores", number, score.name)
        if score.share not in shares:
            yield f"{at}.share: {score.share!r} is no share of this scheme"
        if len(score.levels) < 2:
            yield f"{at}.levels: at least two"
            continue
        bounds = [(v.from_percent, v.above_percent) for v in score.levels]
        if bounds[0] != (None, None) or any((a is None) == (b is None) for a, b in bounds[1:]):
            yield (
                f"{at}.levels: the first has no bound, every other one has from_percent (at least) "
                "or above_percent (more than)"
            )
            continue
        if any(not 0 <= p <= 100 for pair in bounds for p in pair if p is not None):
            yield f"{at}.levels: percentages go from 0 to 100"
        begins = [level.begin for level in score.levels]
        values = [level.value for level in score.levels]
        if begins != sorted(set(begins)) or values != sorted(set(values)):
            yield f"{at}.levels: values and bounds must rise from one level to the next"


def _faults_of_indices(scheme: Scheme) -> Iterator[str]:
    highest = {
        score.name: max((v.value for v in score.levels), default=0) for score in scheme.scores
    }
    highest |= {item.name: item.max for item in scheme.case_items}
    for number, index in enumerate(scheme.indices, 1):
        at = _place("indices", number, index.name)
        unknown = [part.item for part in index.parts if part.item not in highest]
        for name in unknown:
            yield f"{at}.parts: {name!r} is neither a score nor a case item of this scheme"
        yield from _twice(f"{at}.parts", (part.item for part in index.parts), "item")
        if any(part.weight < 1 for part in index.parts):
            yield f"{at}.parts: a weight is at least 1"
        total = sum(part.weight * highest.get(part.item, 0) for part in index.parts)
        if not unknown and total != index.max:
            yield f"{at}.max: its parts add up to {total}, got {index.max}"


def _twice(where: str, names: Iterable[str], what: str) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{where}: {what} {name!r} stands there {count} times"


def _place(table: str, number: int, name: str) -> str:
    return f"{table}[{number}] ({name})"


def _key(location: tuple[int | str, ...], document: dict[str, Any]) -> str:
    """``lesions[3] (Cellular crescent).key`` of where pydantic found a fault."""
    if len(location) >= 2 and location[0] in _LISTS and isinstance(location[1], int):
        entry = document[location[0]][location[1]]
        name = str(entry.get("name", "?")) if isinstance(entry, dict) else "?"
        rest = "".join(f".{part}" for part in location[2:])
        return _place(str(location[0]), location[1] + 1, name) + rest
    return ".".join(map(str, location)) or "file"


def _line(text: str, fault: str) -> int | None:
    """The line of a fault: of the key in its table where it is written, else of the table."""
    match = re.match(r"(\w+)(?:\[(\d+)\])?(?: \(.*?\))?(?:\.(\w+))?", fault)
    if match is None:
        return None
    table, number, key = match[1], int(match[2] or 1), match[3]
    seen = 0
    header = None
    for at, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if header is not None and stripped.startswith("["):
            break
        if header is not None and key and re.match(rf"{key}\s*=", stripped):
            return at
        if stripped.replace(" ", "") in (f"[[{table}]]", f"[{table}]"):
            seen += 1
            header = at if seen == number else header
        elif header is None and match[2] is None and re.match(rf"{table}\s*=", stripped):
            return at
    return header


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else said[:77] + "..."
