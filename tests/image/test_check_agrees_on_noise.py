"""Random damage to metadata: whenever qemu-img check finds something, so does ours, and
mostly it counts the same; what our repair calls clean qemu-img calls clean."""

import os
import random
import shutil

import images
from images import COPIED, OFFSET_MASK, asyncow, qemu, read, write

ROUNDS = int(os.environ.get("ROUNDS", "60"))


def tables(path):
    """Offsets of 8-byte entries, and of 16-bit refcounts, that mean something."""
    cluster = 1 << read(path, 20, 4)
    l1, reftable = read(path, 40), read(path, 48)
    entries = [l1 + 8 * i for i in range(read(path, 36, 4))] + [reftable, reftable + 8]
    for at in list(entries[:-2]):
        l2 = read(path, at) & OFFSET_MASK
        if l2:
            entries += [l2 + 8 * i for i in range(cluster // 8)]
    block = read(path, reftable)
    counts = [block + 2 * i for i in range(min(cluster // 2, os.path.getsize(path) // cluster))]
    return entries, counts


def value(rng, path, old):
    """Something that might be in an entry, wrong in one way or another."""
    size, cluster = os.path.getsize(path), 1 << read(path, 20, 4)
    somewhere = rng.randrange(0, size // cluster) * cluster
    return rng.choice([
        old ^ COPIED, old ^ 1, old ^ 1 << rng.randrange(64), 0, somewhere, somewhere | COPIED,
        somewhere + 512 | COPIED, rng.getrandbits(64), (size + 10 * cluster) & OFFSET_MASK | COPIED])


class Noise(images.ImageTest):
    def damage(self, rng, kind):
        images.create("n.qcow2", kind, "2M")
        images.scribble(rng, "n.qcow2", 2 * images.MIB, count=6,
                        snapshot="s" if rng.random() < 0.4 else None)
        shutil.copy("n.qcow2", "good.qcow2")
        entries, counts = tables("n.qcow2")
        used = [e for e in entries if read("n.qcow2", e)]
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            if rng.random() < 0.25:
                write("n.qcow2", rng.choice(counts), rng.choice([0, 1, 2, 9]), 2)
            else:
                at = rng.choice(used if rng.random() < 0.8 else entries)
                write("n.qcow2", at, value(rng, "n.qcow2", read("n.qcow2", at)))

    def test_noise(self):
        differ = 0
        for n in range(ROUNDS):
            with self.subTest(round=n, seed=images.SEED):
                rng = random.Random(images.SEED + n)
                self.damage(rng, rng.choice(["cluster_size=4k", "cluster_size=512", ""]))
                ours = images.check_counts(asyncow, "n.qcow2", ok=(0, 1, 2, 3))
                theirs = images.check_counts(qemu, "n.qcow2", ok=(0, 1, 2, 3))
                if ours != theirs:
                    differ += 1
                    if os.environ.get("KEEP"):
                        shutil.copy("n.qcow2", f"{os.environ['KEEP']}/{images.SEED + n}.qcow2")
                        print(images.SEED + n, ours, theirs)
                if theirs["exit"]:
                    self.assertNotEqual(ours["exit"], 0)
                r = asyncow("check", "-r", "all", "n.qcow2", ok=None)
                self.assertIn(r.returncode, (0, 1, 2, 3))
                if r.returncode == 0:
                    qemu("check", "n.qcow2")
        self.assertLess(differ, ROUNDS // 10 + 2)


if __name__ == "__main__":
    images.main()
