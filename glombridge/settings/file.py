"""The settings file, ``glombridge/glombridge.toml``: read and checked, written with its comments."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from ..documents import parse_toml
from ..errors import InputError
from .sections import Section, is_scheme_file
from .settings import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def load_settings(path: Path) -> Settings:
    """Read and check a settings file.

    Args:
        path: of the TOML file.

    Raises:
        InputError: no such file, not TOML, an unknown key, or a value that cannot be; the message
            names the file, the key and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"no settings at {path}. Run 'glombridge init {path.parent.parent}' first."
        raise InputError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as UTF-8 text: {error}"
        raise InputError(msg) from error
    try:
        document = parse_toml(text)
    except ValueError as error:
        msg = f"{path} is not valid TOML: {error}"
        raise InputError(msg) from error
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'file'}: {_fault(e)} (got {e['input']!r})"
            for e in error.errors()
        ]
        msg = f"{path} has settings that cannot be:\n" + "\n".join(lines)
        raise InputError(msg) from error
    scheme = settings.review.scheme
    if scheme is None or not is_scheme_file(scheme):
        return settings
    try:
        return settings.with_scheme(scheme, path.parent)
    except InputError as error:
        msg = f"{path}: scheme in [review]: {error}"
        raise InputError(msg) from error


def _fault(error: ErrorDetails) -> str:
    """What pydantic says, but for keys that nobody knows, of which it says 'extra inputs'."""
    if error["type"] != "extra_forbidden":
        return error["msg"]
    *above, key = map(str, error["loc"])
    section: type[BaseModel] = Settings
    for name in above:
        inner = section.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return "there is no such key"
        section = inner
    near = get_close_matches(key, section.model_fields, n=1)
    known = (
        f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(section.model_fields)}."
    )
    return f"there is no such key. {known}"


def render_settings(settings: Settings) -> str:
    """The settings as commented TOML text; reading it back gives equal settings.

    Args:
        settings: to be written.
    """
    t, p, patients = settings.tiles, settings.project, settings.patients
    lines = [
        "# glombridge settings of this QuPath project. Every key may be left out.",
        f"seed = {settings.seed}",
        "# Annotations of these classes are neither object nor background.",
        f"ignore = {_toml(settings.ignore)}",
        "# Inside annotations of these classes every object has been marked.",
        f"regions = {_toml(settings.regions)}",
        "# These classes say: this is not one.",
        f"rejected = {_toml(settings.rejected)}",
        "# Classes derived from a detector class that are deliberately left out.",
        f"unused = {_toml(settings.unused)}",
        "",
        "# Detector class = the QuPath classes, whole names, that count as it.",
        "[classes]",
        *(f"{_toml(name)} = {_toml(aliases)}" for name, aliases in settings.classes.items()),
        "",
        "[project]",
        '# "paquo": image data is read and written by an installed QuPath. "native": without QuPath.',
        f"store = {_toml(p.store)}",
        '# "annotated-images": an image with any human annotation has been searched completely.',
        '# "regions": only images marked as searched, and areas inside the classes in "regions".',
        f"searched = {_toml(p.searched)}",
        "# Micrometres per pixel of slides whose file and project say nothing.",
        f"mpp = {p.mpp!r}" if p.mpp is not None else "# mpp = 0.25",
        "# Where slides lie that the project looks for elsewhere: old beginning of the path = new one.",
        "slides = { " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in p.slides.items()) + " }"
        if p.slides
        else '# slides = { "D:\\\\slides" = "/mnt/slides" }',
        "# Replaced data files kept per image for 'glombridge undo'; older ones are deleted.",
        f"keep_snapshots = {p.keep_snapshots}",
        f"keep_snapshots_days = {p.keep_snapshots_days}"
        if p.keep_snapshots_days
        else "# keep_snapshots_days = 365",
        "",
        "[patients]",
        '# source = "metadata" (image metadata "key"), "name" ("pattern": a regular expression with',
        '# one group), "csv" ("file": a table with columns image and patient, beside the project)',
        '# or "image" (each image its own patient; reports then say so).',
        *([f"source = {_toml(patients.source)}"] if patients.source else []),
        f"key = {_toml(patients.key)}",
        f"pattern = {_toml(patients.pattern)}",
        f"file = {_toml(patients.file)}",
        "",
        "# Shares of the patients: test of all, val of the others. Once a test patient, always one.",
        '# Each stain (image metadata "stain_key") is shared out alike, as far as patients allow.',
        "[split]",
        f"test = {settings.split.test!r}",
        f"val = {settings.split.val!r}",
        f"stain_key = {_toml(settings.split.stain_key)}",
        "",
        "[tiles]",
        '# "detect" trains boxes, "segment" outlines.',
        f"task = {_toml(t.task)}",
        "# Pixels at the target resolution mpp (micrometres per pixel); leave mpp out for the",
        "# slide's own. width_um and height_um, where given, win over the pixels. overlap is a",
        '# share, "400 px", "200 um", or "auto": the smallest that keeps every annotated object whole',
        "# in at least one tile wherever it lies.",
        *([f"mpp = {t.mpp!r}"] if t.mpp is not None else []),
        *([f"width_um = {t.width_um!r}"] if t.width_um is not None else []),
        *([f"height_um = {t.height_um!r}"] if t.height_um is not None else []),
        f"width_px = {t.width_px}",
        f"height_px = {t.height_px}",
        f"overlap = {_toml(t.overlap)}",
        "# An object is kept in a tile that shows this share of it; below drop_visible it is",
        "# nothing; in between it is painted out.",
        f"keep_visible = {t.keep_visible!r}",
        f"drop_visible = {t.drop_visible!r}",
        "# Tissue tiles without an object, per tile with one.",
        f"background_ratio = {t.background_ratio!r}",
        f"jpeg_quality = {t.jpeg_quality}",
        "",
        "# pretrained: true or false; left out, published weights are used where they are on this machine.",
        "# batch: left out, as many tiles as fit a GPU, 8 on a CPU. patience: stop after so many epochs",
        "# without a better one, 0 for never.",
        *_section("train", settings.train),
        *_section("detect", settings.detect),
        "# objects: proposals as QuPath annotations (class menu, class wheel, grid view) or detections.",
        "# reopen_above: what was rejected or deleted is proposed again by a detection that scores more",
        "# than this and more than the rejected one did; leave it out for never.",
        *_section("push", settings.push),
        '# target: "recall" works at the highest confidence that finds target_recall of the objects on',
        '# the validation slides, "f1" at the one with the best balance of found and false.',
        *_section("evaluate", settings.evaluate),
        "# How glomeruli are graded: scheme is lupus, oxford, three-grade, or a file of your own beside",
        "# this one (docs/grading.md). The classes it gives glomeruli count as their detector class.",
        "# counting: images of which each is the one that counts for its patient. distinct: images that",
        "# show other tissue than any other one of the patient. Other images are never added up.",
        *_section("review", settings.review),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, section: Section) -> list[str]:
    values = section.model_dump(exclude_none=True)
    return [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items()), ""]


def _toml(value: str | float | bool | Sequence[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else "\\" + c if c in '\\"' else c
            for c in value
        )
        return f'"{escaped}"'
    return "[" + ", ".join(_toml(item) for item in value) + "]"
