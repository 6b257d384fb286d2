"""For tests of the program: where it is, how to run it, images to run it on.

ASYNCOW is the program, ASYNCOW_MODULE the passthrough strategy for raw images.
"""
import hashlib
import json
import os
import subprocess
import tempfile
import unittest

PROGRAM = os.environ['ASYNCOW']
MODULE = os.environ['ASYNCOW_MODULE']


def asyncow(*args, status=0, **more):
    """Runs it; its exit status must be `status`. The result has stdout and stderr."""
    done = subprocess.run([PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False, **more)
    if done.returncode != status:
        raise AssertionError(f'{" ".join(done.args)}: exit status {done.returncode}, '
                             f'not {status}\n{done.stdout}\n{done.stderr}')
    return done


def strict_json(text):
    """Parsed; nothing but one document, no key twice, no NaN."""
    def once(pairs):
        keys = [k for k, _ in pairs]
        if len(keys) != len(set(keys)):
            raise ValueError(f'a key twice in {keys}')
        return dict(pairs)

    def refuse(word):
        raise ValueError(f'{word} is no JSON')
    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def run_json(*args, status=0, **more):
    done = asyncow('run', '--output-format=json', *args, status=status, **more)
    return strict_json(done.stdout)


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


class OnImages(unittest.TestCase):
    """A directory of its own with a full raw image of 1 MiB and an empty one."""

    def setUp(self):
        memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None  # flushes are slow
        self.directory = tempfile.TemporaryDirectory(prefix='asyncow-test-', dir=memory)
        self.addCleanup(self.directory.cleanup)
        self.full = self.path('full.raw')
        with open(self.full, 'wb') as f:
            f.write(bytes(range(256)) * 4096)
        self.empty = self.path('empty.raw')
        with open(self.empty, 'wb') as f:
            f.truncate(1 << 20)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, text):
        with open(self.path(name), 'w', encoding='utf-8') as f:
            f.write(text)
        return self.path(name)

    def leftovers(self):
        return sorted(set(os.listdir(self.directory.name)) - {'full.raw', 'empty.raw'})
