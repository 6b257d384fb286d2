#!/usr/bin/env python3
"""Copies a source with a bug planted: OLD, which must be there once, becomes NEW."""
import sys

source, target, old, new = sys.argv[1:]
old, new = (text.replace('\\n', '\n') for text in (old, new))
with open(source, encoding='utf-8') as f:
    text = f.read()
if text.count(old) != 1:
    sys.exit(f'{source}: the place of the bug is there {text.count(old)} times, not once: '
             f'{old!r}')
with open(target, 'w', encoding='utf-8') as f:
    f.write(text.replace(old, new))
