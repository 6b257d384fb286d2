"""What the jobs beside the main one share: options, and rounds of interleaved trials."""
import argparse
import os
import random

import bench
from reproduce import TOP, progress


def parser(name, about, trials, seconds):
    """With the options that all of them have; trials and seconds are its defaults."""
    it = argparse.ArgumentParser(prog='./reproduce --' + name, description=about)
    it.add_argument('--seed', type=int, default=1)
    it.add_argument('--trials', type=int, default=trials)
    it.add_argument('--seconds', type=float, default=seconds, help='per trial')
    it.add_argument('--depths', type=lambda s: [int(d) for d in s.split(',')], default=[1, 32])
    it.add_argument('--program', default=os.path.join(TOP, 'build', 'asyncow'))
    it.add_argument('--output', default=os.path.join(TOP, 'results', 'local'))
    it.add_argument('--directory', help='on a real disk; default: OUTPUT/tmp')
    return it


def add_memory(it):
    it.add_argument('--memory', default=f'/dev/shm/asyncow-{os.getpid()}', help='on tmpfs')


def parse(it, argv):
    args = it.parse_args(argv)
    # Absolute: an overlay's backing file is named relative to the overlay.
    args.directory = os.path.abspath(args.directory or os.path.join(args.output, 'tmp'))
    return args


def rounds(args, cells, trial, failures):
    """Yields (round, cell, trial(*cell)), the order in each round drawn from the seed. A cell that
    fails is not tried again: failures[cell] says why."""
    for number in range(args.trials):
        random.Random(args.seed + number).shuffle(cells)
        for done, cell in enumerate(cells):
            progress(f'round {number + 1}/{args.trials}, {done + 1}/{len(cells)}: {cell}')
            if cell in failures:
                continue
            try:
                result = trial(*cell)
            except bench.TrialError as error:
                failures[cell] = str(error)
                continue
            yield number, cell, result
    progress('')
