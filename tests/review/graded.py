"""Glomeruli as a reader leaves them, for tests."""

from __future__ import annotations

from uuid import UUID, uuid5

from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import LESION
from glombridge.review.glomerulus import Glomerulus, read_glomerulus
from glombridge.schemes import Scheme

SPACE = UUID("33333333-3333-5333-8444-555555555555")


def marked(
    name: str,
    number: int,
    measurements: dict[str, float] | None = None,
    metadata: dict[str, str] | None = None,
) -> SlideObject:
    """An annotation of a class; the number gives id and place."""
    x = 100.0 * number
    return SlideObject(
        uuid5(SPACE, str(number)),
        ObjectKind.ANNOTATION,
        Outline.rectangle(x, 10, x + 80, 90),
        PathClass.parse(name),
        measurements=measurements or {},
        metadata=metadata or {},
    )


def grades(scheme: Scheme, *present: str, graded: bool = True) -> dict[str, float]:
    """Measurements: these lesions are there; the others are absent, or unknown if not ``graded``."""
    absent = dict.fromkeys((x.name for x in scheme.lesions), 0.0) if graded else {}
    found = {**absent, **dict.fromkeys(present, 1.0)}
    return {LESION + name: value for name, value in found.items()}


def several(scheme: Scheme, *groups: tuple[int, tuple[str, ...] | None]) -> list[Glomerulus]:
    """As many glomeruli as each group says, with its lesions; ``None`` = nobody graded them."""
    made = []
    for count, lesions in groups:
        for _ in range(count):
            values = {} if lesions is None else grades(scheme, *lesions)
            obj = marked("Glomerulus", len(made), values)
            made.append(read_glomerulus(obj, 1, scheme, state="added").glomerulus)
    return made
