#!/usr/bin/env python3
"""A run in a simulated world gives the reports of a real one, to the byte the same each time:
on every model that is shipped, with what steps cost the CPU; elevators in guest and host; and
what is wrong in a model's file is told with its line."""
import pathlib
import unittest

from program import MODULE, OnImages, asyncow, run_json

ROOT = pathlib.Path(__file__).parents[2]
MODELS = sorted((ROOT / 'models').glob('*.model'))
MS, US = 1000000, 1000


class Models(OnImages):
    def run_on(self, model, *args, image=None, strategy=MODULE, **more):
        return run_json('--image', image or self.full, '--strategy', strategy, '--copy',
                        '--format=raw', '--engine=sim', f'--sim-model={model}', '--trials=1',
                        *args, **more)

    def job(self, *args, **more):
        return self.run_on(*args, **more)['jobs'][0]

    def test_the_same_bytes_each_time_and_all_that_a_report_has(self):
        self.assertGreaterEqual(len(MODELS), 3)
        for model in MODELS:
            for strategy in 'callbacks', 'threadpool':
                args = ('run', '--image', self.full, '--copy', '--format=raw', '--engine=sim',
                        f'--sim-model={model}:guest-queue=on,guest-depth=4', '--rw=randrw',
                        '--iodepth=8', '--number_ios=200', '--fsync=20', '--strategy', strategy,
                        '--no-manifest-host', '--norandommap', '--stall', '--output-format=json+')
                one, two = (asyncow(*args).stdout for _ in range(2))
                self.assertEqual(one, two, (model, strategy))
            job = self.job(model, '--rw=randread', '--iodepth=4', '--no-manifest-host',
                           strategy='callbacks')
            self.assertGreater(job['process']['cpu_ns_per_request'], 500)
            self.assertGreater(job['process']['iops_per_cpu_second'], 1000)
            self.assertGreater(job['stall']['turn_ns']['percentile']['99.000000'], 0)
            self.assertGreater(job['read']['lat_ns']['percentile']['99.900000'], 0)

    def test_the_manifest_holds_the_whole_model(self):
        model = self.write('own.model', 'model = lognormal\nread = 1.5ms # slow\n')
        report = self.run_on(f'{model}:channels=3')
        told = report['manifest']['jobs'][0]['sim_model']
        self.assertEqual((told['model'], told['read'], told['channels'], told['write']),
                         ('lognormal', '1500us', '3', '20us'))
        again = ','.join(f'{k}={v}' for k, v in told.items() if k != 'model')
        self.assertEqual(self.job(f'{told["model"]}:{again}')['read'], report['jobs'][0]['read'])

    def test_steps_cost_what_they_are_said_to(self):
        cost = {'request': 1, 'turn': 10, 'batch': 100, 'submit': 1000, 'complete': 10000,
                'coroutine': 7, 'lock': 13, 'wake': 17, 'handover': 100000}
        costs = ','.join(f'cpu-{name}={ns}ns' for name, ns in cost.items())
        for strategy in 'callbacks', 'coroutines', 'threadpool', 'freeze-thaw':
            job = self.job('fixed:read=1ms,' + costs, '--rw=randread', '--number_ios=100',
                           '--iodepth=4', '--no-manifest-host', strategy=strategy)
            steps, reads = job['process']['steps'], job['read']['total_ios']
            total = sum(cost[name] * n for name, n in steps.items())
            self.assertAlmostEqual(job['process']['cpu_ns_per_request'], total / reads, 3)
            self.assertAlmostEqual(job['process']['iops_per_cpu_second'], reads / total * 1e9, 1)
            self.assertGreaterEqual(steps['submit'], 96)  # four began before it was measured
            self.assertEqual(steps['coroutine'] > 0, strategy in ('coroutines', 'freeze-thaw'))
            self.assertEqual(steps['lock'] > 0, strategy == 'threadpool')

    def test_a_turn_lasts_as_long_as_what_it_does(self):
        job = self.job('fixed:read=1ms,cpu-turn=3us,cpu-complete=40us', '--rw=randread',
                       '--number_ios=50', strategy='callbacks')
        self.assertEqual(job['stall']['turn_ns']['max'], 43 * US)
        self.assertEqual(job['read']['lat_ns']['min'], 1043 * US)
        self.assertEqual(job['read']['lat_ns']['max'], 1043 * US)

    def test_a_pool_uses_a_second_cpu(self):
        def iops(strategy, cpus):
            return self.job(f'fixed:read=10us,cpu-complete=200us,cpus={cpus}', '--rw=randread',
                            '--iodepth=8', '--time_based', '--runtime=40ms',
                            strategy=strategy)['total']['iops']
        self.assertAlmostEqual(iops('callbacks', 1), 5000, delta=300)
        self.assertAlmostEqual(iops('callbacks', 4), 5000, delta=300)
        one, four = iops('threadpool:workers=8', 1), iops('threadpool:workers=8', 4)
        self.assertAlmostEqual(one, 5000, delta=300)
        self.assertGreater(four, 3.5 * one)

    def test_the_guests_elevator_sorts_and_merges(self):
        """What reaches the file: the order, by the record."""
        def arrived(settings, *args):
            trace = self.path('trace')
            pathlib.Path(trace).unlink(missing_ok=True)
            job = self.job(f'fixed:read=1ms,guest-queue=on,{settings}',
                           f'--filter=record:file={trace}', *args)
            with open(trace, encoding='utf-8') as f:
                lines = [line.split() for line in f if line[0] != '#']
            return job, [(int(w[6]), int(w[7])) for w in sorted(lines, key=lambda w: int(w[0]))]
        log = self.write('log', ''.join(f'{i} - 0 0 read data {at * 4096} 4096 0\n'
                                        for i, at in enumerate((50, 9, 3, 7, 8, 20))))
        replay = (f'--read_iolog={log}', '--iodepth=6', '--replay_no_stall=1')
        for elevator, order in (('noop', [(50, 1), (9, 1), (3, 1), (7, 1), (8, 1), (20, 1)]),
                                ('deadline', [(50, 1), (3, 1), (7, 1), (8, 1), (9, 1), (20, 1)])):
            _, found = arrived(f'guest-elevator={elevator},guest-merge=0', *replay)
            self.assertEqual(found, [(at * 4096, n * 4096) for at, n in order])
        job, found = arrived('guest-elevator=noop', *replay)
        self.assertEqual(found, [(at * 4096, n * 4096) for at, n in
                                 ((50, 1), (7, 3), (3, 1), (20, 1))])
        self.assertEqual((job['guest_queue']['requests'], job['guest_queue']['merged']), (4, 2))
        self.assertEqual(job['read']['total_ios'], 6)
        self.assertEqual(job['read']['io_bytes'], 6 * 4096)

    def test_what_goes_through_the_guests_elevator_is_right(self):
        for elevator in 'noop', 'deadline', 'anticipatory':
            job = self.job(f'disk:guest-queue=on,guest-elevator={elevator},guest-depth=2',
                           '--rw=randwrite', '--iodepth=16', '--verify=crc32c', '--fsync=9',
                           '--bs=8k', strategy='callbacks')
            self.assertEqual(job['verify'], {'checked': 128, 'bad': 0, 'unchecked': 0})

    def test_streams_and_thinktime(self):
        trace = self.path('trace')
        job = self.job('fixed:read=1ms', '--rw=read', '--streams=2', '--iodepth=4',
                       '--number_ios=24', '--thinktime=2ms', f'--filter=record:file={trace}')
        self.assertEqual(job['total']['runtime_ns'], 16 * MS)  # six rounds, five pauses
        with open(trace, encoding='utf-8') as f:
            blocks = sorted(int(line.split()[6]) // 4096 for line in f if line[0] != '#')
        self.assertEqual(blocks, [*range(12), *range(128, 140)])

    def test_what_is_wrong_is_told(self):
        model = self.write('bad.model', 'model = disk\n\nrpm = fast\n')
        said = asyncow('run', '--image', self.full, '--strategy', MODULE, '--engine=sim',
                       f'--sim-model={model}', status=2)
        for word in f'{model}:3', 'rpm', '`fast`', '60..100000':
            self.assertIn(word, said.stderr)
        for args, word in ((['--streams=4', '--rw=read', '--iodepth=2'], 'iodepth'),
                           (['--streams=2', '--rw=randread', '--iodepth=2'], 'sequential'),
                           (['--sim-model=fixed:guest-queue=on', '--iodepth=2000'], '1024')):
            said = asyncow('run', '--image', self.full, '--strategy', MODULE, '--engine=sim',
                           *args, status=1 if '1024' == word else 2)
            self.assertIn(word, said.stderr)

    def test_models_are_listed(self):
        text = asyncow('engines').stdout
        for word in ('lognormal', 'seek-average=', 'host-elevator=noop|deadline|anticipatory',
                     'guest-queue=off|on', 'cpu-coroutine='):
            self.assertIn(word, text)


if __name__ == '__main__':
    unittest.main()
