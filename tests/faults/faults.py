#!/usr/bin/env python3
"""Every I/O fails in turn, under every strategy, on images that take every path; or every
allocation (--memory).

QEMU makes the images; test_faults does the rest. Over the suite each rare path must have
been taken, the poisoned image among them. ASYNCOW_SEED repeats a run.
"""
import argparse
import concurrent.futures
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../differential'))
import images
import ways

K, M = 1024, 1024 * 1024
# Options, size, backing, what qemu-io does to it; then how it is opened. `tables` is filled
# to where its refcount table is almost full. stride: it makes that many more I/Os.
TEMPLATES = {
    'tables': dict(options='cluster_size=512,refcount_bits=64', size=3 * M,
                   io=['write -s {data} 0 1936k'], stride=5,
                   program=['fill=1', 'cache=0', 'grow=0', 'depth=3', 'ops=160']),
    'copies': dict(options='cluster_size=4096', size=2 * M + 1536, backing='raw',
                   io=['write -c -s {data} 0 64k', 'write -s {data} 96k 64k', 'write -z 256k 32k',
                       'snapshot'],
                   program=['fill=0', 'cache=0', f'grow={M}']),
    'old': dict(options='compat=0.10,cluster_size=1024', size=1 * M + 512, backing='qcow2',
                io=['write -s {data} 0 256k', 'snapshot', 'write -s {data} 16k 16k'],
                program=['fill=0', 'cache=65536', 'grow=0']),
    'plain': dict(options='cluster_size=65536', size=4 * M, io=[],
                  program=['fill=0', 'cache=1048576', f'grow={M}']),
}
STRATEGIES = ['callbacks', 'coroutines:hold=none', 'coroutines:hold=metadata',
              'threadpool:hold=none', 'threadpool:hold=metadata', 'freeze-thaw']
RARE = ['poisoned', 'aborts', 'overlap_waits', 'slice_waits', 'evictions', 'dirty_evictions',
        'new_refblocks', 'table_moves', 'new_l2', 'l2_copies', 'limbo_reuse', 'punches',
        'cow_zero', 'cow_shared', 'cow_backing', 'cow_compressed', 'grows',
        'discard_under_io', 'sync_joins', 'shadow_copies']


def make_template(name, directory, seed):
    t = TEMPLATES[name]
    image, data = f'{directory}/{name}.qcow2', f'{directory}/data'
    if not os.path.exists(data):
        images.pattern(data, 1 * M, seed)
    options = t['options']
    if t.get('backing'):
        base = f'{directory}/base.{t["backing"]}'
        images.pattern(base + '.raw', t['size'] * 3 // 4 // 512 * 512, seed)
        images.run('qemu-img', 'convert', '-f', 'raw', '-O', t['backing'], base + '.raw', base)
        options += f',backing_file={base},backing_fmt={t["backing"]}'
    images.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, image, t['size'])
    for command in t['io']:
        if command == 'snapshot':
            images.run('qemu-img', 'snapshot', '-c', 'one', image)
        else:
            images.qemu_io(image, command.format(data=data))
    images.check(image)
    images.raw_of(image, f'{image}.raw')
    return image


def run_one(job, options, directory):
    name, strategy, through, cancels = job
    module, _, settings = strategy.partition(':')
    image = f'{directory}/{name}.qcow2'
    copy = f'{directory}/{name}-{module}-{settings}-{through}.qcow2'
    args = [options.program, f'template={image}', f'model={image}.raw', f'image={copy}',
            f'strategy={options.modules}{module}{".so" * bool(options.modules)}', f'settings={settings}', f'through={through}',
            f'cancels={cancels}', f'engine={options.engine}',
            f'seed={options.seed}', f"stride={options.stride * TEMPLATES[name].get('stride', 1)}",
            f'qemu_every={options.qemu_every}', *TEMPLATES[name]['program']]
    began = time.monotonic()
    try:
        out = images.run(*args)
    except images.Failed as error:
        raise images.Failed(f'{error}\n  ASYNCOW_SEED={options.seed} repeats it, '
                            'with --only and --keep') from None
    trials = next(line for line in out.splitlines() if 'trials, ' in line)
    print(f'  {name:7} {strategy:24} {"through" if through else "back":7} '
          f'{time.monotonic() - began:4.0f} s  {trials}', flush=True)
    return json.loads(out[out.rindex('stats {') + 6:])


def choose(options):
    """Each strategy with each template; metadata writes and cancels take turns."""
    jobs = [(name, strategy, (i + j + options.seed) % 2, int((i + j + options.seed) % 5 == 0))
            for i, name in enumerate(TEMPLATES) for j, strategy in enumerate(ways.WAYS if options.ways else STRATEGIES)]
    return [j for j in jobs
            if all(o == j[0] or j[1].startswith(o) or j[1].endswith(o) for o in options.only)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--program', required=True, help='test_faults')
    parser.add_argument('--stride', type=int, default=1, help='each so many I/Os, not each')
    parser.add_argument('--ways', action='store_true', help='the settings of ways.py')
    parser.add_argument('--memory', action='store_true',
                        help='allocations fail, not I/Os: the modules beside the program')
    parser.add_argument('--engine', default='sim', help='real ones: no two runs are the same')
    parser.add_argument('--qemu-every', type=int, default=5, help='qemu-img check, how often')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--only', action='append', default=[], help='template or strategy')
    parser.add_argument('--keep', action='store_true', help='leave the files')
    options = parser.parse_args()
    options.modules = f'{os.path.dirname(os.path.abspath(options.program))}/nomem_' if options.memory else ''
    options.seed = int(os.environ.get('ASYNCOW_SEED') or random.SystemRandom().randrange(1 << 32))
    print(f'ASYNCOW_SEED={options.seed}', flush=True)
    images.find_modules(options.program)
    directory, failed, totals = images.scratch(), 0, {}
    for name in TEMPLATES:
        make_template(name, directory, options.seed)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = choose(options)
        for future in [pool.submit(run_one, job, options, directory) for job in jobs]:
            try:
                for key, count in future.result().items():
                    totals[key] = totals.get(key, 0) + count
            except images.Failed as error:
                failed += 1
                print(f'FAILED {error}', flush=True)
    if not options.keep:
        images.remove(directory)
    never = [name for name in RARE if not totals.get(name)]
    for name in RARE:
        print(f'  {name:18} {totals.get(name, 0)}')
    whole = not (options.only or options.ways or options.memory)
    if never and whole:
        print(f"never taken: {', '.join(never)}")
    return 1 if failed or not jobs or (never and whole) else 0


if __name__ == '__main__':
    sys.exit(main())
