#!/usr/bin/env python3
"""Every setting of every strategy, by name: warm read, cold-L2 read and allocating write, 4 KiB,
depth 1 and 32, metadata written back and through, on all CPUs and on one. One engine; trials of all
cells interleaved in a random order from one seed.

Writes results/local/settings.json (every trial and what it ran on) and settings.txt.
"""
import json
import os
import signal
import sys

import bench
import reproduce
import rounds
import stats
import summary

WHAT = {  # name: (workload of reproduce.py, options)
    'warm': (reproduce.WarmRead, []),
    'cold': (reproduce.ColdRead, []),
    'alloc, back': (reproduce.AllocWrite, ['--metadata-writes=back']),
    'alloc, through': (reproduce.AllocWrite, ['--metadata-writes=through']),
}
TITLES = {'warm': 'Warm random read', 'cold': 'Cold-L2 random read',
          'alloc, back': 'Allocating write, metadata written back',
          'alloc, through': 'Allocating write, metadata written through'}


def subjects(program):
    """'callbacks', 'callbacks:metadata=sync', ...: each word that a setting may be, but what it is
    anyway."""
    out = []
    for strategy in json.loads(bench.run([program, 'strategies', '--output-format=json'])):
        defaults = {f'{s["name"]}={s["default"]}' for s in strategy['settings']}
        for way in strategy['ways']:
            if way['name'] not in defaults:
                out.append(strategy['name'] + (f':{way["name"]}' if way['name'] else ''))
    return out


class Settings:
    def __init__(self, args):
        self.args = args
        self.run = reproduce.Run(args)
        self.pools = {}  # cell: histograms of all its trials
        self.workloads = {name: cls(self.run) for name, (cls, _) in WHAT.items() if name in args.what}

    def cells(self):
        return [(what, depth, cpus, subject) for what in self.workloads for depth in self.args.depths
                for cpus in self.args.cpus for subject in self.args.strategies]

    def percentiles(self):
        """{cell: {'p': {'50': us, ...}, 'stall': ...}}, of its trials' samples together."""
        return {cell: {kind: bench.from_bins(*bins) for kind, bins in pool.items()}
                for cell, pool in self.pools.items()}

    def trial(self, what, depth, cpus, subject):
        pool = self.pools.setdefault((what, depth, cpus, subject), {'p': [], 'stall': []})
        workload = self.workloads[what]
        job = dict(workload.job, iodepth=str(depth), randseed=self.run.next_seed())
        if 'number_ios' in job and depth == 1:
            job['number_ios'] = str(max(64, int(job['number_ios']) // 5))
        with bench.pinned(cpus):
            return bench.asyncow(self.args.program, workload.fresh(subject), subject, self.args.engine,
                                 job, [*workload.options, *WHAT[what][1]], pool)


def row(trials, percentiles, cell):
    subject = cell[-1]
    found = [t for t in trials if (t['what'], t['depth'], t['cpus'], t['subject']) == cell]
    if not found:
        return f'  {subject:36}failed'
    cells = {'IOPS': summary.spread([t['iops'] for t in found]),
             'a CPU-s': stats.quantity(stats.mean([t['iops_per_cpu_s'] for t in found]))}
    for kind, name, of in (('p', '50', 'p50'), ('p', '99', 'p99'), ('p', '99.9', 'p99.9'),
                           ('stall', '99.9', 'stall p99.9')):
        us = percentiles[cell][kind].get(name)
        cells[of] = '-' if us is None else summary.short(us)
    return f'  {subject:36}{cells["IOPS"]:>26}' + ''.join(
        f'{cells[c]:>12}' for c in ('a CPU-s', 'p50', 'p99', 'p99.9', 'stall p99.9'))


def table(trials, percentiles, failures, facts, args):
    out = [f'{facts["asyncow"]}; Linux {facts["kernel"]}, {facts["cpus"]} x {facts["cpu"]}, '
           f'{facts["file_system"]}; engine {args.engine}; {args.trials} trials of {args.seconds:g} s, '
           f'seed {args.seed}. Latency and stall (a turn of the loop) in us, of the trials together; -: fewer than '
           'five samples beyond.']
    for what in args.what:
        for depth in args.depths:
            for cpus in args.cpus:
                out += ['', f'{TITLES[what]}, depth {depth}, {f"{cpus} CPU" if cpus else "all CPUs"}',
                        f'  {"":36}{"requests a second":>26}{"a CPU-s":>12}{"p50":>12}{"p99":>12}'
                        f'{"p99.9":>12}{"stall p99.9":>12}']
                out += [row(trials, percentiles, (what, depth, cpus, s)) for s in args.strategies]
    for cell, why in failures.items():
        out += ['', f'failed: {cell}', '  ' + why]
    return '\n'.join(out) + '\n'


def write_json(f, lists):
    """{name: list}, a line for each member: there are thousands of trials."""
    f.write('{' + ',\n'.join(json.dumps(name) + ': [\n' + ',\n'.join(map(json.dumps, members)) + ']'
                             for name, members in lists.items()) + '}\n')


def parse_args(argv):
    parser = rounds.parser('settings', __doc__.split('\n\n')[0], trials=5, seconds=0.2)
    parser.add_argument('--strategies', type=str.split,
                        help='separated by spaces, settings included; default: every setting')
    parser.add_argument('--engine', default='io_uring')
    parser.add_argument('--what', type=lambda s: s.split(';'), default=list(WHAT),
                        help='separated by semicolons: ' + '; '.join(WHAT))
    parser.add_argument('--cpus', type=lambda s: [int(d) for d in s.split(',')], default=[0, 1],
                        help='0: all')
    args = rounds.parse(parser, argv)
    args.strategies = args.strategies or subjects(args.program)
    for what in args.what:
        if what not in WHAT:
            parser.error(f'no "{what}"; there are {"; ".join(WHAT)}')
    return args


def main(argv):
    args = parse_args(argv)
    for directory in (args.output, args.directory):
        os.makedirs(directory, exist_ok=True)
    settings = Settings(args)
    facts = bench.manifest(reproduce.TOP, args.program, args.directory, seed=args.seed,
                           trials=args.trials, seconds_per_trial=args.seconds, arguments=argv)
    trials, failures = [], {}
    try:
        for workload in {type(w): w for w in settings.workloads.values()}.values():
            workload.prepare()
        cells = settings.cells()
        for number, cell, result in rounds.rounds(args, cells, settings.trial, failures):
            del result['p'], result['stall']  # too few samples each: see percentiles()
            result.update(zip(('what', 'depth', 'cpus', 'subject'), cell), trial=number)
            trials.append(result)
    finally:
        for name in os.listdir(args.directory):
            bench.remove(os.path.join(args.directory, name))
    percentiles = settings.percentiles()
    text = table(trials, percentiles, failures, facts, args)
    with open(os.path.join(args.output, 'settings.json'), 'w', encoding='utf-8') as f:
        write_json(f, {'manifest': [facts], 'trials': trials,
                       'percentiles_us': [{'cell': k, **v} for k, v in percentiles.items()],
                       'failures': [{'cell': k, 'why': v} for k, v in failures.items()]})
    with open(os.path.join(args.output, 'settings.txt'), 'w', encoding='utf-8') as f:
        f.write(text)
    print(text)
    return 1 if failures or not trials else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that images are removed
    sys.exit(main(sys.argv[1:]))
