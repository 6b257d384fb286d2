#!/usr/bin/env python3
"""What each strategy costs to write, and whether their folders still read alike.

    codecost.py [--output-format=text|json] [TREE]

For each folder of strategies/, and for the folder with the runtime of ours that it includes:

    lines     that are neither blank nor comment, headers included
    functions and the longest, in lines
    paths     cyclomatic complexity (pmccabe's "traditional" one): the sum, and the worst
    kept      fields of the request's struct: what a request has in memory while it waits
    fields    of all structs in the folder's headers
    points    where another request may run: calls that a language with async functions would
              mark with `await`. Those of the functions that wait (WAITS), and of all that
              call one directly or not, wherever in the folder

The loop, engines, env and the qcow2 core serve all four alike and are not counted; nor is
strategies/common, which has a row of its own. A runtime is counted without its alternative
back ends. Calls through pointers are not followed.

The folders must have the same files, and in each file the same functions in the same order
(those with the folder's prefix; statics are each model's own business). Files that only
one model has a use for are named in OWN, and left out in a second row. Exit status 1, with
a line for each difference, unless all agree.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

PREFIXES = {'callbacks': 'cb', 'coroutines': 'co', 'threadpool': 'tp', 'freeze-thaw': 'ft'}
FILES = ['README.md', 'discard.c', 'engine.c', 'flush.c', 'model.h', 'read.c',
         'settings.c', 'settle.c', 'snapshot.c', 'write.c']
# What a model needs beyond that. They are counted, but nobody else has to have them.
OWN = {'coroutines': ['fastpath.c', 'locks.c', 'runtime.c', 'wrapper.c'],
       'threadpool': ['idle.c', 'lock.c', 'pool.c']}
# Functions of settle.c, without prefix, in which (or after the end of which) others run.
WAITS = {
    'callbacks': ['settle', 'sleep', 'owed', 'transfer', 'decompress', 'defer', 'pause'],
    'coroutines': ['begin', 'settle', 'sleep', 'owed', 'transfer', 'decompress', 'pause'],
    'threadpool': ['begin', 'begin_shared', 'upgrade', 'settle', 'sleep', 'owed', 'transfer',
                   'pause'],
    'freeze-thaw': ['begin', 'settle', 'sleep', 'owed', 'transfer', 'decompress', 'defer',
                    'pause'],
}
# By a header that a folder includes: the directory that has to be there too, and what of
# it is an alternative to what runs.
RUNTIMES = {'core/coroutine/coroutine.h': ('core/coroutine', ['jump.c', 'thread.c'])}

COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.DOTALL)
# As clang-format leaves it: begins and ends at the start of a line, or is on one.
FUNCTION = re.compile(r'^(?!typedef|struct \w+ \{)[a-z][\w \*\n]*?\b(\w+)\s?\(([^{};]*)\)\s*'
                      r'(\{\n.*?^\}|\{[^\n]*\}$)', re.MULTILINE | re.DOTALL)
NOT_CALLS = {'if', 'while', 'for', 'switch', 'return', 'sizeof', 'defined'}


def code_of(path):
    return COMMENT.sub('', path.read_text(encoding='utf-8'))


# --- alike ----------------------------------------------------------------------------


def names(path, prefix):
    """Names without prefix of what a .c file defines or a .h file declares."""
    end = {'.c': '{', '.h': ';'}.get(path.suffix)
    if not end:
        return []
    # At the start of a line: a type, the name, its parameters up to what ends them.
    pattern = rf'^(?!typedef)[a-z][\w \*]*?\b{prefix}_(\w+)\([^{{}};]*\)\s*{re.escape(end)}'
    return re.findall(pattern, code_of(path), re.MULTILINE)


def outline(folder):
    """{file: [function, ...]} of a folder, without what only this model has."""
    prefix, own = PREFIXES[folder.name], OWN.get(folder.name, [])
    found = {path.name: names(path, prefix) for path in sorted(folder.iterdir())}
    alone = {name for file in own for name in found.get(file, [])}
    return {file: [n for n in functions if n not in alone]
            for file, functions in found.items() if file not in own}


def differences(outlines):
    """Yields a sentence for each way in which a folder differs from the first."""
    (model, first), *others = outlines.items()
    for name in FILES:
        if name not in first:
            yield f'{model}: {name} is missing'
    for folder, files in others:
        for name in sorted(set(first) | set(files)):
            if name not in files:
                yield f'{folder}: {name} is missing; {model} has it'
            elif name not in first:
                yield f'{folder}: {name} is its own; {model} has none'
            elif files[name] != first[name]:
                missing = [f for f in first[name] if f not in files[name]]
                extra = [f for f in files[name] if f not in first[name]]
                what = ([f'lacks {", ".join(missing)}'] if missing else []) + \
                       ([f'alone has {", ".join(extra)}'] if extra else [])
                yield f'{folder}/{name}: ' + ('; '.join(what) or
                                              f'order differs from {model}: {files[name]}')


# --- counting ---------------------------------------------------------------------------


def sources(folder, without=()):
    return [p for p in sorted(folder.iterdir())
            if p.suffix in ('.c', '.h') and p.name not in without]


def complexity(paths):
    """[(complexity, lines)] by function, from pmccabe."""
    try:
        run = subprocess.run(['pmccabe', *map(str, paths)], check=True, text=True,
                             stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise SystemExit('codecost.py: pmccabe is missing: apt-get install pmccabe') from None
    rows = [line.split() for line in run.stdout.splitlines()]
    return [(int(r[1]), int(r[4])) for r in rows if len(r) >= 7]


def body(text, opening):
    """What is between the brace at `opening` and its partner."""
    depth = 0
    for at in range(opening, len(text)):
        depth += {'{': 1, '}': -1}.get(text[at], 0)
        if depth == 0:
            return text[opening + 1:at]
    raise SystemExit('codecost.py: a brace has no partner')


def fields(text):
    """How many members a struct's body declares; those of structs inside count themselves."""
    count = 0
    while True:
        inner = re.search(r'\b(?:struct|union)\s*\w*\s*\{', text)
        if not inner:
            break
        opening = inner.end() - 1
        inside = body(text, opening)
        count += fields(inside)
        rest = text[opening + len(inside) + 2:]
        text = text[:inner.start()] + rest[rest.index(';') + 1:] # with the member's name
    for declaration in text.split(';'):
        if declaration.strip():
            flat = re.sub(r'\([^()]*\)|\[[^\]]*\]', '', declaration)
            count += 1 + flat.count(',')
    return count


def structs(paths):
    """{name: fields} of the structs that headers define."""
    found = {}
    for path in paths:
        text = code_of(path)
        for match in re.finditer(r'^struct (\w+) \{', text, re.MULTILINE):
            found[match.group(1)] = fields(body(text, match.end() - 1))
    return found


def calls(paths):
    """{function: [what it calls, once for each place]}"""
    return {name: [c for c in re.findall(r'\b(\w+)\s?\(', inside) if c not in NOT_CALLS]
            for path in paths for name, _, inside in FUNCTION.findall(code_of(path))}


def points(folder):
    graph, prefix = calls(sources(folder)), PREFIXES[folder.name]
    waiting = {f'{prefix}_{name}' for name in WAITS[folder.name]}
    unknown = waiting - set(graph)
    if unknown:
        raise SystemExit(f'codecost.py: {folder.name} has no {", ".join(sorted(unknown))}')
    found = len(complexity(sources(folder)))
    if len(graph) != found:
        raise SystemExit(f'codecost.py: {folder.name}: pmccabe finds {found} functions, '
                         f'this script {len(graph)} (a static name twice?)')
    # Who starts, ends or cancels a request doesn't wait for it.
    starts = {f'{prefix}_{name}' for name in ('start', 'admit', 'submit', 'finish')}
    before = None
    while before != waiting:
        before = set(waiting)
        waiting |= {f for f, called in graph.items()
                    if f not in starts and waiting & set(called)}
    return sum(c in waiting for f, called in graph.items() for c in called)


def measure(paths):
    code = [line for p in paths for line in code_of(p).splitlines() if line.strip()]
    functions = complexity(paths)
    return {'lines': len(code), 'functions': len(functions),
            'longest': max(lines for _, lines in functions),
            'complexity': sum(c for c, _ in functions),
            'complexity_max': max(c for c, _ in functions),
            'fields': sum(structs(p for p in paths if p.suffix == '.h').values())}


def runtimes(tree, folder):
    """(directory, its files) of ours that the folder includes."""
    text = ''.join(code_of(p) for p in sources(folder))
    for header, (directory, alternatives) in RUNTIMES.items():
        if f'#include "{header}"' in text:
            yield directory, sources(tree / directory, alternatives)


def report(tree):
    rows = []
    for name, prefix in PREFIXES.items():
        folder = tree / 'strategies' / name
        row = {'name': name, **measure(sources(folder)),
               'kept': structs([folder / 'model.h'])[f'{prefix}_request'],
               'points': points(folder)}
        row['own'] = OWN.get(name, [])
        row['without_own'] = measure(sources(folder, row['own']))
        needed = list(runtimes(tree, folder))
        paths = sources(folder) + [p for _, files in needed for p in files]
        row['runtime'] = [directory for directory, _ in needed]
        row['with_runtime'] = measure(paths)
        rows.append(row)
    common = tree / 'strategies/common'
    return {'strategies': rows, 'common': measure(sources(common))}


# --- output -------------------------------------------------------------------------------

COLUMNS = ['lines', 'functions', 'longest', 'complexity', 'complexity_max', 'kept', 'fields',
           'points']
LEGEND = """\
lines      neither blank nor comment, headers included
functions  and the longest of them, in lines
paths      cyclomatic complexity: the sum, and the worst function
kept       fields of the request's struct: what it has in memory while it waits
fields     of all structs in the folder's headers
points     calls during which another request may run

Without its own: without files that only this folder has (settings, or the pool), named below.
With: and the runtime of ours that it includes, but for back ends that don't run."""
HEADS = ['lines', 'functions', 'longest', 'paths', 'worst', 'kept', 'fields', 'points']


def table(costs):
    lines = [('', *HEADS)]
    for row in costs['strategies']:
        lines.append((row['name'], *(row[c] for c in COLUMNS)))
    for row in costs['strategies']:
        if row['own']:
            lines.append((f"{row['name']} without its own",
                          *(row['without_own'].get(c, '') for c in COLUMNS)))
    for row in costs['strategies']:
        if row['runtime']:
            whole = row['with_runtime']
            lines.append((f"{row['name']} with {', '.join(row['runtime'])}",
                          *(whole.get(c, '') for c in COLUMNS)))
    lines.append(('common to all', *(costs['common'].get(c, '') for c in COLUMNS)))
    width = max(len(line[0]) for line in lines)
    return '\n'.join(f'{line[0]:{width}}' + ''.join(f'{cell:>10}' for cell in line[1:])
                     for line in lines) + '\n\n' + LEGEND + ''.join(
                         f'\n    {name}: {", ".join(own)}' for name, own in OWN.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output-format', choices=['text', 'json'], default='text')
    parser.add_argument('tree', nargs='?', type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    outlines = {name: outline(options.tree / 'strategies' / name) for name in PREFIXES}
    differ = list(differences(outlines))
    counts = {sum(len(f) for f in files.values()) for files in outlines.values()}
    if not differ and min(counts) < 30:
        differ = ['too few functions found: this script no longer reads the code']
    for line in differ:
        print(line, file=sys.stderr)
    if differ:
        return 1
    costs = report(options.tree)
    print(json.dumps(costs, indent=2) if options.output_format == 'json' else table(costs))
    return 0


if __name__ == '__main__':
    sys.exit(main())
