#!/usr/bin/env python3
"""stats.py: intervals cover what they should, and equal things can't be told apart."""
import os
import random
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'scripts'))
import stats  # noqa: E402


class Stats(unittest.TestCase):
    def test_interval_holds_its_mean_and_stays_in_range(self):
        middle, low, high = stats.interval([9.0, 10.0, 14.0])
        self.assertAlmostEqual(middle, 11.0)
        self.assertTrue(9.0 <= low < 11.0 < high <= 14.0)

    def test_interval_is_the_same_each_time(self):
        self.assertEqual(stats.interval([1, 2, 3, 7]), stats.interval([1, 2, 3, 7]))

    def test_interval_covers_the_truth_about_as_often_as_it_says(self):
        rng = random.Random(int(os.environ.get('ASYNCOW_SEED', '7')))
        covered = 0
        for _ in range(100):
            _, low, high = stats.interval([rng.gauss(100, 10) for _ in range(20)])
            covered += low <= 100 <= high
        self.assertGreaterEqual(covered, 85)

    def test_one_trial_has_no_width(self):
        self.assertEqual(stats.interval([5.0]), (5.0, 5.0, 5.0))
        self.assertFalse(stats.distinguishable([5.0], [50.0, 51.0]))

    def test_ratio_is_of_the_means_with_both_sides_uncertain(self):
        middle, low, high = stats.ratio([19.0, 21.0], [9.0, 11.0])
        self.assertAlmostEqual(middle, 2.0)
        self.assertLess(low, 1.8)
        self.assertGreater(high, 2.2)

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
