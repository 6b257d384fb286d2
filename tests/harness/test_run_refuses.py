#!/usr/bin/env python3
"""What is wrong is told, with exit status 2 for usage and 1 for failure, before anything
is touched. A full image is not written to unless that is allowed."""
import os
import unittest

from program import MODULE, OnImages, asyncow, digest

WRITES = ('write', 'randwrite', 'rw', 'randrw', 'trim', 'randtrim', 'trimwrite')


class Refuses(OnImages):
    def run_on(self, image, *args, status=0):
        return asyncow('run', '--image', image, '--strategy', MODULE, '--engine=sync', *args,
                       status=status)

    def test_writing_to_a_full_image_touches_nothing(self):
        before, stat = digest(self.full), os.stat(self.full)
        for rw in WRITES:
            for more in ([], ['--trials=2'], ['--strategy', f'{MODULE},{MODULE}:fail=0']):
                said = self.run_on(self.full, f'--rw={rw}', *more, status=1)
                self.assertIn('--allow-write', said.stderr)
                self.assertIn(self.full, said.stderr)
                self.assertEqual(said.stdout, '')
        self.assertEqual(digest(self.full), before)
        self.assertEqual(os.stat(self.full).st_mtime_ns, stat.st_mtime_ns)
        self.assertEqual(self.leftovers(), [])

    def test_a_later_job_that_writes_stops_the_first(self):
        job = self.write('two.fio', '[a]\nrw=read\n[b]\nrw=randwrite\n')
        said = asyncow('run', job, '--image', self.full, '--strategy', MODULE, status=1)
        self.assertIn('job b', said.stderr)
        self.assertEqual(said.stdout, '')

    def test_allow_write_writes(self):
        before = digest(self.full)
        self.run_on(self.full, '--rw=randwrite', '--allow-write')
        self.assertNotEqual(digest(self.full), before)

    def test_an_empty_image_needs_no_permission_once(self):
        self.run_on(self.empty, '--rw=write')
        self.run_on(self.empty, '--rw=write', status=1)

    def test_trials_and_copy_leave_the_image_alone(self):
        before = digest(self.full)
        for more in (['--copy'], ['--trials=2', '--allow-write'],
                     ['--strategy', f'{MODULE},{MODULE}:fail=0', '--allow-write']):
            self.run_on(self.full, '--rw=randwrite', *more)
        self.assertEqual(digest(self.full), before)
        self.assertEqual(self.leftovers(), [])

    def test_simulated_writes_are_writes(self):
        before = digest(self.full)
        asyncow('run', '--image', self.full, '--strategy', MODULE, '--engine=sim',
                '--rw=randwrite', status=1)
        self.assertEqual(digest(self.full), before)

    def test_usage_errors_exit_2_and_name_the_remedy(self):
        for args, words in (
                (['--iodeph=4'], ['iodeph', '`iodepth`']),
                (['--iodepth=0'], ['iodepth', 'range']),
                (['--bs'], ['bs', 'needs a value']),
                (['--numjobs=4'], ['numjobs', 'not supported']),
                (['--verify=md5'], ['verify', 'crc32c']),
                (['--time_based'], ['time_based', 'runtime']),
                (['--rw=reed'], ['reed', '`read`']),
                (['--output-format=xml'], ['output-format', 'json']),
                (['-x'], ['-x']),
                (['--engine=warp'], ['warp', 'sync, threads', 'and sim']),
                (['--engine=auto=best'], ['auto=best', 'sync, threads']),
                (['--engine=sync:speed=9'], ['sync', 'speed', 'none']),
                (['--engine=threads:pool=elastic,order=bound'], ['threads', 'order=fifo']),
                (['--engine=sim', '--sim-model=tape'], ['tape', 'lognormal']),
                (['--filter=delai:read=1ms'], ['delai', 'delay, throttle']),
                (['--filter=delay:reed=1ms'], ['delay', 'reed', 'flush']),
                (['--filter=record:fill=x'], ['record', 'fill', 'file=PATH']),
                (['--size=200%'], ['size', '200%', 'at most 100%']),
                (['--io_size=101%'], ['io_size', '101%']),
                (['--runtime=soon'], ['runtime', '500ms']),
                (['/no/such.fio'], ['/no/such.fio'])):
            said = self.run_on(self.full, *args, status=2)
            for word in words:
                self.assertIn(word, said.stderr)
            self.assertEqual(said.stdout, '')
        asyncow('run', '--strategy', MODULE, status=2)  # no image

    def test_unknown_commands_and_options(self):
        self.assertIn('`run`', asyncow('runn', status=2).stderr)
        asyncow(status=2)
        asyncow('engines', '--bogus', status=2)
        asyncow('strategies', '--bogus', status=2)

    def test_image_is_no_job_file(self):
        said = asyncow('run', self.full, status=2)
        self.assertIn('full.raw:1: not text', said.stderr)
        self.assertIn('--image', said.stderr)

    def test_help_everywhere(self):
        for command in ('run', 'strategies', 'engines'):
            self.assertIn('Usage: asyncow ' + command, asyncow(command, '--help').stdout)
            self.assertIn('Usage: asyncow ' + command, asyncow('help', command).stdout)
        for command in ('img', 'microbench', 'explore'):
            self.assertIn('Usage: asyncow ' + command, asyncow(command, '--help').stdout)
        self.assertIn('Commands:', asyncow('--help').stdout)

    def test_help_fits_and_says_defaults(self):
        text = asyncow('run', '--help').stdout
        self.assertEqual([line for line in text.splitlines() if len(line) > 88], [])
        for default in (r'--bs=SIZE .*\(4k\)', r'--grow=SIZE .*\(16m\)',
                        r'--vcpu-tick=TIME [^-]*\(100us\)', r'--invalidate [^-]*\(on\)'):
            self.assertRegex(text, default)
        self.assertRegex(asyncow('--version').stdout, r'^asyncow \d+\.\d+\.\d+')

    def test_writers_lock(self):
        said = self.run_on(self.full, '--rw=write', '--no-lock', '--allow-write', status=2)
        self.assertIn('only for reading', said.stderr)
        self.run_on(self.full, '--rw=write', '--no-lock', '--copy', '--number_ios=1')
        self.run_on(self.full, '--rw=read', '--no-lock', '--number_ios=1')

    def test_what_cannot_be_run_exits_1(self):
        self.told(1, (
            (['--image', self.path('none')], ['none']),
            (['--strategy', self.full], ['full.raw']),
            (['--strategy', os.environ['ASYNCOW_OLD_MODULE']], ['old_strategy', 'again']),
            (['--size=2m'], ['size', '1048576']),
            (['--cpus=999'], ['cpus'])))

    def test_strategies_that_do_not_exist_exit_2(self):
        self.told(2, (
            (['--strategy=corutines'], ['corutines']),
            (['--strategy=./no.so'], ['no.so']),
            (['--strategy', MODULE + ':speed=9'], ['speed', 'fail=0..']),
            (['--strategy', MODULE + ':fail=many'], ['many', 'fail', '0..'])))

    def told(self, status, cases):
        for args, words in cases:
            said = self.run_on(self.full, '--number_ios=1', *args, status=status)
            for word in words:
                self.assertIn(word, said.stderr)


if __name__ == '__main__':
    unittest.main()
