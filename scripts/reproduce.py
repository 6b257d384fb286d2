#!/usr/bin/env python3
"""The main job: four strategies x three engines x four workloads, with fio and qemu-img
bench in the same run. Trials of all cells are interleaved in a random order from one seed.

Writes results/local/reproduce.json (every trial and what it ran on), table.txt,
finding.txt and figures/. Prints the table and the finding.
"""
import argparse
import json
import os
import random
import signal
import sys
import time

import bench
import figures
import stats

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STRATEGIES = ['callbacks', 'coroutines', 'threadpool', 'freeze-thaw']
ENGINES = ['io_uring', 'linux-aio', 'threads']
FIO, QEMU, TUNED = 'fio, raw file', 'qemu-img bench', 'qemu-img, tuned'
PEERS = [FIO, QEMU, TUNED]

DATA_SIZE = bench.GIB          # of the image that holds data
COLD_SIZE = 256 * bench.GIB    # its L2 tables are 32 MiB, its data are holes
ALLOC_SIZE = 64 * bench.GIB
COLD_CACHE = bench.MIB


class Workload:
    """One workload: its job, the images it needs, and how each tool runs it."""
    name = title = ''
    fixed_ios = False  # the job's length is a number of requests, not a time
    options = ()       # for asyncow only
    compared = (FIO, QEMU, TUNED)  # peers that do the same work, for the finding

    def __init__(self, run):
        self.run = run
        self.job = bench.read_job(os.path.join(TOP, 'workloads', self.name + '.fio'))
        if not self.fixed_ios:
            self.job['runtime'] = f'{run.seconds:g}'

    def path(self, name):
        return os.path.join(self.run.directory, name)

    def prepare(self):
        """Makes what all trials share."""

    def fresh(self, subject):
        """Makes what a trial needs for itself; returns the image's path."""
        raise NotImplementedError

    def asyncow(self, strategy, engine):
        return bench.asyncow(self.run.program, self.fresh(strategy), strategy, engine,
                             dict(self.job, randseed=self.run.next_seed()), self.options)

    def fio(self, engine):
        raise NotImplementedError

    def qemu(self, engine, tuned):
        """None: can't do this work, or has nothing to tune."""
        return None

    def qemu_count(self, engine, tuned, measure):
        """Requests that last about as long as a trial; measured once per cell."""
        key = (self.name, engine, tuned)
        if key not in self.run.counts:
            probe = measure(max(64, int(2000 * min(1, self.run.seconds))))
            self.run.counts[key] = max(64, int(probe['iops'] * self.run.seconds))
        return self.run.counts[key]


class WarmRead(Workload):
    name, title = 'warm-read', 'Warm random read'

    def prepare(self):
        bench.create_image(self.path('data.qcow2'), DATA_SIZE)
        bench.fill_image(self.path('data.qcow2'), DATA_SIZE)
        bench.create_filled_raw(self.path('data.raw'), DATA_SIZE)

    def fresh(self, subject):
        return self.path('data.raw' if subject == FIO else 'data.qcow2')

    def fio(self, engine):
        return bench.fio(self.fresh(FIO), engine, self.job, DATA_SIZE)

    def qemu(self, engine, tuned):
        if tuned:
            return None

        def measure(count):
            return bench.qemu_bench(self.fresh(QEMU), engine, self.job, count,
                                    bench.scattered_step(DATA_SIZE))
        return measure(self.qemu_count(engine, tuned, measure))


class ColdRead(Workload):
    name, title = 'cold-read', 'Cold-L2 random read'
    options = (f'--cache-size={COLD_CACHE}',)
    compared = (QEMU,)  # a raw file has no L2

    def prepare(self):
        bench.create_image(self.path('cold.qcow2'), COLD_SIZE, '-o', 'preallocation=metadata')
        bench.create_sparse_raw(self.path('cold.raw'), COLD_SIZE)

    def fresh(self, subject):
        return self.path('cold.raw' if subject == FIO else 'cold.qcow2')

    def fio(self, engine):
        return bench.fio(self.fresh(FIO), engine, self.job, COLD_SIZE)

    def qemu(self, engine, tuned):
        # As it comes the table entries it caches are 4 KiB, like ours: nothing to tune.
        if tuned:
            return None

        def measure(count):
            return bench.qemu_bench(
                None, engine, self.job, count, bench.scattered_step(COLD_SIZE),
                image_opts=f'driver=qcow2,l2-cache-size={COLD_CACHE},file.driver=file,'
                           f'file.filename={self.fresh(QEMU)}')
        return measure(self.qemu_count(engine, tuned, measure))


class AllocWrite(Workload):
    name, title = 'alloc-write', 'Allocating write'
    fixed_ios = True
    step = bench.CLUSTER

    def __init__(self, run):
        super().__init__(run)
        self.job['number_ios'] = str(max(64, int(40000 * run.seconds)))

    def fresh(self, subject):
        if subject == FIO:
            path = self.path('fresh.raw')
            bench.create_sparse_raw(path, ALLOC_SIZE)
        else:
            path = self.path('fresh.qcow2')
            bench.create_image(path, ALLOC_SIZE)
        return path

    def fio(self, engine):
        return bench.fio(self.fresh(FIO), engine, self.job, ALLOC_SIZE)

    def qemu(self, engine, tuned):
        path = self.fresh(QEMU)
        options = f'driver=qcow2,file.driver=preallocate,file.file.driver=file,' \
                  f'file.file.filename={path}' if tuned else None
        return bench.qemu_bench(path, engine, self.job, int(self.job['number_ios']), self.step,
                                write=True, image_opts=options)


class MixedFlush(Workload):
    name, title = 'mixed-flush', 'Mixed with flush'
    options = ('--allow-backing', '--allow-write')
    compared = ()  # nothing is copied on write in a raw file

    def fresh(self, subject):
        if subject == FIO:
            return self.path('data.raw')
        path = self.path('overlay.qcow2')
        bench.create_image(path, DATA_SIZE, '-F', 'qcow2', '-b', self.path('data.qcow2'))
        return path

    def fio(self, engine):
        return bench.fio(self.fresh(FIO), engine, self.job, DATA_SIZE)


WORKLOADS = [WarmRead, ColdRead, AllocWrite, MixedFlush]
NOTES = [
    'fio works on a raw file: no metadata, nothing copied on write. Its row for the engine '
    '"threads" is psync with as many threads as the depth; the others are io_uring and libaio.',
    'qemu-img bench has no random pattern: it reads with a step that visits every block once '
    'in a scattered order. It can neither mix reads and writes nor measure latency.',
    'qemu-img bench: -t none -i io_uring, native or threads; cold reads with l2-cache-size=1M. '
    'Tuned: the same with file.driver=preallocate under qcow2.',
]


class Run:
    """What all workloads share: where, how long, and the one source of chance."""

    def __init__(self, args):
        self.program = args.program
        self.directory = args.directory
        self.seconds = args.seconds
        self.random = random.Random(args.seed)
        self.counts = {}
        self.args = args

    def next_seed(self):
        return str(self.random.randrange(1, 1 << 31))


def cells_of(workload, args):
    for engine in args.engines:
        for subject in args.strategies + ([] if args.no_peers else PEERS):
            if subject in PEERS[1:] and workload.name == 'mixed-flush':
                continue
            if subject == TUNED and workload.name != 'alloc-write':
                continue
            yield workload, subject, engine


def trial(workload, subject, engine):
    if subject == FIO:
        return workload.fio(engine)
    if subject in (QEMU, TUNED):
        return workload.qemu(engine, subject == TUNED)
    return workload.asyncow(subject, engine)


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write('\r\x1b[K' + text)
        sys.stderr.flush()


def measure(run, args):
    workloads = [w(run) for w in WORKLOADS if w.name in args.workloads]
    if any(w.name == 'mixed-flush' for w in workloads) and \
            not any(w.name == 'warm-read' for w in workloads):
        WarmRead(run).prepare()
    progress('making the images')
    for workload in workloads:
        workload.prepare()
    os.sync()
    cells = [cell for w in workloads for cell in cells_of(w, args)]
    trials, failures = [], {}
    began, done, total = time.monotonic(), 0, len(cells) * args.trials
    for number in range(args.trials):
        order = cells[:]
        run.random.shuffle(order)
        for workload, subject, engine in order:
            done += 1
            left = (time.monotonic() - began) / done * (total - done)
            progress(f'trial {done}/{total}, {left:.0f} s left: {workload.name}, {subject}, {engine}')
            key = (workload.name, subject, engine)
            if key in failures:
                continue
            steal, ticks = bench.steal_ticks()
            try:
                result = trial(workload, subject, engine)
            except bench.TrialError as error:
                failures[key] = str(error)
                continue
            steal_after, ticks_after = bench.steal_ticks()
            result.update(workload=workload.name, subject=subject, engine=engine, trial=number,
                          spin_ns=bench.spin_ns(),
                          steal=(steal_after - steal) / max(1, ticks_after - ticks))
            trials.append(result)
            if workload.name in ('alloc-write', 'mixed-flush'):
                os.sync()  # what this trial left to the file system is not the next one's
    progress('')
    return trials, failures


# --- telling it -----------------------------------------------------------------------


def values(trials, workload, subject, engine, key='iops'):
    return [t[key] for t in trials if (t['workload'], t['subject'], t['engine']) ==
            (workload, subject, engine) and t.get(key) is not None]


def percentiles(trials, workload, subject, engine, key='p'):
    """Mean over the trials of each percentile, as (percentile, microseconds)."""
    found = [t[key] for t in trials if (t['workload'], t['subject'], t['engine']) ==
             (workload, subject, engine) and t.get(key)]
    names = set.intersection(*(set(p) for p in found)) if found else set()
    return sorted((float(n), stats.mean([p[n] for p in found])) for n in names)


def spread(cell):
    mean, low, high = stats.interval(cell)
    if len(cell) < 2:
        return stats.quantity(mean)
    return f'{stats.quantity(mean)} [{stats.quantity(low)}, {stats.quantity(high)}]'


def table(trials, failures, facts, args):
    out = []
    for workload in WORKLOADS:
        if workload.name not in args.workloads:
            continue
        out += ['', f'{workload.title}: requests a second, mean and 95 % interval',
                f'  {"":18}' + ''.join(f'{e:>26}' for e in args.engines)]
        for subject in args.strategies + PEERS:
            row = []
            for engine in args.engines:
                cell = values(trials, workload.name, subject, engine)
                failed = (workload.name, subject, engine) in failures
                row.append(spread(cell) if cell else 'failed' if failed else '')
            if any(row):
                out.append(f'  {subject:18}' + ''.join(f'{c:>26}' for c in row))
    out += ['', *details(trials, args)]
    versions = f'{facts["asyncow"]}; {facts["fio"]}; {facts["qemu-img"]}; Linux {facts["kernel"]}, ' \
               f'{facts["cpus"]} x {facts["cpu"]}, {facts["file_system"]}. Seed {facts["seed"]}, ' \
               f'{facts["trials"]} trials of {facts["seconds_per_trial"]:g} s. The command of ' \
               'every trial is in reproduce.json.'
    out += ['', *(f'- {note}' for note in (*NOTES, versions))]
    for (workload, subject, engine), why in sorted(failures.items()):
        out += ['', f'failed: {workload}, {subject}, {engine}', '  ' + why]
    return '\n'.join(out).strip() + '\n'


DETAILS = [  # heading, width, key, scale
    ('p50 us', 9, 'p50', 1), ('p99 us', 9, 'p99', 1), ('p99.9 us', 10, 'p99.9', 1),
    ('stall p99.9', 12, 'stall99.9', 1), ('CPU us/req', 11, 'cpu_us_per_request', 1),
    ('k IOPS/CPU-s', 13, 'iops_per_cpu_s', 1e-3), ('switches/req', 13, 'switches_per_request', 1),
    ('host I/O/req', 13, 'host_ios_per_request', 1), ('flushes/req', 12, 'flushes_per_request', 1)]


def details(trials, args):
    engine = args.engines[0]
    out = [f'More of the same trials, engine {engine} (us: microseconds; stall: how long a turn of '
           'the loop keeps it busy)', f'  {"":32}' + ''.join(f'{h:>{w}}' for h, w, _, _ in DETAILS)]
    for workload in args.workloads:
        for subject in args.strategies:
            if not values(trials, workload, subject, engine):
                continue
            cells = {f'p{n:g}': us for n, us in percentiles(trials, workload, subject, engine)}
            cells.update({f'stall{n:g}': us for n, us in
                          percentiles(trials, workload, subject, engine, 'stall')})
            for _, _, key, _ in DETAILS:
                found = values(trials, workload, subject, engine, key)
                if found:
                    cells[key] = stats.mean(found)
            out.append(f'  {workload:13} {subject:18}' + ''.join(
                f'{cells[k] * s:>{w}.3g}' if k in cells else ' ' * w for _, w, k, s in DETAILS))
    return out if len(out) > 2 else []


def one_of(words):
    return words[0] if len(words) == 1 else ', '.join(words[:-1]) + ' and ' + words[-1]


def best_engine(trials, workload, subject, args):
    """(engine, trials) with the highest mean, or None."""
    cells = {e: values(trials, workload, subject, e) for e in args.engines}
    cells = {e: c for e, c in cells.items() if c}
    if not cells:
        return None
    engine = max(cells, key=lambda e: stats.mean(cells[e]))
    return engine, cells[engine]


def times(a, b):
    """'1.23 times [1.10, 1.40]', or that there is no telling."""
    ratio, low, high = stats.ratio(a, b)
    text = f'{ratio:.2f} [{low:.2f}, {high:.2f}] times'
    return text if stats.distinguishable(a, b) else text + ' (no clear difference from)'


def sentence(trials, workload, args):
    """What one workload showed, each strategy and each peer at its best engine."""
    best = {s: best_engine(trials, workload.name, s, args) for s in args.strategies}
    best = {s: found for s, found in best.items() if found}
    if not best:
        return ''
    groups = stats.rank({s: cell for s, (_, cell) in best.items()})
    leader = groups[0][0]
    engine, cell = best[leader]
    text = f'{workload.title}: '
    if len(groups[0]) > 1:
        text += f'{one_of(groups[0])} can\'t be told apart (highest mean: {leader} on {engine}, ' \
                f'{spread(cell)} a second)'
    else:
        text += f'{leader} is fastest (on {engine}, {spread(cell)} a second)'
    rest = [name for group in groups[1:] for name in group]
    if rest:
        text += ', ' + one_of([f'{times(cell, best[name][1])} {name}' for name in rest])
    compared = []
    for peer in workload.compared:
        found = best_engine(trials, workload.name, peer, args)
        if found:
            compared.append(f'{times(cell, found[1])} {peer}')
    if compared:
        text += f'; that is {one_of(compared)}'
    return text + '.'


def finding(trials, failures, args):
    sentences = [sentence(trials, w, args) for w in WORKLOADS if w.name in args.workloads]
    tails = {s: percentiles(trials, 'mixed-flush', s, args.engines[0]) for s in args.strategies}
    tails = {s: dict(p).get(99.9) for s, p in tails.items()}
    tails = {s: us for s, us in tails.items() if us}
    if len(tails) > 1:
        low, high = min(tails, key=tails.get), max(tails, key=tails.get)
        sentences.append(f'In the mixed workload on {args.engines[0]} the 99.9th percentile of latency goes '
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
    for workload in WORKLOADS:
        cells = {}
        for subject in subjects:
            for engine in args.engines:
                cell = values(trials, workload.name, subject, engine)
                if cell:
                    cells[subject, engine] = stats.interval(cell)
        if cells:
            panels.append((workload.title, cells))
    made = figures.iops(directory, panels, subjects, note) if panels else []
    for name, key, title, label, workload in (
            ('latency', 'p', 'Latency, mixed reads and writes with flushes', 'latency, µs',
             'mixed-flush'),
            ('stall', 'stall', 'Stall: how long one turn of the loop takes, same workload',
             'turn, µs', 'mixed-flush')):
        curves = [(e, {s: percentiles(trials, workload, s, e, key) for s in args.strategies})
                  for e in args.engines]
        curves = [(e, {s: p for s, p in c.items() if p}) for e, c in curves]
        made += figures.tail(directory, name, title, curves, label,
                             'x: per cent of requests (turns) that take at most so long; '
                             f'mean of {args.trials} trials')
    return made


def names(text):
    return [name for name in text.split(',') if name]


def parse_args(argv):
    parser = argparse.ArgumentParser(prog='./reproduce', description=__doc__.split('\n\n')[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--quick', action='store_true', help='about three minutes (the default)')
    size.add_argument('--full', action='store_true', help='10 trials of 3 seconds: an hour')
    parser.add_argument('--seed', type=int, default=1, help='of the order and the workloads')
    parser.add_argument('--trials', type=int, help='per cell')
    parser.add_argument('--seconds', type=float, help='per trial')
    parser.add_argument('--strategies', type=names, default=STRATEGIES)
    parser.add_argument('--engines', type=names, default=ENGINES)
    parser.add_argument('--workloads', type=names,
                        default=[w.name for w in WORKLOADS])
    parser.add_argument('--no-peers', action='store_true', help='without fio and qemu-img')
    parser.add_argument('--program', default=os.path.join(TOP, 'build', 'asyncow'))
    parser.add_argument('--output', default=os.path.join(TOP, 'results', 'local'))
    parser.add_argument('--directory', help='where the images go (a real disk); default: '
                        'OUTPUT/tmp')
    args = parser.parse_args(argv)
    args.trials = args.trials or (10 if args.full else 3)
    args.seconds = args.seconds or (3 if args.full else 0.4)
    args.directory = args.directory or os.path.join(args.output, 'tmp')
    known = [w.name for w in WORKLOADS]
    for name in args.workloads:
        if name not in known:
            parser.error(f'no workload "{name}"; there are {", ".join(known)}')
    return args


def main(argv):
    args = parse_args(argv)
    os.makedirs(args.directory, exist_ok=True)
    run = Run(args)
    missing = bench.unusable_engines(args.program, args.engines)
    args.engines = [e for e in args.engines if e not in missing]
    for engine, reason in missing.items():
        print(f'Without the engine {engine}: {reason}')
    facts = bench.manifest(TOP, args.program, args.directory, seed=args.seed, trials=args.trials,
                           seconds_per_trial=args.seconds, arguments=argv, engines_missing=missing)
    if facts['file_system'] in ('tmpfs', 'ramfs', 'overlay'):
        print(f'Note: the images are on {facts["file_system"]}, which is not a real disk; '
              'choose another place with --directory.', file=sys.stderr)
    began = time.monotonic()
    try:
        trials, failures = measure(run, args)
    finally:
        for name in os.listdir(args.directory):
            bench.remove(os.path.join(args.directory, name))
    facts['seconds_in_all'] = round(time.monotonic() - began)
    text, found = table(trials, failures, facts, args), finding(trials, failures, args)
    with open(os.path.join(args.output, 'reproduce.json'), 'w', encoding='utf-8') as f:
        json.dump({'manifest': facts, 'finding': found, 'trials': trials,
                   'failures': [{'cell': k, 'why': v} for k, v in failures.items()]}, f, indent=1)
    for name, content in (('table.txt', text), ('finding.txt', found + '\n')):
        with open(os.path.join(args.output, name), 'w', encoding='utf-8') as f:
            f.write(content)
    made = draw(trials, args)
    print(text)
    print(found)
    where = os.path.relpath(args.output)
    print(f'\nIn {where}: reproduce.json, table.txt, finding.txt, and '
          f'{", ".join(os.path.relpath(m, args.output) for m in made if m.endswith("png"))} (and SVG).')
    return 1 if failures or not trials else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that images are removed
    sys.exit(main(sys.argv[1:]))
