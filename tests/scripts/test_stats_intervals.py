#!/usr/bin/env python3
"""stats.py: intervals cover what they should, and equal things can't be told apart."""
import math
import os
import random
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'scripts'))
import stats  # noqa: E402


class Stats(unittest.TestCase):
    def test_interval_is_students(self):
        """Of the logarithms; the value of t for 2 degrees of freedom, from any table: 4.303."""
        middle, low, high = stats.interval([math.exp(v) for v in (1.0, 2.0, 3.0)])
        self.assertAlmostEqual(math.log(middle), 2.0)
        self.assertAlmostEqual(math.log(high), 2 + 4.303 / math.sqrt(3))
        self.assertAlmostEqual(math.log(low), 2 - 4.303 / math.sqrt(3))
        self.assertAlmostEqual(stats.t95(30), 2.042, places=2)
        self.assertAlmostEqual(stats.t95(1000), 1.962, places=2)

    def test_few_trials_cover_the_truth_as_often_as_they_say(self):
        """Of 1000 intervals 950 are to hold the truth; fewer than 920 is no chance."""
        rng = random.Random(int(os.environ.get('ASYNCOW_SEED', '7')))
        for n in (3, 4, 10):
            covered = apart = 0
            for _ in range(1000):
                a, b = ([math.exp(rng.gauss(5, 0.1)) for _ in range(n)] for _ in 'ab')
                _, low, high = stats.interval(a)
                covered += low <= math.exp(5) <= high
                apart += stats.distinguishable(a, b)
            self.assertGreater(covered, 920)
            self.assertLess(covered, 980)
            self.assertLess(apart, 80)

    def test_one_trial_has_no_width(self):
        for v in stats.interval([5.0]):
            self.assertAlmostEqual(v, 5.0)
        self.assertFalse(stats.distinguishable([5.0], [50.0, 51.0]))

    def test_what_slows_a_whole_round_drops_out(self):
        middle, low, high = stats.ratio([200.0, 20.0, 90.0], [100.0, 10.0, 45.0])
        for v in (middle, low, high):
            self.assertAlmostEqual(v, 2.0)

    def test_equal_cells_are_not_told_apart_and_unequal_ones_are(self):
        self.assertFalse(stats.distinguishable([10, 11, 12], [10.5, 11, 11.7]))
        self.assertTrue(stats.distinguishable([10, 11, 12], [20, 21, 22]))

    def test_rank_groups_what_is_alike(self):
        cells = {'slow': [1, 1.1, 0.9], 'fast': [10, 10.2, 9.8], 'alike': [9.9, 10.1, 10]}
        groups = stats.rank(cells)
        self.assertEqual([sorted(g) for g in groups], [['alike', 'fast'], ['slow']])

    def test_quantity_reads_well(self):
        self.assertEqual([stats.quantity(v) for v in (3.14159, 45600, 1234567, 999700)],
                         ['3.14', '45.6 k', '1.23 M', '1 M'])


if __name__ == '__main__':
    unittest.main()
