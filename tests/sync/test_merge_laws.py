"""The laws of the merge, whatever humans do and runs see."""

from __future__ import annotations

import random
from collections.abc import Callable

import shapely
from hypothesis import given
from hypothesis import strategies as st
from merging import SETTINGS, WHOLE, Image, Seen, class_of, run_of

from glombridge.ledger import State
from glombridge.objects import Outline
from glombridge.provenance import QUEUE_RANK
from glombridge.sync.matching import SAME_IOU, pair_up
from glombridge.sync.proposals import boxes_of

# Places on a coarse grid with a jitter: some coincide, some touch, some overlap a little.
PLACES = st.tuples(
    st.integers(0, 5),
    st.integers(0, 4),
    st.sampled_from([0, 0, 0, 20, 60]),
    st.sampled_from([90, 100, 160]),
)


def box_at(place: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    x, y, shift, size = place
    return (x * 100.0 + shift, y * 100.0, x * 100.0 + shift + size, y * 100.0 + size)


SEEN = st.builds(
    lambda place, score, k: Seen(box_at(place), score / 100, k),
    PLACES,
    st.integers(5, 99),
    st.sampled_from([0, 0, 0, 1]),
)
RUNS = st.lists(SEEN, max_size=9)


def accept(image: Image, i: object, r: random.Random) -> None:
    image.change(
        i, path_class=class_of(r.choice(["Glomerulus", "Glomerulus: Sclerotic", "Vessel"]))
    )


def reject(image: Image, i: object, r: random.Random) -> None:
    image.change(i, path_class=class_of("Rejected*"))


def move(image: Image, i: object, r: random.Random) -> None:
    x0, y0, x1, y1 = image.theirs[i].outline.bounds
    dx = r.choice([3, 40, 300])
    image.change(i, outline=Outline.rectangle(x0 + dx, y0, x1 + dx, y1))


def edit(image: Image, i: object, r: random.Random) -> None:
    accept(image, i, r)
    move(image, i, r)


def touch(image: Image, i: object, r: random.Random) -> None:
    image.change(
        i, **r.choice([{"name": "look here"}, {"locked": False}, {"measurements": {"Grade": 2}}])
    )


def reclassify(image: Image, i: object, r: random.Random) -> None:
    image.change(i, path_class=r.choice([None, class_of("Artery"), class_of("Ignore*")]))


def delete(image: Image, i: object, r: random.Random) -> None:
    del image.theirs[i]


DEEDS: list[Callable[..., None]] = [accept, reject, move, edit, touch, reclassify, delete]


def review(image: Image, r: random.Random) -> None:
    """A human does something to some objects, and draws some."""
    for i in sorted(image.theirs):
        if r.random() < 0.4:
            r.choice(DEEDS)(image, i, r)
    for _ in range(r.randrange(3)):
        place = (r.randrange(6), r.randrange(5), r.choice([0, 30]), r.choice([90, 120]))
        image.draw(r.choice(["Glomerulus", "Tubule", "Rejected*", "Region*", None]), box_at(place))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Image, random.Random, int]:
    """An image after some rounds of pushing and reviewing, in one or two layers."""
    image = Image(settings=SETTINGS)
    reopen = draw(st.sampled_from([None, None, 0.6]))
    if reopen is not None:
        push = SETTINGS.push.model_copy(update={"reopen_above": reopen})
        image.settings = SETTINGS.model_copy(update={"push": push})
    r = random.Random(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        image.draw("Glomerulus", box_at((1, 1, 0, 100)))
    rounds = draw(st.integers(0, 3))
    for k in range(rounds):
        layer = draw(st.sampled_from(["main", "main", "other"]))
        image.push(*run_of(*draw(RUNS), run=f"detect-{k:03d}", layer=layer))
        review(image, r)
        if draw(st.booleans()):
            image.queue()
    return image, r, rounds


SCANNED = st.sampled_from([WHOLE, None, shapely.box(0, 0, 300, 1000)])


@given(history=histories(), found=RUNS, scanned=SCANNED)
def test_a_human_touched_object_is_in_no_plan(history: tuple, found: list, scanned: object) -> None:
    image, _, rounds = history
    before, human = dict(image.theirs), image.human
    plan = image.push(*run_of(*found, run=f"detect-{rounds:03d}", scanned=scanned))
    touched = {o.id for o in (*plan.update, *plan.withdraw)}
    assert touched.isdisjoint(human)
    assert {o.id for o in plan.add}.isdisjoint(before)
    for i, obj in human.items():
        assert image.theirs[i] == obj


@given(history=histories(), found=RUNS, scanned=SCANNED)
def test_merging_twice_is_merging_once(history: tuple, found: list, scanned: object) -> None:
    image, _, rounds = history
    ours = run_of(*found, run=f"detect-{rounds:03d}", scanned=scanned)
    image.push(*ours)
    again = image.plan(ours[0])
    assert again.edit.is_empty
    image.record_look()
    assert image.plan(ours[0]) == again


@given(history=histories(), found=RUNS, seed=st.integers(0, 99))
def test_no_order_matters(history: tuple, found: list, seed: int) -> None:
    image, _, rounds = history
    r = random.Random(seed)
    plan = image.plan(run_of(*found, run=f"detect-{rounds:03d}")[0])
    mixed = list(found)
    r.shuffle(mixed)
    theirs = list(image.theirs.values())
    r.shuffle(theirs)
    base = list(image.base.items())
    r.shuffle(base)
    image.base = dict(base)
    assert image.plan(run_of(*mixed, run=f"detect-{rounds:03d}")[0], theirs) == plan


@given(history=histories(), found=RUNS)
def test_a_plan_touches_only_its_own_layer(history: tuple, found: list) -> None:
    image, _, rounds = history
    plan = image.plan(run_of(*found, run=f"detect-{rounds:03d}")[0])
    for obj in (*plan.update, *plan.withdraw):
        assert image.base[obj.id].layer == "main"


@given(history=histories(), found=RUNS)
def test_nothing_is_proposed_over_a_human_object_or_a_rejection(
    history: tuple, found: list
) -> None:
    image, _, rounds = history
    look = image.look()
    plan = image.plan(run_of(*found, run=f"detect-{rounds:03d}")[0])
    closed = image.settings.push.reopen_above is None
    theirs = [
        o
        for i, o in image.theirs.items()
        if str(o.path_class) != "Region*"
        and not (i in look.seen and look.seen[i].untouched)
        and (closed or str(o.path_class) != "Rejected*")
    ]
    gone = [s.base.object for s in look.seen.values() if closed and s.state is State.DELETED]
    new = boxes_of(plan.add)
    assert not (pair_up(new, boxes_of([*theirs, *gone])).iou >= SAME_IOU).any()


@given(history=histories(), found=RUNS)
def test_a_push_keeps_the_queue_it_finds(history: tuple, found: list) -> None:
    image, _, rounds = history
    image.queue()
    before = {i: o.measurements.get(QUEUE_RANK) for i, o in image.theirs.items()}
    plan = image.push(*run_of(*found, run=f"detect-{rounds:03d}"))
    for obj in plan.update:
        assert obj.measurements[QUEUE_RANK] == before[obj.id]
    for i in before.keys() & image.theirs.keys():
        assert image.theirs[i].measurements.get(QUEUE_RANK) == before[i]


@given(history=histories())
def test_what_the_run_sees_as_it_is_stays_as_it_is(history: tuple) -> None:
    """merge(x, x) = x: a run that sees just what is pending, as pushed by it, changes nothing."""
    image, _, rounds = history
    run = f"detect-{rounds:03d}"
    found = [
        Seen(
            o.outline.bounds,
            o.measurements["Confidence"],
            ["Glomerulus: Proposed", "Vessel: Proposed"].index(str(o.path_class)),
        )
        for i, o in image.theirs.items()
        if i in image.base and image.look().seen[i].untouched and image.base[i].layer == "main"
    ]
    image.push(*run_of(*found, run=run))
    pending = {
        i: o for i, o in image.theirs.items() if i in image.base and image.base[i].run == run
    }
    plan = image.plan(run_of(*found, run=run)[0])
    assert plan.edit.is_empty
    assert set(plan.kept) >= set(pending) - {m.id for m in plan.known}


@given(history=histories(), found=RUNS, scanned=SCANNED)
def test_every_proposal_of_the_layer_is_accounted_for(
    history: tuple, found: list, scanned: object
) -> None:
    image, _, rounds = history
    ours, _ = run_of(*found, run=f"detect-{rounds:03d}", scanned=scanned)
    plan = image.plan(ours)
    told = len(plan.add) + len(plan.update) + len(plan.known) + len(plan.suppressed)
    # A second detection of one human object or rejection is swallowed.
    assert told <= len(ours.objects)
    mine = {i for i, s in image.look().seen.items() if s.untouched and s.base.layer == "main"}
    assert {o.id for o in plan.update} | {o.id for o in plan.withdraw} | set(plan.kept) == mine
    if scanned is None:
        assert not plan.withdraw
