#!/usr/bin/env python3
"""Runs fuzz targets for a while, one after the other, and tells what they find.

    run.py --build DIR [--source TREE] [--seconds N] [--target NAME]... [--corpus DIR]
           [--seed N] [--runs N] [--strict]

DIR is a build directory with clang, -Dfuzz=true and -Db_sanitize=address,undefined; with
--source it is set up from that tree (one with a bug planted, say) and built first. The
seconds are shared by the targets. Each begins with the inputs under tests/fuzz/corpus and,
fuzz_image, with images that qemu-img makes; what it finds new is kept in --corpus, which
is a directory inside DIR unless said otherwise. Prints a line for each target,

    fuzz_schedule: found, 1234 executions, 3.2 s: a read returned what was never there

and exits with 1 if one of them found something; the input is then in DIR.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TARGETS = ['fuzz_schedule', 'fuzz_image']
LIMITS = ['-entropic=0', '-timeout=600', '-rss_limit_mb=2048', '-print_final_stats=1', '-verbosity=1']
LENGTH = {'fuzz_schedule': 1616, 'fuzz_image': 262144}  # bytes of an input, at most
# What the target itself says comes before the sanitizer's or the fuzzer's account of it.
ACCOUNT = re.compile(r'^==\d+==', re.M)
BESIDE = re.compile(r'^(=|#\d|INFO|\s|$|NEW_FUNC|NOTE)')


def telling(output):
    ours = [line for line in ACCOUNT.split(output)[0].splitlines() if not BESIDE.match(line)]
    theirs = re.findall(r'(runtime error.*|ERROR: .*)', output)
    return (ours[-1:] or theirs[:1] or ['it says nothing'])[0].strip()


def build(directory, source, targets):
    if not os.path.exists(f'{directory}/build.ninja'):
        subprocess.run(['meson', 'setup', directory, source, '-Dfuzz=true', '-Db_lundef=false',
                        '-Db_sanitize=address,undefined'], check=True,
                       stdout=subprocess.DEVNULL, env=dict(os.environ, CC=os.environ.get('FUZZ_CC', 'clang')))
    subprocess.run(['ninja', '-C', directory, 'asyncow', *[f'tests/fuzz/{t}' for t in targets]],
                   check=True, stdout=subprocess.DEVNULL)


def corpora(target, directory, kept):
    """Where it begins; the first is the one it adds to."""
    where = [f'{kept}/{target}']
    os.makedirs(where[0], exist_ok=True)
    ours = f'{HERE}/corpus/{target.removeprefix("fuzz_")}'
    if os.path.isdir(ours):
        where.append(ours)
    if target == 'fuzz_image':
        where.append(f'{directory}/fuzz-seeds')
        if not os.path.isdir(where[-1]):
            subprocess.run([sys.executable, f'{HERE}/make_corpus.py', f'{directory}/asyncow',
                            where[-1]], check=True)
    return where


def run(target, options, seconds):
    """Whether it finds something, executions, seconds, what it says."""
    command = [f'{options.build}/tests/fuzz/{target}', f'-max_total_time={max(1, round(seconds))}',
               f'-max_len={LENGTH[target]}', f'-artifact_prefix={options.build}/{target}-',
               *LIMITS]
    if options.seed:
        command.append(f'-seed={options.seed}')
    began = time.monotonic()
    if options.runs and target == 'fuzz_schedule':
        command.append(f'-runs={options.runs}')
    if options.strict:
        os.environ['FUZZ_STRICT'] = '1'
    r = subprocess.run(command + corpora(target, options.build, options.corpus), text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors='replace')
    took = time.monotonic() - began
    executed = re.search(r'number_of_executed_units: *(\d+)', r.stdout)
    if r.returncode:
        sys.stdout.write(r.stdout[-6000:])
    return r.returncode != 0, int(executed.group(1)) if executed else 0, took, telling(r.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', required=True)
    parser.add_argument('--source', help='set up and build from this tree first')
    parser.add_argument('--seconds', type=float, default=60, help='for all targets together')
    parser.add_argument('--target', action='append', choices=TARGETS, default=[])
    parser.add_argument('--corpus', help='what is found new is kept here')
    parser.add_argument('--seed', type=int, help='of the mutations; else drawn')
    parser.add_argument('--runs', type=int, help='executions of fuzz_schedule, at most')
    parser.add_argument('--strict', action='store_true', help='damaged images must get no worse')
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the target ends, too
    options.build = os.path.abspath(options.build)
    options.corpus = os.path.abspath(options.corpus or f'{options.build}/fuzz-corpus')
    targets = options.target or TARGETS
    if options.source:
        build(options.build, options.source, targets)
    failed = False
    for target in targets:
        found, executions, took, words = run(target, options, options.seconds / len(targets))
        print(f'{target}: {"found" if found else "nothing"}, {executions} executions, '
              f'{took:.1f} s{": " + words if found else ""}', flush=True)
        failed |= found
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
