#!/usr/bin/env python3
"""Images of a real file system, as people have them, under every strategy.

An ext4 with files of this machine in it becomes: compressed images (deflate, zstd), a chain
of overlays over a compressed one, and an image with snapshots inside; all by QEMU's tools,
written to by QEMU between the steps. Each strategy then reads and writes each of them (the
program of the differential tests), and afterwards QEMU reads what it should, finds the
image sound, the files below unchanged, and every snapshot as it was.

ASYNCOW_SEED repeats a run.
"""
import argparse
import concurrent.futures
import hashlib
import itertools
import json
import os
import random
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../differential'))
import images

K, M = 1024, 1024 * 1024
DISK, TREE = 48 * M, 20 * M # the disk, and files in it, bytes
TREES = ['/usr/share/doc', '/usr/share/man', '/usr/lib/python3', '/usr/share', '/usr/lib']
STRATEGIES = ['callbacks', 'coroutines:hold=none', 'coroutines:hold=metadata',
              'threadpool:hold=none', 'threadpool:hold=metadata', 'freeze-thaw']
ENGINES = ['io_uring', 'linux-aio', 'threads', 'sync', 'sim']
RARE = ['cow_compressed', 'cow_shared', 'cow_backing', 'l2_copies', 'new_l2', 'discards',
        'overlap_waits', 'sync_joins']


def plain_files():
    """Readable files of this machine, in an order that stays the same."""
    for top in TREES:
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if not os.path.islink(path) and os.path.isfile(path) \
                        and os.access(path, os.R_OK) and os.path.getsize(path) <= TREE // 8:
                    yield path


def gather(tree):
    """Copies files until it is enough; how many."""
    size = count = 0
    for path in plain_files():
        into = tree + path
        os.makedirs(os.path.dirname(into), exist_ok=True)
        shutil.copyfile(path, into)
        size += max(os.path.getsize(path), 4 * K)
        count += 1
        if size >= TREE:
            break
    return count


def filesystem(directory):
    raw, tree = f'{directory}/ext4.raw', f'{directory}/tree'
    count = gather(tree)
    with open(raw, 'wb') as f:
        f.truncate(DISK)
    images.run('mke2fs', '-q', '-F', '-t', 'ext4', '-N', count * 2 + 1000, '-d', tree, raw)
    shutil.rmtree(tree)
    print(f'{count} files in an ext4 of {DISK // M} MiB')
    return raw


def convert(raw, image, *options):
    images.run('qemu-img', 'convert', '-q', '-f', 'raw', '-O', 'qcow2', *options, raw, image)


def scatter(image, data, rng, count=6):
    """QEMU writes here and there, zeroes and discards too."""
    commands = []
    for _ in range(count):
        at, n = rng.randrange(0, DISK - M, 4 * K), rng.randrange(4 * K, 300 * K, 512)
        how = rng.choice([f'write -s {data}', 'write -z', 'write -z -u', 'discard'])
        commands.append(f'{how} {at} {n}')
    images.qemu_io(image, *commands)


def make_chain(d, data):
    """Three overlays, the lowest smaller than what is below it, the next larger."""
    below = 'deflate.qcow2'
    sizes, clusters = [DISK - 3 * M, DISK + M, DISK], [65536, 4096, 16384]
    for i in range(3):
        images.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', below, '-o',
                   f'cluster_size={clusters[i]}', f'{d}/over{i}.qcow2', sizes[i])
        images.qemu_io(f'{d}/over{i}.qcow2', f'write -s {data} {(i + 1) * 5 * M} 700k',
                       f'write -z {(i + 1) * 6 * M} 300k', f'discard {(i + 2) * 7 * M} 256k')
        below = f'over{i}.qcow2'


def make_images(d, rng):
    """name -> (top, files below, snapshots)."""
    raw, data = filesystem(d), f'{d}/data'
    images.pattern(data, 1 * M, rng.random())
    convert(raw, f'{d}/deflate.qcow2', '-c')
    convert(raw, f'{d}/zstd.qcow2', '-c', '-o', 'compression_type=zstd,cluster_size=32768')
    make_chain(d, data)
    inside = f'{d}/snapshots.qcow2'
    convert(raw, inside, '-o', 'cluster_size=8192')
    for name in ('one', 'two', 'three'):
        images.run('qemu-img', 'snapshot', '-c', name, inside)
        scatter(inside, data, rng)
    images.run('qemu-img', 'snapshot', '-d', 'two', inside)
    images.run('qemu-img', 'snapshot', '-c', 'four', inside)
    return {'deflate': ('deflate.qcow2', [], []), 'zstd': ('zstd.qcow2', [], []),
            'chain': ('over2.qcow2', ['deflate.qcow2', 'over0.qcow2', 'over1.qcow2'], []),
            'snapshots': ('snapshots.qcow2', [], ['one', 'three', 'four'])}


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def prepare(directory, rng):
    made = make_images(directory, rng)
    before = {}
    for name, (top, _, snapshots) in made.items():
        images.check(f'{directory}/{top}')
        images.raw_of(f'{directory}/{top}', f'{directory}/{name}.raw')
        before[name] = {}
        for snapshot in snapshots:
            images.raw_of(f'{directory}/{top}', f'{directory}/snapshot.raw', snapshot)
            before[name][snapshot] = digest(f'{directory}/snapshot.raw')
    images.must_be_same(f'{directory}/ext4.raw', f'{directory}/deflate.raw', 'the compressed')
    return {'images': made, 'before': before}


def check_snapshots(image, snapshots, before, work):
    for name in snapshots:
        images.raw_of(image, f'{work}/snapshot.raw', name)
        if digest(f'{work}/snapshot.raw') != before[name]:
            raise images.Failed(f'snapshot {name} has changed')
    if snapshots: # and it can be gone back to
        copy = shutil.copy(image, f'{work}/applied.qcow2')
        images.run('qemu-img', 'snapshot', '-a', snapshots[0], copy)
        images.raw_of(copy, f'{work}/snapshot.raw')
        if digest(f'{work}/snapshot.raw') != before[snapshots[0]]:
            raise images.Failed(f'snapshot {snapshots[0]}, applied, is another one')
        images.check(copy)


def work_on(case, prepared, options, source, number, work):
    name, strategy, engine, through = case
    top, below, snapshots = prepared['images'][name]
    module, _, settings = strategy.partition(':')
    seed = options.seed * 1009 + number
    for file in [top, *below]:
        shutil.copy(f'{source}/{file}', work)
    sums = {file: digest(f'{work}/{file}') for file in below}
    image = f'{work}/{top}'
    out = images.run(options.program, f'image={image}', f'model={source}/{name}.raw',
                     f'expect={work}/expect.raw', f'strategy={module}',
                     f'settings={settings}', f'engine={engine}', f'through={through}',
                     f'direct={number % 2}', f'grow={number % 3 * 4 * M}',
                     f'ops={options.ops}', f'seed={seed}', 'unaligned=1')
    images.check(image)
    images.raw_of(image, f'{work}/qemu.raw')
    images.must_be_same(f'{work}/expect.raw', f'{work}/qemu.raw', 'QEMU reads')
    images.sample(image, f'{work}/expect.raw', random.Random(seed), 2)
    for file in below:
        if digest(f'{work}/{file}') != sums[file]:
            raise images.Failed(f'{file}, which is below, was written to')
    check_snapshots(image, snapshots, prepared['before'][name], work)
    return json.loads(out[out.rindex('stats {') + 6:])


def run_case(case, prepared, options, source, number):
    work = images.scratch()
    try:
        return work_on(case, prepared, options, source, number, work)
    except images.Failed as error:
        raise images.Failed(f'{error}\n  ASYNCOW_SEED={options.seed} {case}') from None
    finally:
        if not options.keep:
            images.remove(work)


def run_all(options, directory):
    prepared = prepare(directory, random.Random(options.seed))
    engines, failed, totals = itertools.cycle(ENGINES), 0, {}
    cases = [(name, strategy, next(engines), (i + j) % 2)
             for i, name in enumerate(prepared['images'])
             for j, strategy in enumerate(STRATEGIES)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(run_case, case, prepared, options, directory, n)
                for n, case in enumerate(cases)]
        for job in jobs:
            try:
                for key, count in job.result().items():
                    totals[key] = totals.get(key, 0) + count
            except images.Failed as error:
                failed += 1
                print(f'FAILED {error}', flush=True)
    return len(cases), failed, totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--program', required=True, help='test_differential')
    parser.add_argument('--ops', type=int, default=150, help='requests each time it is open')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--keep', action='store_true', help='leave the files')
    options = parser.parse_args()
    options.seed = int(os.environ.get('ASYNCOW_SEED') or random.SystemRandom().randrange(1 << 32))
    print(f'ASYNCOW_SEED={options.seed}', flush=True)
    images.find_modules(options.program)
    directory, began = images.scratch(), time.monotonic()
    try:
        runs, failed, totals = run_all(options, directory)
    finally:
        if not options.keep:
            images.remove(directory)
    never = [name for name in RARE if not totals.get(name)]
    print(f'{runs} runs in {time.monotonic() - began:.0f} s, {failed} failed')
    for name in RARE:
        print(f'  {name:18} {totals.get(name, 0)}')
    if never:
        print(f"never taken: {', '.join(never)}")
    return 1 if failed or never else 0


if __name__ == '__main__':
    sys.exit(main())
