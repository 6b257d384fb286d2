"""info, map and check say the same as qemu-img over images of every kind; compare and
convert agree about what they show."""

import json
import os
import random

import images
from images import asyncow, qemu


class Matrix(images.ImageTest):
    def each_kind(self, body):
        for n, kind in enumerate(filter(images.possible, images.KINDS)):
            with self.subTest(**kind):
                rng = random.Random(images.SEED + n)
                body(images.make(rng, kind), kind)
            for name in os.listdir("."):
                os.unlink(name)

    def assert_info(self, path, chains=([], ["--backing-chain"])):
        for chain in chains:
            ours = asyncow("info", "--output=json", *chain, path).stdout
            theirs = qemu("info", "--output=json", *chain, path).stdout
            self.assertEqual(json.loads(ours), json.loads(theirs))
        self.assertEqual(asyncow("info", path).stdout, qemu("info", path).stdout)

    def assert_map(self, path, human=True):
        ours = json.loads(asyncow("map", "--output=json", path).stdout)
        theirs = json.loads(qemu("map", "--output=json", path).stdout)
        self.assertEqual(ours, theirs)
        if human:
            self.assertEqual(asyncow("map", path, ok=None).stdout.splitlines(),
                             qemu("map", path, ok=None).stdout.splitlines())

    def assert_convert(self, path):
        asyncow("convert", "-O", "raw", path, "out.raw")
        qemu("compare", path, "out.raw")
        asyncow("convert", "-O", "qcow2", path, "out.qcow2")
        self.assert_same(path, "out.qcow2")
        qemu("check", "out.qcow2")

    def look(self, path, kind=None):
        """Pairs of unusual values get the short look."""
        odd = sum(v != images.KINDS[0][k] for k, v in kind.items()) if kind else 0
        self.assert_map(path, human=odd < 2)
        self.assert_convert(path)
        if odd < 2:
            self.assert_info(path)
            self.assertEqual(asyncow("check", path).stdout, qemu("check", path).stdout)
        self.assertEqual(images.check_counts(asyncow, path),
                         images.check_counts(qemu, path))

    def test_kinds(self):
        self.each_kind(self.look)

    def test_compressed(self):
        for kind in ("zlib", "zstd"):
            for cluster in ("4k", "64k", "2M"):
                with self.subTest(kind=kind, cluster=cluster):
                    options = f"compression_type={kind},cluster_size={cluster}"
                    path = images.compressed(self.rng, "c.qcow2", options)
                    self.assert_info(path)
                    self.assertEqual(images.check_counts(asyncow, path),
                                     images.check_counts(qemu, path))
                    self.assert_convert(path)
                    ours = json.loads(asyncow("map", "--output=json", path).stdout)
                    theirs = json.loads(qemu("map", "--output=json", path).stdout)
                    self.assertEqual(ours, theirs)
                    self.assertEqual(asyncow("map", path, ok=None).returncode,
                                     qemu("map", path, ok=None).returncode)

    def test_bitmaps(self):
        path = images.create("b.qcow2")
        qemu("bitmap", "--add", path, "one")
        qemu("bitmap", "--add", "-g", "4k", path, "two")
        qemu("bitmap", "--disable", path, "two")
        images.scribble(self.rng, path, 6 * images.MIB)
        self.look(path)

    def test_raw(self):
        images.create("r.raw", size="4M", fmt="raw")
        images.scribble(self.rng, "r.raw", 4 * images.MIB, fmt="raw")
        self.assertEqual(json.loads(asyncow("map", "-f", "raw", "--output=json", "r.raw").stdout),
                         json.loads(qemu("map", "-f", "raw", "--output=json", "r.raw").stdout))
        self.assertEqual(asyncow("check", "r.raw", ok=None).returncode, 63)
        asyncow("convert", "-f", "raw", "-O", "qcow2", "r.raw", "r.qcow2")
        self.assert_same("r.raw", "r.qcow2")
        self.assert_clean("r.qcow2")

    def test_map_range(self):
        path = images.make(self.rng, images.KINDS[0])
        argv = ["map", "--output=json", "--start-offset=100k", "--max-length=1M", path]
        self.assertEqual(json.loads(asyncow(*argv).stdout), json.loads(qemu(*argv).stdout))

    def test_compare(self):
        images.create("a.qcow2")
        images.create("b.qcow2")
        images.create("larger.qcow2", size="7M")
        images.create("data.qcow2", size="7M")
        images.qemu_io("a.qcow2", "write -P 7 64k 64k")
        images.qemu_io("b.qcow2", "write -P 7 64k 64k", "write -P 9 1234k 512")
        images.qemu_io("larger.qcow2", "write -P 7 64k 64k")
        images.qemu_io("data.qcow2", "write -P 7 64k 64k", "write -P 1 6900k 512")
        for argv in (["a.qcow2", "a.qcow2"], ["a.qcow2", "b.qcow2"], ["-q", "a.qcow2", "b.qcow2"],
                     ["a.qcow2", "larger.qcow2"], ["larger.qcow2", "a.qcow2"],
                     ["-s", "a.qcow2", "larger.qcow2"], ["a.qcow2", "data.qcow2"],
                     ["-s", "a.qcow2", "a.qcow2"], ["a.qcow2", "missing.qcow2"]):
            with self.subTest(argv=argv):
                ours, theirs = asyncow("compare", *argv, ok=None), qemu("compare", *argv, ok=None)
                self.assertEqual(ours.returncode, theirs.returncode)
                self.assertEqual(sorted(ours.stdout.splitlines()),
                                 sorted(theirs.stdout.splitlines()))

    def test_convert_into_existing(self):
        source = images.make(self.rng, images.KINDS[0])
        for fmt in ("raw", "qcow2"):
            images.create("t." + fmt, size="4M", fmt=fmt)
            images.qemu_io("t." + fmt, "write -P 5 0 4M", fmt=fmt)
            asyncow("convert", "-n", "-O", fmt, source, "t." + fmt)
            self.assert_same(source, "t." + fmt)
        self.assert_clean("t.qcow2")


if __name__ == "__main__":
    images.main()
