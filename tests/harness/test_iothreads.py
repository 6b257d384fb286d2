#!/usr/bin/env python3
"""--iothreads: several loops serve one image. What they wrote is there, together they make the
requests of one, the same seed gives the same simulated run; who can't is refused by name."""
import unittest

from program import MODULE, OnImages, asyncow, run_json, strict_json

SEVERAL = ('coroutines', 'coroutines:lock=rwlock', 'threadpool')


class Iothreads(OnImages):
    def setUp(self):
        super().setUp()
        self.image = self.path('disk.qcow2')
        asyncow('img', 'create', '-q', '-f', 'qcow2', self.image, '16M')

    def run_one(self, strategy, *more, status=0):
        return run_json('--image', self.image, '--copy', '--strategy', strategy, '--trials=1',
                        '--rw=randwrite', '--bs=4k', '--iodepth=7', '--iothreads=3', *more,
                        status=status)

    def refused(self, *args):
        return asyncow('run', '--image', self.image, '--rw=write', *args, status=2).stderr

    def test_what_they_wrote_is_there(self):
        for strategy in SEVERAL:
            job = self.run_one(strategy, '--engine=io_uring', '--number_ios=500', '--fsync=40',
                               '--verify=crc32c', '--end_fsync')['jobs'][0]
            self.assertEqual((job['verify']['checked'], job['verify']['bad']), (500, 0))
            self.assertEqual(job['write']['total_ios'], 500)
            self.assertEqual([loop['total_ios'] for loop in job['iothreads']], [167, 167, 166])
            self.assertEqual(job['write']['lat_ns']['N'], 500)
            self.assertEqual(job['sync']['total_ios'], 13)  # 4 of each loop, and the last

    def test_snapshots_meanwhile(self):
        for strategy in SEVERAL:
            job = self.run_one(strategy, '--engine=threads', '--number_ios=3600',
                               '--snapshot-every=100', '--metadata-writes=through')['jobs'][0]
            self.assertGreater(job['snapshot']['create']['total_ios'], 2)
            self.assertEqual(job['write']['total_ios'], 3600)

    def test_the_same_seed_the_same_simulated_run(self):
        for strategy in SEVERAL:
            args = (strategy, '--engine=sim', '--number_ios=600', '--seed=5', '--stall',
                    '--no-manifest-host', '--rw=randrw', '--cache-size=16k')
            first = self.run_one(*args)
            self.assertEqual(first, self.run_one(*args))
            self.assertEqual(first['jobs'][0]['total']['total_ios'], 600)

    def test_all_write_what_one_loop_writes(self):
        """The same requests, whoever makes them: the same blocks are written."""
        for more in (['--iothreads=1'], []):
            job = self.run_one('threadpool', '--engine=sim', '--rw=write', '--zero_buffers',
                               '--verify-content', '--size=2m', *more)['jobs'][0]
            self.assertEqual(job['total']['total_ios'], 512)
            self.assertEqual('iothreads' in job, not more)

    def test_a_failed_request_ends_it_on_all(self):
        report = self.run_one('coroutines', '--engine=threads', '--runtime=60', '--time_based',
                              '--filter=fault:op=data-write,n=90', status=1)
        self.assertIn('write of 4096 bytes', report['error'])

    def test_who_has_one_loop_is_refused(self):
        listed = {s['name']: s['iothreads'] for s in
                  strict_json(asyncow('strategies', '--output-format=json').stdout)}
        for name, several in (('callbacks', False), ('coroutines', True),
                              ('freeze-thaw', False), ('threadpool', True)):
            self.assertEqual(listed[name]['several'], several)
            if not several:
                said = self.refused('--iothreads=2', '--iodepth=2', '--strategy', name)
                self.assertIn(listed[name]['why'], said)
                self.assertIn(name, said)
        why = listed['coroutines']['except']['fastpath=on']
        said = self.refused('--iothreads=2', '--iodepth=2', '--strategy=coroutines:fastpath=on')
        self.assertIn(why, said)
        self.assertIn("doesn't say", self.refused('--iothreads=2', '--iodepth=2', '--strategy',
                                                  MODULE))
        self.assertIn('strategy callbacks', self.refused('--iothreads=2', '--iodepth=2',
                                                         '--strategy=all'))

    def test_what_does_not_go_with_it(self):
        for more, word in ((['--iodepth=1'], 'iodepth'), (['--iothreads=0'], 'out of range'),
                           (['--iodepth=4', '--global-mutex=loop'], 'global-mutex'),
                           (['--iodepth=4', '--streams=2'], 'streams'),
                           (['--iodepth=4', '--verify=crc32c', '--verify_only'], 'verify_only')):
            self.assertIn(word, self.refused('--iothreads=2', *more))


if __name__ == '__main__':
    unittest.main()
