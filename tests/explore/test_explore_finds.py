#!/usr/bin/env python3
"""The explorer finds bugs planted in strategies, makes the schedule short, and replays it.

And its own shortcut is right: leaving out schedules whose end is known leaves out no
outcome.
"""
import json
import os
import re
import subprocess
import tempfile
import unittest

PROGRAM = os.environ['ASYNCOW']
BROKEN = os.environ['BROKEN']


def explore(*args, status=0):
    done = subprocess.run([PROGRAM, 'explore', *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=250, check=False)
    if done.returncode != status:
        raise AssertionError(f'{" ".join(done.args)}: exit status {done.returncode}, not '
                             f'{status}\n{done.stdout}\n{done.stderr}')
    return done


def explore_json(*args, status=0):
    return json.loads(explore('--output-format=json', *args, status=status).stdout)


class Finds(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix='asyncow-test-')
        self.addCleanup(directory.cleanup)
        self.script = os.path.join(directory.name, 'script')

    def find(self, bug, operations, *args):
        """The schedule found, its script, and the picture of its replay."""
        module = os.path.join(BROKEN, f'broken_{bug}.so')
        report = explore_json(f'--strategy={module}', f'--set={operations}',
                              f'--script={self.script}', *args, status=1)
        found = report['sets'][0]
        self.assertEqual(found['end'], 'failed')
        with open(self.script, encoding='utf-8') as f:
            script = f.read()
        self.assertEqual(found['script'], script)
        replayed = explore(f'--replay={self.script}', status=1)
        self.assertTrue(replayed.stdout.endswith(found['failure'] + '\n'), replayed.stdout)
        return found, script, replayed.stdout

    def choices(self, script):
        return re.search(r'^choices(.*)$', script, re.MULTILINE).group(1).split()

    def test_lost_write(self):
        found, script, picture = self.find('acks_cancelled', 'read,rewrite,cancel@same')
        self.assertIn('no order of the operations makes that', found['failure'])
        self.assertEqual(found['operations'], 'rewrite,cancel@same')  # the read had no part
        self.assertLessEqual(sum(c != '0' for c in self.choices(script)), 4)
        self.assertIn('> read meta', picture)
        self.assertIn('done', picture)

    def test_assertion_of_the_core(self):
        found, _, _ = self.find('overlap_not_awaited', 'alloc,alloc@same')
        self.assertIn('Assertion', found['failure'])

    def test_lost_wakeup_of_a_thread(self):
        found, script, picture = self.find('lost_wakeup', 'alloc,alloc@same',
                                           '--mode=bounded')
        self.assertIn('deadlock', found['failure'])
        self.assertNotEqual(self.choices(script)[-1], '0')
        self.assertRegex(picture, 'thread [12] waits for condition')
        self.assertLess(picture.count('done'), 2)

    def test_sleepers_left_behind(self):
        found, _, _ = self.find('wakes_one', 'read,read,read@same')
        self.assertIn('deadlock', found['failure'])

    def test_request_lost(self):
        found, _, picture = self.find('forgets_cancelled', 'alloc,alloc,cancel@same')
        self.assertIn('deadlock', found['failure'])
        self.assertIn('cancel', picture)

    def test_found_at_random(self):
        for mode in 'uniform', 'pct:3':
            with self.subTest(mode=mode):
                self.find('overlap_not_awaited', 'alloc,alloc@same', f'--mode={mode}')

    def test_script_says_all(self):
        _, script, _ = self.find('overlap_not_awaited', 'alloc,alloc@same', '--cache=warm',
                                 '--image=v2-overlay', '--metadata-writes=through')
        for line in 'cache warm', 'image v2-overlay', 'metadata-writes through':
            self.assertIn(f'\n{line}\n', script)

    def test_same_seed_same_schedules(self):
        args = '--strategy=threadpool', '--set=alloc,read@same', '--schedules=200'
        for mode in 'uniform', 'pct:3':
            with self.subTest(mode=mode):
                first = explore_json(*args, f'--mode={mode}', '--seed=7')
                self.assertEqual(explore_json(*args, f'--mode={mode}', '--seed=7'), first)

    def test_good_strategy_replays_clean(self):
        with open(self.script, 'w', encoding='utf-8') as f:
            f.write('strategy callbacks\ncluster-size 512\noperations alloc,read@same\n'
                    'choices 1 1 1 1\n')
        self.assertIn('nothing is wrong', explore(f'--replay={self.script}').stdout)

    def test_bad_script(self):
        for text in ('strategy callbacks\n', 'strategy callbacks\nchoices -1\n',
                     'cluster-size 1000\n', 'operations read@moon\n', 'nonsense\n'):
            with open(self.script, 'w', encoding='utf-8') as f:
                f.write(text)
            with self.subTest(text=text):
                self.assertIn(self.script,
                              explore(f'--replay={self.script}', status=1).stderr)

    def test_used_wrongly(self):
        for args in (['--sets=read'], ['--mode=pct:0'], ['--operations=4'], ['read'],
                     ['--set=cancel'], ['--set=read,write'], ['--cluster-size=1000'],
                     ['--schedules'], ['--set=read@l2'], ['--image=v4']):
            with self.subTest(args=args):
                self.assertTrue(explore(*args, status=2).stderr)


class LeavesOutNothing(unittest.TestCase):
    def compare(self, exact, *args):
        """All against every: as many outcomes, and as many schedules stood for."""
        some = explore_json(*args, '--mode=all', '--schedules=0')['sets']
        every = explore_json(*args, '--mode=every', '--schedules=0')['sets']
        fewer = 0
        for a, e in zip(some, every):
            with self.subTest(strategy=a['strategy'], operations=a['operations']):
                self.assertEqual((a['end'], e['end']), ('complete', 'complete'))
                self.assertEqual(a['operations'], e['operations'])
                self.assertEqual(a['outcomes'], e['outcomes'])
                if exact:
                    self.assertEqual(a['stands_for'], e['schedules'])
            fewer += e['schedules'] - a['schedules']
        self.assertGreater(fewer, 0)

    def test_one_thread(self):
        self.compare(True, '--strategy=callbacks,coroutines,freeze-thaw', '--operations=2')

    def test_threads(self):
        """Where something passes through a turn that does nothing counts, but matters not."""
        self.compare(False, '--strategy=threadpool', '--operations=1')
        if os.environ['EXPLORE_SHARE'] == '1':
            self.compare(False, '--strategy=threadpool', '--set=discard,cancel@same')


if __name__ == '__main__':
    unittest.main()
