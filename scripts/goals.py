#!/usr/bin/env python3
"""The project's goals as ratios against its peers, all from one run with interleaved trials.

4 KiB requests, direct I/O, depth 1 and 32:
  warm    reads of cached mappings, on tmpfs, against fio on a raw file
  alloc   allocating writes on disk, stride 64 KiB, fresh image, with growth ahead of need
          on and off, against qemu-img bench as it comes and with its preallocate filter
  miss    reads that each miss a 1 MiB L2 cache of a 64 GiB image on disk, against qemu-img
          bench with as large a cache
On disk each strategy is taken at its best engine, and so is a peer; on tmpfs engine by engine.
A ratio above 1 means that we are faster.
"""
import json
import os
import random
import signal
import sys

import bench
import rounds
import stats
from reproduce import ENGINES, STRATEGIES, TOP, names, progress

# A goal is for the best setting of a model. A worker that preads needs no engine, so it runs
# beside one of them only; few workers wake each other less, and those that look for work
# awake need not be woken at all.
SETTINGS = [*STRATEGIES, 'threadpool:engine=sync', 'threadpool:engine=sync,workers=4',
            'threadpool:engine=sync,idle=spin']
WARM_SIZE = bench.GIB
IMAGE_SIZE = 64 * bench.GIB
MISS_STEP = 32 * bench.MIB + bench.CLUSTER  # the guest bytes that one L2 slice maps, and one


class Goals:
    def __init__(self, args):
        self.args = args
        self.program = args.program
        self.counts = {}
        self.memory, self.disk = args.memory, args.directory

    def prepare(self):
        if 'warm' in self.args.what:
            bench.create_image(f'{self.memory}/warm.qcow2', WARM_SIZE)
            bench.fill_image(f'{self.memory}/warm.qcow2', WARM_SIZE)
            bench.create_filled_raw(f'{self.memory}/warm.raw', WARM_SIZE)
        if 'miss' in self.args.what:
            bench.create_image(f'{self.disk}/miss.qcow2', IMAGE_SIZE, '-o',
                               'preallocation=metadata')

    def subjects(self, what):
        for strategy in self.args.strategies:
            yield strategy
            if what == 'alloc':
                yield strategy + ', growth off'
        yield from {'warm': ['fio'], 'alloc': ['qemu-img', 'qemu-img preallocate'],
                    'miss': ['qemu-img']}[what]

    def cells(self):
        for what in self.args.what:
            for depth in self.args.depths:
                for subject in self.subjects(what):
                    for engine in self.args.engines:
                        if 'engine=sync' not in subject or engine == self.args.engines[-1]:
                            yield what, depth, subject, engine

    def job(self, what, depth):
        job = {'bs': '4k', 'iodepth': str(depth), 'direct': '1'}
        if what == 'warm':
            # tmpfs knows no O_DIRECT; nor does anything need it there.
            job.update(rw='randread', direct='0', time_based='1', runtime=f'{self.args.seconds:g}')
        elif what == 'miss':
            job.update(rw=f'read:{MISS_STEP - 4096}', time_based='1',
                       runtime=f'{self.args.seconds:g}')
        else:
            job.update(rw='write:60k', number_ios=str(self.alloc_count(depth)))
        return job

    def alloc_count(self, depth):
        return max(64, int((3000 if depth == 1 else 12000) * self.args.seconds))

    def trial(self, what, depth, subject, engine):
        job = self.job(what, depth)
        if subject == 'fio':
            return bench.fio(f'{self.memory}/warm.raw', engine, job, WARM_SIZE)
        if what == 'alloc':
            path = f'{self.disk}/fresh.qcow2'
            bench.create_image(path, IMAGE_SIZE)
            if subject.startswith('qemu-img'):
                options = f'driver=qcow2,file.driver=preallocate,file.file.driver=file,' \
                          f'file.file.filename={path}' if 'preallocate' in subject else None
                return bench.qemu_bench(path, engine, job, self.alloc_count(depth), bench.CLUSTER,
                                        write=True, image_opts=options)
            strategy, _, off = subject.partition(', growth')
            return bench.asyncow(self.program, path, strategy, engine, job,
                                 ['--grow=0'] if off else [])
        if subject == 'qemu-img':
            options = f'driver=qcow2,l2-cache-size={bench.MIB},file.driver=file,' \
                      f'file.filename={self.disk}/miss.qcow2'

            def measure(count):
                return bench.qemu_bench(None, engine, job, count, MISS_STEP, image_opts=options)
            key = (what, depth, engine)
            if key not in self.counts:
                self.counts[key] = max(64, int(measure(500)['iops'] * self.args.seconds))
            return measure(self.counts[key])
        image = f'{self.memory}/warm.qcow2' if what == 'warm' else f'{self.disk}/miss.qcow2'
        extra = [f'--cache-size={bench.MIB}'] if what == 'miss' else []
        return bench.asyncow(self.program, image, subject, engine, job, extra)


TITLES = {
    'warm': 'Warm random read, tmpfs, buffered',
    'alloc': 'Allocating write, disk, stride 64 KiB, fresh 64 GiB image',
    'miss': 'L2 misses, disk, 1 MiB cache over 64 GiB, step 32 MiB + 64 KiB',
}


def best(results, what, depth, subject, engines):
    """(engine, trials) of the engine with the highest mean; None where nothing ran."""
    cells = {e: results.get((what, depth, subject, e)) for e in engines}
    cells = {e: c for e, c in cells.items() if c}
    if not cells:
        return None
    engine = max(cells, key=lambda e: stats.mean(cells[e]))
    return engine, cells[engine]


def report(results, failures, goals, args):
    out = []
    for what in args.what:
        # On tmpfs a request costs CPU and nothing else: like is compared with like, one
        # engine at a time. On disk each subject is taken at its best engine.
        groups = [[e] for e in args.engines] if what == 'warm' else [args.engines]
        for depth in args.depths:
            out += ['', f'{TITLES[what]}, depth {depth}']
            for number, engines in enumerate(groups):
                out += rows(results, goals, what, depth, engines, heading=number == 0)
    for cell, why in sorted(failures.items()):
        out += ['', f'failed: {cell}', '  ' + why]
    return '\n'.join(out).strip()


def rows(results, goals, what, depth, engines, heading):
    subjects = list(goals.subjects(what))
    peers = [s for s in subjects if s in ('fio', 'qemu-img', 'qemu-img preallocate')]
    references = {p: best(results, what, depth, p, engines) for p in peers}
    out = [f'  {"":46}{"a second":>26}  {"engine":10}'
           + ''.join(f'{"of " + p:>28}' for p in peers)] if heading else []
    for subject in subjects:
        found = best(results, what, depth, subject, engines)
        if not found:
            if 'engine=sync' not in subject:
                out.append(f'  {subject:46}{"failed":>26}')
            continue
        engine, cell = found
        mean, low, high = (stats.quantity(v) for v in stats.interval(cell))
        row = f'  {subject:46}' + f'{mean} [{low}, {high}]'.rjust(26) + f'  {engine:10}'
        for peer in peers:
            if references[peer] and subject not in peers:
                ratio = stats.ratio(cell, references[peer][1])
                row += '{:.2f} [{:.2f}, {:.2f}]'.format(*ratio).rjust(28)
        out.append(row)
    return out + best_settings(results, what, depth, subjects, engines)


def best_settings(results, what, depth, subjects, engines):
    """Which of a model's settings is its best, where several ran: the goals are for that."""
    out, models = [], {}
    for subject in subjects:
        found = best(results, what, depth, subject, engines)
        if found:
            models.setdefault(subject.partition(':')[0].partition(',')[0], []).append(
                (stats.mean(found[1]), subject))
    for model, ways in models.items():
        if any(':' in subject for _, subject in ways) and len(ways) > 1:
            out.append(f'  best of {model}: {max(ways)[1]}')
    return out


def parse_args(argv):
    parser = rounds.parser('goals', __doc__.splitlines()[0], trials=5, seconds=1.0)
    parser.add_argument('--strategies', type=str.split, default=SETTINGS,
                        help='separated by spaces, settings included')
    parser.add_argument('--engines', type=names, default=ENGINES)
    parser.add_argument('--what', type=names, default=['warm', 'alloc', 'miss'])
    rounds.add_memory(parser)
    return rounds.parse(parser, argv)


def main(argv):
    args = parse_args(argv)
    for directory in (args.output, args.directory, args.memory):
        os.makedirs(directory, exist_ok=True)
    goals, rng = Goals(args), random.Random(args.seed)
    results, failures = {}, {}
    try:
        progress('making the images')
        goals.prepare()
        cells = list(goals.cells())
        for number in range(args.trials):
            rng.shuffle(cells)
            for done, cell in enumerate(cells):
                progress(f'round {number + 1}/{args.trials}, {done + 1}/{len(cells)}: {cell}')
                if cell in failures:
                    continue
                try:
                    results.setdefault(cell, []).append(goals.trial(*cell)['iops'])
                except bench.TrialError as error:
                    failures[cell] = str(error)
                if cell[0] == 'alloc':
                    os.sync()
        progress('')
    finally:
        for directory in (args.directory, args.memory):
            for name in os.listdir(directory):
                bench.remove(os.path.join(directory, name))
        os.rmdir(args.memory)
    facts = bench.manifest(TOP, args.program, args.directory, seed=args.seed, trials=args.trials,
                           seconds_per_trial=args.seconds, arguments=argv)
    with open(os.path.join(args.output, 'goals.json'), 'w', encoding='utf-8') as f:
        json.dump({'manifest': facts, 'failures': [[*k, v] for k, v in failures.items()],
                   'iops': [[*k, v] for k, v in results.items()]}, f, indent=1)
    text = report(results, failures, goals, args)
    with open(os.path.join(args.output, 'goals.txt'), 'w', encoding='utf-8') as f:
        f.write(text + '\n')
    print(text)
    return 1 if failures else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that images are removed
    sys.exit(main(sys.argv[1:]))
