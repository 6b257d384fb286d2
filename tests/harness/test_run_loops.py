#!/usr/bin/env python3
"""Every way to sleep and to complete, and what engines can be set to, under every strategy:
what was written is read back, and the report says what the loop did."""
import os
import unittest

from program import OnImages, asyncow, run_json

FOUR = ('callbacks', 'coroutines', 'freeze-thaw', 'threadpool')


class Loops(OnImages):
    def setUp(self):
        super().setUp()
        self.image = self.path('disk.qcow2')
        asyncow('img', 'create', '-q', '-f', 'qcow2', self.image, '16M')

    def verified(self, *args, strategies=FOUR):
        """The loop's part of the report, by strategy."""
        report = run_json('--image', self.image, '--copy', '--strategy', ','.join(strategies),
                          '--trials=1', '--rw=randrw', '--size=4m', '--iodepth=8',
                          '--verify=crc32c', '--fsync=100', '--verify-content', *args)
        for job in report['jobs']:
            self.assertGreater(job['verify']['checked'], 0)
            self.assertNotIn('engine_notes', job)
        return {job['strategy']: job['loop'] for job in report['jobs']}

    def test_settings_of_engines(self):
        for engine in ('io_uring:sqpoll=1,files=registered,buffers=registered',
                       'threads:pool=elastic,idle-ms=1', 'threads:order=bound'):
            self.verified('--engine', engine)

    def test_libuv_loop(self):
        for engine in ('threads', 'linux-aio', 'io_uring'):
            self.verified('--engine', engine, '--loop=libuv')

    def test_polling(self):
        loops = self.verified('--engine=threads', '--poll-us=1000000',
                              '--filter=delay:any=100us')
        for strategy, loop in loops.items():
            if strategy == 'threadpool':
                continue  # its I/O waits on the loops of its workers
            self.assertGreater(loop['polled'], 0, strategy)
            self.assertGreater(loop['poll_bound_ns'], 0, strategy)
        for loop in self.verified('--engine=threads').values():
            self.assertEqual((loop['polled'], loop['poll_bound_ns']), (0, 0))

    def test_workers_that_spin(self):
        """The loop looks for what they finish, if there is a CPU for both."""
        two = len(os.sched_getaffinity(0)) > 1
        for settings, some in (('idle=spin,spin-us=1000000', two), ('idle=sleep', False)):
            strategy = 'threadpool:' + settings
            loop = self.verified('--engine=threads', strategies=[strategy])[strategy]
            self.assertEqual(loop['polled'] > 0, some)
        loop = self.verified('--engine=threads', '--cpus=1',
                             strategies=['threadpool:idle=spin'])['threadpool:idle=spin']
        self.assertEqual(loop['polled'], 0)

    def test_inline_completion(self):
        for engine in ('sync', 'io_uring'):
            loops = self.verified('--completion=inline', '--engine', engine)
            for strategy in ('coroutines', 'freeze-thaw'):
                self.assertGreater(loops[strategy]['inline_declined'], 0)
            self.assertLessEqual(loops['callbacks']['inline_deepest'], 8)
            if engine == 'sync':
                self.assertGreater(loops['callbacks']['inlined'], 0)
        for loop in self.verified('--engine=sync').values():
            self.assertEqual((loop['inlined'], loop['inline_declined']), (0, 0))

    def test_no_stack_is_deep_enough_for_all_inside_one_another(self):
        # What qemu-img 10.2.2 bench -w -d 1 -s 65536 -S 65536 dies of on a fresh image with
        # native AIO: each write completes inside its submission and submits the next one.
        fresh = self.path('fresh.qcow2')
        asyncow('img', 'create', '-q', '-f', 'qcow2', fresh, '64M')
        for engine in ('linux-aio', 'sync'):
            report = run_json('--image', fresh, '--copy', '--strategy', ','.join(FOUR),
                              '--trials=1', '--engine', engine, '--completion=inline',
                              '--rw=write', '--bs=64k', '--iodepth=1', '--zero_buffers')
            for job in report['jobs']:
                self.assertEqual(job['write']['total_ios'], 1024)
                self.assertLessEqual(job['loop']['inline_deepest'], 8)
            by_name = {job['strategy']: job['loop'] for job in report['jobs']}
            self.assertGreater(by_name['callbacks']['inlined'], 512, engine)

    def test_waiters(self):
        for waiter in ('select', 'blind'):
            self.verified('--engine=threads', '--waiter', waiter, '--waiter-us=100')

    def test_merging(self):
        self.verified('--engine=io_uring', '--merge=1m')
        for merge, some in (('64k', True), ('0', False)):
            loop = run_json('--image', self.full, '--strategy=callbacks', '--rw=read',
                            '--engine=io_uring', '--iodepth=16', '--merge', merge)['jobs'][0]['loop']
            self.assertEqual(loop['merged'] > 0, some)
            self.assertLessEqual(loop['merged_into'] * 2, loop['merged'])

    def test_simulated_time_has_none_of_them(self):
        for option in ('--loop=libuv', '--poll-us=1', '--completion=inline',
                       '--waiter=select'):
            said = asyncow('run', '--image', self.image, '--engine=sim', option, status=2)
            self.assertIn('machine only', said.stderr)


if __name__ == '__main__':
    unittest.main()
