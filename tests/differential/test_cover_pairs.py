"""Every pair of values of two axes is in a row of a covering array, and no row is refused."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cover
import differential


class Cover(unittest.TestCase):
    def test_every_allowed_pair_is_in_a_row(self):
        for seed in range(20):
            rows, impossible = cover.cover(differential.AXES, differential.allowed, seed)
            self.assertTrue(all(differential.allowed(row) for row in rows))
            self.assertTrue(all(set(row) == set(differential.AXES) for row in rows))
            for pair in cover.pairs(differential.AXES):
                found = any(row.items() >= dict(pair).items() for row in rows)
                self.assertEqual(found, pair not in impossible, pair)
                self.assertEqual(found, differential.allowed(dict(pair)), pair)

    def test_a_seed_gives_the_same_rows(self):
        self.assertEqual(cover.cover(differential.AXES, differential.allowed, 7),
                         cover.cover(differential.AXES, differential.allowed, 7))

    def test_few_rows_do(self):
        rows, _ = cover.cover({a: range(4) for a in 'abcdef'})
        self.assertLess(len(rows), 40) # of 4096


if __name__ == '__main__':
    unittest.main()
