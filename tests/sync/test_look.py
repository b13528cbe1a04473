"""The state of every object, told by comparing what was pushed with what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from merging import Image, Seen, class_of, run_of

from glombridge.ledger import State
from glombridge.ledger.pushed import Drawing, Version
from glombridge.objects import ObjectKind, Outline, OutlineKind, SlideObject
from glombridge.qupath.stored_form import as_stored
from glombridge.settings import Settings
from glombridge.sync.comparison import is_untouched, same_place
from glombridge.sync.look import look_at

PLACES = [(1000.0 * k, 0.0, 1000.0 * k + 400, 400.0) for k in range(5)]


def pushed(n: int = 5) -> Image:
    image = Image()
    image.push(*run_of(*(Seen(box, 0.5) for box in PLACES[:n])))
    return image


def at(image: Image, k: int) -> UUID:
    return next(i for i, b in image.base.items() if b.object.outline.bounds == PLACES[k])


def shifted(obj: SlideObject, dx: float) -> Outline:
    x0, y0, x1, y1 = obj.outline.bounds
    return Outline.rectangle(x0 + dx, y0, x1 + dx, y1)


@pytest.mark.parametrize(
    ("deed", "state", "untouched"),
    [
        pytest.param(lambda o: o, State.PROPOSAL, True, id="nothing"),
        pytest.param(lambda o: replace(o, locked=False), State.PROPOSAL, False, id="unlocked"),
        pytest.param(lambda o: replace(o, name="a"), State.PROPOSAL, False, id="named"),
        pytest.param(
            lambda o: replace(o, measurements={**o.measurements, "Grade": 2.0}),
            State.PROPOSAL,
            False,
            id="measured",
        ),
        pytest.param(lambda o: replace(o, parent=uuid4()), State.PROPOSAL, True, id="re-nested"),
        pytest.param(
            lambda o: replace(o, outline=shifted(o, 0.005)), State.PROPOSAL, True, id="rounded"
        ),
        pytest.param(
            lambda o: replace(o, outline=shifted(o, 1.0)), State.MOVED, False, id="moved-1px"
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Glomerulus")),
            State.ACCEPTED,
            False,
            id="accepted",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Glomerulus: Sclerotic"), name="3"),
            State.ACCEPTED,
            False,
            id="graded",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Glomerulus"), outline=shifted(o, 5)),
            State.EDITED,
            False,
            id="edited",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Rejected*")),
            State.REJECTED,
            False,
            id="rejected",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Rejected*"), outline=shifted(o, 50)),
            State.REJECTED,
            False,
            id="rejected-and-moved",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Artery")),
            State.RECLASSIFIED,
            False,
            id="artery",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Ignore*")),
            State.RECLASSIFIED,
            False,
            id="ignore",
        ),
        pytest.param(
            lambda o: replace(o, path_class=class_of("Missed")),
            State.RECLASSIFIED,
            False,
            id="error-class",
        ),
        pytest.param(
            lambda o: replace(o, path_class=None), State.RECLASSIFIED, False, id="no-class"
        ),
        pytest.param(
            lambda o: replace(o, kind=ObjectKind.DETECTION), State.PROPOSAL, False, id="other-kind"
        ),
        pytest.param(lambda o: None, State.DELETED, False, id="deleted"),
    ],
)
def test_state(
    deed: Callable[[SlideObject], SlideObject | None], state: State, untouched: bool
) -> None:
    image = pushed()
    i = at(image, 0)
    made = deed(image.theirs.pop(i))
    if made is not None:
        image.theirs[i] = made
    look = image.look()
    assert (look.seen[i].state, look.seen[i].untouched) == (state, untouched)
    assert {s.state for k, s in look.seen.items() if k != i} == {State.PROPOSAL}
    assert [d.id for d in look.decisions] == ([] if state is State.PROPOSAL else [i])
    # Once on record, it is no news.
    image.record_look()
    assert image.look().decisions == ()


def test_every_form_an_object_was_pushed_in_is_as_we_pushed_it() -> None:
    image = pushed()
    i = at(image, 0)
    old = image.theirs[i]
    image.push(*run_of(Seen((10.0, 0.0, 420.0, 400.0), 0.9), run="detect-002"))
    assert image.theirs[i] != old
    image.theirs[i] = old  # saved by a QuPath that was opened between the two pushes
    assert (image.look().seen[i].state, image.look().seen[i].untouched) == (State.PROPOSAL, True)
    image.change(i, path_class=class_of("Glomerulus"))
    assert image.look().seen[i].state is State.ACCEPTED


def delete(*which: int) -> Callable[[Image], None]:
    def deed(image: Image) -> None:
        for k in which:
            del image.theirs[at(image, k)]

    return deed


@pytest.mark.parametrize(
    ("n", "deed", "states"),
    [
        pytest.param(5, delete(0, 1, 2, 3), ["deleted"] * 4 + ["proposal"], id="one-is-left"),
        pytest.param(5, delete(0, 1, 2, 3, 4), ["lost"] * 5, id="all-gone"),
        pytest.param(1, delete(0), ["lost"], id="the-only-one"),
    ],
)
def test_a_push_that_vanished_whole_is_lost(
    n: int, deed: Callable[[Image], None], states: list[str]
) -> None:
    image = pushed(n)
    deed(image)
    look = image.look()
    assert [look.seen[at(image, k)].state.value for k in range(n)] == states


def test_few_objects_lost_twice_are_deleted_and_many_are_lost_again() -> None:
    for n, second in ((2, State.DELETED), (3, State.LOST)):
        image = pushed(n)
        image.theirs.clear()
        assert {s.state for s in image.record_look().seen.values()} == {State.LOST}
        image.push(*run_of(*(Seen(box, 0.5) for box in PLACES[:n])))
        assert len(image.theirs) == n
        image.theirs.clear()
        assert {s.state for s in image.look().seen.values()} == {second}


def test_the_last_of_a_reviewed_push_is_deleted_not_lost() -> None:
    image = pushed(3)
    delete(0, 1)(image)
    image.record_look()
    delete(2)(image)
    assert image.look().seen[at(image, 2)].state is State.DELETED


def test_reviewed_objects_that_vanish_with_all_others_are_lost() -> None:
    image = pushed(4)
    image.change(at(image, 0), path_class=class_of("Glomerulus"))
    image.record_look()
    image.theirs.clear()
    assert {s.state for s in image.look().seen.values()} == {State.LOST}


def test_only_the_push_that_qupath_did_not_know_is_lost() -> None:
    image = pushed(5)
    before = dict(image.theirs)
    new = [(1000.0 * k, 9000.0, 1000.0 * k + 400, 9400.0) for k in range(3)]
    image.push(*run_of(*(Seen(b) for b in (*PLACES, *new)), run="detect-002"))
    assert len(image.theirs) == 8
    image.theirs = before
    look = image.look()
    assert sum(s.state is State.LOST for s in look.seen.values()) == 3
    assert sum(s.state is State.PROPOSAL and s.untouched for s in look.seen.values()) == 5


NEW_PLACES = [(1000.0 * k, 9000.0, 1000.0 * k + 400, 9400.0) for k in range(3)]


def rank(image: Image) -> None:
    image.queue()


def push_elsewhere(image: Image) -> None:
    places = [(x0, y0 + 4000, x1, y1 + 4000) for x0, y0, x1, y1 in NEW_PLACES]
    image.push(*run_of(*map(Seen, places), run="detect-003", layer="other"))


@pytest.mark.parametrize(
    ("score", "after"),
    [
        pytest.param(0.7, None, id="old-ones-were-updated"),
        pytest.param(0.5, rank, id="then-ranked"),
        pytest.param(0.5, push_elsewhere, id="then-pushed-into-another-layer"),
    ],
)
@pytest.mark.parametrize("judged", [False, True])
def test_all_that_was_new_deleted_by_somebody_who_had_read_the_push(
    score: float, after: Callable[[Image], None] | None, judged: bool
) -> None:
    image = pushed(5)
    seen = (*(Seen(b, score) for b in PLACES), *(Seen(b, 0.4) for b in NEW_PLACES))
    # Of the same run, so that nothing but a changed score tells the old ones' forms apart.
    image.push(*run_of(*seen, run="detect-001"))
    if after is not None:
        after(image)
    new = [i for i, o in image.theirs.items() if o.outline.bounds in NEW_PLACES]
    assert len(new) == 3
    if judged:
        for i in set(image.theirs) - set(new):
            image.change(i, path_class=class_of("Glomerulus"), locked=False)
    for i in new:
        del image.theirs[i]
    look = image.look()
    assert {look.seen[i].state for i in new} == {State.DELETED}


def test_objects_whose_ids_were_made_anew_are_known_by_their_place() -> None:
    image = pushed()
    known = at(image, 0)
    obj = image.theirs.pop(known)
    image.theirs[UUID(int=1)] = replace(
        obj, id=UUID(int=1), id_is_stored=False, path_class=class_of("Glomerulus"), metadata={}
    )
    seen = image.look().seen[known]
    assert (seen.state, seen.untouched) == (State.ACCEPTED, False)


DRAWN = SlideObject(
    id=UUID(int=7),
    kind=ObjectKind.ANNOTATION,
    outline=Outline.of(shapely.Point(500, 500).buffer(200)),
    path_class=class_of("Glomerulus"),
)


@pytest.mark.parametrize(
    ("now", "decided"),
    [
        pytest.param(DRAWN, [], id="same"),
        pytest.param(as_stored(DRAWN), [], id="rounded-to-32-bits"),
        pytest.param(
            replace(DRAWN, outline=Outline.of(shapely.set_precision(DRAWN.outline.geometry, 0.01))),
            [],
            id="rounded-to-0.01",
        ),
        pytest.param(replace(DRAWN, name="x"), [], id="named"),
        pytest.param(
            replace(DRAWN, path_class=class_of("Glomerulus: Sclerotic")),
            ["reclassified"],
            id="graded",
        ),
        pytest.param(
            replace(DRAWN, outline=Outline.of(shapely.Point(500, 500).buffer(201))),
            ["added"],
            id="redrawn",
        ),
        pytest.param(None, ["deleted"], id="deleted"),
    ],
)
def test_what_a_human_drew_is_followed(now: SlideObject | None, decided: list[str]) -> None:
    settings = Settings(classes={"Glomerulus": ["Glomerulus", "Glomerulus: Sclerotic"]})
    first = look_at([], {}, [DRAWN], settings).decisions
    assert [(d.id, d.before, d.after) for d in first] == [(DRAWN.id, None, State.ADDED)]
    drawn = {DRAWN.id: Drawing.from_list(Drawing.of(DRAWN).as_list())}
    found = look_at([], drawn, [now] if now else [], settings).decisions
    assert [d.after.value for d in found] == [{"reclassified": "added"}.get(d, d) for d in decided]


@given(
    st.floats(0, 300_000),
    st.floats(0, 300_000),
    st.floats(20, 2000),
    st.sampled_from(
        [OutlineKind.POLYGON, OutlineKind.GEOMETRY, OutlineKind.ELLIPSE, OutlineKind.RECTANGLE]
    ),
)
def test_qupaths_roundings_are_no_change(
    x: float, y: float, size: float, kind: OutlineKind
) -> None:
    if kind is OutlineKind.RECTANGLE:
        outline = Outline.rectangle(x, y, x + size, y + size)
    elif kind is OutlineKind.ELLIPSE:
        outline = Outline.ellipse(x, y, x + size, y + size)
    else:
        outline = Outline(shapely.Point(x, y).buffer(size), kind)
    stored = as_stored(replace(DRAWN, outline=outline)).outline
    rounded = Outline(
        shapely.transform(
            outline.geometry, lambda xy: np.round(xy.astype(np.float32), 2).astype(np.float64)
        ),
        kind,
    )
    for other in (stored, rounded):
        assert same_place(outline, other)
        assert same_place(other, outline)


def test_measurements_with_32_bits_are_no_change() -> None:
    obj = run_of(Seen(PLACES[0], 0.123456), kind=ObjectKind.DETECTION)[0].objects[0]
    assert is_untouched(Version(obj), as_stored(obj))
    assert as_stored(obj).measurements != obj.measurements
