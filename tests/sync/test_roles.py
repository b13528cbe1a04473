"""What each object of an image is to us."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError
from small_project import annotation

from glombridge.objects import ObjectKind, PathClass
from glombridge.settings import Settings
from glombridge.settings.sections import ReviewSettings
from glombridge.sync.look import Verdict, verdict
from glombridge.sync.roles import areas_sha256, assign_roles

BOX = (1000.0, 1000.0, 1400.0, 1400.0)


def test_a_class_that_is_one_name_with_a_colon_is_what_it_looks_like() -> None:
    """QuPath from 0.4 on keeps such names as they are; they look like a class below another one."""
    proposed, unknown = (
        replace(annotation("Glomerulus", BOX), path_class=PathClass((name,)))
        for name in ("Glomerulus: Proposed", "Glomerulus: Crescent")
    )
    roles = assign_roles([proposed], Settings())
    assert (len(roles.pending), roles.n_human) == (1, 0)
    assert verdict(proposed.path_class, Settings()) is Verdict.PROPOSED
    assert assign_roles([unknown], Settings()).unknown == {"Glomerulus: Crescent": 1}
    scheme = Settings(review=ReviewSettings(scheme="lupus"))
    label = next(iter(scheme.graded_classes))
    assert scheme.class_index(PathClass((label,))) == 0


@pytest.mark.parametrize("name", ["Missed", "False"])
def test_error_objects_are_nobodys_mark(name: str) -> None:
    roles = assign_roles([annotation(name, BOX)], Settings())
    assert len(roles.errors) == 1
    assert (roles.truth, roles.rejected, roles.n_human) == ((), (), 0)


def test_an_error_object_a_human_gave_a_truth_class_is_truth() -> None:
    error = annotation("Missed", BOX)
    accepted = replace(error, path_class=annotation("Glomerulus", BOX).path_class)
    assert len(assign_roles([accepted], Settings()).truth) == 1


@pytest.mark.parametrize("where", ["classes", "ignore", "rejected"])
def test_error_classes_cannot_be_given_another_meaning(where: str) -> None:
    values = {"Glomerulus": ["Missed"]} if where == "classes" else ["Missed"]
    with pytest.raises(ValidationError, match="detector's errors"):
        Settings(**{where: values})


@pytest.mark.parametrize(
    ("truth", "n"),
    [
        pytest.param(None, 1, id="no-truth"),
        pytest.param((1400.0, 1000.0, 1800.0, 1400.0), 1, id="touching"),
        pytest.param((1399.0, 1000.0, 1800.0, 1400.0), 0, id="overlapping-a-little"),
        pytest.param(BOX, 0, id="same-place"),
    ],
)
def test_a_rejection_is_a_hard_negative_where_it_overlaps_no_truth(
    truth: tuple[float, float, float, float] | None, n: int
) -> None:
    objects = [annotation("Rejected*", BOX)]
    if truth is not None:
        objects.append(annotation("Glomerulus", truth))
    roles = assign_roles(objects, Settings())
    assert len(roles.rejected) == 1
    assert len(roles.hard_negatives) == n


@pytest.mark.parametrize(
    ("metadata", "truth"),
    [({"glombridge.run": "detect-001"}, 1), ({}, 0)],
    ids=["ours", "a-program's"],
)
def test_a_judged_detection_is_truth_only_if_we_pushed_it(
    metadata: dict[str, str], truth: int
) -> None:
    obj = replace(annotation("Glomerulus", BOX, kind=ObjectKind.DETECTION), metadata=metadata)
    assert len(assign_roles([obj], Settings()).truth) == truth


def test_the_hash_of_regions_changes_with_their_area_only() -> None:
    region = annotation("Region*", BOX)
    other = annotation("Region*", (0.0, 0.0, 50.0, 50.0))
    larger = annotation("Region*", (1000.0, 1000.0, 1400.0, 1401.0))
    of_class = ["Region*"]
    hashes = [
        areas_sha256([region, other], of_class),
        areas_sha256([other, replace(region, name="x"), annotation("Glomerulus", BOX)], of_class),
        areas_sha256([region], of_class),
        areas_sha256([other, larger], of_class),
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
