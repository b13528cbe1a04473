"""Pairs and groups against plain loops that cannot be wrong."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glombridge.detection.boxes import intersections
from glombridge.detection.grouping import groups_of_views, leaders, members_of
from glombridge.detection.pairs import overlapping_pairs

corner = st.integers(0, 60)
size = st.integers(0, 30)  # also boxes without area, and one that covers everything


@given(st.lists(st.tuples(corner, corner, size, size), max_size=40), st.booleans())
def test_pairs_are_all_that_overlap_each_once(rows: list, with_giant: bool) -> None:
    table = np.array([*rows, *([(0, 0, 100, 100)] if with_giant else [])], float).reshape(-1, 4)
    xyxy = np.hstack([table[:, :2], table[:, :2] + table[:, 2:]])
    i, j = overlapping_pairs(xyxy)
    a, b = np.triu_indices(len(xyxy), 1)
    expected = intersections(xyxy[a], xyxy[b]) > 0
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == sorted(
        zip(a[expected].tolist(), b[expected].tolist(), strict=True)
    )


edges = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=60)


def ordered(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]}), int).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@given(edges)
def test_leaders_are_those_of_a_walk_from_best_to_worst(pairs: list) -> None:
    i, j = ordered(pairs)
    expected = np.arange(15)
    for k in range(15):
        first = [a for a in i[j == k].tolist() if expected[a] == a]
        if first:
            expected[k] = first[0]
    assert leaders(15, i, j).tolist() == expected.tolist()


@given(edges, st.lists(st.integers(0, 4), min_size=15, max_size=15), st.randoms())
def test_groups_hold_a_tile_once_and_join_all_they_may(
    pairs: list, tiles: list, random: object
) -> None:
    tile = np.array(tiles)
    i, j = ordered(pairs)
    apart = tile[i] != tile[j]
    i, j = i[apart], j[apart]
    strength = np.array([random.random() for _ in i])  # type: ignore[attr-defined]
    group = groups_of_views(tile, i, j, strength)
    for g in np.unique(group):
        held = tile[group == g]
        assert len(set(held.tolist())) == len(held)
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        both = tile[(group == group[a]) | (group == group[b])]
        # Whatever agrees is together, or cannot be.
        assert group[a] == group[b] or len(set(both.tolist())) < len(both)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5)))
def test_members(groups: list, wanted: list) -> None:
    group = np.array(groups)
    place, member = members_of(group, np.array(wanted, int))
    expected = [(k, m) for k, g in enumerate(wanted) for m in np.flatnonzero(group == g).tolist()]
    assert list(zip(place.tolist(), member.tolist(), strict=True)) == expected
