"""What the tests of `asyncow img` share: images of every kind, made by qemu-img, and both
programs run on them. The program under test is named by ASYNCOW."""

import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

ASYNCOW = os.environ["ASYNCOW"]
SEED = int(os.environ.get("ASYNCOW_SEED") or random.SystemRandom().randrange(1 << 32))
KIB, MIB = 1 << 10, 1 << 20
OFFSET_MASK = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63


def run(*argv, ok=(0,)):
    """Runs a program; fails the test unless its exit status is in ok (None: any)."""
    r = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if "Sanitizer" in r.stderr or "runtime error" in r.stderr:
        raise AssertionError(f"{' '.join(argv)}:\n{r.stderr}")
    if ok is not None and r.returncode not in ok:
        raise AssertionError(
            f"{' '.join(argv)}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r


def asyncow(*argv, ok=(0,)):
    return run(ASYNCOW, "img", *argv, ok=ok)


def qemu(*argv, ok=(0,)):
    return run("qemu-img", *argv, ok=ok)


def qemu_io(path, *commands, fmt="qcow2"):
    argv = ["qemu-io", "-f", fmt]
    for c in commands:
        argv += ["-c", c]
    r = run(*argv, path)
    if "error" in r.stdout + r.stderr or "failed" in r.stdout + r.stderr:
        raise AssertionError(r.stdout + r.stderr)


def read(path, offset, size=8):
    with open(path, "rb") as f:
        f.seek(offset)
        return int.from_bytes(f.read(size), "big")


def write(path, offset, value, size=8):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(value.to_bytes(size, "big"))


class ImageTest(unittest.TestCase):
    """A directory of its own for each test, entered."""

    maxDiff = 4000

    def setUp(self):
        # In memory where there is some: what is compared is bytes, not disks.
        fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = tempfile.mkdtemp(prefix="asyncow-image-",
                                    dir=os.environ.get("TMPDIR") or fast)
        self.addCleanup(shutil.rmtree, self.dir)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.dir)
        self.rng = random.Random(SEED)

    def path(self, name):
        return os.path.join(self.dir, name)

    def assert_clean(self, path):
        """Both programs find nothing wrong."""
        qemu("check", path)
        asyncow("check", path)

    def assert_same(self, a, b):
        """Both programs read the same from a and b, and say so."""
        qemu("compare", a, b)
        asyncow("compare", a, b)


def create(path, options="", size="6M", *, backing=None, fmt="qcow2"):
    argv = ["create", "-q", "-f", fmt]
    if options:
        argv += ["-o", options]
    if backing:
        argv += ["-b", backing[0], "-F", backing[1]]
    qemu(*argv, path, size)
    return path


def scribble(rng, path, size, count=24, snapshot=None, fmt="qcow2", discard=True):
    """Random writes, zeroes and discards, with a snapshot in the middle."""
    commands = []
    for i in range(count):
        length = rng.choice([512, 4 * KIB, 64 * KIB, 200 * KIB])
        offset = rng.randrange(0, size - length) & ~511
        kinds = ["write -P %d" % rng.randrange(1, 255)] * 4 + ["write -z", "write -z -u"]
        commands.append(f"{rng.choice(kinds + ['discard'] * discard)} {offset} {length}")
        if snapshot and i == count // 2:
            qemu_io(path, *commands, fmt=fmt)
            qemu("snapshot", "-c", snapshot, path)
            commands = []
    qemu_io(path, *commands, fmt=fmt)


def matrix(**axes):
    """Each value of each axis at least once, then all pairs of values that differ from
    the defaults (the first of each axis)."""
    names = list(axes)
    default = {n: axes[n][0] for n in names}
    seen = [default]
    for n in names:
        seen += [{**default, n: v} for v in axes[n][1:]]
    for a, b in itertools.combinations(names, 2):
        seen += [{**default, a: v, b: w} for v in axes[a][1:] for w in axes[b][1:]]
    return seen


# What qcow2 images differ in. The snapshot needs refcounts that can reach 2.
KINDS = matrix(
    compat=["1.1", "0.10"],
    cluster_size=["64k", "512", "4k", "2M"],
    refcount_bits=["16", "1", "2", "8", "64"],
    backing=[None, "raw", "qcow2", "short"],
    snapshot=[False, True],
    compression_type=["zlib", "zstd"],
    preallocation=["off", "metadata"],
)


def possible(kind):
    if kind["compat"] == "0.10" and (kind["refcount_bits"] != "16"
                                     or kind["compression_type"] != "zlib"):
        return False
    if kind["snapshot"] and kind["refcount_bits"] == "1":
        return False
    return not (kind["backing"] and kind["preallocation"] != "off")


def options_of(kind):
    names = ["compat", "cluster_size", "refcount_bits", "preallocation"]
    if kind["compat"] == "1.1":
        names.append("compression_type")
    return ",".join(f"{n}={kind[n]}" for n in names)


def make(rng, kind, path="top.qcow2", size=4 * MIB):
    """An image of a kind, with its backing file beside it."""
    backing = None
    if kind["backing"]:
        below = size // 2 + 512 if kind["backing"] == "short" else size
        fmt = "raw" if kind["backing"] == "raw" else "qcow2"
        backing = ("base." + fmt, fmt)
        create(backing[0], size=str(below), fmt=fmt)
        scribble(rng, backing[0], below, count=8, fmt=fmt)
    create(path, options_of(kind), str(size), backing=backing)
    small = kind["cluster_size"] == "512"
    scribble(rng, path, size, count=8 if small else 24,
             snapshot="s1" if kind["snapshot"] else None)
    return path


def compressed(rng, path, options, size=2 * MIB):
    """An image of compressed clusters, some ordinary ones written over them."""
    create("plain.raw", size=str(size), fmt="raw")
    scribble(rng, "plain.raw", size, fmt="raw", count=16)
    qemu("convert", "-c", "-O", "qcow2", "-o", options, "plain.raw", path)
    scribble(rng, path, size, count=4)
    return path


def check_counts(program, path, *options, ok=(0, 2, 3)):
    """The counters of a check, as a dictionary; 0 where there is none."""
    r = program("check", "--output=json", *options, path, ok=None)
    if r.returncode not in ok:
        return {"exit": r.returncode}
    found = json.loads(r.stdout)
    names = ["corruptions", "leaks", "check-errors", "image-end-offset", "total-clusters",
             "allocated-clusters", "fragmented-clusters", "compressed-clusters"]
    return {"exit": r.returncode, **{n: found.get(n, 0) for n in names}}


def main():
    print(f"seed {SEED} (set ASYNCOW_SEED to repeat)", flush=True)
    unittest.main()
