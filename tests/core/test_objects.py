"""When two slide objects are the same."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import pytest
from shapely.geometry import box

from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject


def made(**given: Any) -> SlideObject:
    # Each has a NaN of its own, as what is read from a file.
    fields = {
        "outline": Outline.of(box(0, 0, 3, 2)),
        "measurements": {"Area": 6.0, "Gap": float("nan")},
    }
    return SlideObject(UUID(int=1), ObjectKind.ANNOTATION, **{**fields, **given})


@pytest.mark.parametrize(
    ("probability", "other"),
    [
        pytest.param(0.5, 0.5, id="a number"),
        pytest.param(math.nan, math.nan, id="none"),
        pytest.param(math.nan, float("nan"), id="none, read elsewhere"),
    ],
)
def test_a_copy_is_the_same(probability: float, other: float) -> None:
    assert made(probability=probability) == made(probability=other)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"probability": 0.0}, id="probability"),
        pytest.param({"outline": Outline.of(box(0, 0, 3, 2.01))}, id="outline"),
        pytest.param({"path_class": PathClass(("Glomerulus",))}, id="class"),
        pytest.param({"measurements": {"Area": 6.0, "Gap": 1.0}}, id="measurement"),
        pytest.param({"metadata": {"Note": ""}}, id="metadata"),
        pytest.param({"parent": UUID(int=2)}, id="parent"),
        pytest.param({"locked": True}, id="lock"),
    ],
)
def test_any_field_makes_another(changed: dict[str, Any]) -> None:
    assert made(**changed) != made()


def test_something_else_is_never_the_same() -> None:
    assert made() != made().id
