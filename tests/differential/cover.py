"""Covering arrays: few combinations in which each pair of values of each two axes meets.

Greedy and deterministic for a seed: each new row starts with an uncovered pair, and each
further axis takes the value that covers most. Rows that `allowed` refuses (also partial
ones: axes that aren't chosen yet are missing) are never made; pairs that no allowed row
has are left out and told.
"""
import itertools
import random


def _new_pairs(row, axis, value, uncovered):
    return sum(((axis, value), other) in uncovered or (other, (axis, value)) in uncovered
               for other in row.items())


def _extend(row, axes, order, uncovered, allowed, rng):
    """The rest of the row, best first; None if there is no allowed one."""
    if not order:
        return dict(row)
    axis, values = order[0], list(axes[order[0]])
    rng.shuffle(values)
    values.sort(key=lambda v: -_new_pairs(row, axis, v, uncovered))
    for value in values:
        row[axis] = value
        if allowed(row):
            full = _extend(row, axes, order[1:], uncovered, allowed, rng)
            if full:
                return full
        del row[axis]
    return None


def pairs(axes):
    """All pairs ((axis, value), (axis, value)), axes in order."""
    return [((a, x), (b, y)) for a, b in itertools.combinations(axes, 2)
            for x in axes[a] for y in axes[b]]


def cover(axes, allowed=lambda row: True, seed=0):
    """Returns (rows, pairs that cannot be): rows are dicts axis -> value."""
    rng = random.Random(seed)
    todo = pairs(axes)
    rng.shuffle(todo)
    uncovered, impossible, rows = dict.fromkeys(todo), [], []
    for pair in todo:
        if pair not in uncovered:
            continue
        row = dict(pair)
        order = sorted((a for a in axes if a not in row), key=lambda a: -len(axes[a]))
        full = _extend(row, axes, order, uncovered, allowed, rng) if allowed(row) else None
        if not full:
            impossible.append(pair)
            del uncovered[pair]
            continue
        rows.append({a: full[a] for a in axes})
        for covered in itertools.combinations(rows[-1].items(), 2):
            uncovered.pop(covered, None)
    return rows, impossible
