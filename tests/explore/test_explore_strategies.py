#!/usr/bin/env python3
"""Every schedule of two operations, and many of three, under all strategies: all is well.

A few searches are small enough that they must come to their end.
"""
import json
import os
import subprocess
import unittest

PROGRAM = os.environ['ASYNCOW']
SHARE = int(os.environ['EXPLORE_SHARE'])  # of the schedules: one in so many
ONE_THREAD = 'callbacks,coroutines,coroutines:hold=metadata,freeze-thaw'


class Strategies(unittest.TestCase):
    def explore(self, *args, schedules):
        done = subprocess.run(
            [PROGRAM, 'explore', '--output-format=json', *args,
             f'--schedules={max(schedules // SHARE, 50)}'],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
            check=False)
        report = json.loads(done.stdout)
        failed = [(s['strategy'], s['failure'], s.get('script')) for s in report['sets']
                  if s['end'] in ('failed', 'error')]
        self.assertEqual((done.returncode, failed), (0, []), done.stderr)
        self.assertGreater(report['schedules'], len(report['sets']))
        print(args, report['schedules'], 'schedules')
        return report['sets']

    def test_two_on_one_thread(self):
        for cluster in '1k', '4k':
            for writes in 'back', 'through':
                sets = self.explore(f'--strategy={ONE_THREAD}', '--operations=2',
                                    f'--cluster-size={cluster}',
                                    f'--metadata-writes={writes}', schedules=4000)
                if SHARE == 1:
                    self.assertEqual({s['end'] for s in sets}, {'complete'})

    def test_three_on_one_thread(self):
        self.explore(f'--strategy={ONE_THREAD}', '--operations=3', '--mode=all',
                     schedules=400)

    def test_two_on_threads(self):
        sets = self.explore('--strategy=threadpool', '--operations=2', schedules=1500)
        self.assertIn('complete', {s['end'] for s in sets})
        self.explore('--strategy=threadpool:hold=metadata', '--operations=2',
                     '--metadata-writes=through', '--mode=bounded', '--preemptions=1',
                     schedules=500)

    def test_three_on_threads_at_random(self):
        self.explore('--strategy=threadpool', '--operations=3', '--mode=pct:3',
                     schedules=60)


if __name__ == '__main__':
    unittest.main()
