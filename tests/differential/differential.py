#!/usr/bin/env python3
"""Every way to have an image, under every strategy: random requests against a model.

The ways are a covering array over the axes below: each value, and each pair of values of
two axes, occurs. For each combination QEMU makes the image, test_differential works on it
(twice, closed and opened in between), and then QEMU must find it sound and read what the
model says, in its snapshots too. Over the whole suite each rare path must have been taken.

--iothreads N: on N event loops more, whose threads all start and end requests.

--ways: the same for the settings of strategies that are not among these, over fewer kinds
of image.

ASYNCOW_SEED repeats a run; --only axis=value,... runs only combinations with those values;
--cell N runs one. Modules are looked for in ASYNCOW_STRATEGY_PATH, else beside the
program's build.
"""
import argparse
import concurrent.futures
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cover
import images
import ways

K, M = 1024, 1024 * 1024
AXES = {
    'version': [2, 3],
    'cluster': [512 << i for i in range(13)],
    'refcount': [1, 2, 4, 8, 16, 32, 64],
    'backing': ['none', 'raw', 'qcow2-smaller', 'qcow2-larger'],
    'content': ['empty', 'data', 'deflate', 'zstd', 'snapshot'],
    'strategy': ['callbacks', 'coroutines:hold=none', 'coroutines:hold=metadata',
                 'threadpool:hold=none', 'threadpool:hold=metadata', 'freeze-thaw'],
    'engine': ['sync', 'threads', 'linux-aio', 'io_uring', 'sim'],
    'metadata': ['back', 'through'],
    'direct': [0, 1],
    'grow': [0, 1],
    'unaligned': [0, 1],
    'slow': ['none', 'reads', 'writes'],
}
# A setting changes who waits for whom; what an image can be matters where it is slow, or
# makes a request long.
OF_WAYS = AXES | {'version': [3], 'cluster': [512, 4 * K, 64 * K], 'refcount': [16],
                  'strategy': ways.WAYS, 'engine': ['sim', 'io_uring']}
# What finishes late is overtaken: a flush and a reuse by a read, a discard by a rewrite.
SLOW = {'none': '', 'reads': 'delay:data-read=lognormal(20us,2)',
        'writes': 'delay:data-write=lognormal(20us,2),metadata-write=lognormal(5us,1)'}
ONE_LOOP = ('callbacks', 'freeze-thaw')
RARE = ['overlap_waits', 'slice_waits', 'evictions', 'dirty_evictions', 'new_refblocks',
        'table_moves', 'new_l2', 'l2_copies', 'limbo_reuse', 'punches', 'cow_zero',
        'cow_shared', 'cow_backing', 'cow_compressed', 'zero_skipped', 'grows',
        'grow_waits', 'discards', 'discard_under_io', 'sync_joins', 'shadow_copies', 'aborts']


def allowed(row):
    """What the format cannot: version 2 has 16-bit refcounts and deflate only, and one
    bit can't count a cluster that two share."""
    if row.get('version') == 2 and (row.get('refcount', 16) != 16 or row.get('content') == 'zstd'):
        return False
    return not (row.get('refcount') == 1 and row.get('content') == 'snapshot')


def raw_cells(axes):
    """A raw image has no axes but these; each strategy with an engine, and in turn."""
    for i, strategy in enumerate(axes['strategy']):
        yield {'version': 'raw', 'cluster': 512, 'refcount': 0, 'backing': 'none',
               'content': 'data', 'strategy': strategy,
               'engine': axes['engine'][i % len(axes['engine'])], 'metadata': 'back',
               'direct': i % 2, 'grow': 0, 'unaligned': i // 2 % 2,
               'slow': list(SLOW)[i % 3]}


def disk_size(cell, rng):
    """Small where clusters are small; never whole clusters at the end."""
    cluster = cell['cluster']
    if cluster <= 64 * K:
        size = 6 * M
    else:
        size = max(8 * M, 12 * cluster)
    return size + 512 * rng.randint(1, max(1, cluster // 512 - 1))


def make_backing(cell, base, size, seed):
    kind = cell['backing']
    if kind == 'raw':
        images.pattern(base, size * 3 // 4 // 512 * 512 + 512, seed)
        return 'raw'
    part = size // 2 if kind == 'qcow2-smaller' else size + M
    images.pattern(base + '.raw', part // 512 * 512, seed)
    images.run('qemu-img', 'convert', '-q', '-f', 'raw', '-O', 'qcow2', '-o',
               'cluster_size=16384', base + '.raw', base)
    return 'qcow2'


def make_image(cell, directory, size, seed):
    """Returns the image's path. Content is written by QEMU."""
    rng = random.Random(seed)
    image, data = os.path.join(directory, 'i.img'), os.path.join(directory, 'pattern')
    if cell['version'] == 'raw':
        images.pattern(image, size, seed)
        return image
    options = [f"cluster_size={cell['cluster']}"]
    if cell['version'] == 2:
        options.append('compat=0.10')
    else:
        options.append(f"refcount_bits={cell['refcount']}")
    if cell['content'] == 'zstd':
        options.append('compression_type=zstd')
    if cell['backing'] != 'none':
        fmt = make_backing(cell, os.path.join(directory, 'base'), size, seed)
        options += ['backing_file=base', f'backing_fmt={fmt}']
    images.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', ','.join(options), image, size)
    content, cluster = cell['content'], cell['cluster']
    if content == 'empty':
        return image
    images.pattern(data, 1 * M, seed + 1)
    step = max(cluster, 64 * K)
    commands = []
    for i in range(6):
        at = rng.randint(0, (size - 2 * step) // step) * step
        compress = '-c ' if content in ('deflate', 'zstd') else ''
        commands.append(f'write {compress}-s {data} {at} {step}')
        if compress:
            continue
        commands.append(f'write -z {at // 2 // step * step} {step}')
        if content == 'snapshot' and i == 3:
            images.qemu_io(image, *commands)
            images.run('qemu-img', 'snapshot', '-c', 'one', image)
            commands = []
    if content in ('deflate', 'zstd'): # not twice at one place: -c wants it free
        commands = list({c.split()[-2]: c for c in commands}.values())
        commands.append(f'write -z {(size - 1) // step * step} 512')
    images.qemu_io(image, *commands)
    return image


def program_args(cell, options, image, directory, seed):
    strategy, _, settings = cell['strategy'].partition(':')
    size = os.path.getsize(os.path.join(directory, 'model.raw'))
    fill = cell['cluster'] <= K and cell['version'] != 'raw'
    ops = options.ops * (4 if fill else 1)
    if size > 16 * M:
        ops = max(40, ops // 2)
    if not directory.startswith('/dev/shm') and cell['metadata'] == 'through':
        ops = max(40, ops // 8) # each waits for the disk a few times
    return [options.program, f'image={image}', f'model={directory}/model.raw',
            f'expect={directory}/expect.raw', f'strategy={strategy}',
            f'settings={settings}', f"engine={cell['engine']}",
            f"through={int(cell['metadata'] == 'through')}", f"direct={cell['direct']}",
            f"grow={cell['grow'] * 4 * M}", f"unaligned={cell['unaligned']}",
            f"filters={SLOW[cell['slow']]}", f'fill={int(fill)}', f'ops={ops}', f'seed={seed}',
            f'iothreads={options.iothreads}']


def verify(cell, image, directory, rng):
    if cell['version'] == 'raw':
        images.must_be_same(f'{directory}/expect.raw', image, 'the raw file')
        return
    images.check(image)
    images.raw_of(image, f'{directory}/qemu.raw')
    images.must_be_same(f'{directory}/expect.raw', f'{directory}/qemu.raw', 'QEMU reads')
    images.sample(image, f'{directory}/expect.raw', rng, 1)
    if cell['content'] == 'snapshot':
        images.raw_of(image, f'{directory}/qemu.raw', 'one')
        images.must_be_same(f'{directory}/one.raw', f'{directory}/qemu.raw', 'its snapshot')


def run_cell(cell, number, options):
    """Returns the core's counters. What failed stays in its directory."""
    seed = (options.seed * 1000003 + number) % (1 << 63)
    rng = random.Random(seed)
    # Not where tables must be filled: that takes many requests.
    on_disk = options.disk and number % options.disk == 0 and cell['cluster'] > K
    directory = images.scratch(disk=on_disk)
    try:
        size = disk_size(cell, rng)
        image = make_image(cell, directory, size, seed)
        images.raw_of(image, f'{directory}/model.raw',
                      fmt='raw' if cell['version'] == 'raw' else 'qcow2')
        if cell['content'] == 'snapshot':
            images.raw_of(image, f'{directory}/one.raw', 'one')
        args = program_args(cell, options, image, directory, seed)
        if options.keep:
            images.run('cp', image, image + '.before')
            print(f"  {' '.join(args)}")
        out = images.run(*args)
        verify(cell, image, directory, rng)
    except images.Failed as error:
        if not options.keep:
            images.remove(directory)
        raise images.Failed(f'{error}\n  to repeat: ASYNCOW_SEED={options.seed} '
                            f'{sys.argv[0]} --cell {number} --keep\n'
                            f'  {cell}\n  in {directory}') from None
    if not options.keep:
        images.remove(directory)
    return json.loads(out[out.rindex('stats {') + 6:])


def choose(options):
    """(number, cell) of all that is to run. Numbers don't depend on what is left out."""
    axes = OF_WAYS if options.ways else AXES
    rows, impossible = cover.cover(axes, allowed, options.seed)
    if [p for p in impossible if allowed(dict(p))]:
        raise SystemExit(f'pairs not covered: {impossible}')
    cells = list(enumerate([*rows, *raw_cells(axes)]))
    if options.iothreads:
        cells = [(n, c) for n, c in cells if not c['strategy'].startswith(ONE_LOOP) and
                 'fastpath=on' not in c['strategy'] and
                 # simulated threads are coroutines: too late for another back end
                 ('backend=' not in c['strategy'] or c['engine'] != 'sim')]
        random.Random(options.seed).shuffle(cells) # so that the first few are of all sorts
    for only in options.only:
        wanted = [w.partition('=') for w in only.split(',')]
        cells = [(n, c) for n, c in cells
                 if any(str(c[axis]).startswith(value) for axis, _, value in wanted)]
    if options.cell is not None:
        cells = [(n, c) for n, c in cells if n == options.cell]
    return cells[:options.most]


def run_all(cells, options):
    totals, failed, slow = {}, 0, []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        def timed(cell, n):
            began = time.monotonic()
            stats = run_cell(cell, n, options)
            return stats, time.monotonic() - began
        waiting = {pool.submit(timed, c, n): (n, c) for n, c in cells}
        for future in concurrent.futures.as_completed(waiting):
            number, cell = waiting[future]
            try:
                stats, seconds = future.result()
            except images.Failed as error:
                failed += 1
                print(f'FAILED cell {number}: {error}', flush=True)
                continue
            slow.append((seconds, number, cell))
            for name, count in stats.items():
                totals[name] = totals.get(name, 0) + count
    for seconds, number, cell in sorted(slow, key=lambda s: -s[0])[:3]:
        print(f'  {seconds:.1f} s: cell {number} {cell}')
    return totals, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--program', required=True, help='test_differential')
    parser.add_argument('--ops', type=int, default=200, help='requests each time it is open')
    parser.add_argument('--ways', action='store_true', help='the settings of ways.py')
    parser.add_argument('--iothreads', type=int, default=0, help='loops beside the first; '
                        'only strategies that serve several')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--disk', type=int, default=10, help='each n-th image on disk, 0: none')
    parser.add_argument('--only', action='append', default=[], help='axis=value,axis=value: '
                        'cells with one of them; again: that too')
    parser.add_argument('--most', type=int, help='so many cells at most')
    parser.add_argument('--cell', type=int, help='this one alone')
    parser.add_argument('--keep', action='store_true', help='leave the files, say the command')
    options = parser.parse_args()
    options.seed = int(os.environ.get('ASYNCOW_SEED') or random.SystemRandom().randrange(1 << 32))
    print(f'ASYNCOW_SEED={options.seed}', flush=True)
    images.find_modules(options.program)
    cells, began = choose(options), time.monotonic()
    totals, failed = run_all(cells, options)
    print(f'{len(cells)} combinations in {time.monotonic() - began:.0f} s, {failed} failed')
    whole = not options.ways and not options.only and options.cell is None and options.most is None
    never = [name for name in RARE if not totals.get(name)]
    for name in RARE:
        print(f'  {name:18} {totals.get(name, 0)}')
    if whole and never:
        print(f"never taken: {', '.join(never)}")
    return 1 if failed or not cells or (whole and never) else 0


if __name__ == '__main__':
    sys.exit(main())
