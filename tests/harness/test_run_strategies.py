#!/usr/bin/env python3
"""The four strategies on a qcow2 image, through the whole program: what each wrote is
there, all show the same disk, the image passes qemu-img check; in simulation the same
seed gives the same bytes."""
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from program import OnImages, asyncow, digest, run_json, strict_json

CLAIMS = pathlib.Path(__file__).parents[2] / 'docs' / 'claims.md'
FOUR = {'callbacks', 'coroutines', 'freeze-thaw', 'threadpool'}
ENGINES = [e['name'] for e in
           strict_json(asyncow('engines', '--output-format=json').stdout)
           if e['usable'] and e['kind'] in ('engine', 'choice')]


class Strategies(OnImages):
    def setUp(self):
        super().setUp()
        self.image = self.path('disk.qcow2')
        asyncow('img', 'create', '-q', '-f', 'qcow2', self.image, '16M')

    def test_all_four_are_found(self):
        listed = strict_json(asyncow('strategies', '--output-format=json').stdout)
        self.assertLessEqual(FOUR, {s['name'] for s in listed})
        for entry in listed:
            self.assertTrue(entry['summary'])

    def test_each_way_is_told_with_the_claims_it_serves(self):
        """A word that a setting may be and nobody explains, or the other way round."""
        claims = set(re.findall(r'\*\*(K\d+)\.', CLAIMS.read_text(encoding='utf-8')))
        text = asyncow('strategies').stdout
        for entry in strict_json(asyncow('strategies', '--output-format=json').stdout):
            if entry['name'] not in FOUR:
                continue
            words = {f'{s["name"]}={word}' for s in entry['settings']
                     for word in s['values'].split('|') if '..' not in word}
            told = [way['name'] for way in entry['ways']]
            self.assertEqual(set(told), words | {''}, entry['name'])
            self.assertEqual(len(told), len(set(told)), entry['name'])
            for way in entry['ways']:
                self.assertTrue(way['help'])
                self.assertLessEqual(set(way['claims'].split()), claims, way['name'])
                self.assertRegex(text, rf"(?m)^ +{way['name'] or 'as it comes'} .*"
                                       rf"{way['claims']} +{re.escape(way['help'])}$")

    def test_what_is_wrong_with_an_image_is_told(self):
        """File, entry and why, by each strategy."""
        asyncow('run', '--image', self.image, '--rw=write', '--size=1M', '--bs=64k')
        with open(self.image, 'r+b') as f:
            f.seek(40)
            f.seek(int.from_bytes(f.read(8), 'big'))
            table = int.from_bytes(f.read(8), 'big') & 0x00fffffffffffe00
            f.seek(table + 8 * 3)
            f.write((1 << 63 | 0x50200).to_bytes(8, 'big'))
        for strategy in sorted(FOUR):
            said = asyncow('run', '--image', self.image, '--strategy', strategy, '--rw=read',
                           '--size=1M', '--bs=64k', status=1).stderr
            self.assertIn(f'{self.image}: damaged metadata: L2 entry of guest offset 196608: '
                          'reserved bits are set', said)

    def test_all_write_the_same_disk_and_leave_the_image_alone(self):
        before = digest(self.image)
        for rw, more in (('randwrite', ['--bs=12k']), ('write:60k', ['--number_ios=200']),
                         ('randrw', ['--fsync=7', '--metadata-writes=through', '--number_ios=800'])):
            report = run_json('--image', self.image, '--strategy=all', '--trials=1',
                              f'--rw={rw}', '--iodepth=16', '--verify=crc32c',
                              '--verify-content', *more)
            self.assertEqual({j['strategy'] for j in report['jobs']} & FOUR, FOUR)
            self.assertEqual(len({j['content_crc32c'] for j in report['jobs']}), 1)
            for job in report['jobs']:
                self.assertEqual(job['verify']['bad'], 0)
                self.assertGreater(job['verify']['checked'], 100)
        self.assertEqual(digest(self.image), before)
        self.assertEqual(self.leftovers(), ['disk.qcow2'])

    @unittest.skipUnless(shutil.which('qemu-img'), 'no qemu-img')
    def test_each_on_each_engine_leaves_a_clean_image(self):
        for engine in ENGINES:
            for strategy in sorted(FOUR):
                image = self.path(f'{engine}-{strategy}.qcow2')
                shutil.copy(self.image, image)
                run_json('--image', image, '--strategy', strategy, '--engine', engine,
                         '--rw=randrw', '--iodepth=8', '--fsync=9', '--verify=crc32c',
                         '--number_ios=400')
                subprocess.run(['qemu-img', 'check', '-q', image], check=True, timeout=30)
                asyncow('run', '--image', image, '--strategy', strategy, '--rw=randwrite',
                        status=1)  # it holds data now
                os.unlink(image)

    @unittest.skipUnless(shutil.which('qemu-img'), 'no qemu-img')
    def test_a_vdi_image_is_found_out_and_run_by_the_wrapper(self):
        image = self.path('disk.vdi')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'vdi', image, '16M'], check=True)
        args = ('--image', image, '--rw=randwrite', '--iodepth=8', '--number_ios=400')
        report = run_json(*args, '--strategy=coroutines:lock=big', '--verify=crc32c')
        self.assertEqual(report['jobs'][0]['verify']['bad'], 0)
        subprocess.run(['qemu-img', 'check', '-q', image], check=True, timeout=30)
        held = asyncow('run', *args, '--strategy=coroutines:lock=big', status=1)
        self.assertIn('holds data', held.stderr)
        for strategy in sorted(FOUR):
            refused = asyncow('run', *args, '--allow-write', '--strategy', strategy, status=1)
            self.assertIn('vdi driver blocks', refused.stderr)

    def test_simulation_is_the_same_again(self):
        args = ('run', '--image', self.image, '--strategy=all', '--engine=sim', '--trials=2',
                '--rw=randrw', '--iodepth=8', '--fsync=5', '--no-manifest-host', '--stall',
                '--output-format=json+', '--number_ios=2000', '--sim-model=lognormal')
        one = asyncow(*args).stdout
        self.assertEqual(one, asyncow(*args).stdout)
        self.assertNotEqual(one, asyncow(*args, '--seed=2').stdout)

    @unittest.skipUnless(shutil.which('qemu-img'), 'no qemu-img')
    def test_snapshots_during_the_load(self):
        for strategy in sorted(FOUR):
            image = self.path('s.qcow2')
            shutil.copy(self.image, image)
            report = run_json('--image', image, '--strategy', strategy, '--rw=randwrite',
                              '--iodepth=8', '--verify=crc32c', '--snapshot-every=700',
                              '--grow=0')
            job = report['jobs'][0]
            made, gone = (job['snapshot'][k] for k in ('create', 'delete'))
            self.assertEqual(job['verify']['bad'], 0)
            self.assertGreaterEqual(made['total_ios'], 3)
            self.assertEqual(gone['total_ios'], made['total_ios'] - 2)
            self.assertGreater(made['lat_ns']['min'], 0)
            self.assertGreater(job['snapshot']['during']['total_ios'], 0)
            self.assertLess(job['snapshot']['during']['total_ios'], job['total']['total_ios'])
            subprocess.run(['qemu-img', 'check', '-q', image], check=True, timeout=30)
            listed = subprocess.run(['qemu-img', 'snapshot', '-l', image], check=True, timeout=30,
                                    capture_output=True, text=True).stdout
            last = made['total_ios'] - 1
            self.assertEqual([line.split()[1] for line in listed.splitlines()[2:]],
                             [f'asyncow-{last - 1}', f'asyncow-{last}'])
        asyncow('run', '--image', self.full, '--strategy=callbacks', '--rw=read',
                '--snapshot-every=10', status=1)  # it holds data: --allow-write


if __name__ == '__main__':
    unittest.main()
