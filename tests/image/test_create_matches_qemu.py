"""create: what it makes qemu-img calls clean, describes like its own, reads and writes."""

import json
import os
import subprocess

import images
from images import asyncow, qemu

OPTIONS = [
    "", "compat=0.10", "cluster_size=512", "cluster_size=4k", "cluster_size=2M",
    "refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8",
    "refcount_bits=32", "refcount_bits=64", "lazy_refcounts=on", "compression_type=zstd",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full",
    "cluster_size=512,refcount_bits=64,preallocation=metadata",
    "cluster_size=2M,refcount_bits=1,preallocation=metadata",
    "cluster_size=512,refcount_bits=1,preallocation=metadata",
    "compat=0.10,cluster_size=4k,preallocation=metadata",
]
SIZES = ["0", "512", "1000", "10M", "33M"]


class Create(images.ImageTest):
    def test_not_over_what_it_is_made_from(self):
        images.create("base.qcow2", size="1M")
        images.create("mid.qcow2", backing=("base.qcow2", "qcow2"))
        os.symlink("base.qcow2", "link")
        before = {p: open(p, "rb").read() for p in ("base.qcow2", "mid.qcow2")}
        for argv in (["create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "link"],
                     ["create", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "base.qcow2"],
                     ["convert", "-U", "-f", "qcow2", "-O", "raw", "mid.qcow2", "link"]):
            said = asyncow(*argv, ok=(1,)).stderr
            self.assertIn("would overwrite what it is made from", said)
            self.assertEqual({p: open(p, "rb").read() for p in before}, before)

    def test_not_over_itself(self):
        images.create("a", size="1M")
        os.symlink("a", "link")
        before = open("a", "rb").read()
        for argv in (["a", "a"], ["./a", "a"], ["a", "link"], ["new", "new", "1M"]):
            said = asyncow("create", "-u", "-f", "qcow2", "-F", "qcow2", "-b", *argv,
                           ok=(1,)).stderr
            self.assertIn("its own backing file", said)
        self.assertEqual(open("a", "rb").read(), before)
        asyncow("create", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "gone", "new", "1M")
        self.assertEqual(sorted(os.listdir()), ["a", "link", "new"])

    def test_file_names(self):
        """"file:x" is x; another protocol's name is no file's."""
        images.create("a.qcow2", size="1M")
        asyncow("create", "-f", "qcow2", "file:x", "1M")
        asyncow("convert", "-f", "qcow2", "-O", "qcow2", "a.qcow2", "file:y")
        for argv in (["create", "-f", "qcow2", "nbd:x", "1M"], ["convert", "a.qcow2", "nbd:x"]):
            self.assertIn("only file names", asyncow(*argv, ok=(1,)).stderr)
        self.assertEqual(sorted(os.listdir()), ["a.qcow2", "x", "y"])
        self.assert_clean("x")
        self.assert_clean("y")

    def described(self, path):
        info = json.loads(qemu("info", "--output=json", path).stdout)
        for key in ("filename", "actual-size"):
            info.pop(key, None)
        return info

    def test_options(self):
        for n, options in enumerate(OPTIONS):
            for size in SIZES if n == 0 else ("10M", SIZES[n % len(SIZES)]):
                with self.subTest(options=options, size=size):
                    argv = ["create", "-f", "qcow2"] + (["-o", options] if options else [])
                    ours = asyncow(*argv, "ours.qcow2", size).stdout
                    theirs = qemu(*argv, "theirs.qcow2", size).stdout
                    self.assertEqual(ours.replace("ours", "theirs"), theirs)
                    self.assertEqual(self.described("ours.qcow2"), self.described("theirs.qcow2"))
                    self.assert_clean("ours.qcow2")
                    self.assert_same("ours.qcow2", "theirs.qcow2")
                    self.usable("ours.qcow2", size)
                    os.unlink("ours.qcow2")
                    os.unlink("theirs.qcow2")

    def usable(self, path, size):
        if size not in ("10M", "33M"):
            return
        images.scribble(self.rng, path, 10 * images.MIB, count=4)
        self.assert_clean(path)

    def test_space(self):
        for how, blocks in (("metadata", 2), ("falloc", 10), ("full", 10)):
            asyncow("create", "-q", "-f", "qcow2", "-o", "preallocation=" + how, "p.qcow2", "10M")
            used = os.stat("p.qcow2").st_blocks * 512 / images.MIB
            self.assertTrue(used >= 10 if blocks == 10 else used < 2, (how, used))

    def test_minimal(self):
        asyncow("create", "-q", "-f", "qcow2", "m.qcow2", "1T")
        qemu("create", "-q", "-f", "qcow2", "q.qcow2", "1T")
        self.assertLessEqual(os.stat("m.qcow2").st_blocks, os.stat("q.qcow2").st_blocks)

    def test_backing(self):
        images.create("base.qcow2", size="5M")
        images.create("base.raw", size="5M", fmt="raw")
        os.mkdir("sub")
        for fmt in ("raw", "qcow2"):
            for cluster in ("512", "64k"):
                argv = ["create", "-f", "qcow2", "-o", "cluster_size=" + cluster, "-b",
                        "../base." + fmt, "-F", fmt]
                ours = asyncow(*argv, "sub/ours.qcow2").stdout
                theirs = qemu(*argv, "sub/theirs.qcow2").stdout
                self.assertEqual(ours.replace("ours", "theirs"), theirs)
                self.assertEqual(self.described("sub/ours.qcow2"), self.described("sub/theirs.qcow2"))
                images.scribble(self.rng, "sub/ours.qcow2", 5 * images.MIB, count=4)
                self.assert_clean("sub/ours.qcow2")
        asyncow("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "l.qcow2", "9M")
        self.assertEqual(self.described("l.qcow2")["virtual-size"], 9 * images.MIB)
        asyncow("create", "-q", "-u", "-f", "qcow2", "-b", "no such, file", "-F", "raw", "u.qcow2", "9M")
        self.assertEqual(self.described("u.qcow2")["backing-filename"], "no such, file")
        asyncow("create", "-q", "-u", "-f", "qcow2", "-o", "backing_file=no such,, file,backing_fmt=raw",
                "v.qcow2", "9M")
        self.assertEqual(self.described("v.qcow2")["backing-filename"], "no such, file")

    def test_raw(self):
        for how in ("off", "falloc", "full"):
            asyncow("create", "-q", "-f", "raw", "-o", "preallocation=" + how, "r.raw", "1M")
            self.assertEqual(os.path.getsize("r.raw"), images.MIB)
            self.assertEqual(os.stat("r.raw").st_blocks > 0, how != "off")

    def test_refusals(self):
        images.create("base.qcow2")
        for argv, message in (
                (["-o", "cluster_size=3k", "x", "1M"], "power of two within 512..2M"),
                (["-o", "cluster_size=4M", "x", "1M"], "power of two within 512..2M"),
                (["-o", "refcount_bits=3", "x", "1M"], "power of two within 1..64"),
                (["-o", "compat=0.10,refcount_bits=8", "x", "1M"], "need compat=1.1"),
                (["-o", "compat=0.10,lazy_refcounts=on", "x", "1M"], "needs compat=1.1"),
                (["-o", "compat=0.10,compression_type=zstd", "x", "1M"], "needs compat=1.1"),
                (["-o", "compat=2", "x", "1M"], "must be 0.10 or 1.1"),
                (["-o", "extended_l2=on", "x", "1M"], "extended_l2=on is not supported"),
                (["-o", "encrypt.format=luks", "x", "1M"], "not supported"),
                (["-o", "data_file=y", "x", "1M"], "not supported"),
                (["-o", "colour=red", "x", "1M"], "unknown option 'colour'"),
                (["-o", "cluster_size=512", "x", "1T"], "too large for cluster_size"),
                (["x"], "needs a size"),
                (["x", "10X"], "not a size"),
                (["-b", "base.qcow2", "x"], "without its format"),
                (["-b", "base.qcow2", "-F", "vmdk", "x"], "\"vmdk\" is not supported"),
                (["-b", "missing.qcow2", "-F", "qcow2", "x"], "missing.qcow2"),
                (["-b", "base.qcow2", "-F", "qcow2", "-o", "preallocation=metadata", "x"],
                 "exclude each other"),
                (["-b", "b" * 1024, "-F", "raw", "-u", "x", "1M"], "longer than 1023"),
                (["-b", "b" * 600, "-F", "raw", "-u", "-o", "cluster_size=512", "x", "1M"],
                 "does not fit"),
                (["--bogus", "x", "1M"], "unrecognized option '--bogus'"),
                ([], "expecting an image file name"),
                (["x", "1M", "2M"], "unexpected argument '2M'")):
            with self.subTest(argv=argv):
                r = asyncow("create", "-f", "qcow2", *argv, ok=(1,))
                self.assertIn(message, r.stderr)
                self.assertFalse(os.path.exists("x"))

    def test_error_leaves_nothing(self):
        limit = "ulimit -f 64; trap '' XFSZ; exec \"$0\" \"$@\""
        r = subprocess.run(["bash", "-c", limit, images.ASYNCOW, "img", "create", "-q", "-f",
                            "qcow2", "-o", "preallocation=full", "x", "10M"],
                           capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("x: ", r.stderr)
        self.assertFalse(os.path.exists("x"))

    def test_image_in_use_is_kept(self):
        images.create("x")
        images.qemu_io("x", "write -P 1 0 64k")
        with subprocess.Popen(["qemu-io", "-f", "qcow2", "x"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as user:
            user.stdin.write("read 0 512\n")
            user.stdin.flush()
            user.stdout.readline()
            r = asyncow("create", "-q", "-f", "qcow2", "x", "1M", ok=(1,))
            user.stdin.close()
            user.stdout.read()
        self.assertIn("lock", r.stderr)
        images.qemu_io("x", "read -P 1 0 64k")


if __name__ == "__main__":
    images.main()
