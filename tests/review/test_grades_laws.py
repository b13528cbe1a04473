"""Laws of the roll-up: what was not graded is never normal, order does not matter, no half totals."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid5

import pytest
from graded import SPACE, several
from hypothesis import given
from hypothesis import strategies as st

from glombridge.review.counting import Counting, Slide, choose
from glombridge.review.glomerulus import Glomerulus
from glombridge.review.grades import figures_of
from glombridge.schemes import SHIPPED, Scheme, shipped_scheme

LUPUS = shipped_scheme("lupus")


@st.composite
def glomeruli(draw: st.DrawFn, scheme: Scheme) -> list[Glomerulus]:
    """Any glomeruli whose lesions are each absent, present or unknown."""
    values = st.fixed_dictionaries(
        {x.name: st.none() | st.integers(0, x.max) for x in scheme.lesions}
    )
    drawn = draw(st.lists(values, max_size=12))
    return [
        Glomerulus(uuid5(SPACE, str(k)), 1, "Glomerulus", found) for k, found in enumerate(drawn)
    ]


def ungraded(scheme: Scheme, count: int) -> list[Glomerulus]:
    return several(scheme, (count, None))


@pytest.mark.parametrize("name", SHIPPED)
def test_glomeruli_nobody_graded_change_no_share(name: str) -> None:
    scheme = shipped_scheme(name)

    @given(found=glomeruli(scheme), more=st.integers(0, 5))
    def law(found: list[Glomerulus], more: int) -> None:
        before = figures_of(found, scheme)
        after = figures_of([*found, *ungraded(scheme, more)], scheme)
        for one, two in zip(before.shares, after.shares, strict=True):
            assert (one.n, one.of, one.left_out) == (two.n, two.of, two.left_out)
            assert two.ungraded == one.ungraded + more
        assert [s.value for s in before.scores] == [s.value for s in after.scores]
        assert after.glomeruli == before.glomeruli + more
        assert after.graded == before.graded

    law()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_glomerulus_is_counted_in_one_way(name: str) -> None:
    scheme = shipped_scheme(name)

    @given(found=glomeruli(scheme))
    def law(found: list[Glomerulus]) -> None:
        for share in figures_of(found, scheme).shares:
            assert share.of + share.left_out + share.ungraded == len(found)
            assert 0 <= share.n <= share.of

    law()


@given(data=st.data(), found=glomeruli(LUPUS))
def test_the_order_of_glomeruli_does_not_matter(
    data: st.DataObject, found: list[Glomerulus]
) -> None:
    other = data.draw(st.permutations(found))
    items = {"Interstitial inflammation": 2, "Tubular atrophy": 0}
    assert figures_of(found, LUPUS, items) == figures_of(other, LUPUS, items)


@given(data=st.data(), found=glomeruli(LUPUS))
def test_a_final_score_stays_whatever_the_rest_turns_out_to_be(
    data: st.DataObject, found: list[Glomerulus]
) -> None:
    before = figures_of(found, LUPUS)
    graded = [
        Glomerulus(
            g.id,
            g.image,
            g.path_class,
            {
                name: data.draw(st.integers(0, 1)) if value is None else value
                for name, value in g.values.items()
            },
        )
        for g in found
    ]
    after = figures_of(graded, LUPUS)
    for one, two, share in zip(
        before.scores, after.scores, (s.share for s in LUPUS.scores), strict=True
    ):
        if one.is_final and next(s for s in after.shares if s.name == share).of:
            assert one.value == two.value


@given(
    found=glomeruli(LUPUS),
    entered=st.dictionaries(st.sampled_from([i.name for i in LUPUS.case_items]), st.integers(0, 1)),
)
def test_an_index_with_a_part_missing_has_no_total(
    found: list[Glomerulus], entered: dict[str, int]
) -> None:
    figures = figures_of(found, LUPUS, entered)
    known = {s.name for s in figures.scores if s.value is not None} | set(entered)
    for index, rule in zip(figures.indices, LUPUS.indices, strict=True):
        missing = [part.item for part in rule.parts if part.item not in known]
        assert list(index.missing) == missing
        assert (index.value is None) is bool(missing)
        assert not (missing and index.is_final)


def test_figures_that_are_no_case_have_no_index() -> None:
    assert figures_of(several(LUPUS, (3, ())), LUPUS).indices == ()


def a(name: str, glomeruli: int = 5, counting: Counting = Counting.NOTHING) -> Slide:
    return Slide(ord(name), name, glomeruli, counting)


YES, DISTINCT = Counting.COUNTING, Counting.DISTINCT


@pytest.mark.parametrize(
    ("slides", "chosen", "says"),
    [
        pytest.param([a("a")], "a", "the only slide", id="one"),
        pytest.param([a("a"), a("b", 0)], "a", "the only slide with glomeruli", id="one-marked"),
        pytest.param([a("a"), a("b")], "", "may show the same ones again", id="never-a-silent-sum"),
        pytest.param([a("a", 0), a("b", 0)], "", "no glomerulus", id="nothing-marked"),
        pytest.param([a("a"), a("b", 5, YES)], "b", "counting slide: b", id="declared"),
        pytest.param([a("a", 5, YES), a("b", 5, YES)], "", "each declared", id="two-declared"),
        pytest.param(
            [a("a", 5, DISTINCT), a("b", 5, DISTINCT), a("c")],
            "ab",
            "not counted: c",
            id="distinct",
        ),
        pytest.param(
            [a("a", 5, DISTINCT), a("b", 5, YES)], "", "leave one of the two", id="both-kinds"
        ),
        pytest.param([a("a"), a("b", 0, YES)], "b", "counting slide: b", id="declared-and-empty"),
    ],
)
def test_slides_that_count(slides: Sequence[Slide], chosen: str, says: str) -> None:
    for order in (slides, list(reversed(slides))):
        choice = choose(order)
        assert "".join(map(chr, choice.images)) == chosen
        assert says in choice.why
