#!/usr/bin/env python3
"""The workloads that show a claim show it: in virtual time, so by exact numbers.

K1: metadata that blocks the loop stalls it for as long as the metadata takes, and nothing
else stalls it at all, under any strategy. K10: requests that wait with their worker starve a
pool that is smaller than the depth. K5: a mutex kept across the data lets one request at a time.
"""
import pathlib
import subprocess
import unittest

from program import OnImages, asyncow, run_json, strict_json

WORKLOADS = pathlib.Path(__file__).parents[2] / 'workloads'
FOUR = {'callbacks', 'coroutines', 'freeze-thaw', 'threadpool'}
# What the engine sim takes for an I/O, and the delay: ns.
READ, WRITE, FLUSH, DELAY = 80000, 20000, 200000, 1000000
SYNC = 'callbacks:metadata=sync'


def all_ways():
    """Every setting of every strategy, named; but those that only a machine has."""
    for s in strict_json(asyncow('strategies', '--output-format=json').stdout):
        if s['name'] in FOUR:
            for way in s['ways']:
                if way['name'] != 'engine=sync':
                    yield s['name'] + (':' + way['name'] if way['name'] else '')


def stalled(job):
    """How long the loop's turns kept it busy, together, ns. (The last isn't over in time.)"""
    turn = job['stall']['turn_ns']
    return round(turn['mean'] * turn['N'])


class Shows(OnImages):
    def setUp(self):
        super().setUp()
        self.image = self.path('disk.qcow2')

    def create(self, *options):
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k',
                        *options, self.image, '64M'], check=True, timeout=60)

    def fill(self):
        subprocess.run(['qemu-io', '-c', 'write -P 1 0 64M', self.image], check=True,
                       timeout=60, stdout=subprocess.DEVNULL)

    def run_one(self, workload, strategy, *more):
        return run_json(WORKLOADS / workload, '--image', self.image, '--engine=sim',
                        '--strategy', strategy, '--trials=1', '--direct=0', *more)['jobs'][0]

    def test_k1_cold_reads(self):
        self.create()
        self.fill()
        for strategy in all_ways():
            job = self.run_one('stall.fio', strategy, '--cache-size=4k',
                               '--filter=delay:metadata=1ms')
            misses = job['counters']['qcow2']['l2_misses']
            self.assertGreater(misses, 10, strategy)
            one = READ + DELAY
            with self.subTest(strategy=strategy):
                self.assertEqual(job['read']['lat_ns']['max'], one + READ)
                if strategy == SYNC:
                    self.assertEqual(job['stall']['turn_ns']['max'], one)
                    self.assertEqual(stalled(job), misses * one)
                else:
                    self.assertEqual(job['stall']['turn_ns']['max'], 0)

    def test_k1_many_at_once_stall_it_one_after_the_other(self):
        self.create()
        self.fill()
        job = self.run_one('stall.fio', SYNC, '--iodepth=8', '--cache-size=4k',
                           '--filter=delay:metadata=1ms')
        longest, one = job['stall']['turn_ns']['max'], READ + DELAY
        self.assertEqual(longest % one, 0)
        self.assertGreater(longest, 4 * one)
        self.assertLessEqual(longest, 8 * one)

    def test_k1_allocating_writes(self):
        self.create()
        for strategy in all_ways():
            job = self.run_one('alloc-write.fio', strategy, '--copy', '--iodepth=1',
                               '--number_ios=50', '--metadata-writes=through',
                               '--filter=delay:metadata=1ms')
            with self.subTest(strategy=strategy):
                if strategy != SYNC:
                    self.assertEqual(job['stall']['turn_ns']['max'], 0)
                    continue
                io = job['host_io']
                took = (job['host_delay']['realised_ns'] + READ * io['reads'] + FLUSH *
                        io['flushes'] + WRITE * (io['writes'] - 50 + io['grows']))
                # The last turn, with the last write's sync: two slices and two barriers.
                last = 2 * (WRITE + DELAY) + 2 * (FLUSH + DELAY)
                self.assertEqual(stalled(job), took - last)

    def test_k10_waiting_requests_starve_a_small_pool(self):
        base = self.path('base.raw')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'raw', base, '64M'], check=True,
                       timeout=60)
        self.create('-b', base, '-F', 'raw')

        def pool(settings):
            job = self.run_one('starved-pool.fio', f'threadpool:{settings}', '--copy',
                               '--allow-backing', '--metadata-writes=through',
                               '--filter=delay:metadata-write=1ms')
            return job['total']['iops'], job['read']['lat_ns']['percentile']['99.900000']
        block, park, enough = (pool(s) for s in ('workers=4', 'workers=4,wait=park',
                                                 'workers=32'))
        self.assertEqual(enough[1] // 1000, READ // 1000)  # nobody waits for a worker
        self.assertLess(park[1], 1000000)
        self.assertGreater(block[1], 5000000)
        self.assertGreater(park[0], 1.7 * block[0])
        # All want the one lock, which is kept: that no worker can help.
        held, parked = pool('workers=4,hold=metadata'), pool('workers=4,hold=metadata,wait=park')
        self.assertLess(parked[0], 1.1 * held[0])

    def test_k5_a_mutex_kept_across_data_serialises_it(self):
        self.create()
        self.fill()
        big, held = (self.run_one('warm-read.fio', f'coroutines:lock={lock}', '--runtime=20ms',
                                  '--number_ios=2000', '--ramp_time=0')
                     for lock in ('big', 'big-held'))
        self.assertGreater(big['total']['iops'], 20 * held['total']['iops'])
        self.assertLessEqual(held['total']['iops'], 1e9 / READ)
        self.assertGreater(held['total']['iops'], 0.8 * 1e9 / READ)


if __name__ == '__main__':
    unittest.main()
