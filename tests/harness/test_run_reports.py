#!/usr/bin/env python3
"""Reports: valid JSON that adds up, text for people, the same seed the same bytes in
simulation, failures told with what failed."""
import os
import signal
import subprocess
import time
import unittest

from program import MODULE, PROGRAM, OnImages, asyncow, run_json, strict_json


class Reports(OnImages):
    def run_json(self, *args, image=None, engine='sync', status=0):
        return run_json('--image', image or self.full, '--strategy', MODULE,
                        f'--engine={engine}', *args, status=status)

    def test_numbers_add_up(self):
        report = self.run_json('--rw=randread', '--iodepth=4', '--percentile_list=50:99.99')
        job = report['jobs'][0]
        self.assertEqual(job['error'], 0)
        self.assertEqual(job['total']['total_ios'], 256)
        self.assertEqual(job['read']['total_ios'], 256)
        self.assertEqual(job['read']['io_bytes'], 1 << 20)
        self.assertEqual(job['write']['total_ios'], 0)
        lat = job['read']['lat_ns']
        self.assertEqual(lat['N'], 256)
        self.assertEqual(list(lat['percentile']), ['50.000000', '99.990000'])
        self.assertTrue(0 < lat['min'] <= lat['mean'] <= lat['max'])
        self.assertTrue(lat['min'] <= lat['percentile']['50.000000'] <= lat['max'])
        seconds = job['total']['runtime_ns'] / 1e9
        self.assertAlmostEqual(job['total']['iops'], 256 / seconds, delta=1)
        self.assertEqual(job['host_io']['reads'], 256)
        self.assertEqual(job['host_io']['ios_per_request'], 1)
        self.assertGreater(job['process']['rss_max_bytes'], 0)
        self.assertGreater(job['process']['spin_calibration_ns'], 0)
        self.assertIn('turn_ns', job['stall'])

    def test_manifest_says_what_ran(self):
        manifest = self.run_json('--rw=read', '--seed=7')['manifest']
        self.assertEqual(manifest['seed'], 7)
        self.assertIn('kernel', manifest['machine'])
        self.assertIn('asyncow', manifest['versions'])
        job = manifest['jobs'][0]
        self.assertEqual(job['options']['rw'], 'read')
        self.assertEqual(job['options']['engine'], 'sync')
        self.assertEqual(job['image']['format'], 'raw')
        self.assertEqual(job['image']['virtual-size'], 1 << 20)

    def test_fsync_and_mix(self):
        job = self.run_json('--rw=write', '--fsync=16', '--end_fsync',
                            image=self.empty)['jobs'][0]
        self.assertEqual(job['write']['total_ios'], 256)
        self.assertEqual(job['sync']['total_ios'], 17)
        self.assertEqual(job['host_io']['flushes'], 17)
        job = self.run_json('--rw=randrw', '--rwmixread=25', '--copy', '--loops=4')['jobs'][0]
        self.assertEqual(job['total']['total_ios'], 1024)
        self.assertTrue(180 < job['read']['total_ios'] < 340)

    def test_amounts(self):
        for args, ios in ((['--number_ios=10'], 10), (['--size=50%'], 128),
                          (['--io_size=3m'], 768), (['--bs=64k'], 16),
                          (['--offset=1020k'], 1), (['--rw=read:4k', '--io_size=40k'], 10)):
            job = self.run_json('--rw=read', *args)['jobs'][0]
            self.assertEqual(job['total']['total_ios'], ios, args)

    def test_runtime_and_ramp(self):
        # In virtual time: each read takes 80 us, one after the other.
        job = self.run_json('--rw=randread', '--time_based', '--runtime=200ms',
                            '--ramp_time=200ms', engine='sim')['jobs'][0]
        self.assertEqual(job['total']['runtime_ns'], 200000000)
        self.assertEqual(job['total']['total_ios'], 2500)

    def test_several_strategies(self):
        report = run_json('--image', self.full, '--strategy',
                          f'{MODULE},{MODULE}:fail=0,corrupt=0', '--engine=sync',
                          '--rw=randread', '--trials=3', '--stall')
        self.assertEqual(len(report['jobs']), 8)
        self.assertEqual(sum(bool(j.get('heartbeat')) for j in report['jobs']), 2)
        for job in report['jobs']:
            if job.get('heartbeat'):
                self.assertGreater(job['stall']['idle_late_ns']['N'], 100)
        rounds = {}
        for job in report['jobs']:
            if not job.get('heartbeat'):
                rounds.setdefault(job['round'], set()).add(job['seed'])
        self.assertEqual([len(rounds[r]) for r in range(3)], [1, 1, 1])  # the same requests
        self.assertEqual(len(set.union(*rounds.values())), 3)
        summary = report['summary'][0]
        self.assertEqual(len(summary['strategies']), 2)
        iops = summary['strategies'][0]['metrics']['total/iops']
        self.assertTrue(iops['interval'][0] <= iops['median'] <= iops['interval'][1])
        self.assertEqual([c['metric'] for c in summary['comparison']][0], 'total/iops')

    def test_text(self):
        text = asyncow('run', '--image', self.full, '--strategy', f'{MODULE},{MODULE}:fail=0',
                       '--engine=sync', '--rw=randread', '--trials=3').stdout
        for word in ('IOPS', 'p99.99', '95 % interval', 'stall', 'RSS', 'host I/Os', 'IOPS: '):
            self.assertIn(word, text)
        for table in text.split('\n\n')[2:5]:  # aligned: all lines of a table alike
            self.assertEqual(len({len(line) for line in table.splitlines()}), 1, table)

    def test_output_file_and_histograms(self):
        path = self.path('report.json')
        done = asyncow('run', '--image', self.full, '--strategy', MODULE, '--rw=read',
                       '--engine=sync', '--output-format=json+', '--output', path)
        self.assertEqual(done.stdout, '')
        with open(path, encoding='utf-8') as f:
            bins = strict_json(f.read())['jobs'][0]['read']['lat_ns']['bins']
        self.assertEqual(sum(bins.values()), 256)

    def test_jobs_run_one_after_the_other(self):
        job = self.write('jobs.fio', '[global]\nioengine=psync\n[w]\nrw=write\nverify=crc32c\n'
                         'do_verify=0\n[r]\nrw=randread\nverify=crc32c\n')
        report = run_json(job, '--image', self.empty, '--strategy', MODULE)
        self.assertEqual([j['jobname'] for j in report['jobs']], ['w', 'r'])
        self.assertEqual(report['jobs'][1]['verify'],
                         {'checked': 256, 'bad': 0, 'unchecked': 0})

    def test_verify(self):
        for rw in ('write', 'randwrite', 'randrw', 'randtrimwrite'):
            job = self.run_json(f'--rw={rw}', '--verify=crc32c', '--iodepth=8', '--copy',
                                image=self.empty)['jobs'][0]
            self.assertEqual(job['verify']['bad'], 0)
            self.assertGreater(job['verify']['checked'] + job['verify']['unchecked'], 100)
        self.run_json('--rw=randwrite', '--verify=crc32c', '--randseed=5', image=self.empty)
        again = ('--rw=randwrite', '--verify=crc32c', '--verify_only')
        self.run_json(*again, '--randseed=5', image=self.empty)
        self.run_json(*again, '--randseed=6', image=self.empty, status=1)

    def test_a_wrong_byte_fails_the_run(self):
        report = run_json('--image', self.empty, '--strategy', MODULE + ':corrupt=9',
                          '--engine=sync', '--rw=randwrite', '--verify=crc32c', status=1)
        self.assertEqual(report['jobs'][0]['verify']['bad'], 1)
        self.assertIn('crc32c', report['error'])

    def test_a_failed_request_fails_the_run(self):
        report = run_json('--image', self.full, '--strategy', MODULE + ':fail=9',
                          '--engine=sync', '--rw=read', status=1)
        self.assertIn('offset 32768', report['error'])
        self.assertEqual(report['jobs'][0]['error'], 5)
        self.assertEqual(report['jobs'][0]['total']['total_ios'], 8)

    def test_the_choice_of_engine_is_told(self):
        for asked in ('auto', 'auto=recipe'):
            done = asyncow('run', '--image', self.full, '--strategy', MODULE, '--rw=read',
                           '--engine', asked, '--output-format=json')
            report = strict_json(done.stdout)
            choice = report['manifest']['jobs'][0]['engine_choice']
            self.assertEqual(choice['asked'], asked)
            self.assertEqual(choice['engine'], report['jobs'][0]['engine'])
            self.assertIn(choice['reason'], done.stderr)

    def test_filters(self):
        report = run_json('--image', self.full, '--strategy', MODULE, '--engine=sync',
                          '--rw=read', '--filter=fault:op=read,n=20,error=ENOSPC', status=1)
        self.assertIn('No space left', report['error'])
        job = self.run_json('--rw=randread', '--number_ios=20', '--filter=delay:read=2ms')
        self.assertGreater(job['jobs'][0]['read']['lat_ns']['min'], 1.9e6)
        delay = job['jobs'][0]['host_delay']
        self.assertEqual((delay['ios'], delay['asked_ns']), (20, 20 * 2000000))
        self.assertGreaterEqual(delay['realised_ns'], delay['asked_ns'])
        said = asyncow('run', '--image', self.full, '--strategy', MODULE, '--engine=sync',
                       '--rw=randread', '--number_ios=20', '--filter=delay:read=2ms').stdout
        self.assertRegex(said, r'delayed 20 I/Os: 2000\.0 us asked for, \d+\.\d us realised')

    def test_the_engine_and_why_it_was_chosen_are_told(self):
        args = ('run', '--image', self.full, '--strategy', MODULE, '--rw=randread',
                '--number_ios=20')
        self.assertRegex(asyncow(*args).stdout, r'engine: auto chose \w+: \w+')
        self.assertRegex(asyncow(*args, '--engine=auto=recipe').stdout,
                         r'engine: auto=recipe chose posix-aio: step 1')
        said = asyncow(*args, '--engine=threads:order=bound').stdout
        self.assertIn('engine=threads:order=bound', said)
        self.assertNotIn('chose', said)

    def test_a_strategy_that_dies_is_told_and_the_copy_removed(self):
        report = run_json('--image', self.full, '--strategy', MODULE + ':crash=9', '--copy',
                          '--engine=sync', '--rw=write', status=1)
        self.assertIn('Aborted', report['error'])
        self.assertEqual(self.leftovers(), [])

    def test_content_agrees_between_strategies(self):
        report = run_json('--image', self.empty, '--strategy', f'{MODULE},{MODULE}:fail=0',
                          '--rw=randwrite', '--iodepth=16', '--trials=1', '--verify-content')
        self.assertEqual(len({j['content_crc32c'] for j in report['jobs']}), 1)
        report = run_json('--image', self.empty, '--strategy', f'{MODULE},{MODULE}:corrupt=3',
                          '--rw=randwrite', '--trials=1', '--verify-content', status=1)
        self.assertIn('contents', report['error'])

    def test_simulation_is_the_same_again(self):
        args = ('run', '--image', self.full, '--strategy', MODULE, '--engine=sim',
                '--rw=randrw', '--iodepth=8', '--fsync=5', '--no-manifest-host', '--copy',
                '--output-format=json+', '--loops=3', '--stall', '--trials=2')
        one, two = asyncow(*args).stdout, asyncow(*args).stdout
        self.assertEqual(one, two)
        self.assertGreater(strict_json(one)['jobs'][0]['total']['iops'], 0)
        self.assertNotEqual(one, asyncow(*args, '--seed=2').stdout)

    def test_no_fork_measures_the_same_things(self):
        job = self.run_json('--rw=randread', '--no-fork')['jobs'][0]
        self.assertEqual(job['total']['total_ios'], 256)

    def test_interrupted_reports_and_cleans_up(self):
        child = subprocess.Popen(
            [PROGRAM, 'run', '--image', self.full, '--strategy', MODULE, '--rw=randwrite',
             '--engine=sync', '--copy', '--time_based', '--runtime=30', '--trials=2',
             '--output-format=json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 1)
        self.assertTrue(strict_json(out)['interrupted'])
        self.assertEqual(self.leftovers(), [])

    def test_told_to_stop_more_than_once(self):
        """timeout(1) tells its child, then the whole group: the trial hears it thrice."""
        child = subprocess.Popen(
            [PROGRAM, 'run', '--image', self.full, '--strategy', MODULE, '--rw=randwrite',
             '--engine=sync', '--copy', '--time_based', '--runtime=30', '--no-manifest-host',
             '--output-format=json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True)
        time.sleep(1)
        for _ in range(3):
            os.killpg(child.pid, signal.SIGTERM)
            time.sleep(0.01)
        out, errors = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 1)
        self.assertNotIn('killed', errors)
        self.assertGreater(strict_json(out)['jobs'][0]['total']['total_ios'], 0)
        self.assertEqual(self.leftovers(), [])

    def test_listings(self):
        engines = strict_json(asyncow('engines', '--output-format=json').stdout)
        self.assertIn('sync', [e['name'] for e in engines if e['usable']])
        by_name = {e['name']: e for e in engines if e['kind'] == 'engine'}
        self.assertEqual(by_name['threads']['helped'], [])
        self.assertEqual(by_name['posix-aio']['helped'], ['discard', 'zero', 'grow'])
        self.assertEqual([e for e in by_name if not by_name[e]['cancels']],
                         ['sync', 'linux-aio'])
        ring = by_name['io_uring']
        if ring['usable']:
            self.assertEqual({f['setting'].split('=')[0] for f in ring['features']},
                             {s['name'] for s in ring['settings']})
            for feature in ring['features']:
                self.assertEqual(feature['usable'], not feature['reason'])
        path = os.path.dirname(MODULE)
        listed = strict_json(asyncow('strategies', '--output-format=json', MODULE).stdout)
        self.assertEqual(listed[0]['settings'][0]['name'], 'fail')
        found = asyncow('strategies', env={**os.environ, 'ASYNCOW_STRATEGY_PATH': path},
                        status=1)  # there is one too old beside it
        self.assertIn('null', found.stdout)
        self.assertIn('old_strategy', found.stderr)

    def test_engines_are_tried_on_the_file(self):
        def usable(*args):
            listed = strict_json(asyncow('engines', '--output-format=json', *args).stdout)
            return {e['name']: (e['usable'], e['reason']) for e in listed
                    if e['kind'] in ('engine', 'choice') and e['name'] != 'sim'}

        for name, (good, reason) in usable(self.full).items():
            self.assertTrue(good, (name, reason))
        self.assertIn('blocks in io_submit', usable(self.full)['linux-aio'][1])
        for args, word in ((['--direct', '/proc/self/status'], 'O_DIRECT'),
                           ([os.path.dirname(self.full)], 'regular file')):
            for name, (good, reason) in usable(*args).items():
                self.assertFalse(good, name)
                self.assertIn(word, reason)

    def test_what_the_kernel_forbids_is_listed(self):
        # Root may lock as much as it likes.
        user = 65534 if os.geteuid() == 0 else None
        try:
            subprocess.run([PROGRAM, '--version'], user=user, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest('nobody but root can run the program here')
        said = subprocess.run(['sh', '-c', 'ulimit -l 0; exec "$0" engines '
                               '--output-format=json', PROGRAM], capture_output=True,
                              text=True, check=True, user=user)
        ring = [e for e in strict_json(said.stdout) if e['name'] == 'io_uring'][0]
        if ring['usable']:
            buffers = [f for f in ring['features'] if f['setting'] == 'buffers=registered'][0]
            self.assertFalse(buffers['usable'])
            self.assertIn('ulimit -l', buffers['reason'])


if __name__ == '__main__':
    unittest.main()
