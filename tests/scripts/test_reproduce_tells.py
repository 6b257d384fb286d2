#!/usr/bin/env python3
"""reproduce.py: what it says follows from the trials, and the figures come out."""
import os
import random
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'scripts'))
import reproduce  # noqa: E402
import summary  # noqa: E402

P = {'50': 100.0, '90': 200.0, '99': 400.0, '99.9': 900.0}


def trials_of(means, workload='warm-read', engine='io_uring', spread=0.01, n=4, cpus=0):
    rng = random.Random(5)
    return [{'workload': workload, 'subject': subject, 'engine': engine, 'cpus': cpus, 'trial': i, 'steal': 0,
             'iops': mean * rng.uniform(1 - spread, 1 + spread), 'p': P, 'stall': P}
            for subject, mean in means.items() for i in range(n)]


class Tells(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.args = reproduce.parse_args(['--output', self.dir.name])

    def finding(self, trials, failures=None):
        return summary.finding(trials, failures or {}, self.args)

    def test_clear_winner_is_named_with_its_ratio(self):
        text = self.finding(trials_of({'callbacks': 100e3, 'coroutines': 50e3}))
        self.assertIn('callbacks is fastest', text)
        self.assertRegex(text, r'(1\.9|2\.0)\d \[[\d.]+, [\d.]+\] times coroutines')

    def test_equals_are_not_told_apart(self):
        text = self.finding(trials_of({'callbacks': 100e3, 'coroutines': 100.2e3}, spread=0.05))
        self.assertIn("can't be told apart", text)
        self.assertNotIn('is fastest', text)

    def test_peer_is_compared_only_where_it_does_the_same_work(self):
        warm = trials_of({'callbacks': 90e3, summary.FIO: 100e3})
        self.assertIn('times fio, raw file', self.finding(warm))
        cold = trials_of({'callbacks': 90e3, summary.FIO: 900e3}, 'cold-read')
        self.assertNotIn('fio', self.finding(cold))

    def test_one_cpu_is_ranked_apart(self):
        trials = trials_of({'callbacks': 100e3, 'threadpool': 200e3}) + \
            trials_of({'callbacks': 100e3, 'threadpool': 20e3}, cpus=1)
        text = self.finding(trials)
        self.assertIn('threadpool is fastest', text)
        self.assertIn('on one CPU: callbacks > threadpool', text)

    def test_failures_and_steal_are_told(self):
        trials = trials_of({'callbacks': 100e3})
        trials[0]['steal'] = 0.2
        text = self.finding(trials, {('cold-read', 'callbacks', summary.Column('io_uring')): 'why'})
        self.assertIn('20 %', text)
        self.assertIn('1 of the cells failed', text)

    def test_figures_come_as_svg_and_png(self):
        trials = trials_of({s: 1e5 for s in summary.STRATEGIES}) + \
            trials_of({s: 1e4 for s in summary.STRATEGIES}, 'mixed-flush')
        made = summary.draw(trials, self.args)
        self.assertEqual(sorted(os.path.basename(m) for m in made),
                         [f'{n}.{k}' for n in ('iops', 'latency', 'stall') for k in ('png', 'svg')])
        for path in made:
            self.assertGreater(os.path.getsize(path), 5000)


if __name__ == '__main__':
    unittest.main()
