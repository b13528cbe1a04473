"""The merge, case by case: what one detection becomes where something is, or was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
import shapely
from merging import SETTINGS, Image, Seen, class_of, run_of

from glombridge.objects import ObjectKind, Outline
from glombridge.settings import Settings

BOX = (1000.0, 1000.0, 1400.0, 1400.0)
NEAR = (1030.0, 1010.0, 1430.0, 1400.0)
FAR = (5000.0, 1000.0, 5400.0, 1400.0)
FIRST = run_of(Seen(BOX, 0.5), Seen(FAR, 0.5))


def pushed() -> tuple[Image, UUID]:
    """An image with two proposals, and the id of the one at BOX."""
    image = Image()
    plan = image.push(*FIRST)
    return image, next(o.id for o in plan.add if o.outline and o.outline.bounds == BOX)


def again(image: Image, *found: Seen, run: str = "detect-002", **options: object) -> dict[str, int]:
    plan = image.push(*run_of(*found, run=run, **options))  # type: ignore[arg-type]
    fields = ("add", "update", "withdraw", "kept", "known", "suppressed", "conflicts")
    return {name: n for name in fields if (n := len(getattr(plan, name)))}


def moved_to(box: tuple[float, float, float, float]) -> dict[str, object]:
    return {"outline": Outline.rectangle(*box)}


@pytest.mark.parametrize(
    ("deed", "becomes"),
    [
        pytest.param({}, {"update": 1}, id="untouched"),
        pytest.param({"path_class": class_of("Glomerulus")}, {"known": 1}, id="accepted"),
        pytest.param(
            {"path_class": class_of("Glomerulus: Sclerotic")},
            {"known": 1},
            id="accepted-with-grade",
        ),
        pytest.param(
            {"path_class": class_of("Glomerulus"), **moved_to(NEAR)}, {"known": 1}, id="edited"
        ),
        pytest.param(moved_to(NEAR), {"known": 1, "conflicts": 1}, id="moved-a-little"),
        pytest.param(
            moved_to((2000.0, 1000.0, 2400.0, 1400.0)),
            {"known": 1, "conflicts": 1},
            id="moved-away",
        ),
        pytest.param({"path_class": class_of("Rejected*")}, {"suppressed": 1}, id="rejected"),
        pytest.param(
            {"path_class": class_of("Rejected*"), **moved_to((2000.0, 1000.0, 2400.0, 1400.0))},
            {"suppressed": 1},
            id="rejected-and-moved-away",
        ),
        pytest.param({"path_class": class_of("Artery")}, {"known": 1}, id="another-class"),
        pytest.param({"path_class": None}, {"known": 1}, id="class-taken-away"),
        pytest.param(
            {"path_class": class_of("Vessel")}, {"known": 1, "conflicts": 1}, id="class-conflict"
        ),
        pytest.param({"name": "?"}, {"known": 1}, id="named"),
        pytest.param({"locked": False}, {"known": 1}, id="unlocked"),
        pytest.param({"color": (1, 2, 3, 255)}, {"known": 1}, id="coloured"),
        pytest.param({"probability": 0.5}, {"known": 1}, id="probability"),
        pytest.param({"measurements": {"Confidence": 0.5}}, {"known": 1}, id="measurement-removed"),
        pytest.param({"metadata": {"note": "see case 7"}}, {"known": 1}, id="metadata"),
        pytest.param(None, {"suppressed": 1}, id="deleted"),
    ],
)
def test_a_detection_where_a_proposal_was_pushed(
    deed: dict[str, object] | None, becomes: dict[str, int]
) -> None:
    image, i = pushed()
    if deed is None:
        del image.theirs[i]
    else:
        image.change(i, **deed)
    before = image.theirs.get(i)
    found = again(image, Seen(BOX, 0.6), Seen(FAR, 0.6))
    # The other proposal is seen by the new run, and updated.
    assert found == {**becomes, "update": 1 + becomes.get("update", 0)}
    if deed != {}:
        assert image.theirs.get(i) == before


@pytest.mark.parametrize(
    ("box", "is_it"),
    [
        pytest.param(BOX, True, id="same"),
        pytest.param((1100.0, 1000.0, 1500.0, 1400.0), True, id="iou-0.6"),
        pytest.param((1050.0, 1050.0, 1350.0, 1350.0), True, id="by-centre-iou-0.56"),
        pytest.param((1080.0, 1080.0, 1320.0, 1320.0), True, id="by-centre-iou-0.36"),
        pytest.param((1150.0, 1150.0, 1250.0, 1250.0), False, id="much-smaller-inside"),
        pytest.param((600.0, 600.0, 1800.0, 1800.0), False, id="much-larger-around"),
        pytest.param((1400.0, 1000.0, 1800.0, 1400.0), False, id="touching-neighbour"),
        pytest.param((1300.0, 1000.0, 1700.0, 1400.0), False, id="overlapping-neighbour"),
    ],
)
@pytest.mark.parametrize("who", ["mine", "human"])
def test_what_counts_as_the_same_object(
    box: tuple[float, float, float, float], is_it: bool, who: str
) -> None:
    image = Image()
    if who == "human":
        image.draw("Glomerulus", BOX)
        assert again(image, Seen(box)) == ({"known": 1} if is_it else {"add": 1})
    else:
        image.push(*run_of(Seen(BOX)))
        assert again(image, Seen(box)) == ({"update": 1} if is_it else {"add": 1, "withdraw": 1})


def test_one_detection_is_one_object_and_the_better_overlap_wins() -> None:
    image = Image()
    image.push(*run_of(Seen(BOX)))
    (i,) = image.theirs
    assert again(image, Seen((1080.0, 1080.0, 1320.0, 1320.0), 0.9), Seen(NEAR, 0.3)) == {
        "add": 1,
        "update": 1,
    }
    assert image.theirs[i].outline is not None
    assert image.theirs[i].outline.bounds == NEAR


def test_every_detection_over_a_human_object_adds_nothing() -> None:
    image = Image()
    image.draw("Glomerulus", BOX)
    assert again(image, Seen(NEAR, 0.9), Seen((1000.0, 1000.0, 1400.0, 1390.0), 0.5)) == {
        "known": 1
    }


@pytest.mark.parametrize(
    ("scanned", "found"),
    [
        pytest.param(shapely.box(0, 0, 9000, 9000), {"withdraw": 2}, id="both-looked-at"),
        pytest.param(shapely.box(0, 0, 2000, 2000), {"withdraw": 1, "kept": 1}, id="one-looked-at"),
        pytest.param(
            shapely.box(0, 0, 1250, 2000), {"withdraw": 1, "kept": 1}, id="mostly-looked-at"
        ),
        pytest.param(shapely.box(0, 0, 1150, 2000), {"kept": 2}, id="hardly-looked-at"),
        pytest.param(shapely.Polygon(), {"kept": 2}, id="nothing-looked-at"),
        pytest.param(None, {"kept": 2}, id="unknown"),
    ],
)
def test_withdrawn_is_only_what_the_run_looked_at(scanned: object, found: dict[str, int]) -> None:
    image, _ = pushed()
    assert again(image, scanned=scanned) == found


def test_what_was_withdrawn_or_lost_returns_under_its_id() -> None:
    image, i = pushed()
    assert again(image) == {"withdraw": 2}
    assert again(image, Seen(NEAR, 0.7), run="detect-003") == {"add": 1}
    assert list(image.theirs) == [i]
    image.theirs.clear()  # a QuPath that had the image open saves it
    assert again(image, Seen(BOX, 0.7), run="detect-004") == {"add": 1}
    assert list(image.theirs) == [i]


def test_layers_leave_each_other_alone() -> None:
    image, _ = pushed()
    assert again(image, Seen(BOX, 0.9), layer="other") == {"add": 1}
    assert len(image.theirs) == 3
    # What a human decides in one layer holds in the other.
    mine = next(i for i, b in image.base.items() if b.layer == "other")
    image.change(mine, path_class=class_of("Glomerulus"))
    assert again(image, Seen(BOX, 0.9), Seen(FAR, 0.9), run="detect-003") == {
        "update": 1,
        "known": 1,
        "withdraw": 1,
    }


@pytest.mark.parametrize(
    ("above", "rejected_with", "score", "found"),
    [
        pytest.param(None, 0.5, 1.0, {"suppressed": 1}, id="never"),
        pytest.param(0.8, 0.5, 0.8, {"suppressed": 1}, id="not-above"),
        pytest.param(0.8, 0.5, 0.81, {"add": 1}, id="above"),
        pytest.param(0.8, 0.95, 0.9, {"suppressed": 1}, id="above-but-not-better-than-rejected"),
        pytest.param(0.8, 0.9, 0.95, {"add": 1}, id="better-than-rejected"),
    ],
)
@pytest.mark.parametrize("how", ["deleted", "rejected", "drawn"])
def test_a_rejection_is_reopened_only_by_a_better_score(
    above: float | None, rejected_with: float, score: float, found: dict[str, int], how: str
) -> None:
    image = Image(
        settings=SETTINGS.model_copy(
            update={"push": Settings().push.model_copy(update={"reopen_above": above})}
        )
    )
    if how == "drawn":
        image.draw("Rejected*", BOX)
        if above is not None and score > above:
            found = {"add": 1}  # a mark by hand has no score to beat
    else:
        image.push(*run_of(Seen(BOX, rejected_with), Seen(FAR)))
        i = next(i for i, o in image.theirs.items() if o.outline and o.outline.bounds == BOX)
        if how == "deleted":
            del image.theirs[i]
        else:
            image.change(i, path_class=class_of("Rejected*"))
    # The same run, so that the id it would give is taken.
    before = set(image.theirs) | set(image.base)
    plan = image.push(*run_of(Seen(BOX, score), Seen(FAR), run="detect-001"))
    counts = {"add": len(plan.add) - (how == "drawn"), "suppressed": len(plan.suppressed)}
    assert {k: n for k, n in counts.items() if n} == found
    assert before.isdisjoint(o.id for o in plan.add)
    assert image.push(*run_of(Seen(BOX, score), Seen(FAR), run="detect-001")).edit.is_empty


def test_a_second_push_of_another_kind_replaces_the_objects() -> None:
    image, i = pushed()
    found = again(image, Seen(BOX), Seen(FAR), run="detect-001", kind=ObjectKind.DETECTION)
    assert found == {"add": 2, "withdraw": 2}
    assert i not in image.theirs
    assert {o.kind for o in image.theirs.values()} == {ObjectKind.DETECTION}


def test_the_better_of_two_detections_of_one_place_stands_whatever_their_order() -> None:
    seen = [Seen(BOX, 0.4), Seen((1001.0, 1000.0, 1400.0, 1400.0), 0.9), Seen(FAR, 0.1)]
    found = [list(run_of(*order)[0].objects) for order in (seen, seen[::-1])]
    assert found[0] == found[1]
    assert [o.measurements["Confidence"] for o in found[0]] == [0.9, 0.1]


@pytest.mark.parametrize("what", ["Glomerulus", "Rejected*", "Glomerulus: Proposed", "proposals"])
def test_ties_do_not_depend_on_the_order_of_objects(what: str) -> None:
    image = Image()
    if what != "proposals":
        for _ in range(3):
            image.draw(what, BOX)
    else:
        image.push(*run_of(Seen(BOX, 0.5, 0), Seen(BOX, 0.4, 1)))
        # Both now of one class, as after a change of the settings.
        for i, known in image.base.items():
            version = replace(
                known.versions[0],
                object=replace(known.object, path_class=class_of("Glomerulus: Proposed")),
            )
            image.base[i] = replace(known, versions=(version,))
            image.theirs[i] = version.object
    ours, _ = run_of(Seen(BOX, 0.7), run="detect-002")
    plans = []
    for order in (1, -1):
        image.base = dict(list(image.base.items())[::order])
        plans.append(image.plan(ours, list(image.theirs.values())[::order]))
    assert plans[0] == plans[1]


def test_a_touched_proposal_that_the_run_no_longer_sees_is_listed_and_stays() -> None:
    image, i = pushed()
    image.change(i, name="ask Dr. K.")
    plan = image.push(*run_of(Seen(FAR), run="detect-002"))
    assert [c.id for c in plan.conflicts] == [i]
    assert "changed" in plan.conflicts[0].text
    assert i in image.theirs


CASES: list[tuple[str, Callable[[Image], object]]] = [
    ("region", lambda image: image.draw("Region*", BOX)),
    ("error-object", lambda image: image.draw("Missed", BOX)),
]


@pytest.mark.parametrize("draw", [c[1] for c in CASES], ids=[c[0] for c in CASES])
def test_areas_and_error_objects_hide_no_detection(draw: Callable[[Image], object]) -> None:
    image = Image()
    draw(image)
    assert again(image, Seen(BOX)) == {"add": 1}
