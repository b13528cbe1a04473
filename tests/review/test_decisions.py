"""Decisions against the table that the Groovy of the review window is held to, too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.errors import GlombridgeError, InputError, UsageError
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import LESION
from glombridge.review.decisions import (
    Reader,
    Rules,
    accept,
    grading_done,
    reject,
    set_lesion,
    ungrade,
    unlock,
)
from glombridge.schemes import Lesion, Scheme

TABLE = json.loads((Path(__file__).parent / "decision_cases.json").read_text("utf-8"))


def rules_of(told: dict[str, Any]) -> Rules:
    lesions = tuple(
        Lesion(x["name"], x["key"], x["label"], x["max"], tuple(x["excludes"]), x["color"])
        for x in told["lesions"]
    )
    dominance = tuple(told["dominance"])
    scheme = Scheme(told["name"], told["version"], told["title"], lesions, dominance)
    return Rules(tuple(told["classes"]), told["rejected"], scheme)


RULES = rules_of(TABLE["scheme"])


def object_of(told: dict[str, Any]) -> SlideObject:
    return SlideObject(
        UUID(int=1),
        ObjectKind.ANNOTATION,
        Outline.rectangle(1, 2, 30, 40),
        PathClass.parse(told["class"]) if told["class"] else None,
        locked=told["locked"],
        measurements=told["measurements"],
        metadata=told["metadata"],
    )


def decide(obj: SlideObject, said: dict[str, Any]) -> SlideObject:
    if said["do"] == "edit":
        return unlock(obj)
    reader = Reader(said["reviewer"], said["at"], said.get("seconds"))
    if said["do"] == "lesion":
        return set_lesion(obj, said["name"], said["value"], reader, RULES)
    deeds = {"accept": accept, "reject": reject, "graded": grading_done, "ungrade": ungrade}
    return deeds[said["do"]](obj, reader, RULES)


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda c: c["id"])
def test_a_decision_leaves_what_the_table_says(case: dict[str, Any]) -> None:
    life = [object_of(case["object"])]
    for said in case["decisions"]:
        if said["do"] == "undo":
            life.pop()
        else:
            life.append(decide(life[-1], said))
    first, found = life[0], life[-1]
    assert {
        "class": str(found.path_class) if found.path_class else None,
        "locked": found.locked,
        "measurements": dict(found.measurements),
        "metadata": dict(found.metadata),
    } == case["expect"]
    assert replace(
        found,
        path_class=first.path_class,
        locked=first.locked,
        measurements=first.measurements,
        metadata=first.metadata,
    ) == object_of(case["object"])


@pytest.mark.parametrize("case", TABLE["refused"], ids=lambda c: c["id"])
def test_what_cannot_be_is_refused(case: dict[str, Any]) -> None:
    (said,) = case["decisions"]
    with pytest.raises(GlombridgeError, match=case["says"]):
        decide(object_of(case["object"]), said)


PROPOSAL = object_of(
    {"class": "Glomerulus: Proposed", "locked": True, "measurements": {}, "metadata": {}}
)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(lambda: Reader("Dr A", "yesterday"), "yesterday", id="no-time"),
        pytest.param(lambda: Reader("Dr A", seconds=-1), "-1", id="negative-seconds"),
        pytest.param(lambda: Reader("Dr A", seconds=float("nan")), "nan", id="no-seconds"),
    ],
)
def test_a_reader_must_make_sense(made: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        made()


def test_without_a_scheme_nothing_is_graded() -> None:
    plain = Rules(("Glomerulus",), "Rejected*")
    assert str(accept(PROPOSAL, Reader("A"), plain).path_class) == "Glomerulus"
    with pytest.raises(InputError, match="no grading scheme"):
        grading_done(PROPOSAL, Reader("A"), plain)
    with pytest.raises(InputError, match="no grading scheme"):
        set_lesion(PROPOSAL, "Normal", 1, Reader("A"), plain)


def test_half_a_grade_is_refused() -> None:
    with pytest.raises(InputError, match=r"0\.5"):
        set_lesion(PROPOSAL, "Normal", 0.5, Reader("A"), RULES)  # type: ignore[arg-type]


LESIONS = st.sampled_from(RULES.scheme.lesions).flatmap(
    lambda x: st.tuples(st.just(x.name), st.integers(0, x.max))
)


@given(st.lists(LESIONS, max_size=8))
def test_no_order_of_keys_leaves_two_lesions_that_exclude_each_other(
    pressed: list[tuple[str, int]],
) -> None:
    obj, scheme = PROPOSAL, RULES.scheme
    assert scheme is not None
    for name, value in pressed:
        obj = set_lesion(obj, name, value, Reader("A"), RULES)
    present = {x.name for x in scheme.lesions if obj.measurements.get(LESION + x.name, 0) > 0}
    assert all(present.isdisjoint(scheme.excluded_by[name]) for name in present)
    shown = [n for n in scheme.dominance if n in present and scheme.lesion_of[n].label]
    if pressed:
        expected = f"Glomerulus: {scheme.lesion_of[shown[0]].label}" if shown else "Glomerulus"
        assert str(obj.path_class) == expected


@given(st.lists(st.floats(0, 600, allow_nan=False), min_size=1, max_size=6))
def test_seconds_add_up(seconds: list[float]) -> None:
    obj = PROPOSAL
    for s in seconds:
        obj = accept(obj, Reader("A", seconds=round(s, 1)), RULES)
    total = sum(round(s, 1) for s in seconds)
    assert float(obj.metadata["glombridge.seconds"]) == pytest.approx(total, abs=1e-6)
