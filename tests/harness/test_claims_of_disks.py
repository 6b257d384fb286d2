#!/usr/bin/env python3
"""What was claimed about disks and their elevators, on the simulated disk: workloads/README.md
tells the same with its numbers.

K14: a pool keeps up with AIO, whatever the spindles, for more CPU. K16: threads disorder a
stream, which costs an idle disk much and a loaded one less. K17: merging helps where nobody
sorts, and a guest's elevator adds nothing to a large ring. K22: anticipation in guest and host
does not add up.
"""
import pathlib
import random
import unittest

from program import OnImages, run_json

ROOT = pathlib.Path(__file__).parents[2]
DISK = ROOT / 'models' / 'disk-7200.model'
MS = 1000000


class Disks(OnImages):
    def setUp(self):
        super().setUp()
        self.image = self.path('disk.raw')
        with open(self.image, 'wb') as f:
            f.truncate(4 << 30)

    def job(self, workload, model, *args, strategy='callbacks'):
        return run_json(ROOT / 'workloads' / workload, '--image', self.image, '--format=raw',
                        '--engine=sim', f'--sim-model={DISK}:{model}', '--strategy', strategy,
                        '--trials=1', *args)['jobs'][0]

    def iops(self, *args, **more):
        return self.job(*args, **more)['total']['iops']

    def test_k14_a_pool_keeps_up_with_aio(self):
        for spindles in 1, 8, 50:
            aio, pool = (self.job('spindles.fio', f'spindles={spindles}', strategy=s)
                         for s in ('callbacks', 'threadpool'))
            self.assertGreater(pool['total']['iops'], 0.97 * aio['total']['iops'], spindles)
            more = (pool['process']['cpu_ns_per_request'] -
                    aio['process']['cpu_ns_per_request'])
            self.assertGreater(more, 5000)
            self.assertLess(more, 15000)
        # Where there is work for the CPU alone, it can't.
        aio, pool = (self.iops('spindles.fio', 'spindles=16,cpus=1', '--rw=read', strategy=s)
                     for s in ('callbacks', 'threadpool'))
        self.assertLess(pool, 0.9 * aio)

    def loaded(self, record):
        """The same order, and a read from somewhere else after every second one."""
        rnd, lines = random.Random(1), []
        with open(record, encoding='utf-8') as f:
            reads = sorted((line.split() for line in f if line[0] != '#'),
                           key=lambda words: int(words[1]))
        for i, words in enumerate(reads):
            lines.append(words[6])
            if i % 2 == 0:
                lines.append(rnd.randrange(1 << 14) * 196608)
        return self.write('loaded', ''.join(f'{n} {n + 1} 0 0 read data {at} 65536 0\n'
                                            for n, at in enumerate(lines)))

    def test_k16_disorder_costs_an_idle_disk_more_than_a_loaded_one(self):
        def lost(model, load):
            """The share of the throughput that disorder leaves."""
            result = []
            for order in 'bound', 'fifo':
                record = ROOT / 'workloads' / f'k16-{order}.iolog'
                if load:
                    record = self.loaded(record)
                result.append(self.iops('disk-order.fio', model, f'--read_iolog={record}'))
            return result[0] / result[1]
        small = 'readahead=256k,host-merge=0,host-elevator='
        self.assertLess(lost(small + 'noop', False), 0.4)
        self.assertLess(lost('host-merge=0,host-elevator=noop', False), 0.9)
        self.assertGreater(lost(small + 'noop', True), 0.7)
        for elevator in 'noop', 'deadline':
            self.assertLess(lost(small + elevator, False), lost(small + elevator, True))

    def test_k17_merging_helps_where_nobody_sorts(self):
        no_merge = 'host-merge=0,host-elevator='
        alone = self.iops('disk-streams.fio', no_merge + 'noop')
        merged = self.iops('disk-streams.fio', no_merge + 'noop', '--merge=512k')
        below = self.iops('disk-streams.fio', 'host-elevator=noop')
        self.assertGreater(merged, 5 * alone)
        self.assertGreater(below, 0.97 * merged)
        # An elevator that sorts goes on with a stream for as long as it can: larger requests
        # come in rounds, and take that from it.
        sorts = self.iops('disk-streams.fio', no_merge + 'deadline')
        self.assertGreater(sorts, 2 * merged)
        self.assertLess(self.iops('disk-streams.fio', no_merge + 'deadline', '--merge=512k'),
                        0.5 * sorts)

    def test_k17_a_guests_elevator_adds_nothing_to_a_large_ring(self):
        def guest(elevator, depth):
            return self.job('disk-streams.fio', f'guest-queue=on,guest-depth={depth},'
                            f'guest-elevator={elevator}')
        plain = self.iops('disk-streams.fio', 'guest-queue=off')
        for elevator in 'noop', 'deadline', 'anticipatory':
            large, small = guest(elevator, 32), guest(elevator, 4)
            self.assertAlmostEqual(large['total']['iops'] / plain, 1, delta=0.02)
            self.assertLess(small['total']['iops'], 0.5 * plain)
            # But fewer requests go down where many wait.
            self.assertLess(small['guest_queue']['requests'], 600)
            self.assertLess(small['process']['cpu_ns_per_request'],
                            0.5 * large['process']['cpu_ns_per_request'])

    def test_k22_anticipation_does_not_add_up(self):
        def stacked(guest, host, strategy, *args):
            return self.job('disk-pauses.fio', 'guest-queue=on,guest-depth=2,guest-elevator='
                            f'{guest},host-elevator={host}', *args, strategy=strategy)

        def below(guest, host, strategy):
            return self.job('disk-pauses.fio', 'guest-queue=on,guest-depth=1,guest-elevator='
                            f'{guest},host-elevator={host}', strategy=strategy)['total']['iops']
        no, yes = 'deadline', 'anticipatory'
        for strategy in 'callbacks', 'threadpool':
            nobody, guest, both = (below(g, h, strategy)
                                   for g, h in ((no, no), (yes, no), (yes, yes)))
            self.assertGreater(guest, 2.5 * nobody)
            self.assertGreater(both, 0.97 * guest)
        # The host knows who reads on only if each has a thread of his own.
        nobody, one, many = (stacked(no, h, s)['total']['iops'] for h, s in (
            (no, 'callbacks'), (yes, 'callbacks'), (yes, 'threadpool')))
        self.assertAlmostEqual(one, nobody, delta=0.01 * nobody)
        self.assertGreater(many, 2.5 * nobody)
        # For those who never come in time: waited for once in all, not twice.
        guest, host, both = (stacked(g, h, 'threadpool', '--thinktime=10ms')['read']['lat_ns']
                             ['max'] for g, h in ((yes, no), (no, yes), (yes, yes)))
        self.assertLess(both, max(guest, host) + 1 * MS)


if __name__ == '__main__':
    unittest.main()
