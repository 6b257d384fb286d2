#!/usr/bin/env python3
"""Checks that the strategy folders read alike: same files, same functions, same order.

    check_strategies.py [STRATEGIES-DIR]

A folder's functions are those with its prefix (cb_, co_, tp_, ft_) that a .c file defines;
in model.h the same names must be declared, in the same order. Statics carry no prefix and
are each model's own business. Exit status 1, with a line for each difference, unless all
folders agree.
"""
import pathlib
import re
import sys

PREFIXES = {'callbacks': 'cb', 'coroutines': 'co', 'threadpool': 'tp', 'freeze-thaw': 'ft'}
FILES = ['README.md', 'discard.c', 'engine.c', 'flush.c', 'model.h', 'read.c', 'settle.c',
         'snapshot.c', 'write.c']
COMMENT = re.compile(r'/\*.*?\*/', re.DOTALL)


def functions(path, prefix, end):
    """Names without prefix of what path defines (end '{') or declares (end ';')."""
    text = COMMENT.sub('', path.read_text(encoding='utf-8'))
    # At the start of a line: a type, the name, its parameters up to what ends them.
    pattern = rf'^(?!typedef)[a-z][\w \*]*?\b{prefix}_(\w+)\(([^{{}};]*)\)\s*{re.escape(end)}'
    return re.findall(pattern, text, re.MULTILINE)


def outline(folder, prefix):
    """{file: [function, ...]} of a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        end = {'.c': '{', '.h': ';'}.get(path.suffix)
        found[path.name] = [name for name, _ in functions(path, prefix, end)] if end else []
    return found


def compare(outlines):
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


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                       pathlib.Path(__file__).parent.parent / 'strategies')
    outlines = {folder: outline(top / folder, prefix) for folder, prefix in PREFIXES.items()}
    differences = list(compare(outlines))
    counts = {sum(len(f) for f in files.values()) for files in outlines.values()}
    if not differences and min(counts) < 30:
        differences = ['too few functions found: this script no longer reads the code']
    for line in differences:
        print(line)
    if not differences:
        print(f'{len(outlines)} folders alike: {len(FILES)} files, '
              f'{sum(len(f) for n, f in outlines["callbacks"].items() if n.endswith(".c"))}'
              ' functions')
    return 1 if differences else 0


if __name__ == '__main__':
    sys.exit(main())
