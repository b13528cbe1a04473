"""Splits: no patient on two sides, stable, balanced, and refused when it cannot be."""

from collections import Counter
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.errors import InputError, ProtectedError, UsageError
from glombridge.tiles.split import (
    PARTS,
    Fractions,
    SplitItem,
    check_no_leaks,
    check_spelling,
    patient_of,
    split_patients,
)

counts = st.dictionaries(
    st.text(min_size=1, max_size=4), st.integers(0, 500), min_size=3, max_size=40
)


@given(counts, st.integers(0, 5))
def test_everyone_gets_one_part_and_no_part_is_empty(patients, seed):
    split = split_patients(patients, seed=seed)
    assert list(split) == list(patients)
    assert set(split.values()) == set(PARTS)
    assert split == split_patients(dict(reversed(patients.items())), seed=seed)


@given(counts, counts, st.integers(0, 5))
def test_patients_never_change_side_when_others_are_added(first, later, seed):
    before = split_patients(first, seed=seed)
    after = split_patients({**first, **later}, seed=seed + 1, frozen=before)
    assert {name: after[name] for name in first} == before


@settings(max_examples=50)
@given(st.lists(st.integers(5, 60), min_size=40, max_size=80), st.integers(0, 9))
def test_objects_are_shared_as_asked(sizes, seed):
    patients = {f"p{i}": n for i, n in enumerate(sizes)}
    split = split_patients(patients, seed=seed)
    total = sum(sizes)
    for part, share in zip(PARTS, Fractions(), strict=True):
        got = sum(n for name, n in patients.items() if split[name] == part)
        assert got / total == pytest.approx(share, abs=0.06)


def test_the_default_is_four_to_one():
    split = split_patients({f"p{i}": 10 for i in range(100)})
    parts = Counter(split.values())
    assert parts["test"] * 4 == parts["train"] + parts["val"]


def test_another_seed_gives_another_split():
    patients = {f"p{i}": 10 for i in range(30)}
    assert split_patients(patients, seed=1) != split_patients(patients, seed=2)


@pytest.mark.parametrize(
    ("names", "parts"), [(["a"], {"train"}), (["a", "b"], {"train", "test"})], ids=["one", "two"]
)
def test_few_patients_are_refused_unless_allowed(names, parts):
    patients = dict.fromkeys(names, 5)
    with pytest.raises(InputError, match="--allow-few-patients"):
        split_patients(patients)
    assert set(split_patients(patients, allow_few=True).values()) == parts


def test_frozen_parts_must_exist():
    with pytest.raises(InputError, match="'testing'"):
        split_patients(dict.fromkeys("abc", 1), frozen={"a": "testing"})


@pytest.mark.parametrize("fractions", [(0, 0, 0), (1, -1, 1)])
def test_fractions_must_make_sense(fractions):
    with pytest.raises(UsageError):
        split_patients(dict.fromkeys("abc", 1), fractions=Fractions(*fractions))


@pytest.mark.parametrize(
    ("key", "pattern", "expected"),
    [
        ("case", None, "K-2024-1"),
        ("case", r"^(\w+)", "K-2024-1"),
        ("other", r"^([A-Z]\d+)", "K12"),
        (None, r"^([A-Z]\d+)-", "K12"),
        (None, r"(?P<stain>PAS)?(?P<patient>K\d+)", "K12"),
        (None, r"^K\d+", "K12"),
    ],
    ids=["metadata", "metadata first", "pattern second", "group", "named group", "whole match"],
)
def test_patient_of(key, pattern, expected):
    metadata = {"case": " K-2024-1 ", "other": " "}
    assert patient_of("K12-03.svs", metadata, key=key, pattern=pattern) == expected


@pytest.mark.parametrize(
    ("key", "pattern", "message"),
    [
        (None, None, "nothing was given"),
        ("case", None, "no metadata 'case'"),
        ("case", "^X", "does not match '\\^X'"),
        (None, "K(x)?", "does not match"),
    ],
)
def test_an_unknown_patient_is_refused_with_the_way_out(key, pattern, message):
    with pytest.raises(InputError, match=message) as error:
        patient_of("K12-03.svs", {}, key=key, pattern=pattern)
    assert '"image" to treat every image' in str(error.value)


def test_a_pattern_must_be_one():
    with pytest.raises(UsageError, match="not a regular expression"):
        patient_of("K1", {}, pattern="(")


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["P1", "P2", "P1 2"], False),
        (["P1", "p1"], True),
        (["case 1", "Case  1"], True),
        (["Müller", "Mu\u0308ller"], True),
    ],
    ids=["different", "case", "spaces", "composed"],
)
def test_one_name_spelt_in_two_ways_is_refused(names, refused):
    with (
        pytest.raises(InputError, match=r"differ in case or spaces only")
        if refused
        else nullcontext()
    ):
        check_spelling({name: f"{name}.svs" for name in names})


def test_leaks_are_refused():
    fine = [SplitItem("a", "p", "f1", "train"), SplitItem("b", "p", "f2", "train")]
    check_no_leaks([*fine, SplitItem("c", "q", "f3", "test"), SplitItem("a2", "q2", "f1", "train")])
    with pytest.raises(ProtectedError, match=r"patient 'p' would be on two sides"):
        check_no_leaks([*fine, SplitItem("c", "p", "f3", "test")])
    with pytest.raises(ProtectedError, match="same slide file"):
        check_no_leaks([*fine, SplitItem("c", "q", "f1", "val")])


# ---- stains


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(5, 40), st.sampled_from(["PAS", "H&E", "silver"])),
        min_size=60,
        max_size=90,
    ),
    st.integers(0, 9),
)
def test_each_stain_is_shared_out_as_the_whole(found, seed):
    patients = {f"p{i}": n for i, (n, _) in enumerate(found)}
    stains = {f"p{i}": {stain: n} for i, (n, stain) in enumerate(found)}
    split = split_patients(patients, seed=seed, stains=stains)
    largest = max(patients.values())
    for stain in ("PAS", "H&E", "silver"):
        total = sum(n for n, s in found if s == stain)
        for part, share in zip(PARTS, Fractions(), strict=True):
            got = sum(stains[name].get(stain, 0) for name in patients if split[name] == part)
            assert abs(got - share * total) <= 2 * largest + 0.06 * total


def test_without_regard_to_stain_a_rare_one_may_miss_a_part():
    """What stratifying is for: three patients of a rare stain go to three parts."""
    patients = {f"p{i}": 20 for i in range(30)}
    stains = {name: {"PAS": 20} for name in patients}
    for name in ("p3", "p11", "p17"):
        stains[name] = {"silver": 20}
    for seed in range(8):
        split = split_patients(patients, seed=seed, stains=stains)
        assert {split[name] for name in ("p3", "p11", "p17")} == set(PARTS)
    assert any(
        {split_patients(patients, seed=seed)[name] for name in ("p3", "p11", "p17")} != set(PARTS)
        for seed in range(8)
    )


@given(counts, counts, st.integers(0, 5))
def test_stains_do_not_move_anybody_either(first, later, seed):
    before = split_patients(first, seed=seed, stains={n: {"PAS": c} for n, c in first.items()})
    everyone = {**first, **later}
    stains = {name: {"H&E": count} for name, count in everyone.items()}
    after = split_patients(everyone, seed=seed + 1, frozen=before, stains=stains)
    assert {name: after[name] for name in first} == before
