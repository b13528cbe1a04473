"""Readers compared as pure values: which object is which, what is counted, what is left out."""

from __future__ import annotations

from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.review.agreement import (
    Comparison,
    Finding,
    Place,
    ReadImage,
    Word,
    compare,
    places_of,
)
from glombridge.review.kappa import Weights

SPACE = UUID("33333333-2222-5333-8444-555555555555")
GLOM, REJECTED, PENDING = Word.GLOMERULUS, Word.REJECTED, Word.PENDING


def at(x: float, name: str = "", word: Word = GLOM, **grades: int | None) -> Finding:
    """A finding of 100 x 100 px; without a name its id is its own."""
    return Finding(uuid5(SPACE, name or f"{x} {word} {grades}"), (x, 0, x + 100, 100), word, grades)


def table(*findings: list[Finding], patient: str | None = "p") -> ReadImage:
    return ReadImage("a.tif", patient, frozenset(range(len(findings))), places_of(findings))


def told(
    *images: ReadImage, readers: tuple[str, ...] = ("anna", "bert"), **max_of: int
) -> Comparison:
    return compare(readers, images, max_of, resamples=200, seed=0)


MATCHED = [
    pytest.param([at(0, "x")], [at(900, "x")], 1, id="by-id-wherever-it-is"),
    pytest.param([at(0)], [at(33)], 1, id="by-overlap-of-a-half"),
    pytest.param([at(0)], [at(34)], 0, id="below-a-half-though-centres-meet"),
    pytest.param([at(0, "x")], [at(0, "y"), at(900, "x")], 1, id="id-before-place"),
    pytest.param([at(0)], [at(5), at(10)], 1, id="one-to-one"),
    pytest.param([], [at(5)], 0, id="nothing"),
]


@pytest.mark.parametrize(("first", "second", "both"), MATCHED)
def test_what_is_the_same_one(first: list[Finding], second: list[Finding], both: int) -> None:
    (pair,) = told(table(first, second)).pairs
    assert pair.both == both
    assert pair.only_first == len(first) - both
    assert pair.only_second == len(second) - both


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 20), st.sampled_from(list(Word)), st.integers(0, 5)),
            max_size=8,
        ),
        min_size=2,
        max_size=4,
    )
)
@settings(max_examples=150)
def test_nothing_is_lost_or_doubled(found: list[list[tuple[int, Word, int]]]) -> None:
    findings = [
        list({f.id: f for f in (at(30.0 * x, f"id {k}", word) for x, word, k in one)}.values())
        for one in found
    ]
    places = places_of(findings)
    for reader, given_ in enumerate(findings):
        placed = [p.findings[reader] for p in places if reader in p.findings]
        assert sorted(f.id for f in placed) == sorted(f.id for f in given_)
    # In whatever order a file holds them.
    assert _shape(places_of([list(reversed(f)) for f in findings])) == _shape(places)


def _shape(places: tuple[Place, ...]) -> set[frozenset[tuple[int, UUID]]]:
    return {frozenset((r, f.id) for r, f in p.findings.items()) for p in places}


def test_what_is_counted_and_what_is_left_out() -> None:
    first = [at(0, "a", c=1), at(200, "b", c=0), at(400, "c", c=None), at(600, "d"), at(800, "e")]
    second = [
        at(0, "a", c=1),
        at(200, "b", c=1),
        at(400, "c", c=1),
        at(600, "d", REJECTED),
        at(800, "e", PENDING),
        at(1000, "f"),
    ]
    comparison = told(table(first, second), c=1)
    (pair,) = comparison.pairs
    assert (pair.both, pair.only_first, pair.only_second) == (3, 1, 1)
    assert (pair.rejected_by_other, pair.pending) == (1, 1)
    assert pair.found_agreement == pytest.approx(6 / 8)
    (lesion,) = pair.lesions
    assert (lesion.n, lesion.unknown, lesion.agreeing) == (2, 1, 1)
    assert lesion.table.tolist() == [[0, 1], [0, 1]]
    said = {d.box[0]: d.reason for d in comparison.disagreements}
    assert said == {
        200: "c (anna: 0, bert: 1)",
        600: "anna: glomerulus, bert: rejected",
        1000: "anna: nothing there, bert: glomerulus",
    }


def test_an_image_that_one_has_not_read_says_nothing() -> None:
    places = places_of([[at(0)], []])
    image = ReadImage("a.tif", "p", frozenset({0}), places)
    comparison = told(image)
    assert comparison.pairs[0].images == 0
    assert comparison.pairs[0].only_first == 0
    assert comparison.pairs[0].found_agreement is None
    assert comparison.disagreements == ()


def test_weights_for_lesions_with_grades_only() -> None:
    first = [at(200 * k, f"{k}", yes=k % 2, grade=k % 4) for k in range(12)]
    second = [at(200 * k, f"{k}", yes=k % 2, grade=min(3, k % 4 + 1)) for k in range(12)]
    comparison = told(table(first, second), yes=1, grade=3)
    yes, grade = comparison.pairs[0].lesions
    assert set(yes.kappas) == {Weights.NONE}
    assert set(grade.kappas) == set(Weights)
    none, linear, quadratic = (grade.kappas[w] for w in Weights)
    assert none is not None
    assert linear is not None
    assert quadratic is not None
    assert none < linear < quadratic < 1
    ranks = [d.apart for d in comparison.disagreements]
    assert ranks == sorted(ranks, reverse=True)


def test_undefined_is_said_in_words() -> None:
    both = [at(200 * k, f"{k}", c=0) for k in range(5)]
    (pair,) = told(table(both, both), c=1).pairs
    document = pair.as_dict(("anna", "bert"))["lesions"][0]
    assert document["kappa"]["none"] == {"value": None, "interval": None}
    assert document["undefined"] == "undefined: both readers gave 0 to every glomerulus"
    (nobody,) = told(table([at(0, "x")], [at(0, "x")]), c=1).pairs
    assert nobody.lesions[0].why_undefined == "no glomerulus was graded for it by both readers"


@pytest.mark.parametrize(
    ("patients", "is_flagged", "has_interval"),
    [(1, True, False), (9, True, True), (10, False, True), (None, True, False)],
)
def test_intervals_are_by_patient(
    patients: int | None, is_flagged: bool, has_interval: bool
) -> None:
    images = []
    for k in range(patients or 4):
        first = [at(200 * j, f"{j}", c=j % 2) for j in range(6)]
        second = [at(200 * j, f"{j}", c=(j + (j == k % 6)) % 2) for j in range(6)]
        images.append(table(first, second, patient=None if patients is None else f"p{k}"))
    (pair,) = told(*images, c=1).pairs
    assert pair.patients == patients
    assert pair.has_few_patients is is_flagged
    kappa = pair.lesions[0].kappas[Weights.NONE]
    interval = pair.lesions[0].intervals[Weights.NONE]
    assert kappa is not None
    assert (interval is not None) is has_interval
    assert (pair.found_interval is not None) is has_interval
    if interval is not None:
        assert interval.low <= kappa <= interval.high


def test_three_readers_are_compared_two_by_two() -> None:
    image = table([at(0, "x", c=1)], [at(0, "x", c=0)], [at(4, c=0)])
    comparison = told(image, readers=("anna", "bert", "cleo"), c=1)
    assert [(p.first, p.second) for p in comparison.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert [p.lesions[0].agreeing for p in comparison.pairs] == [0, 0, 1]
    (disagreement,) = comparison.disagreements
    assert disagreement.reason == "c (anna: 1, bert: 0, cleo: 0)"
