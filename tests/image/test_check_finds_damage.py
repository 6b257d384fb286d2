"""Planted damage: check finds it, counts it as qemu-img check does, and repairs what can
be repaired; what it repaired qemu-img finds clean."""

import os
import shutil

import images
from images import COPIED, OFFSET_MASK, asyncow, qemu, read, write


class Layout:
    """Where things are in an image: the active L1, its first L2 table and data cluster,
    the first refcount block. 16-bit refcounts."""

    def __init__(self, path):
        self.path = path
        self.cluster = 1 << read(path, 20, 4)
        self.l1 = read(path, 40)
        self.l1_entry = read(path, self.l1)
        self.l2 = self.l1_entry & OFFSET_MASK
        self.l2_entry = read(path, self.l2)
        self.data = self.l2_entry & OFFSET_MASK
        self.reftable = read(path, 48)
        self.block = read(path, self.reftable)
        self.snapshots = read(path, 64)

    def refcount_at(self, offset):
        return self.block + 2 * (offset // self.cluster)


def leak(path, layout):
    """A cluster at the end that nobody refers to."""
    size = os.path.getsize(path)
    k = -(-size // layout.cluster)
    os.truncate(path, (k + 1) * layout.cluster)
    write(path, layout.refcount_at(k * layout.cluster), 1, 2)


# name: (what it does, whether qemu-img counts the same, whether repair makes it clean)
SAME, OURS = True, False
CLEAN, STAYS = True, False
DAMAGE = {
    "leak": (leak, SAME, CLEAN),
    "refcount too low": (lambda p, x: write(p, x.refcount_at(x.data), 0, 2), SAME, CLEAN),
    "refcount too high": (lambda p, x: write(p, x.refcount_at(x.data), 9, 2), SAME, CLEAN),
    "refcount of an L2 table 0": (lambda p, x: write(p, x.refcount_at(x.l2), 0, 2), SAME, CLEAN),
    "refcount of the header 0": (lambda p, x: write(p, x.block, 0, 2), SAME, CLEAN),
    "COPIED wrong in L1": (lambda p, x: write(p, x.l1, x.l1_entry ^ COPIED), SAME, CLEAN),
    "COPIED wrong in L2": (lambda p, x: write(p, x.l2, x.l2_entry ^ COPIED), SAME, CLEAN),
    "reserved bit in L2": (lambda p, x: write(p, x.l2, x.l2_entry | 4), SAME, STAYS),
    "high reserved bit in L2": (lambda p, x: write(p, x.l2, x.l2_entry | 1 << 58), SAME, STAYS),
    "reserved bit in L1": (lambda p, x: write(p, x.l1, x.l1_entry | 4), SAME, STAYS),
    "data misaligned": (lambda p, x: write(p, x.l2, x.l2_entry + 512), SAME, STAYS),
    "preallocated zero misaligned": (lambda p, x: write(p, x.l2, x.l2_entry + 512 | 1), SAME,
                                     CLEAN),
    "L2 table misaligned": (lambda p, x: write(p, x.l1, x.l1_entry + 512), SAME, STAYS),
    "data over the L2 table": (lambda p, x: write(p, x.l2, COPIED | x.l2), SAME, CLEAN),
    "data over the refcounts": (lambda p, x: write(p, x.l2, COPIED | x.block), SAME, CLEAN),
    "data over the header": (lambda p, x: write(p, x.l1, COPIED), OURS, STAYS),
    "two clusters in one place": (lambda p, x: write(p, x.l2, read(p, x.l2 + 8)), SAME, CLEAN),
    "data past the end": (lambda p, x: write(p, x.l2, COPIED | 1 << 30), SAME, STAYS),
    "L2 table past the end": (lambda p, x: write(p, x.l1, COPIED | 1 << 30), SAME, STAYS),
    "L2 table forgotten": (lambda p, x: write(p, x.l1, 0), SAME, CLEAN),
    "compressed and COPIED": (lambda p, x: write(p, x.l2, x.l2_entry | 1 << 62 | COPIED), SAME,
                              None),
    "refcount block misaligned": (lambda p, x: write(p, x.reftable, x.block + 512), SAME, CLEAN),
    "refcount block with reserved bit": (lambda p, x: write(p, x.reftable, x.block + 1), SAME,
                                         CLEAN),
    "refcount block past the end": (lambda p, x: write(p, x.reftable, 1 << 30), SAME, CLEAN),
    "refcount block forgotten": (lambda p, x: write(p, x.reftable, 0), SAME, CLEAN),
    "refcount block over the L2 table": (lambda p, x: write(p, x.reftable, x.l2), SAME, CLEAN),
    "refcount block twice": (lambda p, x: write(p, x.reftable + 8, x.block), SAME, CLEAN),
    "no refcount table": (lambda p, x: write(p, 56, 0, 4), SAME, CLEAN),
    "refcount table past the end": (lambda p, x: write(p, 48, 1 << 40), OURS, CLEAN),
    "refcount table misaligned": (lambda p, x: write(p, 48, x.reftable + 8), OURS, CLEAN),
    "snapshot's L1 misaligned": (lambda p, x: write(p, x.snapshots, read(p, x.snapshots) + 512),
                                 SAME, STAYS),
    "snapshot's L1 too large": (lambda p, x: write(p, x.snapshots + 8, 1 << 30, 4), SAME, STAYS),
    "snapshot's L1 past the end": (lambda p, x: write(p, x.snapshots, 1 << 40), SAME, STAYS),
    "dirty": (lambda p, x: write(p, 72, 1), SAME, CLEAN),
    "corrupt": (lambda p, x: write(p, 72, 2), SAME, CLEAN),
}


class Damage(images.ImageTest):
    def plant(self, options, snapshot, name):
        images.create("good.qcow2", options)
        images.qemu_io("good.qcow2", "write -P 1 0 512k", "write -P 2 5M 300k")
        if snapshot:
            qemu("snapshot", "-c", "s1", "good.qcow2")
        images.qemu_io("good.qcow2", "write -P 3 200k 100k")
        shutil.copy("good.qcow2", "bad.qcow2")
        DAMAGE[name][0]("bad.qcow2", Layout("bad.qcow2"))
        qemu("convert", "-O", "raw", "good.qcow2", "good.raw")

    def counted(self, name):
        ours = images.check_counts(asyncow, "bad.qcow2", ok=(0, 1, 2, 3))
        if DAMAGE[name][1]:
            theirs = images.check_counts(qemu, "bad.qcow2", ok=(0, 1, 2, 3))
            self.assertEqual(ours, theirs)
        elif name not in ("dirty", "corrupt"):
            self.assertIn(ours["exit"], (1, 2, 3))

    def repaired(self, name):
        shutil.copy("bad.qcow2", "fixed.qcow2")
        asyncow("check", "-r", "all", "fixed.qcow2", ok=None)
        if DAMAGE[name][2]:
            self.assert_clean("fixed.qcow2")
            self.assertEqual(read("fixed.qcow2", 72) & 3, 0)
        elif DAMAGE[name][2] is STAYS:
            ours = images.check_counts(asyncow, "fixed.qcow2", ok=(0, 1, 2, 3))
            self.assertNotEqual(ours["exit"], 0)
            # While something is lost to view, nothing it may refer to is given back.
            theirs = images.check_counts(qemu, "fixed.qcow2", ok=(0, 1, 2, 3))
            self.assertEqual(theirs["exit"] != 0, True)

    def keeps_the_data(self, name):
        """Only the refcounts were wrong: what the guest sees is as before."""
        if name.startswith(("refcount", "leak", "COPIED", "no refcount", "dirty", "corrupt")):
            self.assert_same("fixed.qcow2", "good.raw")

    def test_damage(self):
        for options, snapshot in (("", True), ("cluster_size=4k", False)):
            for name in DAMAGE:
                if name.startswith("snapshot") and not snapshot:
                    continue
                with self.subTest(name, options=options, snapshot=snapshot):
                    self.plant(options, snapshot, name)
                    self.counted(name)
                    self.repaired(name)
                    self.keeps_the_data(name)

    def test_leaks_only(self):
        for name, exits in (("leak", 0), ("refcount too high", 0), ("refcount too low", 2)):
            with self.subTest(name):
                self.plant("", False, name)
                asyncow("check", "-r", "leaks", "bad.qcow2", ok=(exits,))
                self.assertEqual(qemu("check", "bad.qcow2", ok=None).returncode, exits)

    def test_zero_cluster_in_version_2(self):
        images.create("z.qcow2", "compat=0.10")
        images.qemu_io("z.qcow2", "write -P 1 0 64k")
        x = Layout("z.qcow2")
        write("z.qcow2", x.l2, x.l2_entry | 1)
        r = asyncow("check", "z.qcow2", ok=(2,))
        self.assertIn("version 2", r.stderr)

    def test_bitmap_damage(self):
        images.create("b.qcow2")
        qemu("bitmap", "--add", "b.qcow2", "one")
        images.qemu_io("b.qcow2", "write 0 1M")
        with open("b.qcow2", "rb") as f:
            header = f.read(4096)
        at = header.index(bytes.fromhex("23852875")) + 8
        directory = read("b.qcow2", at + 16)
        table = read("b.qcow2", directory)
        for name, offset, value, size in (("directory forgotten", 88, 0, 8),
                                          ("table entry reserved", table, 1 << 60, 8),
                                          ("table past the end", directory, 1 << 40, 8)):
            with self.subTest(name):
                shutil.copy("b.qcow2", "bad.qcow2")
                write("bad.qcow2", offset, value, size)
                ours = images.check_counts(asyncow, "bad.qcow2")
                theirs = images.check_counts(qemu, "bad.qcow2")
                self.assertNotEqual(ours["exit"], 0)
                if theirs["exit"] != 1: # not opened at all
                    self.assertEqual(ours, theirs)

    def test_widths(self):
        """Leaks and losses at every refcount width, and a rebuild at each."""
        for bits in (1, 2, 4, 8, 16, 32, 64):
            with self.subTest(bits=bits):
                images.create("good.qcow2", f"refcount_bits={bits},cluster_size=512", "1M")
                images.qemu_io("good.qcow2", "write -P 1 0 300k")
                shutil.copy("good.qcow2", "bad.qcow2")
                x = Layout("bad.qcow2")
                write("bad.qcow2", x.block + 60, 0, 4)
                self.assertEqual(images.check_counts(asyncow, "bad.qcow2"),
                                 images.check_counts(qemu, "bad.qcow2"))
                asyncow("check", "-r", "all", "bad.qcow2")
                self.assert_clean("bad.qcow2")
                write("bad.qcow2", x.reftable, 0)
                asyncow("check", "-r", "all", "bad.qcow2")
                self.assert_clean("bad.qcow2")
                self.assert_same("bad.qcow2", "good.qcow2")

    def test_bounded_time(self):
        """Tables that all point at one another end the walk, not the patience."""
        images.create("l.qcow2", "cluster_size=512", "10G")
        images.qemu_io("l.qcow2", "write 0 1k")
        x = Layout("l.qcow2")
        entries = read("l.qcow2", 36, 4)
        with open("l.qcow2", "r+b") as f:
            f.seek(x.l1)
            f.write((COPIED | x.l2).to_bytes(8, "big") * entries)
        asyncow("check", "l.qcow2", ok=(2,))


if __name__ == "__main__":
    images.main()
