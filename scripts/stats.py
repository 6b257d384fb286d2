"""Means, ratios and their intervals, by bootstrap. Standard library only.

A cell of a benchmark has few trials (3 to 10), which are interleaved with those of its
rivals, so the trial is the unit that is drawn again. Intervals are percentile bootstrap
intervals of the mean, with a fixed seed so that a report can be made again to the byte.
With n trials the smallest and the largest mean bound the interval, so with three trials
it is the whole range at best: that is what three trials can say.
"""
import random

DRAWS = 2000
SEED = 1


def mean(values):
    return sum(values) / len(values)


def percentile(ordered, q):
    """q in 0..1 of an ordered list, interpolated."""
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _means(values, rng):
    n = len(values)
    return [sum(rng.choices(values, k=n)) / n for _ in range(DRAWS)]


def interval(values, level=0.95):
    """(mean, low, high). One value: it stands alone, low and high equal it."""
    middle = mean(values)
    if len(values) < 2:
        return middle, middle, middle
    means = sorted(_means(values, random.Random(SEED)))
    return (middle, percentile(means, (1 - level) / 2), percentile(means, (1 + level) / 2))


def ratio(values, reference, level=0.95):
    """(ratio of means, low, high): both sides are drawn again, independently."""
    middle = mean(values) / mean(reference)
    if len(values) < 2 or len(reference) < 2:
        return middle, middle, middle
    rng = random.Random(SEED)
    ratios = sorted(a / b for a, b in zip(_means(values, rng), _means(reference, rng)) if b)
    return (middle, percentile(ratios, (1 - level) / 2), percentile(ratios, (1 + level) / 2))


def distinguishable(a, b, level=0.95):
    """True when the interval of a/b leaves out 1. Fewer than two trials tell nothing."""
    if len(a) < 2 or len(b) < 2:
        return False
    _, low, high = ratio(a, b, level)
    return low > 1 or high < 1


def rank(cells):
    """cells: {name: trials}. Names, best (highest mean) first, in groups: a name joins the
    group above when it can't be told apart from that group's first."""
    groups = []
    for name in sorted(cells, key=lambda n: -mean(cells[n])):
        if groups and not distinguishable(cells[groups[-1][0]], cells[name]):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def quantity(value):
    """1234567 -> '1.23 M', 45600 -> '45.6 k', for people."""
    for limit, factor, unit in ((999.5e3, 1e6, ' M'), (999.5, 1e3, ' k')):
        if value >= limit:
            return f'{value / factor:.3g}{unit}'
    return f'{value:.3g}'
