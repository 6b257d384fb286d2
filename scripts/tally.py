#!/usr/bin/env python3
"""Counts what ./check ran: passed, failed, skipped.

Reads meson's testlog.json files (one JSON object a line) and results of single steps, and
keeps the running total in a file, so that ./check can add to it step by step:

    tally.py --total FILE log BUILD TESTLOG.json   add the tests of a meson run
    tally.py --total FILE step NAME pass|fail      add one step (a build, a linter)
    tally.py --total FILE print                    "N passed, N failed, N skipped"

A skip is a skip only if tests/skips lists it with a reason; any other skip is a failure.
Skips hidden inside a test that passes as a whole (cmocka's and unittest's) are seen too.
Exit status: 0, or 1 when what was added (print: anything at all) failed.
"""
import argparse
import fnmatch
import json
import re
import sys

PASSED = {'OK', 'EXPECTEDFAIL'}
CMOCKA_SKIP = re.compile(r'^\[  SKIPPED \] (?!Total|\d+ test)(\S+)', re.MULTILINE)
UNITTEST_SKIP = re.compile(r'^(?:OK|FAILED) \(.*?skipped=(\d+)', re.MULTILINE)
TAIL_LINES = 30


def read_skips(path):
    """The file's lines are "PATTERN: reason"; # starts a comment. Returns the patterns."""
    patterns = []
    try:
        with open(path, encoding='utf-8') as f:
            lines = f.read().splitlines()
    except FileNotFoundError:
        return patterns
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        pattern, colon, reason = line.partition(': ')
        if not colon or not reason.strip():
            raise SystemExit(f'{path}:{number}: "{line}" has no reason; '
                             'write "PATTERN: why it may be skipped"')
        patterns.append(pattern.strip())
    return patterns


def hidden_skips(test):
    """Names of the cases that a test as a whole passed without running."""
    text = test.get('stdout', '') + '\n' + test.get('stderr', '')
    counted = sum(int(n) for n in UNITTEST_SKIP.findall(text))
    return sorted(set(CMOCKA_SKIP.findall(text))) + ['skipped'] * counted


def classify(build, test, skips):
    """Yields (outcome, name, why) for a test and each case that it skipped inside."""
    name = f"{build}/{test['name'].rpartition(' / ')[2]}"

    def allowed(skipped):
        return any(fnmatch.fnmatchcase(skipped, p) for p in skips)

    def skip(skipped):
        if allowed(skipped):
            return ('skipped', skipped, '')
        return ('failed', skipped, 'skipped, but tests/skips does not list it')

    result = test['result']
    if result == 'SKIP':
        yield skip(name)
        return
    if result in PASSED:
        yield ('passed', name, '')
    else:
        yield ('failed', name, result.lower())
    for case in hidden_skips(test):
        yield skip(f'{name}#{case}')


def tail(test):
    text = test.get('stdout', '').splitlines() + test.get('stderr', '').splitlines()
    return '\n'.join('    | ' + line for line in text[-TAIL_LINES:])


def add_log(total, build, path, skips, out=sys.stdout):
    """Returns the number of failures added. No log, or an empty one, is a failure."""
    tests = []
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            tests = [json.loads(line) for line in f if line.strip()]
    except (FileNotFoundError, json.JSONDecodeError) as error:
        print(f'    {build}: no usable test log: {error}', file=out)
    failed = 0
    if not tests:
        print(f'    FAILED {build}: no test was run', file=out)
        total['failed'] += 1
        return 1
    for test in tests:
        for outcome, name, why in classify(build, test, skips):
            total[outcome] += 1
            if outcome == 'skipped':
                print(f'    skipped {name} (see tests/skips)', file=out)
            if outcome == 'failed':
                failed += 1
                print(f'    FAILED {name}: {why}', file=out)
                print(tail(test), file=out)
    return failed


def load_total(path):
    try:
        with open(path, encoding='utf-8') as f:
            return json.load(f)
    except FileNotFoundError:
        return {'passed': 0, 'failed': 0, 'skipped': 0}


def line(total):
    return f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped"


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--total', required=True, help='file that holds the running total')
    parser.add_argument('--skips', default='tests/skips', help='what may be skipped')
    sub = parser.add_subparsers(dest='what', required=True)
    log = sub.add_parser('log', help='add the tests of a meson run')
    log.add_argument('build')
    log.add_argument('path')
    step = sub.add_parser('step', help='add one step')
    step.add_argument('name')
    step.add_argument('outcome', choices=['pass', 'fail'])
    sub.add_parser('print', help='print the total')
    args = parser.parse_args(argv)

    total = load_total(args.total)
    if args.what == 'print':
        print(line(total))
        return 1 if total['failed'] or not total['passed'] else 0
    if args.what == 'log':
        failed = add_log(total, args.build, args.path, read_skips(args.skips))
    else:
        failed = int(args.outcome == 'fail')
        total['failed' if failed else 'passed'] += 1
    with open(args.total, 'w', encoding='utf-8') as f:
        json.dump(total, f)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
