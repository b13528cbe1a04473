"""All pairs of boxes that overlap, by sorting and sweeping strips; no quadratic step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .boxes import Floats, Ints

_PAIRS_AT_ONCE = 1 << 16
"""Candidates looked at together: few enough to stay in the processor's cache, which is worth 1.6x."""


def overlapping_pairs(xyxy: Floats) -> tuple[Ints, Ints]:
    """Positions (i, j), i < j, of all pairs of boxes that share some area.

    The plane is cut into horizontal strips about as high as a box. In each strip boxes are sorted
    by their left edge, so the boxes that may meet one box follow it without a gap, and are found by
    bisection. A pair that meets in several strips counts in the first. Time grows with the number
    of boxes and of pairs whose sides overlap in x; nothing is compared with everything.

    Args:
        xyxy: (N, 4) left, top, right, bottom.

    Returns:
        Two arrays (pairs,), in no promised order.
    """
    found = list(_pairs(xyxy))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = np.concatenate([a for a, _ in found])
    second = np.concatenate([b for _, b in found])
    return np.minimum(first, second), np.maximum(first, second)


def _pairs(xyxy: Floats) -> Iterator[tuple[Ints, Ints]]:
    left, top, right, bottom = np.ascontiguousarray(xyxy.T)
    has_area = np.flatnonzero((right > left) & (bottom > top))
    if len(has_area) < 2:
        return
    height = bottom[has_area] - top[has_area]
    strip_px = max(float(np.median(height)), float(height.mean()))
    start = float(top[has_area].min())
    first = ((top[has_area] - start) // strip_px).astype(np.int64)
    last = ((bottom[has_area] - start) // strip_px).astype(np.int64)
    count = last - first + 1
    # One row for each box and strip it touches. Strips are laid one behind the other on one axis,
    # so that one sort and one bisection serve all of them.
    row = np.repeat(has_area, count)
    strip = np.repeat(first, count) + _ranks(count)
    origin = float(left[has_area].min())
    step = float(right[has_area].max()) - origin + 1.0
    begins = left[row] - origin + strip * step
    order = np.argsort(begins, kind="stable")
    row, strip, begins = row[order], strip[order], begins[order]
    until = np.searchsorted(begins, right[row] - origin + strip * step, side="left")
    followers = np.maximum(until - np.arange(len(row)) - 1, 0)
    # In the order of the rows, so that what is compared lies close together in memory.
    row_top, row_bottom = top[row], bottom[row]
    ends = np.cumsum(followers)
    begin = 0
    while begin < len(row):
        done = ends[begin - 1] if begin else 0
        end = int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right"))
        end = max(end, begin + 1)
        n = followers[begin:end]
        here = np.repeat(np.arange(begin, end), n)
        there = here + 1 + _ranks(n)
        low = np.maximum(row_top[here], row_top[there])
        meets = np.flatnonzero(np.minimum(row_bottom[here], row_bottom[there]) > low)
        here, there, low = here[meets], there[meets], low[meets]
        # A pair that shares several strips is taken in the one where the lower of both begins.
        is_first = ((low - start) // strip_px).astype(np.int64) == strip[here]
        yield row[here[is_first]], row[there[is_first]]
        begin = end


def _ranks(count: Ints) -> Ints:
    """0, 1, ... of each group, for groups of these sizes laid one after the other."""
    total = int(count.sum())
    return np.arange(total) - np.repeat(np.cumsum(count) - count, count)
