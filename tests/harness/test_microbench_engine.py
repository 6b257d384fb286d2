#!/usr/bin/env python3
"""asyncow microbench engine fills its matrix, counts system calls, and says what it does not
understand. No time is judged."""
import os
import shutil
import tempfile
import unittest

from program import asyncow, strict_json

QUICK = ('--trials=2', '--time=5ms', '--size=1m', '--output-format=json')
SETTINGS = ' '.join(('io_uring', 'io_uring:taskrun=coop', 'io_uring:files=registered',
                     'io_uring:buffers=registered'))


class MicrobenchEngine(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='microbench-', dir='.')
        self.addCleanup(shutil.rmtree, self.dir)

    def run_json(self, *args):
        said = asyncow('microbench', 'engine', *QUICK, '--dir', self.dir, *args).stdout
        self.assertEqual(os.listdir(self.dir), [])
        return strict_json(said)['results']

    def test_the_matrix_is_filled(self):
        rows = self.run_json('--fio=0', '--calls=0', '--file=existing,growing,fallocated',
                             '--rw=read,write', '--depth=8', '--time=2ms')
        engines = {'sync', 'threads', 'posix-aio', 'linux-aio', 'io_uring', 'libuv'}
        want = {(e, f, d, rw, depth) for e in engines for d in (False, True)
                for depth in (8,) for f in ('existing', 'growing', 'fallocated')
                for rw in ('read', 'write') if rw == 'write' or f == 'existing'}
        got = {(r['engine'], r['file'], r['direct'], r['rw'], r['iodepth']) for r in rows}
        self.assertEqual(got, want)
        self.assertEqual(len(rows), len(want))
        for r in rows:
            self.assertNotIn('error', r)
            low, high = r['ns_interval']
            self.assertTrue(0 < low <= r['ns_per_request'] <= high, r)
            self.assertTrue(0 < r['submit_ns_per_request'] and 0 < r['submit_share'] <= 1, r)
            self.assertNotIn('system_calls_per_request', r)

    def test_system_calls_are_counted(self):
        def calls(engines, *args):
            rows = self.run_json('--fio=0', '--engine', engines, *args)
            return {r['engine']: r['system_calls_per_request'] for r in rows}

        # Submission and wait are one call, whatever the settings; registering is done before.
        for engine, n in calls(SETTINGS, '--direct=1', '--depth=1').items():
            self.assertEqual(n, 1, engine)
        got = calls('sync linux-aio', '--direct=1', '--depth=1')
        self.assertEqual(got['sync'], 1)
        self.assertTrue(1 <= got['linux-aio'] <= 2, got)
        # Buffered reads of what is cached complete in io_submit: the ring has them.
        self.assertEqual(calls('linux-aio', '--direct=0', '--depth=1')['linux-aio'], 1)
        got = calls('sync linux-aio io_uring', '--direct=0', '--depth=16')
        self.assertEqual(got['sync'], 1)
        self.assertLess(got['linux-aio'], 0.2)
        self.assertLess(got['io_uring'], 0.2)
        # At least the worker's own, and glibc's and libuv's are seen too.
        for n in calls('threads posix-aio libuv', '--direct=0', '--depth=1').values():
            self.assertGreater(n, 1)

    @unittest.skipUnless(shutil.which('fio'), 'fio is not installed')
    def test_fio_runs_beside(self):
        for r in self.run_json('--engine=linux-aio io_uring threads', '--depth=8',
                               '--direct=1', '--calls=0', '--time=50ms'):
            self.assertEqual('times_fio' in r, r['engine'] != 'threads', r)
            if 'fio_registered_ns_per_request' in r:  # as locked memory allows
                self.assertEqual(r['engine'], 'io_uring')
                best = min(r[f'fio_{how}ns_per_request'] for how in
                           ('', 'batched_', 'registered_'))
                self.assertAlmostEqual(r['times_fio'], best / r['ns_per_request'], places=3)
            if 'times_fio' in r:
                self.assertGreater(r['fio_ns_per_request'], 0)
                self.assertGreater(r['fio_batched_ns_per_request'], 0)
                self.assertGreater(r['times_fio'], 0)

    def test_wrong_input_is_told(self):
        for args, word in ((['--engine=warp'], 'sync, threads'), (['--engine=sim'], 'virtual'),
                           (['--engine=sync:speed=9'], 'speed'), (['--depth=0'], '1 to 4096'),
                           (['--file=flat'], 'growing'), (['--direct=2'], '0, 1 or both'),
                           (['--sise=1m'], '`--size`'), (['--size=4k'], 'size'),
                           (['--time=1us'], '1ms'), (['--rw'], 'a value')):
            self.assertIn(word, asyncow('microbench', 'engine', *args, status=2).stderr)
        self.assertIn('none', asyncow('microbench', 'engine', '--dir=/none', status=1).stderr)

    def test_the_table_has_a_row_each(self):
        said = asyncow('microbench', 'engine', *QUICK[:3], '--dir', self.dir, '--fio=0',
                       '--engine=sync', '--depth=1,2', '--calls=0').stdout
        self.assertEqual(len(said.splitlines()), 1 + 2 * 2)


if __name__ == '__main__':
    unittest.main()
