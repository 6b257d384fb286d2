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
ONE_THREAD = 'callbacks,coroutines,freeze-thaw'
# The other ways to run them, which share most of the code.
WAYS = ('callbacks:metadata=sync,coroutines:hold=none,coroutines:lock=serialize,'
        'coroutines:lock=big,coroutines:lock=big-held,coroutines:lock=rwlock,'
        'coroutines:lock=entry,coroutines:lock=none,coroutines:fastpath=on')


class Strategies(unittest.TestCase):
    def explore(self, *args, schedules):
        done = subprocess.run(
            [PROGRAM, 'explore', '--output-format=json', *args,
             f'--schedules={max(schedules // SHARE, 50)}'],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=550,
            check=False)
        report = json.loads(done.stdout)
        failed = [(s['strategy'], s['failure'], s.get('script')) for s in report['sets']
                  if s['end'] in ('failed', 'error')]
        self.assertEqual((done.returncode, failed), (0, []), done.stderr)
        self.assertGreater(report['schedules'], len(report['sets']))
        print(args, report['schedules'], 'schedules')
        return report['sets']

    def search_through(self, *args):
        sets = self.explore('--operations=2', *args, schedules=4000)
        if SHARE == 1:
            self.assertEqual({s['end'] for s in sets}, {'complete'})

    def test_two_on_one_thread(self):
        for writes in 'back', 'through':
            for cache in 'cold', 'warm':
                self.search_through(f'--strategy={ONE_THREAD}', f'--cache={cache}',
                                    f'--metadata-writes={writes}')
        self.search_through(f'--strategy={ONE_THREAD}', '--cluster-size=4k')

    def test_two_in_other_ways(self):
        self.search_through(f'--strategy={WAYS}', '--metadata-writes=through')
        self.search_through(f'--strategy={WAYS}', '--cache=warm')

    def test_three_on_one_thread(self):
        self.explore(f'--strategy={ONE_THREAD}', '--operations=3', '--mode=all',
                     schedules=300)

    def test_two_on_threads(self):
        sets = self.explore('--strategy=threadpool', '--operations=2', schedules=1500)
        self.assertIn('complete', {s['end'] for s in sets})
        self.explore('--strategy=threadpool:hold=metadata', '--operations=2',
                     '--metadata-writes=through', '--mode=bounded', '--preemptions=1',
                     schedules=300)
        self.explore('--strategy=threadpool', '--operations=2', '--cache=warm',
                     '--mode=bounded', '--preemptions=1', schedules=300)

    def test_three_on_threads_at_random(self):
        self.explore('--strategy=threadpool', '--operations=3', '--mode=pct:3',
                     schedules=60)


if __name__ == '__main__':
    unittest.main()
