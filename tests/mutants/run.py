#!/usr/bin/env python3
"""Plants known bugs, one at a time, and tells which technique finds which.

Each *.patch here is a bug with a history. Of a build that is there, what has the bug in it
is compiled and linked once more, elsewhere; then each technique runs until it fails (found)
or ends (not). Without a bug nothing may be found. Fails if a bug is found by none.

--quick, a part of ./check, runs for each bug only what finds it soonest, and fails if that
does not find it any more. No technique here is written for one mutant: what runs is a part
of what runs in ./check or --long. ASYNCOW_SEED repeats a run; --quick has a seed of its own.
"""
import argparse
import concurrent.futures
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, f'{TOP}/scripts')
import bench

STRATEGIES = ['callbacks', 'coroutines', 'threadpool', 'freeze-thaw']


def strategies(*command, where=None):
    """The command for each strategy, which takes the place of `%`."""
    return [[c.replace('%', name) for c in command] for name in (where or STRATEGIES)]


# Name, what it runs (one after the other), and what counts the runs in its output.
EXPLORE = ['asyncow', 'explore', '--strategy=%']
TECHNIQUES = {
    'random': ([['tests/qcow2/test_core_random', '1']], r'^(v[23]-\S+) round'),
    'restarts': ([['tests/qcow2/test_core_restarts', '1']], r'^(\d+) times injected'),
    'snapshots': ([['tests/qcow2/test_core_snapshot', '0']], r'^(v[23]-\S+) round'),
    'faults': ([['tests/qcow2/test_core_faults', '7']], r'(\d+) trials'),
    'crashes': ([['tests/qcow2/test_core_crash', '60000']], r'(\d+) looks'),
    'explore': (strategies(*EXPLORE, '--operations=2', '--schedules=200') +
                strategies(*EXPLORE, '--operations=2', '--schedules=60', '--cache=warm',
                           '--metadata-writes=through', '--image=v2-overlay') +
                strategies(*EXPLORE, '--operations=3', '--mode=pct:3', '--schedules=8'),
                r'^\S+: \d+ sets, .*; (\d+) schedules'),
    'strategy crashes': (strategies('tests/crash/test_strategy_crash', '8000', '%'),
                         r'(\d+) looks'),
    'strategy faults': ([['python3', f'{TOP}/tests/faults/faults.py', '--program',
                          'tests/faults/test_faults', '--stride', '60', '--jobs', '1']],
                        r'(\d+) trials'),
    'differential': ([['python3', f'{TOP}/tests/differential/differential.py', '--program',
                       'tests/differential/test_differential', '--ops', '150', '--jobs', '1', '--most', '16']],
                     r'(\d+) combinations'),
}
# What finds each soonest, for --quick: a technique, or the part of it that reaches the place.
# With time to spare: who finds it stops, and code changes.
RANDOM, RESTARTS = 'tests/qcow2/test_core_random', 'tests/qcow2/test_core_restarts'
FAULTS, CRASHES = 'tests/qcow2/test_core_faults', 'tests/qcow2/test_core_crash'


def explore_one(strategy, *options):
    return [['asyncow', 'explore', f'--strategy={strategy}', *options]]


QUICK = {
    'aborted-space-taken-for-zeros': [[FAULTS, '1']],
    'dependents-stranded-on-failure': [[FAULTS, '1', 'v3-4k-r2-backing']],
    'discard-under-rewrite': [[RESTARTS, '5']],
    'enospc-moving-an-l2-table': [[FAULTS, '1']],
    'l2-before-copied-data': explore_one('coroutines', '--operations=2', '--schedules=200'),
    'l2-before-its-refcount': [[CRASHES, '100000']],
    'late-commit-in-a-closed-epoch': [[CRASHES, '100000']],
    'look-up-outside-the-lock': explore_one('callbacks', '--operations=2', '--schedules=200'),
    'lost-wake-up': explore_one('coroutines', '--operations=3', '--mode=pct:3', '--schedules=8'),
    'narrow-refcounts-aliased': [[RESTARTS, '5', 'v3-1k-r1']],
    'overlapping-allocation-not-awaited': explore_one('freeze-thaw', '--operations=2',
                                                      '--schedules=200'),
    'stale-backing-after-discard': explore_one('callbacks', '--operations=2', '--schedules=60',
                                               '--image=v2-overlay'),
    'stale-punch-after-reuse': [[RANDOM, '5', 'v3-512']],
    'two-writes-of-a-slice-in-flight': [[RANDOM, '8', 'v3-1k-r1']],
    'unlock-before-sleeping': explore_one('threadpool', '--operations=2', '--schedules=200'),
    'zero-flag-before-compressed': [[RESTARTS, '10', 'v3-4k-compressed']],
}
# How a technique says that something is wrong. What fails without a word has found nothing.
TELLING = re.compile(r'never taken|FAILED|wrong|Assertion|hangs|in the trial|; it is|corrupt|deadlock|'
                     r'afterwards fails|no order of|reached nobody|Corruption|[Ll]eaked|exit status|request failed')
# Programs that have a copy of the core, and modules.
WITH_CORE = ['tests/qcow2/test_core_random', 'tests/qcow2/test_core_restarts',
             'tests/qcow2/test_core_snapshot', 'tests/qcow2/test_core_faults',
             'tests/qcow2/test_core_crash', *(f'strategies/{name}.so' for name in STRATEGIES)]
AS_BUILT = ['asyncow', 'tests/crash/test_strategy_crash', 'tests/faults/test_faults',
            'tests/differential/test_differential']


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kwargs).stdout


# --- a bug, built ---------------------------------------------------------------------

class Build:
    """What ninja would do for a target, to be done once more with other sources."""

    def __init__(self, directory):
        self.directory = os.path.abspath(directory)
        with open(f'{self.directory}/compile_commands.json', encoding='utf-8') as f:
            self.compiles = json.load(f)
        self.links = {target: shlex.split(self.last_command(target)) for target in WITH_CORE}

    def last_command(self, target):
        return run('ninja', '-C', self.directory, '-t', 'commands', target).splitlines()[-1]

    def run(self, command):
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f'it does not build: {shlex.join(command)}\n{done.stderr[-3000:]}')

    def objects_of(self, source):
        """Where it is compiled to, and how."""
        path = os.path.realpath(f'{TOP}/{source}')
        return {c['output']: shlex.split(c['command']) for c in self.compiles
                if os.path.realpath(os.path.join(c['directory'], c['file'])) == path}

    def compile(self, command, output, source, to):
        os.makedirs(os.path.dirname(to), exist_ok=True)
        words = [to if w == output else w for w in command] + ['-w']
        at = words.index('-c')
        words[at + 1] = source
        if '-MF' in words:
            words[words.index('-MF') + 1] = to + '.d'
        self.run(words)

    def archive(self, archive, changed, to):
        """The same with other members."""
        members = run('ar', 't', archive, cwd=self.directory).split()
        names = {os.path.basename(m): m for m in members}
        base = f'{archive}.p'
        paths = [changed.get(f'{base}/{n}', f'{self.directory}/{base}/{n}') for n in names]
        os.makedirs(os.path.dirname(to), exist_ok=True)
        self.run(['ar', 'csrD', to, *paths])

    def link(self, target, changed, where):
        """True: the bug is in it, and it is in `where`."""
        words, archives = list(self.links[target]), {}
        for i, word in enumerate(words):
            if word in changed:
                words[i] = changed[word]
            elif word.endswith('.a') and any(o.startswith(f'{word}.p/') for o in changed):
                archives[word] = words[i] = f'{where}/{word}'
        if words == self.links[target]:
            return False
        for archive, to in archives.items():
            if not os.path.exists(to):
                self.archive(archive, changed, to)
        at = words.index('-o') + 1
        words[at] = f'{where}/{target}'
        os.makedirs(os.path.dirname(words[at]), exist_ok=True)
        self.run(words)
        return True

    def plant(self, patch, where, targets):
        """Builds the targets with the patch applied, in `where`; those that have no part of
        it are linked to."""
        shutil.rmtree(where, ignore_errors=True)
        tree = f'{where}/source'
        sources = re.findall(r'^\+\+\+ b/(\S+)', open(patch, encoding='utf-8').read(), re.M)
        for source in sources:
            os.makedirs(os.path.dirname(f'{tree}/{source}'), exist_ok=True)
            shutil.copyfile(f'{TOP}/{source}', f'{tree}/{source}')
        # The copy is no repository, nor part of one.
        run('git', 'apply', patch, cwd=tree, env=dict(os.environ, GIT_CEILING_DIRECTORIES=where))
        changed = {}
        words = {w for t in targets for w in self.links[t]}
        for source in sources:
            for output, command in self.objects_of(source).items():
                if output in words or f'{os.path.dirname(output)[:-2]}' in words:
                    changed[output] = f'{where}/{output}'
                    self.compile(command, output, f'{tree}/{source}', changed[output])
        planted = [t for t in targets if self.link(t, changed, where)]
        if not planted:
            sys.exit(f'{patch}: none of {", ".join(targets)} has the bug')
        for target in set(WITH_CORE) - set(planted):
            os.makedirs(os.path.dirname(f'{where}/{target}'), exist_ok=True)
            os.symlink(f'{self.directory}/{target}', f'{where}/{target}')


# --- a technique ----------------------------------------------------------------------

def counted(pattern, output):
    found = re.findall(pattern, output, re.M)
    return sum(int(n) for n in found) if all(n.isdigit() for n in found) else len(found)


def run_for(command, seconds, **kwargs):
    """Exit status (None: it hangs) and output; what it started is gone afterwards."""
    with subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors='replace', start_new_session=True,
                          **kwargs) as process:
        try:
            return process.communicate(timeout=seconds)[0], process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.communicate()[0] + '\nit hangs\n', None


def try_commands(commands, build, where, timeout):
    """Whether they fail, all that was said, CPU seconds, last words."""
    env = dict(os.environ, ASYNCOW_STRATEGY_PATH=f'{where}/strategies')
    began, output = resource.getrusage(resource.RUSAGE_CHILDREN), ''
    status = 0
    for command in commands:
        command = [f'{where}/{c}' if c in WITH_CORE else
                   f'{build.directory}/{c}' if c in AS_BUILT else c for c in command]
        said, status = run_for(command, timeout, cwd=where, env=env)
        output += said
        if status != 0:
            break
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    if status and status > 0 and not telling: # it did not even abort
        print(output[-2000:], file=sys.stderr)
        sys.exit(f'{shlex.join(command)}: it fails, but has found nothing')
    words = '' if status == 0 else (telling or lines or ['it dies without a word'])[-1]
    for directory in where, build.directory:
        words = words.replace(f'{directory}/', '')
    return status != 0, output, seconds, words


# --- all of them ----------------------------------------------------------------------

def tell(patch):
    """What the bug is, from the head of the patch."""
    with open(patch, encoding='utf-8') as f:
        return ' '.join(f.read().partition('\ndiff --git')[0].split())


def complete(options, build, names):
    """The whole table."""
    rows = []
    for name in [*([] if options.only else [None]), *names]:
        where = f'{options.work}/{name or "none"}'
        if name:
            build.plant(f'{HERE}/{name}.patch', where, WITH_CORE)
        else:
            os.makedirs(where, exist_ok=True)
        print(name or 'no bug', flush=True)
        row = {'mutant': name, 'found_by': [], 'techniques': {}}
        if name:
            row['what'] = tell(f'{HERE}/{name}.patch')
        for technique in options.technique or TECHNIQUES:
            commands, pattern = TECHNIQUES[technique]
            found, output, seconds, words = try_commands(
                commands, build, where if name else build.directory, options.timeout)
            runs = counted(pattern, output)
            row['found_by'] += [technique] * found
            row['techniques'][technique] = {'found': found, 'runs': runs, 'cpu_seconds': round(seconds, 2),
                                            'words': words}
            print(f'  {technique:17} {"found" if found else "-":6} {runs:7} runs {seconds:6.1f} s'
                  f'  {words[:90]}', flush=True)
            if found and options.first:
                break
        rows.append(row)
        shutil.rmtree(where, ignore_errors=True)
    return rows


def table(rows):
    """For people: a line a mutant, a column a technique; runs and seconds until it was found."""
    names = [t for t in TECHNIQUES if any(t in r['techniques'] for r in rows)]
    lines = ['Runs and CPU seconds until a technique found the bug; "-": it did not, and how long it',
             'looked is in the first line. A run is a round of random requests, an injected restart,',
             'a trial with a fault, a crash image, a schedule, or an image with the ways to open it.', '',
             f'{"":36}' + ''.join(f'{n:>18}' for n in names)]
    for row in rows:
        cells = ''
        for name in names:
            t = row['techniques'].get(name)
            text = '' if t is None else f'{t["runs"]} / {t["cpu_seconds"]:.1f} s' \
                if t['found'] or not row['mutant'] else '-'
            cells += f'{text:>18}'
        lines.append(f'{row["mutant"] or "(no bug)":36}{cells}')
    return '\n'.join(lines) + '\n'


def quick(options, build, names):
    """One technique each, as QUICK says."""
    def one(name):
        where = f'{options.work}/quick-{name}'
        commands = QUICK[name]
        targets = [c for command in commands for c in command if c in WITH_CORE]
        targets += [f'strategies/{s}.so' for s in STRATEGIES
                    if any(f'--strategy={s}' in command or s in command for command in commands)]
        build.plant(f'{HERE}/{name}.patch', where, targets)
        found, _, _, words = try_commands(commands, build, where, options.timeout)
        print(f'  {name:36} {"found" if found else "NOT FOUND":9} {words[:90]}', flush=True)
        shutil.rmtree(where, ignore_errors=True)
        return found
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        return [name for name, found in zip(names, pool.map(one, names)) if not found]



def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', default=f'{TOP}/build-check/gcc', help='where all is built already')
    parser.add_argument('--work', help='for what has a bug (DIR-mutants)')
    parser.add_argument('--only', action='append', default=[],
                        help='mutant, or its beginning; the tree without a bug is left out then')
    parser.add_argument('--technique', action='append', choices=TECHNIQUES, default=[])
    parser.add_argument('--timeout', type=int, default=300, help='seconds: then it hangs')
    parser.add_argument('--first', action='store_true', help='one technique is enough')
    parser.add_argument('--quick', action='store_true', help='the one that finds it soonest, of each')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='of --quick')
    parser.add_argument('--output', help='directory: mutants.json and mutants.txt go there')
    options = parser.parse_args()
    os.environ.setdefault('ASYNCOW_SEED', '1')
    build = Build(options.build)
    options.work = os.path.abspath(options.work or f'{build.directory}-mutants')
    names = sorted(f[:-6] for f in os.listdir(HERE) if f.endswith('.patch'))
    if options.only:
        names = [n for n in names if any(n.startswith(o) for o in options.only)]
    if options.quick:
        missing = set(names) - set(QUICK)
        if missing:
            sys.exit(f'which technique finds {", ".join(missing)}? QUICK does not say')
        os.environ['ASYNCOW_SEED'] = '1'
        missed = quick(options, build, names)
    else:
        rows = complete(options, build, names)
        missed = [r['mutant'] or 'something where no bug was planted' for r in rows
                  if bool(r['found_by']) != bool(r['mutant'])]
        if options.output:
            os.makedirs(options.output, exist_ok=True)
            facts = bench.manifest(TOP, f'{build.directory}/asyncow', options.output,
                                   seed=int(os.environ['ASYNCOW_SEED']))
            with open(f'{options.output}/mutants.json', 'w', encoding='utf-8') as f:
                json.dump({'manifest': facts, 'mutants': rows}, f, indent=1)
                f.write('\n')
            with open(f'{options.output}/mutants.txt', 'w', encoding='utf-8') as f:
                f.write(table(rows))
        print(table(rows))
    print(f'{len(set(names) - set(missed))} of {len(names)} bugs found')
    if missed:
        print('wrong: ' + ', '.join(missed))
    return 1 if missed or not names else 0


if __name__ == '__main__':
    sys.exit(main())
