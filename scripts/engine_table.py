#!/usr/bin/env python3
"""What an I/O costs on the raw path under each engine, on a disk, tmpfs, a loop device and FUSE;
what auto and auto=recipe choose there, and what that costs against the best engine.

Random 4 KiB reads of an existing file, buffered and direct. Trials of all cells interleaved in a
random order from one seed. Writes results/local/engines.json and engines.txt.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import bench
import rounds
import stats
from reproduce import TOP, names

ENGINES = ['sync', 'threads', 'posix-aio', 'linux-aio', 'io_uring', 'libuv']
CHOICES = ['auto', 'auto=recipe']
FILE_SIZE = 16 * bench.MIB


@contextlib.contextmanager
def mounted(mount, unmount, where):
    """The directory, or None with the reason said, if it cannot be mounted here."""
    os.makedirs(where, exist_ok=True)
    try:
        try:
            for command in mount:
                bench.run(command)
        except (bench.TrialError, FileNotFoundError) as error:
            print(f'left out: {where}: {error}', file=sys.stderr)
            yield None
            return
        yield where
    finally:
        for command in unmount:
            subprocess.run(command, capture_output=True, check=False)
        os.rmdir(where)


@contextlib.contextmanager
def places(args):
    """{name: directory}, of those that can be had."""
    backing = os.path.join(args.directory, 'loop.raw')
    with contextlib.ExitStack() as stack:
        stack.callback(bench.remove, backing)
        with open(backing, 'wb') as f:
            f.truncate(8 * FILE_SIZE)
        loop = os.path.join(args.directory, 'loop')
        fuse, below = (os.path.join(args.directory, name) for name in ('fuse', 'below'))
        os.makedirs(below, exist_ok=True)
        stack.callback(os.rmdir, below)
        os.makedirs(args.memory)
        stack.callback(shutil.rmtree, args.memory)
        found = {
            'disk': args.directory, 'tmpfs': args.memory,
            'loop': stack.enter_context(mounted(
                [['mkfs.ext4', '-q', '-F', backing], ['mount', '-o', 'loop', backing, loop]],
                [['umount', loop]], loop)),
            'fuse': stack.enter_context(mounted([['bindfs', below, fuse]], [['umount', fuse]], fuse)),
        }
        yield {name: where for name, where in found.items() if where and name in args.places}


def cost_ns(args, where, engine, direct, depth):
    """Nanoseconds a request; TrialError where the engine cannot be used there."""
    report = json.loads(bench.run(
        [args.program, 'microbench', 'engine', f'--engine={engine}', f'--depth={depth}',
         f'--direct={direct}', f'--dir={where}', f'--size={FILE_SIZE}', '--trials=1', '--fio=0',
         '--calls=0', f'--time={args.seconds * 1000:g}ms', '--output-format=json']))
    row = report['results'][0]
    if 'error' in row:
        raise bench.TrialError(row['error'])
    return row['ns_per_request']


def choices(args, where, direct):
    """{'auto': ('io_uring', why), ...} for a file there."""
    path = os.path.join(where, 'chosen-for')
    bench.create_filled_raw(path, 4 * bench.MIB)
    try:
        known = json.loads(bench.run([args.program, 'engines', '--output-format=json',
                                      *(['--direct'] if direct else []), path]))
    finally:
        bench.remove(path)
    return {e['name']: e['reason'].partition(': ')[::2] for e in known if e['name'] in CHOICES}


def best(results, cell):
    """Of engines that work there, the one that costs least."""
    able = {e: results[(*cell, e)] for e in ENGINES if results.get((*cell, e))}
    return min(able, key=lambda e: stats.mean(able[e]))


def report(results, chosen, failures, facts, found, args):
    out = [f'{facts["asyncow"]}; Linux {facts["kernel"]}, {facts["cpus"]} x {facts["cpu"]}; '
           f'{args.trials} trials of {args.seconds:g} s, seed {args.seed}. Random reads of 4 KiB, '
           'us a request with so many in flight.', '',
           f'{"":24}' + ''.join(f'{e:>11}' for e in ENGINES)
           + ''.join(f'  {c + " chooses, times the best":40}' for c in CHOICES)]
    for cell in [(p, direct, depth) for p in found for direct in (0, 1) for depth in args.depths]:
        place, direct, depth = cell
        row = f'{place:6}{"direct" if direct else "buffered":9} depth {depth:<3}'
        for engine in ENGINES:
            values = results.get((*cell, engine))
            row += f'{stats.mean(values) / 1000:11.2f}' if values else f'{"-":>11}'
        for choice in CHOICES:
            engine = chosen[place, direct][choice][0]
            top = best(results, cell)
            cost = stats.ratio(results[(*cell, engine)], results[(*cell, top)])
            same = 'the best' if engine == top else '{:.2f} [{:.2f}, {:.2f}]'.format(*cost)
            row += f'  {engine + ", " + same:40}'
        out.append(row.rstrip())
    out.append('')
    for (place, direct), of in chosen.items():
        out += [f'{place}, {"direct" if direct else "buffered"}: {choice}: {engine}: {why}'
                for choice, (engine, why) in of.items()]
    out += [f'not usable: {cell}: {why}' for cell, why in sorted(failures.items())]
    return '\n'.join(out) + '\n'


def parse_args(argv):
    parser = rounds.parser('engine-table', __doc__.split('\n\n')[0], trials=7, seconds=0.1)
    parser.add_argument('--places', type=names, default=['disk', 'tmpfs', 'loop', 'fuse'])
    rounds.add_memory(parser)
    return rounds.parse(parser, argv)


def measure(args, found):
    """({cell: [ns]}, {cell: why not})"""
    results, failures = {}, {}
    cells = [(place, direct, depth, engine) for place in found for direct in (0, 1)
             for depth in args.depths for engine in ENGINES]

    def trial(place, direct, depth, engine):
        return cost_ns(args, found[place], engine, direct, depth)
    for _, cell, ns in rounds.rounds(args, cells, trial, failures):
        results.setdefault(cell, []).append(ns)
    return results, failures


def main(argv):
    args = parse_args(argv)
    for directory in (args.output, args.directory):
        os.makedirs(directory, exist_ok=True)
    facts = bench.manifest(TOP, args.program, args.directory, seed=args.seed, trials=args.trials,
                           seconds_per_trial=args.seconds, arguments=argv)
    with places(args) as found:
        chosen = {(place, direct): choices(args, where, direct)
                  for place, where in found.items() for direct in (0, 1)}
        results, failures = measure(args, found)
    text = report(results, chosen, failures, facts, found, args)
    with open(os.path.join(args.output, 'engines.json'), 'w', encoding='utf-8') as f:
        json.dump({'manifest': facts, 'ns_per_request': [[*k, v] for k, v in results.items()],
                   'chosen': [[*k, v] for k, v in chosen.items()],
                   'failures': [[*k, v] for k, v in failures.items()]}, f, indent=1)
    with open(os.path.join(args.output, 'engines.txt'), 'w', encoding='utf-8') as f:
        f.write(text)
    print(text)
    return 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts and images are removed
    sys.exit(main(sys.argv[1:]))
