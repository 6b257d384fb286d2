"""Means, ratios and their intervals. Standard library only.

A cell of a benchmark has few trials (4 to 10), interleaved with those of its rivals in
rounds, so the trial is the unit. What is compared are rates, so means and intervals are
taken of the logarithms: geometric means, and Student's t intervals, which few trials make
as wide as they ought to be (a bootstrap of four would call too much certain). A ratio is
taken round by round, so what slowed a whole round down drops out of it.
"""
import math
import statistics

T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179,
       2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086]


def t95(freedom):
    """Student's t, two-sided 95 %. Beyond the table the usual expansion about 1.96."""
    return T95[freedom - 1] if freedom <= len(T95) else 1.960 + 2.37 / freedom + 2.8 / freedom ** 2


def mean(values):
    """Geometric; the arithmetic one where something is not above 0."""
    return statistics.geometric_mean(values) if min(values) > 0 else statistics.fmean(values)


def _of_logs(logs):
    middle = statistics.fmean(logs)
    half = t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else 0
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def interval(values):
    """(mean, low, high), 95 %. One value: it stands alone, low and high equal it."""
    return _of_logs([math.log(v) for v in values])


def ratio(values, reference):
    """(ratio of means, low, high), 95 %, of the rounds that both have."""
    return _of_logs([math.log(a / b) for a, b in zip(values, reference)])


def distinguishable(a, b):
    """True when the interval of a/b leaves out 1. Fewer than two rounds tell nothing."""
    if min(len(a), len(b)) < 2:
        return False
    _, low, high = ratio(a, b)
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
