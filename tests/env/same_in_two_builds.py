#!/usr/bin/env python3
"""The same seed gives the same bytes whatever compiled the program: the report, the image
and the trace of every host I/O with its times, for every strategy, threads included; and a
search visits as many states. Usage: same_in_two_builds.py BUILD BUILD. ./check runs it with
the gcc and the clang build; ASYNCOW_SEED sets the seed.
"""
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SEED = os.environ.get('ASYNCOW_SEED', '1')
STRATEGIES = ('callbacks', 'coroutines', 'coroutines:hold=metadata', 'threadpool',
              'threadpool:hold=metadata', 'freeze-thaw')
LOADS = (('--rw=randrw', '--bs=3k', '--iodepth=16', '--norandommap', '--fsync=20',
          '--metadata-writes=through'),
         ('--rw=randrw', '--bs=4k', '--iodepth=7', '--fsync=31'),
         ('--rw=randtrimwrite', '--bs=8k', '--iodepth=16', '--metadata-writes=back'))
MODELS = 'fixed', 'lognormal'
SHIPPED = sorted(pathlib.Path(__file__).parents[2].glob('models/*.model'))
# Of those each strategy takes one load, with an elevator in the guest.
WORLD = ':guest-queue=on,guest-elevator=anticipatory,guest-depth=4'


def program(build, *args):
    done = subprocess.run([os.path.join(build, 'asyncow'), *args],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120, check=False)
    if done.returncode:
        sys.exit(f'{" ".join(done.args)}: exit status {done.returncode}\n{done.stderr}')
    # The commit, which need not be the same while one works on it.
    return re.sub(r'"[^"]*\([0-9a-f]+(-dirty)?\)"', '"version"', done.stdout)


def run(build, directory, strategy, load, model):
    """Report, image and trace."""
    image, trace = (os.path.join(directory, name) for name in ('image.qcow2', 'trace'))
    for path in image, trace:
        if os.path.exists(path):
            os.unlink(path)
    program(build, 'img', 'create', '-f', 'qcow2', '-o', 'cluster_size=4k', image, '8M')
    report = program(build, 'run', f'--image={image}', f'--strategy={strategy}',
                     '--engine=sim', f'--sim-model={model}', '--size=4M',
                     '--number_ios=600', f'--seed={SEED}', '--output-format=json+',
                     '--no-manifest-host', f'--filter=record:file={trace}', *load)
    with open(trace, encoding='utf-8') as f:
        lines = f.read()
    assert lines.count('\n') > 200, 'the trace is not that of the run'
    with open(image, 'rb') as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    return report, digest, lines


def explore(build, *args):
    return program(build, 'explore', '--output-format=json', f'--seed={SEED}', *args)


def main(builds):
    compared = 0
    print(f'ASYNCOW_SEED={SEED}')
    with tempfile.TemporaryDirectory(prefix='asyncow-test-') as directory:
        for strategy in STRATEGIES:
            runs = [(load, model) for load in LOADS for model in MODELS]
            runs += [(LOADS[0], f'{model}{WORLD}') for model in SHIPPED]
            for load, model in runs:
                one, other = (run(b, directory, strategy, load, model) for b in builds)
                for what, a, b in zip(('report', 'image', 'trace'), one, other):
                    if a != b:
                        sys.exit(f'{strategy} {" ".join(load)} {model}: another {what}'
                                 f' in {builds[1]}\n{a[:2000]}\n---\n{b[:2000]}')
                    compared += 1
    for args in (('--operations=2', '--schedules=200'),
                 ('--operations=2', '--schedules=20', '--mode=uniform'),
                 ('--operations=2', '--schedules=20', '--mode=pct:3')):
        one, other = (explore(b, *args) for b in builds)
        if one != other:
            sys.exit(f'explore {" ".join(args)}: another report in {builds[1]}')
        compared += 1
    print(compared, 'outputs are the same')


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
