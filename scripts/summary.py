"""What a run of reproduce.py showed: table, paragraph and figures, from its trials alone.

A trial is a dict with workload, subject, engine, cpus (0: all) and what was measured.
"""
import collections
import os

import figures
import stats

STRATEGIES = ['callbacks', 'coroutines', 'threadpool', 'freeze-thaw']
FIO, QEMU, TUNED = 'fio, raw file', 'qemu-img bench', 'qemu-img, tuned'
PEERS = [FIO, QEMU, TUNED]
TITLES = {'warm-read': 'Warm random read', 'cold-read': 'Cold-L2 random read',
          'alloc-write': 'Allocating write', 'mixed-flush': 'Mixed with flush'}
COMPARED = {  # peers that do the same work
    'warm-read': PEERS, 'alloc-write': PEERS,
    'cold-read': [QEMU],  # a raw file has no L2
    'mixed-flush': []}    # nothing is copied on write in a raw file
NOTES = [
    'fio works on a raw file: no metadata, nothing copied on write. Its row for the engine '
    '"threads" is psync with as many threads as the depth; the others are io_uring and libaio.',
    'qemu-img bench has no random pattern: it reads with a step that visits every block once '
    'in a scattered order. It can neither mix reads and writes nor measure latency.',
    'qemu-img bench: -t none -i io_uring, native or threads; cold reads with l2-cache-size=1M. '
    'Tuned: the same with file.driver=preallocate under qcow2.',
]


class Column(collections.namedtuple('Column', 'engine cpus', defaults=[0])):
    """An engine on all CPUs (0) or on so many."""

    def __str__(self):
        return f'{self.engine}, {self.cpus} CPU' if self.cpus else self.engine


def cell_of(trials, workload, subject, column):
    return [t for t in trials if (t['workload'], t['subject'], t['engine'], t['cpus']) ==
            (workload, subject, column.engine, column.cpus)]


def values(trials, workload, subject, column, key='iops'):
    return [t[key] for t in cell_of(trials, workload, subject, column) if t.get(key) is not None]


def percentiles(trials, workload, subject, column, key='p'):
    """Mean over the trials of each percentile, as (percentile, microseconds)."""
    found = [t[key] for t in cell_of(trials, workload, subject, column) if t.get(key)]
    names = set.intersection(*(set(p) for p in found)) if found else set()
    return sorted((float(n), stats.mean([p[n] for p in found])) for n in names)


def spread(cell):
    mean, low, high = stats.interval(cell)
    if len(cell) < 2:
        return stats.quantity(mean)
    return f'{stats.quantity(mean)} [{stats.quantity(low)}, {stats.quantity(high)}]'


def table(trials, failures, facts, args):
    out = []
    for workload in args.workloads:
        out += ['', f'{TITLES[workload]}: requests a second, geometric mean and 95 % interval',
                f'  {"":18}' + ''.join(f'{str(c):>26}' for c in args.columns)]
        for subject in args.strategies + PEERS:
            row = []
            for column in args.columns:
                cell = values(trials, workload, subject, column)
                failed = (workload, subject, column) in failures
                row.append(spread(cell) if cell else 'failed' if failed else '')
            if any(row):
                out.append(f'  {subject:18}' + ''.join(f'{c:>26}' for c in row))
    out += ['', *details(trials, args)]
    versions = f'{facts["asyncow"]}; {facts["fio"]}; {facts["qemu-img"]}; Linux {facts["kernel"]}, ' \
               f'{facts["cpus"]} x {facts["cpu"]}, {facts["file_system"]}. Seed {facts["seed"]}, ' \
               f'{facts["trials"]} trials of {facts["seconds_per_trial"]:g} s. The command of ' \
               'every trial is in reproduce.json.'
    out += ['', *(f'- {note}' for note in (*NOTES, versions))]
    for (workload, subject, column), why in sorted(failures.items()):
        out += ['', f'failed: {workload}, {subject}, {column}', '  ' + why]
    return '\n'.join(out).strip() + '\n'


DETAILS = [  # heading, width, key, scale
    ('p50 us', 9, 'p50', 1), ('p99 us', 9, 'p99', 1), ('p99.9 us', 10, 'p99.9', 1),
    ('stall p99', 11, 'stall99', 1), ('CPU us/req', 11, 'cpu_us_per_request', 1),
    ('k IOPS/CPU-s', 13, 'iops_per_cpu_s', 1e-3), ('switches/req', 13, 'switches_per_request', 1),
    ('host I/O/req', 13, 'host_ios_per_request', 1), ('flushes/req', 12, 'flushes_per_request', 1)]


def short(value):
    """Three digits at least, and no exponent."""
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}' if value >= 0.001 else f'{value:.4f}'


def details(trials, args):
    column = args.columns[0]
    out = [f'More of the same trials, engine {column} (us: microseconds; stall: how long a turn of '
           'the loop keeps it busy)', f'  {"":32}' + ''.join(f'{h:>{w}}' for h, w, _, _ in DETAILS)]
    for workload in args.workloads:
        for subject in args.strategies:
            if not values(trials, workload, subject, column):
                continue
            cells = {f'p{n:g}': us for n, us in percentiles(trials, workload, subject, column)}
            cells.update({f'stall{n:g}': us for n, us in
                          percentiles(trials, workload, subject, column, 'stall')})
            for _, _, key, _ in DETAILS:
                found = values(trials, workload, subject, column, key)
                if found:
                    cells[key] = stats.mean(found)
            out.append(f'  {workload:13} {subject:18}' + ''.join(
                f'{short(cells[k] * s):>{w}}' if k in cells else ' ' * w for _, w, k, s in DETAILS))
    return out if len(out) > 2 else []


def one_of(words):
    return words[0] if len(words) == 1 else ', '.join(words[:-1]) + ' and ' + words[-1]


def best_engine(trials, workload, subject, args):
    """(column, trials) with the highest mean on all CPUs, or None."""
    cells = {c: values(trials, workload, subject, c) for c in args.columns if not c.cpus}
    cells = {c: cell for c, cell in cells.items() if cell}
    if not cells:
        return None
    column = max(cells, key=lambda c: stats.mean(cells[c]))
    return column, cells[column]


def times(a, b):
    """'1.23 times [1.10, 1.40]', or that there is no telling."""
    ratio, low, high = stats.ratio(a, b)
    text = f'{ratio:.2f} [{low:.2f}, {high:.2f}] times'
    return text if stats.distinguishable(a, b) else text + ' (no clear difference from)'


def on_one_cpu(trials, workload, args):
    """'callbacks, coroutines > threadpool': a comma where two can't be told apart."""
    for column in args.columns:
        if column.cpus:
            cells = {s: values(trials, workload, s, column) for s in args.strategies}
            cells = {s: cell for s, cell in cells.items() if cell}
            if len(cells) > 1:
                return ' > '.join(', '.join(group) for group in stats.rank(cells))
    return ''


def sentence(trials, workload, args):
    """What one workload showed, each strategy and each peer at its best engine."""
    best = {s: best_engine(trials, workload, s, args) for s in args.strategies}
    best = {s: found for s, found in best.items() if found}
    if not best:
        return ''
    groups = stats.rank({s: cell for s, (_, cell) in best.items()})
    leader = groups[0][0]
    column, cell = best[leader]
    text = f'{TITLES[workload]}: '
    if len(groups[0]) > 1:
        text += f'{one_of(groups[0])} can\'t be told apart (highest mean: {leader} on {column}, ' \
                f'{spread(cell)} a second)'
    else:
        text += f'{leader} is fastest (on {column}, {spread(cell)} a second)'
    rest = [name for group in groups[1:] for name in group]
    if rest:
        text += ', ' + one_of([f'{times(cell, best[name][1])} {name}' for name in rest])
    compared = []
    for peer in COMPARED[workload]:
        found = best_engine(trials, workload, peer, args)
        if found:
            compared.append(f'{times(cell, found[1])} {peer}')
    if compared:
        text += f'; that is {one_of(compared)}'
    order = on_one_cpu(trials, workload, args)
    if order:
        text += f'; on one CPU: {order}'
    return text + '.'


def finding(trials, failures, args):
    sentences = [sentence(trials, w, args) for w in args.workloads]
    first = args.columns[0] if args.columns else Column('')
    tails = {s: percentiles(trials, 'mixed-flush', s, first) for s in args.strategies}
    tails = {s: dict(p).get(99.9) for s, p in tails.items()}
    tails = {s: us for s, us in tails.items() if us}
    if len(tails) > 1:
        low, high = min(tails, key=tails.get), max(tails, key=tails.get)
        sentences.append(f'In the mixed workload on {first} the 99.9th percentile of latency goes '
                         f'from {tails[low]:.0f} us ({low}) to {tails[high]:.0f} us ({high}).')
    stolen = max((t['steal'] for t in trials), default=0)
    if stolen > 0.02:
        sentences.append(f'The host took up to {stolen * 100:.0f} % of the CPU away during a trial, so small '
                         'differences deserve a second run.')
    if failures:
        sentences.append(f'{len(failures)} of the cells failed and are listed under the table.')
    return ' '.join(s for s in sentences if s)


def draw(trials, args):
    directory = os.path.join(args.output, 'figures')
    subjects = args.strategies + [p for p in PEERS if any(t['subject'] == p for t in trials)]
    note = f'4 KiB, depth 32, direct I/O; points: mean of {args.trials} interleaved trials, ' \
           'bars: 95 % interval'
    panels = []
    for workload in args.workloads:
        cells = {}
        for subject in subjects:
            for column in args.columns:
                cell = values(trials, workload, subject, column)
                if cell:
                    cells[subject, str(column)] = stats.interval(cell)
        if cells:
            panels.append((TITLES[workload], cells))
    series = [str(c) for c in args.columns]
    made = figures.iops(directory, panels, subjects, series, note) if panels else []
    for name, key, title, label, workload in (
            ('latency', 'p', 'Latency, mixed reads and writes with flushes', 'latency, µs',
             'mixed-flush'),
            ('stall', 'stall', 'Stall: how long one turn of the loop takes, same workload',
             'turn, µs', 'mixed-flush')):
        curves = [(str(c), {s: percentiles(trials, workload, s, c, key) for s in args.strategies})
                  for c in args.columns]
        curves = [(e, {s: p for s, p in c.items() if p}) for e, c in curves]
        made += figures.tail(directory, name, title, curves, label,
                             'x: per cent of requests (turns) that take at most so long; '
                             f'mean of {args.trials} trials')
    return made
