#!/usr/bin/env python3
"""asyncow microbench coroutine measures every back end, pooled and not, and says what it
does not understand."""
import unittest

from program import asyncow, strict_json

ALWAYS = {'call', 'switch', 'mutex', 'mutex-contended', 'rwlock-shared', 'rwlock-contended'}
BOTH = {'lifecycle', 'cost', 'nesting'}
QUICK = ('--trials=3', '--time=20us', '--depth=20')


class Microbench(unittest.TestCase):
    def test_json_has_every_measurement_of_every_back_end(self):
        said = strict_json(asyncow('microbench', 'coroutine', '--output-format=json',
                                   *QUICK).stdout)
        backends = {s['backend'] for s in said['stacks']}
        self.assertLessEqual({'ucontext', 'thread'}, backends)
        got = {(r['backend'], r['pool'], r['what']) for r in said['results']}
        want = {(b, True, w) for b in backends for w in ALWAYS | BOTH}
        want |= {(b, False, w) for b in backends for w in BOTH}
        self.assertEqual(got, want)
        self.assertEqual(len(said['results']), len(got))
        for r in said['results']:
            low, high = r['ns_median_interval']
            self.assertTrue(0 < r['ns_min'] <= low <= r['ns_median'] <= high, r)
        for s in said['stacks']:
            self.assertTrue(0 < s['used_max'] <= s['bytes'] + 65536, s)

    def test_options_choose(self):
        said = asyncow('microbench', 'coroutine', '--backend=ucontext', '--pool', 'off',
                       *QUICK).stdout
        self.assertNotIn('switch', said)
        self.assertIn('lifecycle', said)
        self.assertNotIn('sigaltstack', said)

    def test_wrong_input_is_told(self):
        for args, word in ((['coroutin'], 'coroutine'), ([], 'coroutine'),
                           (['coroutine', '--trails=3'], 'trials'),
                           (['coroutine', '--pool=maybe'], 'on, off or both'),
                           (['coroutine', '--trials=0'], '1 to 1000'),
                           (['coroutine', '--depth'], 'depth'),
                           (['coroutine', '--backend=fibres'], 'sigaltstack')):
            said = asyncow('microbench', *args, status=2)
            self.assertIn(word, said.stderr)
            self.assertEqual(said.stdout, '')


if __name__ == '__main__':
    unittest.main()
