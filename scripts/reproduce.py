#!/usr/bin/env python3
"""The main job: four strategies x three engines x four workloads, with fio and qemu-img
bench in the same run, on all CPUs, and once more on one CPU with the first engine. Trials of
all cells are interleaved in a random order from one seed.

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
import summary
from summary import FIO, PEERS, QEMU, STRATEGIES, TUNED, Column

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENGINES = ['io_uring', 'linux-aio', 'threads']

DATA_SIZE = bench.GIB          # of the image that holds data
COLD_SIZE = 256 * bench.GIB    # its L2 tables are 32 MiB, its data are holes
ALLOC_SIZE = 64 * bench.GIB
COLD_CACHE = bench.MIB


class Workload:
    """One workload: its job, the images it needs, and how each tool runs it."""
    name = ''
    fixed_ios = False  # the job's length is a number of requests, not a time
    options = ()       # for asyncow only

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
        key = (self.name, engine, tuned, bench.pinned_to())
        if key not in self.run.counts:
            probe = measure(max(64, int(2000 * min(1, self.run.seconds))))
            self.run.counts[key] = max(64, int(probe['iops'] * self.run.seconds))
        return self.run.counts[key]


class WarmRead(Workload):
    name = 'warm-read'

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
    name = 'cold-read'
    options = (f'--cache-size={COLD_CACHE}',)

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
    name = 'alloc-write'
    fixed_ios = True
    step = bench.CLUSTER

    def __init__(self, run):
        super().__init__(run)
        # Few, since a file system takes longer to delete such a file than we to write it.
        self.job['number_ios'] = str(max(64, int(12000 * run.seconds)))

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
    name = 'mixed-flush'
    options = ('--allow-backing', '--allow-write')

    def fresh(self, subject):
        if subject == FIO:
            return self.path('data.raw')
        path = self.path('overlay.qcow2')
        bench.create_image(path, DATA_SIZE, '-F', 'qcow2', '-b', self.path('data.qcow2'))
        return path

    def fio(self, engine):
        return bench.fio(self.fresh(FIO), engine, self.job, DATA_SIZE)


WORKLOADS = [WarmRead, ColdRead, AllocWrite, MixedFlush]
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
    for column in args.columns:
        for subject in args.strategies + ([] if args.no_peers else PEERS):
            if subject in PEERS[1:] and workload.name == 'mixed-flush':
                continue
            if subject == TUNED and workload.name != 'alloc-write':
                continue
            yield workload, subject, column


def trial(workload, subject, column):
    with bench.pinned(column.cpus):
        if subject == FIO:
            return workload.fio(column.engine)
        if subject in (QEMU, TUNED):
            return workload.qemu(column.engine, subject == TUNED)
        return workload.asyncow(subject, column.engine)


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
        for workload, subject, column in order:
            done += 1
            left = (time.monotonic() - began) / done * (total - done)
            progress(f'trial {done}/{total}, {left:.0f} s left: {workload.name}, {subject}, {column}')
            key = (workload.name, subject, column)
            if key in failures:
                continue
            steal, ticks = bench.steal_ticks()
            try:
                result = trial(workload, subject, column)
            except bench.TrialError as error:
                failures[key] = str(error)
                continue
            steal_after, ticks_after = bench.steal_ticks()
            result.update(workload=workload.name, subject=subject, engine=column.engine,
                          cpus=column.cpus, trial=number,
                          spin_ns=bench.spin_ns(),
                          steal=(steal_after - steal) / max(1, ticks_after - ticks))
            trials.append(result)
            if workload.name in ('alloc-write', 'mixed-flush'):
                os.sync()  # what this trial left to the file system is not the next one's
    progress('')
    return trials, failures


def names(text):
    return [name for name in text.split(',') if name]


def parse_args(argv):
    parser = argparse.ArgumentParser(prog='./reproduce', description=__doc__.split('\n\n')[0],
                                     epilog='--goals, --settings and --engine-table, as the '
                                            'first word, are other jobs with options of their '
                                            'own: ./reproduce --goals --help')
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
    parser.add_argument('--all-cpus-only', action='store_true', help='no column on one CPU')
    parser.add_argument('--program', default=os.path.join(TOP, 'build', 'asyncow'))
    parser.add_argument('--output', default=os.path.join(TOP, 'results', 'local'))
    parser.add_argument('--directory', help='where the images go (a real disk); default: '
                        'OUTPUT/tmp')
    args = parser.parse_args(argv)
    args.trials = args.trials or (10 if args.full else 4)
    args.seconds = args.seconds or (3 if args.full else 0.2)
    # Absolute: an overlay's backing file is named relative to the overlay.
    args.directory = os.path.abspath(args.directory or os.path.join(args.output, 'tmp'))
    known = [w.name for w in WORKLOADS]
    for name in args.workloads:
        if name not in known:
            parser.error(f'no workload "{name}"; there are {", ".join(known)}')
    args.workloads = [name for name in known if name in args.workloads]
    set_columns(args)
    return args


def set_columns(args):
    """Each engine on all CPUs, and the first on one."""
    args.columns = [Column(e) for e in args.engines]
    if args.engines and os.cpu_count() > 1 and not args.all_cpus_only:
        args.columns.append(Column(args.engines[0], 1))


def main(argv):
    args = parse_args(argv)
    for directory in (args.output, args.directory):
        os.makedirs(directory, exist_ok=True)
    run = Run(args)
    missing = bench.unusable_engines(args.program, args.engines)
    args.engines = [e for e in args.engines if e not in missing]
    set_columns(args)
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
    text, found = summary.table(trials, failures, facts, args), summary.finding(trials, failures, args)
    with open(os.path.join(args.output, 'reproduce.json'), 'w', encoding='utf-8') as f:
        json.dump({'manifest': facts, 'finding': found, 'trials': trials,
                   'failures': [{'cell': k, 'why': v} for k, v in failures.items()]}, f, indent=1)
    for name, content in (('table.txt', text), ('finding.txt', found + '\n')):
        with open(os.path.join(args.output, name), 'w', encoding='utf-8') as f:
            f.write(content)
    made = summary.draw(trials, args)
    print(text)
    print(found)
    where = os.path.relpath(args.output)
    print(f'\nIn {where}: reproduce.json, table.txt, finding.txt, and '
          f'{", ".join(os.path.relpath(m, args.output) for m in made if m.endswith("png"))} (and SVG).')
    return 1 if failures or not trials else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that images are removed
    sys.exit(main(sys.argv[1:]))
