#!/usr/bin/env python3
"""Which branches the tests take, and whether those they don't are known.

    coverage.py GCOVR.json EXCLUSIONS [--show]

Reads what gcovr --json says of a coverage build and sums it up by file. Every branch of
core/qcow2 that no test took must be in EXCLUSIONS, lines of

    FILE | COUNT | TEXT | REASON

FILE is a file's name in core/qcow2; TEXT is a piece of the source line, as it is written
there; COUNT is how many branches of the lines with that text in that file are not taken;
REASON says why that cannot happen in a test. Another count is an error, either way: so
is an entry that matches nothing. Assertions are branches that are never taken, by intent:
they are left out everywhere, as is what the compiler says is never reached.
--show: the lines with branches that are not taken, all of them.
"""
import argparse
import collections
import json
import os
import re
import sys

ASSERT = re.compile(r'\b(static_)?assert\(')
CORE = 'core/qcow2/'


def branches_of(line):
    return [b['count'] for b in line.get('branches', [])]


def read_lines(path):
    with open(path, encoding='utf-8') as f:
        return f.read().splitlines()


def assertion_lines(lines):
    """Numbers of the lines that an assertion covers, which may be several."""
    numbers, depth = set(), 0
    for number, line in enumerate(lines, 1):
        if not depth and ASSERT.search(line):
            line = line[ASSERT.search(line).end() - 1:]
            depth = line.count('(') - line.count(')')
            numbers.add(number)
        elif depth:
            depth += line.count('(') - line.count(')')
            numbers.add(number)
        depth = max(depth, 0)
    return numbers


def read_exclusions(path):
    entries = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith('#'):
            continue
        parts = [part.strip() for part in line.split(' | ')]
        if len(parts) != 4 or not parts[1].isdigit() or not parts[3]:
            sys.exit(f'{path}:{number}: write "FILE | COUNT | TEXT | REASON"')
        entries.append((number, parts[0], int(parts[1]), parts[2], parts[3]))
    return entries


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('json')
    parser.add_argument('exclusions')
    parser.add_argument('--show', action='store_true')
    options = parser.parse_args()
    with open(options.json, encoding='utf-8') as f:
        files = json.load(f)['files']
    entries = read_exclusions(options.exclusions)
    met = collections.Counter()
    wrong = []
    totals = collections.Counter()
    excluded = 0
    print(f'{"file":40} branches  taken')
    for file in sorted(files, key=lambda f: f['file']):
        name = file['file']
        lines = read_lines(name)
        asserts = assertion_lines(lines)
        taken = total = 0
        for line in file['lines']:
            number = line['line_number']
            counts = [] if number in asserts else branches_of(line)
            total += len(counts)
            taken += sum(c > 0 for c in counts)
            missed = sum(c == 0 for c in counts)
            if not missed:
                continue
            text = lines[number - 1]
            known = [e for e in entries if f'{CORE}{e[1]}' == name and e[3] in text]
            if options.show and not known:
                print(f'{name}:{number}: {missed} of {len(counts)}: {text.strip()}')
            if not name.startswith(CORE):
                continue
            if not known:
                wrong.append(f'{name}:{number}: {missed} of {len(counts)} branches are taken '
                             f'by no test: {text.strip()}')
                continue
            met[known[0][0]] += missed
            excluded += missed
        part = 'core/qcow2' if name.startswith(CORE) else os.path.dirname(name)
        totals[part, 'taken'] += taken
        totals[part, 'all'] += total
        print(f'{name:40} {total:8} {taken:6}  {100 * taken / total if total else 100:5.1f} %')
    for number, name, count, text, _ in entries:
        if met[number] != count:
            wrong.append(f'{options.exclusions}:{number}: {name}: `{text}`: {met[number]} '
                         f'branches are not taken, not {count}: '
                         + ('amend the list' if met[number] else 'take it off the list'))
    for part in sorted({p for p, _ in totals}):
        n, of = totals[part, 'taken'], totals[part, 'all']
        print(f'{part}: {n} of {of} branches, {100 * n / max(of, 1):.1f} %'
              + (f'; {excluded} more cannot be taken ({options.exclusions}): '
                 f'{100 * (n + excluded) / max(of, 1):.1f} %' if part == 'core/qcow2' else ''))
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
