"""Compiled kernels: window bounds and states over one bucket, events sorted by (entity, time, id).

Array shapes: (e,) over events, (s,) over spine rows sorted by (entity, t), (s + 1,) for offsets.
A window of a spine row is the half-open range ``lo[s]:hi[s]`` of events.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@njit(cache=True, nogil=True)
def window_bounds(event_entity: Ints, event_ts: Ints, entity: Ints, tail: Ints, head: Ints) -> tuple[Ints, Ints]:
    """Return (s,) lo and hi: the events of the row's entity with ``tail <= ts < head``.

    Both pointers only move forward, for tails and heads grow with t within an entity.
    """
    n = len(event_ts)
    lo, hi = np.empty(len(entity), np.int64), np.empty(len(entity), np.int64)
    first, a, b = 0, 0, 0
    previous = np.int64(-1)
    for row in range(len(entity)):
        if entity[row] != previous:
            previous = entity[row]
            while first < n and event_entity[first] < previous:
                first += 1
            a = b = first
        while a < n and event_entity[a] == previous and event_ts[a] < tail[row]:
            a += 1
        while b < n and event_entity[b] == previous and event_ts[b] < head[row]:
            b += 1
        lo[row], hi[row] = a, max(a, b)
        first = max(first, a)
    return lo, hi


@njit(cache=True, nogil=True)
def sliding_extreme(values: Ints, valid: Bools, lo: Ints, hi: Ints, largest: bool) -> tuple[Ints, Bools]:
    """Return (s,) the smallest or largest valid value of each window, and whether there is one.

    A monotone queue of positions; any int64 is a value.
    """
    out, known = np.zeros(len(lo), np.int64), np.zeros(len(lo), np.bool_)
    queue = np.empty(len(values) + 1, np.int64)
    front = back = 0
    added = np.int64(0)
    for row in range(len(lo)):
        if lo[row] >= added:
            front = back = 0
            added = lo[row]
        while added < hi[row]:
            if valid[added]:
                value = values[added]
                while back > front and (
                    values[queue[back - 1]] <= value if largest else values[queue[back - 1]] >= value
                ):
                    back -= 1
                queue[back] = added
                back += 1
            added += 1
        while front < back and queue[front] < lo[row]:
            front += 1
        if front < back:
            out[row], known[row] = values[queue[front]], True
    return out, known


@njit(cache=True, nogil=True)
def sliding_distinct(codes: Ints, size: int, lo: Ints, hi: Ints) -> Ints:
    """Return (s,) the number of different codes in each window; codes are 0..size-1, or -1 for null."""
    out = np.empty(len(lo), np.int64)
    counts = np.zeros(size, np.int64)
    distinct = 0
    a = b = 0
    for row in range(len(lo)):
        if lo[row] >= b:
            while a < b:
                if codes[a] >= 0:
                    counts[codes[a]] = 0
                a += 1
            a = b = int(lo[row])
            distinct = 0
        while b < hi[row]:
            if codes[b] >= 0:
                counts[codes[b]] += 1
                distinct += counts[codes[b]] == 1
            b += 1
        while a < lo[row]:
            if codes[a] >= 0:
                counts[codes[a]] -= 1
                distinct -= counts[codes[a]] == 0
            a += 1
        out[row] = distinct
    return out


@njit(cache=True, nogil=True)
def sliding_counts(codes: Ints, size: int, lo: Ints, hi: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Return the different codes of each window, ascending, and their counts, at the given (s + 1,) offsets."""
    entries, found = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
    counts = np.zeros(size, np.int64)
    active = np.empty(size + 1, np.int64)  # codes that are in the window, ascending
    length = 0
    a = b = 0
    for row in range(len(lo)):
        if lo[row] >= b:
            for index in range(length):
                counts[active[index]] = 0
            length = 0
            a = b = int(lo[row])
        while b < hi[row]:
            code = codes[b]
            if code >= 0:
                counts[code] += 1
                if counts[code] == 1:
                    at = np.searchsorted(active[:length], code)
                    for index in range(length, at, -1):
                        active[index] = active[index - 1]
                    active[at] = code
                    length += 1
            b += 1
        while a < lo[row]:
            code = codes[a]
            if code >= 0:
                counts[code] -= 1
                if counts[code] == 0:
                    at = np.searchsorted(active[:length], code)
                    for index in range(at, length - 1):
                        active[index] = active[index + 1]
                    length -= 1
            a += 1
        for index in range(length):
            entries[offsets[row] + index] = active[index]
            found[offsets[row] + index] = counts[active[index]]
    return entries, found


@njit(cache=True, nogil=True)
def added(tree: Ints, code: int, change: int) -> None:
    """Change the count of a code in a binary indexed tree."""
    at = code + 1
    while at < len(tree):
        tree[at] += change
        at += at & -at


@njit(cache=True, nogil=True)
def selected(tree: Ints, rank: int) -> int:
    """Return the code of the rank-th smallest entry, counted from 1."""
    at, step = 0, 1
    while step * 2 < len(tree):
        step *= 2
    while step:
        if at + step < len(tree) and tree[at + step] < rank:
            at += step
            rank -= tree[at]
        step //= 2
    return at


@njit(cache=True, nogil=True)
def sliding_top(codes: Ints, size: int, lo: Ints, hi: Ints, k: int, largest: bool) -> tuple[Ints, Ints]:
    """Return (s + 1,) offsets and the at most k largest codes of each window, descending, or the smallest, ascending."""
    offsets = np.zeros(len(lo) + 1, np.int64)
    present = np.zeros(len(codes) + 1, np.int64)
    for index in range(len(codes)):
        present[index + 1] = present[index] + (codes[index] >= 0)
    for row in range(len(lo)):
        offsets[row + 1] = offsets[row] + min(k, present[hi[row]] - present[lo[row]])
    entries = np.empty(offsets[-1], np.int64)
    tree = np.zeros(size + 1, np.int64)
    a = b = 0
    for row in range(len(lo)):
        if lo[row] >= b:
            while a < b:
                if codes[a] >= 0:
                    added(tree, codes[a], -1)
                a += 1
            a = b = int(lo[row])
        while b < hi[row]:
            if codes[b] >= 0:
                added(tree, codes[b], 1)
            b += 1
        while a < lo[row]:
            if codes[a] >= 0:
                added(tree, codes[a], -1)
            a += 1
        n = present[hi[row]] - present[lo[row]]
        for index in range(offsets[row + 1] - offsets[row]):
            entries[offsets[row] + index] = selected(tree, n - index if largest else index + 1)
    return offsets, entries


@njit(cache=True, nogil=True)
def outer_entries(lo: Ints, hi: Ints, k: int, last: bool) -> tuple[Ints, Ints]:
    """Return (s + 1,) offsets and the at most k first positions of each row's range, or the last, last first."""
    offsets = np.zeros(len(lo) + 1, np.int64)
    for row in range(len(lo)):
        offsets[row + 1] = offsets[row] + min(k, hi[row] - lo[row])
    entries = np.empty(offsets[-1], np.int64)
    for row in range(len(lo)):
        for index in range(offsets[row + 1] - offsets[row]):
            entries[offsets[row] + index] = hi[row] - 1 - index if last else lo[row] + index
    return offsets, entries


@njit(cache=True, nogil=True)
def running_maximum(entity: Ints, known: Ints) -> Ints:
    """Return (e,) the largest `known` so far within the entity."""
    out = known.copy()
    for index in range(1, len(out)):
        if entity[index] == entity[index - 1] and out[index - 1] > out[index]:
            out[index] = out[index - 1]
    return out


@njit(cache=True, nogil=True)
def known_positions(known: Ints, until: Ints, lo: Ints, hi: Ints, asof: Ints) -> tuple[Ints, Ints]:
    """Return (s + 1,) offsets and the positions in each window with ``known <= asof < until``, ascending."""
    offsets = np.zeros(len(lo) + 1, np.int64)
    for row in range(len(lo)):
        found = np.int64(0)
        for index in range(lo[row], hi[row]):
            found += known[index] <= asof[row] < until[index]
        offsets[row + 1] = offsets[row] + found
    positions = np.empty(offsets[-1], np.int64)
    at = np.int64(0)
    for row in range(len(lo)):
        for index in range(lo[row], hi[row]):
            if known[index] <= asof[row] < until[index]:
                positions[at] = index
                at += 1
    return offsets, positions


@njit(cache=True, nogil=True)
def scatter_bits(bits: NDArray[np.uint8], offset: int, target: Ints, out: Bools) -> None:
    """Put Arrow's validity bits, the first of them at `offset`, at `target` of `out`."""
    for index in range(len(target)):
        at = index + offset
        out[target[index]] = (bits[at >> 3] >> (at & 7)) & 1
