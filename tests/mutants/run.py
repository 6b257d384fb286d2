#!/usr/bin/env python3
"""Plants known bugs, one at a time, and tells which technique finds which.

Each *.patch here is a bug with a history. It is applied to a copy of the tree, what the
techniques need is built, and each technique runs until it fails (found) or ends (not). The
copy without a bug goes first: there nothing may be found. Fails if a bug is found by none.
ASYNCOW_SEED repeats a run.
"""
import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
STRATEGIES = ['callbacks', 'coroutines', 'threadpool', 'freeze-thaw']
MODULES = [f'strategies/{name}.so' for name in STRATEGIES]

# Name, what it runs in the build directory (one after the other), and what counts the runs
# in its output.
TECHNIQUES = {
    'random': ([['tests/qcow2/test_core_random', '1']], r'^(v[23]-\S+) round'),
    'faults': ([['tests/qcow2/test_core_faults', '3']], r'(\d+) trials'),
    'crashes': ([['tests/qcow2/test_core_crash', '60000']], r'(\d+) looks'),
    'explore': ([['asyncow', 'explore', '--operations=2', '--schedules=400'],
                 ['asyncow', 'explore', '--operations=2', '--schedules=400',
                  '--metadata-writes=through'],
                 ['asyncow', 'explore', '--operations=3', '--mode=pct:3', '--schedules=20']],
                r'(\d+) schedules'),
    'strategy crashes': ([['tests/crash/test_strategy_crash', '12000', name]
                          for name in STRATEGIES], r'(\d+) looks'),
    'snapshots': ([['tests/qcow2/test_core_snapshot', '1']], r'^(v[23]-\S+) round'),
    'strategy faults': ([['python3', f'{TOP}/tests/faults/faults.py', '--program',
                          'tests/faults/test_faults', '--stride', '12']], r'(\d+) trials'),
    'differential': ([['python3', f'{TOP}/tests/differential/differential.py', '--program',
                       'tests/differential/test_differential', '--ops', '150']],
                     r'(\d+) images'),
}
TELLING = re.compile(r'never taken|FAILED|wrong|Assertion|hangs|in the trial|; it is|corrupt')
TARGETS = MODULES + ['asyncow', 'tests/qcow2/test_core_random', 'tests/qcow2/test_core_snapshot',
                     'tests/qcow2/test_core_faults', 'tests/qcow2/test_core_crash',
                     'tests/crash/test_strategy_crash', 'tests/faults/test_faults',
                     'tests/differential/test_differential']


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kwargs)


def copy_tree(to):
    """Only what differs, so that ninja builds only that: a run that was stopped may have
    left a bug behind."""
    names = set(run('git', 'ls-files', '-z', '-c', '-o', '--exclude-standard', cwd=TOP).stdout.split('\0')[:-1])
    names = {n for n in names if os.path.isfile(f'{TOP}/{n}')}
    for directory, _, files in os.walk(to):
        for file in files:
            if os.path.relpath(f'{directory}/{file}', to) not in names:
                os.remove(f'{directory}/{file}')
    for name in names:
        if not os.path.exists(f'{to}/{name}') or not filecmp.cmp(f'{TOP}/{name}', f'{to}/{name}',
                                                                 shallow=False):
            os.makedirs(os.path.dirname(f'{to}/{name}'), exist_ok=True)
            shutil.copyfile(f'{TOP}/{name}', f'{to}/{name}')
            shutil.copymode(f'{TOP}/{name}', f'{to}/{name}')


def apply(tree, patch, *how):
    # The copy is no repository, nor part of one.
    env = dict(os.environ, GIT_CEILING_DIRECTORIES=os.path.dirname(tree))
    run('git', 'apply', *how, patch, cwd=tree, env=env)


def build(directory):
    try:
        run('ninja', '-C', directory, *TARGETS)
    except subprocess.CalledProcessError as error:
        sys.exit(f'it does not build:\n{error.stdout[-3000:]}')


def counted(pattern, output):
    found = re.findall(pattern, output, re.M)
    return sum(int(n) for n in found) if all(n.isdigit() for n in found) else len(found)


def try_technique(name, directory, timeout):
    """Whether it fails, how many runs that took as far as it tells, seconds, last words."""
    commands, pattern = TECHNIQUES[name]
    env = dict(os.environ, ASYNCOW_STRATEGY_PATH=f'{directory}/strategies')
    began, output = time.monotonic(), ''
    for command in commands:
        command = [f'{directory}/{c}' if c in TARGETS else c
                   for c in command]
        try:
            r = subprocess.run(command, cwd=directory, env=env, text=True, timeout=timeout,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors='replace')
            output += r.stdout
            if r.returncode:
                break
        except subprocess.TimeoutExpired:
            output += 'it hangs\n'
            break
    else:
        return False, counted(pattern, output), time.monotonic() - began, ''
    lines = [line for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    return (True, counted(pattern, output), time.monotonic() - began,
            (telling or lines or ['it says nothing'])[-1].strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work', default=f'{TOP}/build-check/mutants', help='for copy and build')
    parser.add_argument('--only', action='append', default=[], help='mutant, or its beginning; the tree without a bug is left out then')
    parser.add_argument('--technique', action='append', choices=TECHNIQUES, default=[])
    parser.add_argument('--timeout', type=int, default=300, help='seconds: then it hangs')
    parser.add_argument('--first', action='store_true', help='one technique is enough')
    options = parser.parse_args()
    os.environ.setdefault('ASYNCOW_SEED', '1')
    tree, directory = f'{options.work}/tree', f'{options.work}/build'
    os.makedirs(tree, exist_ok=True)
    copy_tree(tree)
    if not os.path.exists(f'{directory}/build.ninja'):
        run('meson', 'setup', directory, tree)
    names = sorted(f[:-6] for f in os.listdir(HERE) if f.endswith('.patch'))
    if options.only:
        names = [n for n in names if any(n.startswith(o) for o in options.only)]
    missed = []
    for name in [*([] if options.only else [None]), *names]:
        if name:
            apply(tree, f'{HERE}/{name}.patch')
        build(directory)
        print(name or 'no bug', flush=True)
        finders = []
        for technique in options.technique or TECHNIQUES:
            found, runs, seconds, words = try_technique(technique, directory, options.timeout)
            finders += [technique] * found
            print(f'  {technique:17} {"found" if found else "-":6} {runs:7} runs {seconds:6.1f} s'
                  f'  {words[:90]}', flush=True)
            if found and options.first:
                break
        if name:
            apply(tree, f'{HERE}/{name}.patch', '-R')
        if bool(finders) != bool(name):
            missed.append(name or 'something where no bug was planted')
    print(f'{len(names) - len([m for m in missed if m in names])} of {len(names)} bugs found')
    if missed:
        print('wrong: ' + ', '.join(missed))
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
