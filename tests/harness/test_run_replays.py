#!/usr/bin/env python3
"""What the filter record wrote can be made again: the same requests in the same order, on the
machine and into the simulated disk, at the recorded times or as fast as it goes."""
import shutil
import unittest

from program import MODULE, OnImages, asyncow, run_json

COLUMNS = ('seq', 'arrival', 'submitted', 'done', 'op', 'kind', 'offset', 'len', 'result')


def record_of(path):
    """Its lines in the order of submission, as dictionaries."""
    with open(path, encoding='utf-8') as f:
        lines = [line.split() for line in f if not line.startswith('#')]
    lines = [dict(zip(COLUMNS, line)) for line in lines]
    assert all(len(line) == len(COLUMNS) for line in lines)
    return sorted(lines, key=lambda line: int(line['seq']))


def requests(path, order='seq'):
    lines = sorted(record_of(path), key=lambda line: int(line[order]))
    return [(line['op'], int(line['offset']), int(line['len'])) for line in lines]


class Replays(OnImages):
    def run_on(self, *args, image=None, status=0):
        return run_json('--image', image or self.full, '--strategy', MODULE, '--copy',
                        '--format=raw', *args,  # so that no probing is recorded
                        status=status)

    def record(self, name, *args, **more):
        path = self.path(name)
        self.run_on(f'--filter=record:file={path}', *args, **more)
        return path

    def test_the_same_requests_come_again(self):
        first = self.record('first', '--engine=io_uring', '--rw=randrw', '--iodepth=4',
                            '--bs=4k', '--size=256k', '--fsync=5')
        self.assertEqual({op for op, _, _ in requests(first)}, {'read', 'write', 'flush'})
        for engine in ('sync', 'io_uring', 'threads', 'sim'):
            again = self.record('again-' + engine, '--engine', engine, '--iodepth=4',
                                f'--read_iolog={first}', '--replay_no_stall=1')
            self.assertEqual(requests(again), requests(first), engine)

    def test_requests_have_their_own_sizes(self):
        log = self.write('log', '0 - 0 9 write data 0 512 0\n1 - 1 9 discard data 4096 8192 0\n'
                                '2 - 2 9 read data 1000 12345 0\n3 - 3 9 flush data 0 0 0\n')
        again = self.record('again', '--engine=sync', f'--read_iolog={log}')
        self.assertEqual(requests(again), requests(log))

    def test_the_order_of_arrival_can_be_asked_for(self):
        log = self.write('log', ''.join(
            f'{i} {8 - i} {i} 99 read data {i * 4096} 4096 0\n' for i in range(8)))
        for order in ('seq', 'arrival'):
            again = self.record('again-' + order, '--engine=sync', f'--read_iolog={log}',
                                '--replay_no_stall=1', f'--replay_order={order}')
            self.assertEqual(requests(again), requests(log, order))
        self.write('log', '0 - 0 9 read data 0 512 0\n')
        said = asyncow('run', '--image', self.full, '--strategy', MODULE, '--read_iolog', log,
                       '--replay_order=arrival', status=2)
        self.assertIn('replay_order=seq', said.stderr)

    def test_time_is_kept_to_the_nanosecond_where_it_is_virtual(self):
        times = (0, 5, 1000000, 1000000, 250000000, 250000100)
        log = self.write('log', ''.join(
            f'{i} - {7000 + t} 0 read data {i * 4096} 4096 0\n' for i, t in enumerate(times)))
        again = record_of(self.record('again', '--engine=sim', '--iodepth=4',
                                      f'--read_iolog={log}'))
        start = int(again[0]['submitted'])
        self.assertEqual(tuple(int(line['submitted']) - start for line in again), times)
        fast = record_of(self.record('fast', '--engine=sim', '--iodepth=4',
                                     f'--read_iolog={log}', '--replay_no_stall=1'))
        self.assertLess(int(fast[-1]['submitted']) - int(fast[0]['submitted']), 1000000)

    def test_a_late_request_waits_for_a_slot(self):
        log = self.write('log', ''.join(f'{i} - {i} 0 read data 0 4096 0\n' for i in range(20)))
        report = self.run_on('--engine=sim', '--sim-model=fixed:read=1ms', '--iodepth=2',
                             f'--read_iolog={log}')
        self.assertEqual(report['jobs'][0]['read']['total_ios'], 20)
        self.assertAlmostEqual(report['jobs'][0]['total']['runtime_ns'] / 1e6, 10, delta=0.5)

    def test_what_is_no_request_is_left_out(self):
        log = self.write('log', '# asyncow record 2: x\n0 - 0 9 read metadata 0 512 0\n'
                                '1 - 1 9 grow data 0 512 0\n2 - 2 9 read data 512 512 0\n')
        said = asyncow('run', '--image', self.full, '--strategy', MODULE, '--engine=sync',
                       '--read_iolog', log)
        self.assertIn('left out 2', said.stderr)
        self.assertIn('rw=iolog', said.stdout)

    def test_a_bad_record_is_told_with_its_line(self):
        good = '0 - 0 9 read data 0 512 0\n'
        for text, words in ((good + 'x\n', (':2', 'not a line')),
                            (good + '1 - 0 9 erase data 0 1 0\n', (':2', 'erase', 'discard')),
                            (good + '1 - 0 9 read data 0 0 0\n', (':2', '0 bytes')),
                            ('', ('no request',)),
                            ('# asyncow record 2: a\n' + good + '# asyncow record 2: b\n' + good,
                             (':3', 'another opening'))):
            said = asyncow('run', '--image', self.full, '--strategy', MODULE,
                           '--read_iolog', self.write('log', text), status=2)
            for word in words:
                self.assertIn(word, said.stderr)
        args = ('run', '--image', self.full, '--strategy', MODULE, '--engine=sync')
        log = self.write('log', '0 - 0 9 read data 1048576 512 0\n')
        self.assertIn('behind the end',
                      asyncow(*args, '--read_iolog', log, status=1).stderr)
        self.assertIn('none', asyncow(*args, '--read_iolog=none', status=2).stderr)
        log = self.write('log', good)
        self.assertIn('verify', asyncow(*args, '--read_iolog', log, '--verify=crc32c',
                                        status=2).stderr)

    def test_a_record_that_writes_needs_leave(self):
        log = self.write('log', '0 - 0 9 write data 0 512 0\n')
        kept = shutil.copy(self.full, self.path('kept'))
        said = asyncow('run', '--image', self.full, '--strategy', MODULE, '--engine=sync',
                       '--read_iolog', log, status=1)
        self.assertIn('--allow-write', said.stderr)
        with open(self.full, 'rb') as a, open(kept, 'rb') as b:
            self.assertEqual(a.read(), b.read())


if __name__ == '__main__':
    unittest.main()
