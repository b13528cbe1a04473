"""Grouping by pairs: greedily around leaders, or into one group per object with one view per tile."""

from __future__ import annotations

import numpy as np

from .boxes import Floats, Ints


def leaders(n: int, i: Ints, j: Ints) -> Ints:
    """What greedy suppression does, without a loop over boxes.

    Walking from the best to the worst, a box that is paired with an earlier leader belongs to the
    first such leader; every other becomes a leader.

    Args:
        n: number of boxes, the best at 0.
        i: (pairs,) the better of each pair.
        j: (pairs,) the worse of each pair.

    Returns:
        (n,) the leader of each box; leaders lead themselves.
    """
    is_member = np.zeros(n, np.bool_)
    is_leader = np.zeros(n, np.bool_)
    open_i, open_j = i, j
    while len(open_i):
        is_waiting = np.zeros(n, np.bool_)
        is_waiting[open_j] = True
        # Nobody better is undecided: it leads. Decides at least the best box of each round.
        is_leader[open_i] |= ~is_waiting[open_i]
        is_member[open_j[is_leader[open_i]]] = True
        is_open = ~(is_leader[open_i] | is_member[open_i] | is_member[open_j])
        open_i, open_j = open_i[is_open], open_j[is_open]
    leader = np.arange(n)
    belongs = is_member[j] & ~is_member[i]
    first = np.full(n, n)
    np.minimum.at(first, j[belongs], i[belongs])
    leader[is_member] = first[is_member]
    return leader


def groups_of_views(tile: Ints, i: Ints, j: Ints, strength: Floats) -> Ints:
    """Connected groups in which no tile occurs twice: a tile shows an object once.

    Args:
        tile: (n,) the tile of each view.
        i: (pairs,) views of different tiles that agree.
        j: (pairs,) the other of each pair.
        strength: (pairs,) how far they agree; where a group would hold a tile twice, the strongest
            pairs are joined first and those that would bring the second view are left out.

    Returns:
        (n,) number of the group of each view, 0 to the number of groups - 1.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(tile)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    group: Ints = component.astype(np.int64)
    n_tiles = int(tile.max(initial=0)) + 1
    key = np.sort(group * n_tiles + tile)
    has_conflict = np.zeros(count, np.bool_)
    has_conflict[key[1:][key[1:] == key[:-1]] // n_tiles] = True
    if not has_conflict.any():
        return group
    inner = np.flatnonzero(has_conflict[group[i]])
    inner = inner[np.lexsort((j[inner], i[inner], -strength[inner]))]
    members = np.flatnonzero(has_conflict[group])
    root = _joined_apart(members, tile, i[inner], j[inner])
    group[members] = count + root[members]
    return numbered(group)[0]


def _joined_apart(members: Ints, tile: Ints, i: Ints, j: Ints) -> Ints:
    """Kruskal's joining with a condition. Only groups with a conflict come here, and they are few."""
    root = np.arange(len(tile))
    tiles = {m: {t} for m, t in zip(members.tolist(), tile[members].tolist(), strict=True)}
    parent = {m: m for m in tiles}

    def find(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        a, b = find(a), find(b)
        if a != b and not tiles[a] & tiles[b]:
            a, b = min(a, b), max(a, b)
            parent[b] = a
            tiles[a] |= tiles.pop(b)
    for m in members.tolist():
        root[m] = find(m)
    return root


def members_of(group: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """The members of many groups, one group after the other.

    Args:
        group: (n,) group of each member.
        wanted: (k,) groups, any of them as often as wanted.

    Returns:
        For each member of each wanted group: its place in ``wanted``, and its own number.
    """
    order = np.argsort(group, kind="stable")
    count = np.bincount(group, minlength=int(wanted.max(initial=-1)) + 1)
    start = np.cumsum(count) - count
    n = count[wanted]
    place = np.repeat(np.arange(len(wanted)), n)
    within = np.arange(len(place)) - np.repeat(np.cumsum(n) - n, n)
    return place, order[start[wanted][place] + within]


def numbered(group: Ints) -> tuple[Ints, int]:
    """Groups numbered from 0 without gaps, in the order of their old numbers; and how many there are."""
    is_used = np.zeros(int(group.max(initial=-1)) + 1, np.bool_)
    is_used[group] = True
    number = np.cumsum(is_used) - 1
    return number[group], int(is_used.sum())
