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
             f'--schedules={max(schedules // SHARE, 10)}'],
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
        self.search_through(f'--strategy={ONE_THREAD}', '--metadata-writes=through')
        if SHARE > 1:
            return
        self.search_through(f'--strategy={ONE_THREAD}')
        self.search_through(f'--strategy={ONE_THREAD}', '--cache=warm')
        self.search_through(f'--strategy={ONE_THREAD}', '--cluster-size=4k')
        self.search_through(f'--strategy={ONE_THREAD}', '--image=v2-overlay')
        self.search_through(f'--strategy={ONE_THREAD}', '--image=v3-overlay', '--cache=warm')

    def test_two_in_other_ways(self):
        self.search_through(f'--strategy={WAYS}', '--cache=warm')
        if SHARE == 1:
            self.search_through(f'--strategy={WAYS}', '--metadata-writes=through')

    def test_three_on_one_thread(self):
        sets = ['--operations=3'] if SHARE == 1 else ['--set=alloc,rewrite,flush@l2']
        self.explore(f'--strategy={ONE_THREAD}', '--mode=all', *sets, schedules=300)

    def test_two_on_threads(self):
        sets = self.explore('--strategy=threadpool', '--operations=2', schedules=1500)
        if SHARE > 1:
            return
        self.assertIn('complete', {s['end'] for s in sets})
        self.explore('--strategy=threadpool:hold=metadata', '--operations=2',
                     '--metadata-writes=through', '--mode=bounded', '--preemptions=1',
                     schedules=200)

    def test_two_on_threads_in_other_ways(self):
        self.explore('--strategy=threadpool:wait=park,threadpool:lock=rwlock,'
                     'threadpool:mutex=fair', '--operations=2', '--cache=warm',
                     '--image=v2-overlay', '--mode=pct:3', schedules=60)

    def test_three_on_threads_at_random(self):
        sets = ['--operations=3'] if SHARE == 1 else ['--set=read,discard,alloc@same']
        self.explore('--strategy=threadpool', '--mode=pct:3', *sets, schedules=60)


if __name__ == '__main__':
    unittest.main()
