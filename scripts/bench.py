"""One trial of asyncow, fio or qemu-img bench, and the images they run on.

A trial is one process on one image. Each runner returns a dict with at least "iops", or
raises TrialError with the command and what it said.
"""
import configparser
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import time

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CLUSTER = 64 * KIB
TIMEOUT_S = 120  # on top of what a trial was asked to run

# Ours: (fio's engine, qemu-img bench's -i). fio has no pool of threads that serves one
# queue, so its row for "threads" is as many synchronous threads as the depth.
ENGINES = {
    'io_uring': ('io_uring', 'io_uring'),
    'linux-aio': ('libaio', 'native'),
    'threads': ('psync', 'threads'),
    'sync': ('psync', 'threads'),
}


class TrialError(Exception):
    pass


def run(command, timeout=TIMEOUT_S):
    """stdout of a command that must succeed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise TrialError(f'{" ".join(command)}\n  did not end within {timeout:.0f} s') from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise TrialError(f'{" ".join(command)}\n  exit status {done.returncode}: '
                         + '\n  '.join(said))
    return done.stdout


_pinned = 0  # CPUs that trials run on; 0: all


@contextlib.contextmanager
def pinned(cpus):
    """What run() starts meanwhile sees the first so many CPUs; 0: all."""
    global _pinned
    allowed = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, sorted(allowed)[:cpus])
    _pinned = cpus
    try:
        yield
    finally:
        _pinned = 0
        os.sched_setaffinity(0, allowed)


def pinned_to():
    return _pinned


def read_job(path):
    """Options of a fio job file with one job, as a dict of strings."""
    parser = configparser.ConfigParser(allow_no_value=True, delimiters=('=',),
                                       interpolation=None)
    with open(path, encoding='utf-8') as f:
        parser.read_file(f)
    options = {}
    for section in parser.sections():
        options.update({k: '1' if v is None else v for k, v in parser[section].items()})
    return options


TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def told(command):
    """As it would be typed in the tree: what a result keeps names no machine's directories."""
    return ' '.join(command).replace(TREE, '')


def options_of(job):
    return [f'--{name}={value}' for name, value in job.items()]


# --- runners ------------------------------------------------------------------------


def asyncow(program, image, strategy, engine, job, extra=(), pool=None):
    """pool: {'p': [], 'stall': []}, to which the trial's histograms are added."""
    command = [program, 'run', f'--image={image}', f'--strategy={strategy}',
               f'--engine={engine}', '--output-format=json+', '--quiet', *options_of(job), *extra]
    text = run(command, TIMEOUT_S + seconds_of(job))
    try:
        return dict(parse_asyncow(json.loads(text), pool), command=told(command))
    except (ValueError, KeyError, TypeError) as error:
        raise TrialError(f'{" ".join(command)}\n  report not understood: {error!r}') from None


PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)


def from_bins(*histograms):
    """Percentiles, in microseconds, of histograms given as {"nanoseconds": count} each. Those
    that fewer than five samples lie beyond are left out: they would tell of the luck."""
    merged = {}
    for bins in histograms:
        for ns, count in bins.items():
            merged[int(ns)] = merged.get(int(ns), 0) + count
    total, seen, result = sum(merged.values()), 0, {}
    wanted = iter([p for p in PERCENTILES if total * (100 - p) / 100 >= 5])
    want = next(wanted, None)
    for ns in sorted(merged):
        seen += merged[ns]
        while want is not None and seen >= total * want / 100:
            result[f'{want:g}'] = ns / 1000
            want = next(wanted, None)
    return result


def parse_asyncow(report, pool=None):
    """Of the first job of the first trial. Reads and writes together, flushes not."""
    job = report['jobs'][0]
    if job.get('error'):
        raise TrialError(job['error_text'])
    process, host = job['process'], job['host_io']
    sides = [job[side]['lat_ns'].get('bins', {}) for side in ('read', 'write', 'trim')]
    turns = job['stall'].get('turn_ns', {}).get('bins', {})
    if pool is not None:
        pool['p'] += sides
        pool['stall'].append(turns)
    return {
        'iops': job['total']['iops'], 'ios': job['total']['total_ios'],
        'seconds': job['total']['runtime_ns'] / 1e9,
        'p': from_bins(*sides), 'stall': from_bins(turns),
        'cpu_us_per_request': process['cpu_ns_per_request'] / 1000,
        'iops_per_cpu_s': process['iops_per_cpu_second'],
        'switches_per_request': process['ctx_per_request'],
        'host_ios_per_request': host['ios_per_request'],
        'flushes_per_request': host['flushes_per_request'],
        'steal_ns': process['steal_ns'], 'rss_bytes': process['rss_max_bytes'],
        'counters': {k: v for k, v in job['counters']['qcow2'].items() if v},
        'disk_size': job['disk_size'], 'seed': job['seed'],
    }


def fio(path, engine, job, size, extra=()):
    job = dict(job)
    depth = int(job.get('iodepth', '1'))
    parallel = []
    if ENGINES[engine][0] == 'psync':
        # Threads share the work: each takes a share of the disk, of the I/Os and of the
        # distance between flushes.
        parallel = [f'--numjobs={depth}', '--thread', '--iodepth=1', '--group_reporting']
        if not job.get('rw', '').startswith('rand'):
            share = size // depth // CLUSTER * CLUSTER
            parallel += [f'--offset_increment={share}', f'--size={share}']
        if 'number_ios' in job:
            job['number_ios'] = str(max(1, int(job['number_ios']) // depth))
        if int(job.get('fdatasync', '0')) > 1:
            job['fdatasync'] = str(max(1, int(job['fdatasync']) // depth))
    if 'runtime' in job:
        job['runtime'] = f'{int(float(job["runtime"]) * 1000)}ms'
    command = ['fio', '--name=peer', f'--filename={path}', f'--ioengine={ENGINES[engine][0]}',
               '--output-format=json', '--randrepeat=1', '--norandommap=1', f'--filesize={size}',
               '--allow_file_create=0', *options_of(job), *parallel, *extra]
    text = run(command, TIMEOUT_S + seconds_of(job))
    report = json.loads(text[text.index('{'):])
    return dict(parse_fio(report['jobs'][0]), command=told(command))


def parse_fio(job):
    """Reads and writes together; fio's latency is clat, in its own buckets."""
    sides = [job[side] for side in ('read', 'write') if job[side]['total_ios']]
    ios = sum(side['total_ios'] for side in sides)
    runtime_ms = max(job.get('job_runtime', 0) / max(1, int(job['job options'].get('numjobs', 1))),
                     max((side['runtime'] for side in sides), default=0))
    result = {'iops': sum(side['iops'] for side in sides), 'ios': ios,
              'seconds': runtime_ms / 1000,
              'cpu_us_per_request': None, 'p': {}}
    biggest = max(sides, key=lambda side: side['total_ios'])
    for name, ns in biggest['clat_ns'].get('percentile', {}).items():
        result['p'][f'{float(name):g}'] = ns / 1000
    return result


def qemu_bench(image, engine, job, count, step, write=False, image_opts=None):
    """image_opts None: as it comes; else the --image-opts string."""
    command = ['qemu-img', 'bench', '-c', str(count), '-d', job.get('iodepth', '1'),
               '-s', str(size_of(job.get('bs', '4k'))), '-S', str(step),
               '-t', 'none' if job.get('direct', '0') == '1' else 'writeback',
               '-i', ENGINES[engine][1]]
    command += ['-w'] if write else []
    command += ['--image-opts', image_opts] if image_opts else ['-f', 'qcow2', image]
    text = run(command)
    seconds = float(re.search(r'Run completed in ([\d.]+) seconds', text).group(1))
    return {'iops': count / max(seconds, 0.001), 'ios': count, 'seconds': seconds, 'p': {},
            'command': told(command)}


def size_of(text):
    """'4k' -> 4096"""
    match = re.fullmatch(r'(\d+)([kmgt]?)b?', str(text).strip().lower())
    if not match:
        raise ValueError(f'"{text}" is not a size; write like 4096, 4k, 1m or 1g')
    return int(match.group(1)) << {'': 0, 'k': 10, 'm': 20, 'g': 30, 't': 40}[match.group(2)]


def seconds_of(job):
    return float(str(job.get('runtime', '0')).removesuffix('ms').removesuffix('s') or 0)


def scattered_step(size, block=4096):
    """A step that, taken modulo a size that is a power of two, visits every block once in
    a scattered order (a Weyl sequence): the nearest that a strided benchmark gets to
    random. qemu-img wants it below 2 GiB."""
    reach = min(size, 1 << 31) // block
    return (int(reach * 0.6180339887498949) | 1) * block


def unusable_engines(program, wanted):
    """{engine: reason} of those that do not work on this machine."""
    known = json.loads(run([program, 'engines', '--output-format=json']))
    return {e['name']: e['reason'] for e in known if e['name'] in wanted and not e['usable']}


# --- images -------------------------------------------------------------------------


def create_image(path, size, *options):
    remove(path)
    run(['qemu-img', 'create', '-q', '-f', 'qcow2', *options, path, str(size)])


def fill_image(path, size):
    """Every byte of the guest's disk written once, in order."""
    run(['qemu-img', 'bench', '-w', '-f', 'qcow2', '-t', 'none', '-i', 'threads', '-d', '8',
         '--pattern=165', '-s', str(MIB), '-S', str(MIB), '-c', str(size // MIB), path])


def create_filled_raw(path, size):
    remove(path)
    with open(path, 'wb', buffering=0) as f:
        chunk = b'\xa5' * (4 * MIB)
        for _ in range(size // len(chunk)):
            f.write(chunk)
        os.fsync(f.fileno())


def create_sparse_raw(path, size):
    remove(path)
    with open(path, 'wb') as f:
        f.truncate(size)


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def filesystem_of(path):
    """Type and device of the file system that holds path."""
    text = run(['df', '--output=fstype,source', path]).splitlines()[-1].split()
    return text[0], text[-1]


# --- the machine --------------------------------------------------------------------


def spin_ns():
    """A fixed piece of work: what the CPU was like just now."""
    began = time.perf_counter_ns()
    total = 0
    for i in range(20000):
        total += i
    return time.perf_counter_ns() - began


def steal_ticks():
    with open('/proc/stat', encoding='ascii') as f:
        fields = f.readline().split()
    return int(fields[8]), sum(int(v) for v in fields[1:9])


def version_of(*command):
    try:
        return run(list(command)).strip().splitlines()[0]
    except (TrialError, FileNotFoundError, IndexError):
        return 'not found'


def cpu_model():
    with open('/proc/cpuinfo', encoding='utf-8') as f:
        for text in f:
            if text.startswith('model name'):
                return text.partition(':')[2].strip()
    return platform.machine()


def manifest(top, program, directory, **more):
    dirty = bool(run(['git', '-C', top, 'status', '--porcelain']).strip()) \
        if shutil.which('git') and os.path.isdir(os.path.join(top, '.git')) else None
    commit = version_of('git', '-C', top, 'rev-parse', 'HEAD')
    kind, device = filesystem_of(directory)
    with open('/proc/meminfo', encoding='ascii') as f:
        memory = f.readline().split()[1]
    return {
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'commit': commit, 'uncommitted_changes': dirty,
        'asyncow': version_of(program, '--version'),
        'qemu-img': version_of('qemu-img', '--version'),
        'fio': version_of('fio', '--version'),
        'compiler': version_of('gcc', '--version'),
        'kernel': platform.release(), 'cpu': cpu_model(), 'cpus': os.cpu_count(),
        'memory_kib': int(memory), 'file_system': kind, 'device': os.path.basename(device),
        **more,
    }
