#!/usr/bin/env python3
"""--global-mutex: a virtual CPU drives the load and takes the global mutex. What it wrote is
there, under every strategy; how late it gets the mutex is told, and in simulation it is late
only where the loop keeps the mutex while it waits for a disk."""
import unittest

from program import OnImages, asyncow, run_json

FOUR = ['callbacks', 'coroutines', 'freeze-thaw', 'threadpool']


def late(job, which='late'):
    return job['virtual_cpu'][which]['lat_ns']


class GlobalMutex(OnImages):
    def setUp(self):
        super().setUp()
        self.image = self.path('disk.qcow2')
        asyncow('img', 'create', '-q', '-f', 'qcow2', self.image, '64M')

    def run_one(self, strategy, mode, *more, status=0):
        return run_json('--image', self.image, '--copy', '--strategy', strategy, '--trials=1',
                        '--rw=randwrite', '--bs=4k', '--iodepth=8', f'--global-mutex={mode}', *more,
                        status=status)

    def test_what_it_writes_is_there(self):
        for strategy in FOUR:
            for mode in ('loop', 'dedicated'):
                report = self.run_one(strategy, mode, '--engine=threads', '--number_ios=600',
                                      '--verify=crc32c', '--fsync=50', '--vcpu-tick=20us')
                job = report['jobs'][0]
                self.assertEqual((job['verify']['checked'], job['verify']['bad']), (600, 0))
                self.assertEqual(job['write']['total_ios'], 600)
                self.assertGreater(late(job)['N'], 10)
                self.assertGreater(late(job, 'idle')['N'], 10)

    def test_a_request_waits_for_the_next_tick(self):
        """Virtual time: 100 us from one taking of the mutex to the next, so no request ends
        in between."""
        job = self.run_one('callbacks', 'dedicated', '--engine=sim', '--number_ios=100',
                           '--iodepth=1', '--vcpu-tick=1ms')['jobs'][0]
        self.assertGreaterEqual(job['write']['lat_ns']['min'], 990000)
        self.assertEqual(job['total']['total_ios'], 100)

    def test_nobody_is_late_where_the_loop_sleeps_without_the_mutex(self):
        for strategy in FOUR:
            for mode in ('loop', 'dedicated'):
                job = self.run_one(strategy, mode, '--engine=sim', '--number_ios=400')['jobs'][0]
                self.assertLess(late(job)['max'], 1000, (strategy, mode))
                self.assertEqual(late(job, 'idle')['max'], 0)

    def test_metadata_that_blocks_the_loop_blocks_the_guest(self):
        """K1: metadata takes a millisecond, and the loop sleeps on it with the mutex held."""
        for mode, least, most in (('loop', 900000, None), ('dedicated', 0, 1000)):
            job = self.run_one('callbacks:metadata=sync', mode, '--engine=sim', '--number_ios=400',
                               '--cache-size=64k', '--filter=delay:metadata=1ms')['jobs'][0]
            self.assertGreaterEqual(late(job)['max'], least)
            if most:
                self.assertLess(late(job)['max'], most)

    def test_a_failed_request_ends_it(self):
        report = self.run_one('callbacks', 'loop', '--engine=threads', '--number_ios=600',
                              '--filter=fault:op=write,n=90', status=1)
        self.assertIn('write of 4096 bytes', report['error'])

    def test_what_does_not_go_with_it(self):
        for more, word in ((['--ramp_time=1'], 'ramp_time'), (['--vcpu-tick=1ns'], 'vcpu-tick'),
                           (['--snapshot-every=1s'], 'snapshot-every')):
            said = asyncow('run', '--image', self.image, '--global-mutex=loop', '--rw=write', *more,
                           status=2).stderr
            self.assertIn(word, said)


if __name__ == '__main__':
    unittest.main()
