#!/usr/bin/env python3
"""bench.py: sizes, job files and the scattered step mean what they say."""
import math
import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, '..', '..')
sys.path.insert(0, os.path.join(TOP, 'scripts'))
import bench  # noqa: E402


class Bench(unittest.TestCase):
    def test_sizes(self):
        self.assertEqual([bench.size_of(s) for s in ('512', '4k', '1M', '2g')],
                         [512, 4096, 1 << 20, 2 << 30])
        with self.assertRaises(ValueError):
            bench.size_of('4q')

    def test_job_file(self):
        with tempfile.NamedTemporaryFile('w', suffix='.fio') as f:
            f.write('[global]\nbs=4k\n; comment\n[a]\nrw=write:60k\ntime_based\n')
            f.flush()
            self.assertEqual(bench.read_job(f.name),
                             {'bs': '4k', 'rw': 'write:60k', 'time_based': '1'})

    def test_every_workload_in_the_tree_reads(self):
        names = [n for n in os.listdir(os.path.join(TOP, 'workloads')) if n.endswith('.fio')]
        self.assertGreaterEqual(len(names), 4)
        for name in names:
            job = bench.read_job(os.path.join(TOP, 'workloads', name))
            self.assertTrue('rw' in job or 'replay_order' in job, name)

    def test_scattered_step_visits_every_block_and_seldom_the_same_slice_twice(self):
        for size in (1 << 30, 256 << 30):
            step = bench.scattered_step(size)
            self.assertLess(step, 1 << 31)
            self.assertEqual(math.gcd(step // 4096, size // 4096), 1)
        # 256 slices of 32 MiB are cached: hardly any of the last 256 may come again.
        offsets = [i * step % size >> 25 for i in range(5000)]
        again = sum(offsets[i] in offsets[max(0, i - 256):i] for i in range(5000))
        self.assertLess(again, 100)

    def test_a_failing_tool_is_told_with_its_words(self):
        with self.assertRaises(bench.TrialError) as caught:
            bench.run(['sh', '-c', 'echo no such thing >&2; exit 3'])
        self.assertIn('no such thing', str(caught.exception))
        self.assertIn('3', str(caught.exception))


if __name__ == '__main__':
    unittest.main()
