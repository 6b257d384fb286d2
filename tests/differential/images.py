"""Test images made by QEMU's tools, and what QEMU reads in them."""
import json
import os
import random
import shutil
import subprocess
import tempfile


class Failed(Exception):
    """A tool failed, or something is not as it must be."""


def run(*args, env=None, ok=(0,)):
    """Standard output of a command; Failed with all it said if it fails."""
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, env=env,
                       check=False, errors='replace')
    if p.returncode not in ok:
        raise Failed(f"{' '.join(str(a) for a in args)}\n  status {p.returncode}\n"
                     + p.stdout[-3000:] + p.stderr[-6000:])
    return p.stdout


def find_modules(program):
    build = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(program))))
    os.environ.setdefault('ASYNCOW_STRATEGY_PATH', os.path.join(build, 'strategies'))


def scratch(disk=False):
    """A directory of our own: in memory, or on disk (the current directory's)."""
    where = os.environ.get('ASYNCOW_TEST_DIR')
    if not where:
        where = '.' if disk or not os.access('/dev/shm', os.W_OK) else '/dev/shm'
    return tempfile.mkdtemp(prefix='asyncow-test-', dir=where)


def pattern(path, size, seed):
    """Bytes that compress to about a half, with runs of zeros."""
    rng = random.Random(seed)
    with open(path, 'wb') as f:
        while f.tell() < size:
            n = min(size - f.tell(), 512 * rng.randint(1, 200))
            kind = rng.randint(0, 3)
            if kind == 0:
                f.write(bytes(n))
            elif kind == 1:
                f.write(rng.randbytes(n // 2) + bytes([rng.randint(1, 255)]) * (n - n // 2))
            else:
                f.write((rng.randbytes(64) * (n // 64 + 1))[:n])


def qemu_io(image, *commands, fmt='qcow2'):
    out = run('qemu-io', '-f', fmt, *[x for c in commands for x in ('-c', c)], image)
    if 'failed' in out.lower() or 'error' in out.lower():
        raise Failed(f'qemu-io {image}: {commands}\n{out}')
    return out


def raw_of(image, raw, snapshot=None, fmt='qcow2'):
    """What QEMU reads in the image, or in one of its snapshots."""
    which = ['-l', f'snapshot.name={snapshot}'] if snapshot else []
    run('qemu-img', 'convert', '-q', '-f', fmt, '-O', 'raw', *which, image, raw)


def same(a, b):
    """The first offset where two files differ; None: they are equal."""
    if os.path.getsize(a) != os.path.getsize(b):
        return min(os.path.getsize(a), os.path.getsize(b))
    with open(a, 'rb') as fa, open(b, 'rb') as fb:
        at = 0
        while True:
            x, y = fa.read(1 << 20), fb.read(1 << 20)
            if x != y:
                return at + next(i for i in range(len(x)) if x[i] != y[i])
            if not x:
                return None
            at += len(x)


def must_be_same(a, b, what):
    at = same(a, b)
    if at is not None:
        raise Failed(f'{what}: byte {at} differs')


def check(image):
    """qemu-img check finds nothing at all."""
    p = subprocess.run(['qemu-img', 'check', '-f', 'qcow2', '--output=json', image],
                       capture_output=True, text=True, check=False)
    found = {k: v for k, v in json.loads(p.stdout or '{}').items()
             if k in ('corruptions', 'leaks', 'check-errors') and v}
    if p.returncode or found:
        raise Failed(f'qemu-img check {image}: status {p.returncode} {found}\n{p.stderr}')


def sample(image, raw, rng, count=2):
    """qemu-io's own reads, past all that convert knows about zeros."""
    size = os.path.getsize(raw)
    with open(raw, 'rb') as f:
        for _ in range(count):
            n = min(size, 512 * rng.randint(1, 4))
            at = 512 * rng.randint(0, (size - n) // 512)
            f.seek(at)
            want = f.read(n)
            out = run('qemu-io', '-f', 'qcow2', '-c', f'read -v {at} {n}', image)
            got = b''.join(bytes.fromhex(line[10:10 + 3 * 16].replace(' ', ''))
                           for line in out.splitlines() if line[8:10] == ': ')
            if got != want:
                raise Failed(f'qemu-io reads something else at {at}+{n}')


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
