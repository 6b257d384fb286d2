#!/usr/bin/env python3
"""tally.py: a skip without a reason fails, and no test at all fails too."""
import io
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'scripts'))
import tally  # noqa: E402


def entry(name, result, stdout=''):
    return {'name': f'asyncow:area / {name}', 'result': result, 'stdout': stdout}


class Tally(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.total = {'passed': 0, 'failed': 0, 'skipped': 0}
        self.out = io.StringIO()

    def write(self, name, text):
        path = os.path.join(self.dir.name, name)
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
        return path

    def add(self, entries, skips=()):
        path = self.write('log', '\n'.join(json.dumps(e) for e in entries))
        return tally.add_log(self.total, 'gcc', path, list(skips), self.out)

    def test_results_are_counted(self):
        failed = self.add([entry('a', 'OK'), entry('b', 'EXPECTEDFAIL'), entry('c', 'FAIL'),
                           entry('d', 'TIMEOUT'), entry('e', 'ERROR'),
                           entry('f', 'UNEXPECTEDPASS')])
        self.assertEqual(failed, 4)
        self.assertEqual(tally.line(self.total), '2 passed, 4 failed, 0 skipped')

    def test_failed_test_shows_the_end_of_its_output(self):
        lines = [f'line {i}' for i in range(100)]
        self.add([entry('c', 'FAIL', '\n'.join(lines))])
        self.assertIn('line 99', self.out.getvalue())
        self.assertNotIn('line 10\n', self.out.getvalue())

    def test_skip_with_reason_is_skipped(self):
        self.assertEqual(self.add([entry('loop_device', 'SKIP')], ['gcc/loop_*']), 0)
        self.assertEqual(self.total, {'passed': 0, 'failed': 0, 'skipped': 1})

    def test_skip_without_reason_fails(self):
        self.assertEqual(self.add([entry('loop_device', 'SKIP')], ['clang/loop_*']), 1)
        self.assertEqual(self.total['failed'], 1)

    def test_cmocka_case_skipped_inside_a_passing_test_is_seen(self):
        text = ('[ RUN      ] test_direct\n[  SKIPPED ] test_direct\n[==========] 2 run\n'
                '[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] test_direct\n')
        self.assertEqual(self.add([entry('file', 'OK', text)]), 1)
        self.assertEqual(self.add([entry('file', 'OK', text)], ['*/file#test_direct']), 0)
        self.assertEqual(self.total, {'passed': 2, 'failed': 1, 'skipped': 1})

    def test_unittest_case_skipped_inside_a_passing_test_is_seen(self):
        self.assertEqual(self.add([entry('py', 'OK', 'Ran 3 tests\n\nOK (skipped=2)\n')]), 2)

    def test_empty_or_missing_log_fails(self):
        self.assertEqual(self.add([]), 1)
        self.assertEqual(tally.add_log(self.total, 'gcc', '/nonexistent', [], self.out), 1)

    def test_skip_list_needs_reasons(self):
        good = self.write('good', '# comment\n\n*/a: needs a loop device\n')
        self.assertEqual(tally.read_skips(good), ['*/a'])
        with self.assertRaises(SystemExit):
            tally.read_skips(self.write('bad', '*/a\n'))

    def test_total_adds_up_over_calls_and_decides_the_exit_status(self):
        total = os.path.join(self.dir.name, 'total')
        self.assertEqual(tally.main(['--total', total, 'print']), 1)  # nothing ran
        self.assertEqual(tally.main(['--total', total, 'step', 'build', 'pass']), 0)
        self.assertEqual(tally.main(['--total', total, 'print']), 0)
        self.assertEqual(tally.main(['--total', total, 'step', 'lint', 'fail']), 1)
        self.assertEqual(tally.main(['--total', total, 'print']), 1)


if __name__ == '__main__':
    unittest.main()
