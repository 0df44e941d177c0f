"""Compiled reads: states of windows out of packed records, many requests at once.

Array shapes: R requests, Q pairs of a window and a field. `closed` and `open` hold records end to end as
words; `at` (R,) tells where a request's record begins, -1 where it has none. `widths` are the columns of
each section. The first section of an open record holds the versions of tiles (`pipelines/records.py`).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
ADD, MIN, MAX, FIRST, LAST, DISTINCT = range(6)
FIRST_K, LAST_K, TOP_K, BOTTOM_K = range(4)
# Columns of the first section of an open record; MAX_TS and the event's own TS stand elsewhere in its values.
TS, MAX_TS, SEQ = 2, 3, 7
VALUE, COUNT, VALUE_TS, VALUE_MAX_TS = 1, 2, 3, 4
# What a program's row holds for a pair; a section of -1: none.
KIND, WINDOW, TEXT, CLOSED, OPEN = 0, 1, 2, 3, 7  # CLOSED and OPEN: section, column, column of validity, bit
PROGRAM = 11
# What is known of a request's open tiles. Of the head tile: the sequence of the version read, ahead, behind; of the
# newest tile before the instant: whether there is one, its start, its sequence.
HEAD_SEQ, AHEAD, BEHIND, NEWEST, NEWEST_START, NEWEST_SEQ = range(6)
KNOWLEDGE = 6
NONE = -1


@njit(cache=True, nogil=True)
def section_at(words: Ints, at: int, widths: Ints, section: int) -> tuple[int, int]:
    """Return where a section's columns begin and how many rows it has."""
    if at < 0:
        return 0, 0
    base = at + 2 + len(widths)
    for index in range(section):
        base += words[at + 2 + index] * widths[index]
    return base, words[at + 2 + section]


@njit(cache=True, nogil=True)
def first_from(words: Ints, base: int, n: int, start: int) -> int:
    """Return the first row whose `start` is at least the given one."""
    lo, hi = 0, n
    while lo < hi:
        middle = (lo + hi) // 2
        if words[base + middle] < start:
            lo = middle + 1
        else:
            hi = middle
    return lo


@njit(cache=True, nogil=True)
def floor_to(ts: int, hop: int) -> int:
    """Return the start of the tile that holds `ts`."""
    return ts - ts % hop


@njit(cache=True, nogil=True)
def bounds(t: int, window: Ints) -> tuple[int, int]:
    """Return tail (inclusive) and head (exclusive) of a window (size, hop, delay, grid of the head) at `t`."""
    head = t - window[2]
    if window[3]:
        head = floor_to(head, window[3])
    return floor_to(head - window[0], window[1]), head


@njit(cache=True, nogil=True)
def head_version(words: Ints, base: int, n: int, head: int, t: int) -> tuple[int, bool, bool]:
    """Choose the version of the tile that holds `t`: the newest whose largest event time is below `t`.

    Returns
    -------
    tuple
        Its row or -1; whether the tile is there but no version of it will do; whether one left out holds
        another event before `t`.
    """
    chosen, left_out = NONE, False
    lo, hi = first_from(words, base, n, head), first_from(words, base, n, head + 1)
    for row in range(lo, hi):
        if words[base + MAX_TS * n + row] < t:
            chosen, left_out = row, False
        elif words[base + TS * n + row] < t:
            left_out = True
    return chosen, hi > lo and chosen == NONE, left_out


@njit(cache=True, nogil=True)
def bit(words: Ints, base: int, n: int, row: int, column: int, place: int) -> bool:
    """Return whether a field is not null in a tile."""
    return bool((words[base + column * n + row] >> place) & 1)


@njit(cache=True, nogil=True)
def merged(kind: int, known: bool, state: int, value: int) -> int:
    """Merge the next tile's value into a state, tiles in the order of time."""
    if kind == ADD:
        return state + value
    if not known or kind == LAST:
        return value
    if kind == MIN:
        return min(state, value)
    return max(state, value) if kind == MAX else state


@njit(cache=True, nogil=True)
def scalar_states(
    closed: Ints, closed_at: Ints, closed_widths: Ints, opened: Ints, open_at: Ints, open_widths: Ints,
    t: Ints, batch_end: int, hop: int, windows: Ints, program: Ints, alias: Ints, closed_alias: Ints, open_alias: Ints,
) -> tuple[Ints, Bools, Ints, bool]:  # fmt: skip
    """Return (Q, R) states and whether they are known, (R, KNOWLEDGE) what was known of open tiles, and overflow.

    The sequence of the head tile's version is -1 where there is none. Where no version of the tile that holds `t` is
    without later events, the newest tile is the one before. A text state of an open record is its place plus the
    number of the closed record's strings. The state of a multiset is the number of its different values; the last three
    parameters are those of `value_rows`, empty where no multiset holds texts.
    """
    states, known = np.zeros((len(program), len(t)), np.int64), np.zeros((len(program), len(t)), np.bool_)
    knowledge = np.zeros((len(t), KNOWLEDGE), np.int64)
    overflow = False
    for r in range(len(t)):
        base_o, n_o = section_at(opened, open_at[r], open_widths, 0)
        head_tile = floor_to(t[r], hop)
        chosen, ahead, behind = head_version(opened, base_o, n_o, head_tile, t[r])
        knowledge[r, HEAD_SEQ] = opened[base_o + SEQ * n_o + chosen] if chosen != NONE else NONE
        knowledge[r, AHEAD], knowledge[r, BEHIND] = ahead, behind
        newest = chosen if chosen != NONE else first_from(opened, base_o, n_o, head_tile) - 1
        if newest >= 0:
            knowledge[r, NEWEST], knowledge[r, NEWEST_START] = 1, opened[base_o + newest]
            knowledge[r, NEWEST_SEQ] = opened[base_o + SEQ * n_o + newest]
        shift = closed[closed_at[r] + 1] if closed_at[r] >= 0 else 0
        for q in range(len(program)):
            step = program[q]
            kind = step[KIND]
            if kind == DISTINCT:
                continue
            tail, head = bounds(t[r], windows[step[WINDOW]])
            state, valid = 0, kind == ADD
            base, n = section_at(closed, closed_at[r], closed_widths, step[CLOSED])
            for row in range(first_from(closed, base, n, tail), first_from(closed, base, n, min(head, batch_end))):
                if bit(closed, base, n, row, step[CLOSED + 2], step[CLOSED + 3]):
                    value = closed[base + step[CLOSED + 1] * n + row]
                    before = state
                    state = merged(kind, valid, state, value)
                    valid = True
                    overflow |= ((before ^ state) & (value ^ state)) < 0  # only a sum is neither of both
            lo = first_from(opened, base_o, n_o, max(tail, batch_end))
            for row in range(lo, first_from(opened, base_o, n_o, head)):
                start = opened[base_o + row]
                last = row + 1 == n_o or opened[base_o + row + 1] != start
                if row != chosen if start == head_tile else not last:
                    continue
                if bit(opened, base_o, n_o, row, step[OPEN + 2], step[OPEN + 3]):
                    value = opened[base_o + step[OPEN + 1] * n_o + row] + (shift if step[TEXT] else 0)
                    before = state
                    state = merged(kind, valid, state, value)
                    valid = True
                    overflow |= ((before ^ state) & (value ^ state)) < 0  # only a sum is neither of both
            states[q, r], known[q, r] = state, valid
    for q in range(len(program)):
        step = program[q]
        if step[KIND] == DISTINCT:
            counts, flags = distinct_values(
                closed, closed_at, closed_widths, opened, open_at, open_widths, t, batch_end, hop, windows[step[WINDOW]],
                np.array([step[CLOSED], step[OPEN]]), alias if step[TEXT] else alias[:0], closed_alias, open_alias,
            )  # fmt: skip
            states[q], known[q] = counts, True
            knowledge[:, AHEAD : BEHIND + 1] |= flags
    return states, known, knowledge, overflow


@njit(cache=True, nogil=True)
def outer_values(
    closed: Ints, closed_at: Ints, closed_widths: Ints, opened: Ints, open_at: Ints, open_widths: Ints,
    t: Ints, batch_end: int, window: Ints, sections: Ints, text: bool, kind: int, k: int,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Return (R + 1,) offsets and the at most `k` first, last, largest or smallest values of each request, in order.

    Parameters
    ----------
    sections
        (4,): section and column of the values, closed, then open.
    """
    offsets, found = np.zeros(len(t) + 1, np.int64), np.empty(len(t) * k, np.int64)
    for r in range(len(t)):
        tail, head = bounds(t[r], window)
        shift = closed[closed_at[r] + 1] if text and closed_at[r] >= 0 else 0
        base_o, n_o = section_at(opened, open_at[r], open_widths, sections[2])
        lo_o, hi_o = first_from(opened, base_o, n_o, max(tail, batch_end)), first_from(opened, base_o, n_o, head)
        base, n = section_at(closed, closed_at[r], closed_widths, sections[0])
        lo, hi = first_from(closed, base, n, tail), first_from(closed, base, n, min(head, batch_end))
        values = np.empty(max(hi - lo, 0) + max(hi_o - lo_o, 0), np.int64)
        size = 0
        for row in range(lo, hi):
            values[size] = closed[base + sections[1] * n + row]
            size += 1
        for row in range(lo_o, hi_o):
            if opened[base_o + n_o + row] < head:  # the entry's own event time
                values[size] = opened[base_o + sections[3] * n_o + row] + shift
                size += 1
        ordered = values[:size] if kind in (FIRST_K, LAST_K) else np.sort(values[:size])
        backwards = kind in (LAST_K, TOP_K)
        for index in range(min(size, k)):
            found[offsets[r] + index] = ordered[size - 1 - index if backwards else index]
        offsets[r + 1] = offsets[r] + min(size, k)
    return offsets, found[: offsets[-1]]


@njit(cache=True, nogil=True)
def value_rows(
    closed: Ints, closed_at: Ints, closed_widths: Ints, opened: Ints, open_at: Ints, open_widths: Ints,
    t: Ints, batch_end: int, hop: int, window: Ints, sections: Ints, alias: Ints, closed_alias: Ints, open_alias: Ints,
) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:  # fmt: skip
    """Return the rows of a multiset that windows hold, request by request: the newest version of each.

    Parameters
    ----------
    sections
        (2,): section of the values, closed, then open.
    alias, closed_alias, open_alias
        For texts: what stands for each string of each record, and where a request's begin; else empty.

    Returns
    -------
    tuple
        (m,) requests, values, whether the row is open, where it stands in its words, rows of its section; and
        (R, 2) whether rows of the head tile were ahead, behind.
    """
    most = 0
    for r in range(len(t)):
        most += section_at(closed, closed_at[r], closed_widths, sections[0])[1]
        most += section_at(opened, open_at[r], open_widths, sections[1])[1]
    owner, values, is_open = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    place, rows = np.empty(most, np.int64), np.empty(most, np.int64)
    flags = np.zeros((len(t), 2), np.int64)
    size = 0
    for r in range(len(t)):
        tail, head = bounds(t[r], window)
        base, n = section_at(closed, closed_at[r], closed_widths, sections[0])
        for row in range(first_from(closed, base, n, tail), first_from(closed, base, n, min(head, batch_end))):
            value = closed[base + VALUE * n + row]
            owner[size], is_open[size], place[size], rows[size] = r, 0, base + row, n
            values[size] = alias[closed_alias[r] + value] if len(alias) else value
            size += 1
        base, n = section_at(opened, open_at[r], open_widths, sections[1])
        row, hi = first_from(opened, base, n, max(tail, batch_end)), first_from(opened, base, n, head)
        head_tile = floor_to(t[r], hop)
        while row < hi:
            start, value = opened[base + row], opened[base + VALUE * n + row]
            chosen, left_out = NONE, False
            while row < hi and opened[base + row] == start and opened[base + VALUE * n + row] == value:
                if start != head_tile or opened[base + VALUE_MAX_TS * n + row] < t[r]:
                    chosen, left_out = row, False
                elif opened[base + VALUE_TS * n + row] < t[r]:
                    left_out = True
                row += 1
            flags[r, 0] |= chosen == NONE
            flags[r, 1] |= left_out
            if chosen != NONE:
                owner[size], is_open[size], place[size], rows[size] = r, 1, base + chosen, n
                values[size] = alias[open_alias[r] + value] if len(alias) else value
                size += 1
    return owner[:size], values[:size], is_open[:size], place[:size], rows[:size], flags


@njit(cache=True, nogil=True)
def distinct_values(
    closed: Ints, closed_at: Ints, closed_widths: Ints, opened: Ints, open_at: Ints, open_widths: Ints,
    t: Ints, batch_end: int, hop: int, window: Ints, sections: Ints, alias: Ints, closed_alias: Ints, open_alias: Ints,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Return (R,) the number of different values, and (R, 2) whether rows of the head tile were ahead, behind.

    Parameters are those of `value_rows`.
    """
    owner, values, _, _, _, flags = value_rows(
        closed, closed_at, closed_widths, opened, open_at, open_widths,
        t, batch_end, hop, window, sections, alias, closed_alias, open_alias,
    )  # fmt: skip
    counts = np.zeros(len(t), np.int64)
    first = 0
    while first < len(owner):
        end = first
        while end < len(owner) and owner[end] == owner[first]:
            end += 1
        ordered = np.sort(values[first:end])
        for index in range(len(ordered)):
            counts[owner[first]] += index == 0 or ordered[index] != ordered[index - 1]
        first = end
    return counts, flags


@njit(cache=True, nogil=True)
def guarded(group: Ints, n: Ints, min_arrival: Ints) -> tuple[Bools, Bools]:
    """Decide which versions stand: rows of a group in the order of their writes (design section 8).

    One is applied if its count is at least the one before and its smallest arrival no later; the same
    count again replaces it.

    Returns
    -------
    tuple
        (m,) rows that stay, and (m,) rows that were rejected; what was replaced is neither.
    """
    stays = np.ones(len(group), np.bool_)
    rejected, last = np.zeros(len(group), np.bool_), NONE
    for row in range(len(group)):
        if last == NONE or group[last] != group[row]:
            last = row
        elif n[row] >= n[last] and min_arrival[row] <= min_arrival[last]:
            stays[last] = n[row] > n[last]
            last = row
        else:
            stays[row] = False
            rejected[row] = True
    return stays, rejected
