"""Opening: each header field that is wrong is refused with its name, its value and what
would be right; features we lack by name; chains as the rules for them say."""

import json
import os
import shutil

import images
from images import asyncow, qemu, read, write

# field, byte offset, size, bad value, part of the message
HEADER = [
    ("magic", 0, 4, 0x51464900, "not a qcow2"),
    ("version", 4, 4, 1, "version 1 is not supported"),
    ("version", 4, 4, 4, "version 4 is not supported"),
    ("backing_file_offset", 8, 8, 1 << 40, "backing_file_offset"),
    ("backing_file_offset", 8, 8, 8, "backing_file_offset 8"),
    ("backing_file_size", 16, 4, 1024, "backing_file_size 1024 is more than 1023"),
    ("cluster_bits", 20, 4, 8, "cluster_bits 8 is not within 9..21"),
    ("cluster_bits", 20, 4, 22, "cluster_bits 22 is not within 9..21"),
    ("cluster_bits", 20, 4, 0xFFFFFFFF, "cluster_bits 4294967295"),
    ("size", 24, 8, 1 << 63, "size 9223372036854775808"),
    ("size", 24, 8, 1 << 40, "l1_size 1 is too small"),
    ("crypt_method", 32, 4, 1, "crypt_method 1 (AES encryption)"),
    ("crypt_method", 32, 4, 2, "crypt_method 2 (LUKS encryption)"),
    ("crypt_method", 32, 4, 77, "crypt_method 77"),
    ("l1_size", 36, 4, 0, "l1_size 0 is too small"),
    ("l1_size", 36, 4, 0xFFFFFFFF, "is more than 4194304 (32 MiB)"),
    ("l1_table_offset", 40, 8, 0x30200, "l1_table_offset 0x30200 is not a multiple"),
    ("l1_table_offset", 40, 8, 0, "l1_table_offset 0 points at the header"),
    ("l1_table_offset", 40, 8, 1 << 50, "past the end of the file"),
    ("l1_table_offset", 40, 8, 1 << 62, "below 2^56"),
    ("refcount_table_offset", 48, 8, 0x10001, "refcount_table_offset 0x10001 is not a multiple"),
    ("refcount_table_offset", 48, 8, 1 << 50, "past the end of the file"),
    ("refcount_table_offset", 48, 8, (1 << 64) - (1 << 16), "below 2^56"),
    ("refcount_table_clusters", 56, 4, 0, "no refcount table"),
    ("refcount_table_clusters", 56, 4, 129, "refcount_table_clusters 129 is more than 128"),
    ("nb_snapshots", 60, 4, 65537, "nb_snapshots 65537 is more than 65536"),
    ("nb_snapshots", 60, 4, 1, "snapshots_offset 0 points at the header"),
    ("incompatible_features", 72, 8, 1 << 2, "external data file"),
    ("incompatible_features", 72, 8, 1 << 3, "compression_type 0, but"),
    ("incompatible_features", 72, 8, 1 << 4, "extended L2 entries"),
    ("incompatible_features", 72, 8, 1 << 40, "\"unknown\" (bit 40"),
    ("refcount_order", 96, 4, 7, "refcount_order 7 is more than 6"),
    ("header_length", 100, 4, 103, "header_length 103"),
    ("header_length", 100, 4, 105, "header_length 105"),
    ("header_length", 100, 4, 1 << 31, "header_length 2147483648"),
    ("compression_type", 104, 1, 1, "compression_type 1, but"),
    ("compression_type", 104, 1, 2, "compression_type 2 is not supported"),
    ("extension length", 116, 4, 1 << 31, "header extension 0x6803f857"),
]


class Header(images.ImageTest):
    def refused(self, path, message, command="map"):
        r = asyncow(command, path, ok=(1,))
        self.assertIn(message, r.stderr)
        self.assertIn(path, r.stderr)

    def test_fields(self):
        images.create("good.qcow2")
        for field, offset, size, value, message in HEADER:
            with self.subTest(field, value=value):
                shutil.copy("good.qcow2", "bad.qcow2")
                if field == "backing_file_size":
                    write("bad.qcow2", 8, 1000)
                write("bad.qcow2", offset, value, size)
                r = asyncow("map", "-f", "qcow2", "bad.qcow2", ok=(1,))
                self.assertIn("bad.qcow2", r.stderr)
                self.assertIn(message, r.stderr)

    def test_feature_name(self):
        images.create("good.qcow2")
        write("good.qcow2", 112 + 8 + 4 * 48 + 1, 40, 1)
        write("good.qcow2", 112 + 8 + 4 * 48 + 2, int.from_bytes(b"tomorrow\0", "big"), 9)
        write("good.qcow2", 72, 1 << 40)
        self.refused("good.qcow2", "\"tomorrow\" (bit 40")

    def test_made_by_others(self):
        for options, message in (("extended_l2=on", "extended L2 entries"),
                                 ("data_file=d", "external data file")):
            images.create("x.qcow2", options)
            self.refused("x.qcow2", message)

    def test_cut_short(self):
        images.create("good.qcow2")
        with open("good.qcow2", "rb") as f:
            whole = f.read()
        for size in (0, 3, 4, 71, 72, 103, 104, 200, 65536, 131072):
            with self.subTest(size=size):
                with open("cut.qcow2", "wb") as f:
                    f.write(whole[:size])
                r = asyncow("map", "-f", "qcow2", "cut.qcow2", ok=(1,))
                self.assertIn("cut.qcow2", r.stderr)

    def test_bitmaps_extension(self):
        images.create("b.qcow2")
        qemu("bitmap", "--add", "b.qcow2", "one")
        with open("b.qcow2", "rb") as f:
            at = f.read(4096).index(bytes.fromhex("23852875"))
        for offset, value, size, message in ((4, 23, 4, "length 23 is not 24"),
                                             (8, 0, 4, "nb_bitmaps 0 is not within"),
                                             (8, 65536, 4, "nb_bitmaps 65536 is not within"),
                                             (12, 1, 4, "reserved field"),
                                             (16, 0, 8, "bitmap_directory_size 0"),
                                             (24, 512, 8, "bitmap_directory_offset 0x200")):
            with self.subTest(message):
                shutil.copy("b.qcow2", "bad.qcow2")
                write("bad.qcow2", at + offset, value, size)
                self.refused("bad.qcow2", message)
                write("bad.qcow2", 88, 0) # without its bit nobody believes it
                asyncow("map", "bad.qcow2")

    def test_tables(self):
        images.create("good.qcow2")
        images.qemu_io("good.qcow2", "write 0 64k")
        l1 = read("good.qcow2", 40)
        l2 = read("good.qcow2", l1) & images.OFFSET_MASK
        for offset, value in ((l1, 1 << 57 | l2), (l1, l2 + 512), (l1, images.COPIED),
                              (l2, 1 << 58), (l2, 0x123400), (l2, 3 << 62)):
            shutil.copy("good.qcow2", "bad.qcow2")
            write("bad.qcow2", offset, value)
            r = asyncow("convert", "-O", "raw", "bad.qcow2", "x.raw", ok=(1,))
            self.assertIn("bad.qcow2: L", r.stderr)
            self.assertFalse(os.path.exists("x.raw"))

    def test_compressed_damage(self):
        for kind in ("zlib", "zstd"):
            path = images.compressed(self.rng, f"{kind}.qcow2", "compression_type=" + kind)
            for entry in json.loads(qemu("map", "--output=json", path).stdout):
                if entry["data"] and "offset" not in entry:
                    break
            l2 = read(path, read(path, 40)) & images.OFFSET_MASK
            host = read(path, l2 + 8 * (entry["start"] // 65536)) & ((1 << 54) - 1)
            write(path, host, 0xFFFFFFFFFFFFFFFF)
            r = asyncow("convert", "-O", "raw", path, "x.raw", ok=(1,))
            self.assertIn("compressed cluster", r.stderr)


class Chain(images.ImageTest):
    def chain(self, name, *, fmt="qcow2"):
        images.create("base.qcow2", fmt="qcow2")
        images.qemu_io("base.qcow2", "write -P 1 0 64k")
        argv = ["create", "-q", "-u", "-f", "qcow2", "-b", name]
        if fmt:
            argv += ["-F", fmt]
        asyncow(*argv, "top.qcow2", "6M")

    def reads(self, path, pattern=1):
        asyncow("convert", "-O", "raw", path, "out.raw")
        images.qemu_io("out.raw", f"read -P {pattern} 0 64k", fmt="raw")

    def test_names(self):
        self.chain("base.qcow2")
        for name in ("base.qcow2", "./base.qcow2", "file:base.qcow2", self.path("base.qcow2"),
                     "file:" + self.path("base.qcow2")):
            with self.subTest(name):
                self.chain(name)
                self.reads("top.qcow2")
                self.reads("file:top.qcow2")
                os.chdir("/")
                self.reads_elsewhere()

    def reads_elsewhere(self):
        asyncow("convert", "-O", "raw", self.path("top.qcow2"), self.path("out.raw"))
        os.chdir(self.dir)
        images.qemu_io("out.raw", "read -P 1 0 64k", fmt="raw")

    def test_relative_to_the_file(self):
        os.mkdir("sub")
        images.create("sub/base.qcow2")
        images.qemu_io("sub/base.qcow2", "write -P 3 0 64k")
        asyncow("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "sub/top.qcow2")
        self.reads("sub/top.qcow2", 3)

    def test_protocols_refused(self):
        for name in ("nbd://host/x", "json:{}", "http://host/x", "nbd:unix:/x"):
            with self.subTest(name):
                self.chain(name)
                r = asyncow("map", "top.qcow2", ok=(1,))
                self.assertIn("names are not supported", r.stderr)
        self.assertIn("only file names", asyncow("map", "nbd:x", ok=(1,)).stderr)

    def test_format_is_honoured(self):
        self.chain("base.qcow2", fmt="raw")
        self.reads_first_byte(0x51) # "Q" of the magic
        self.chain("base.qcow2", fmt="qcow2")
        self.reads_first_byte(1)
        self.chain("base.qcow2", fmt=None)
        self.reads_first_byte(1)
        images.create("base.raw", fmt="raw")
        asyncow("create", "-q", "-u", "-f", "qcow2", "-b", "base.raw", "-F", "qcow2", "t.qcow2",
                "6M")
        self.assertIn("base.raw: not a qcow2", asyncow("map", "t.qcow2", ok=(1,)).stderr)

    def reads_first_byte(self, value):
        asyncow("convert", "-O", "raw", "top.qcow2", "out.raw")
        self.assertEqual(read("out.raw", 0, 1), value)

    def test_other_formats_refused(self):
        self.chain("base.qcow2", fmt="raw")
        with open("top.qcow2", "r+b") as f:
            data = f.read(4096)
            at = data.index(bytes.fromhex("e2792aca00000003")) + 8
            f.seek(at)
            f.write(b"vdi")
        self.assertIn("format \"vdi\" is not supported",
                      asyncow("map", "top.qcow2", ok=(1,)).stderr)

    def test_loops(self):
        self.chain("base.qcow2")
        qemu("rebase", "-u", "-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2", "top.qcow2")
        self.assertIn("loop", asyncow("map", "top.qcow2", ok=(1,)).stderr)
        asyncow("create", "-q", "-u", "-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2",
                "second.qcow2", "6M")
        self.chain("second.qcow2")
        self.assertIn("loop", asyncow("map", "top.qcow2", ok=(1,)).stderr)

    def test_length(self):
        below = "base.qcow2"
        images.create(below, "cluster_size=512", "64k")
        for i in range(200):
            asyncow("create", "-q", "-u", "-f", "qcow2", "-o", "cluster_size=512", "-b", below,
                    "-F", "qcow2", f"{i}.qcow2", "64k")
            below = f"{i}.qcow2"
        asyncow("map", "198.qcow2")
        self.assertIn("longer than 200", asyncow("map", "199.qcow2", ok=(1,)).stderr)

    def test_missing(self):
        self.chain("gone.qcow2")
        self.assertIn("gone.qcow2: No such file", asyncow("map", "top.qcow2", ok=(1,)).stderr)
        asyncow("info", "top.qcow2") # looks at one file only
        asyncow("check", "top.qcow2")


class Ready(images.ImageTest):
    """What a writer owes an image first. convert -n opens its target for write."""

    def written(self, path, ok=(0,)):
        images.create("data.raw", size="6M", fmt="raw")
        images.qemu_io("data.raw", "write -P 9 1M 64k", fmt="raw")
        return asyncow("convert", "-n", "-f", "raw", "-O", "qcow2", "data.raw", path, ok=ok)

    def test_dirty(self):
        images.create("d.qcow2", "lazy_refcounts=on")
        images.qemu_io("d.qcow2", "write -P 1 0 1M")
        block = read("d.qcow2", read("d.qcow2", 48))
        for k in range(5, 16): # as after a crash: counts that were never written
            write("d.qcow2", block + 2 * k, 0, 2)
        write("d.qcow2", 72, 1)
        self.written("d.qcow2")
        self.assertEqual(read("d.qcow2", 72), 0)
        self.assert_clean("d.qcow2")
        self.assert_same("d.qcow2", "data.raw")

    def test_corrupt(self):
        images.create("c.qcow2")
        write("c.qcow2", 72, 2)
        self.assertIn("corrupt", self.written("c.qcow2", ok=(1,)).stderr)
        asyncow("map", "c.qcow2") # reading goes on

    def test_repair_alone(self):
        images.create("u.qcow2")
        r = asyncow("check", "-U", "-r", "all", "u.qcow2", ok=(1,))
        self.assertIn("exclude each other", r.stderr)

    def test_unknown_autoclear(self):
        images.create("a.qcow2")
        write("a.qcow2", 88, 1 << 60 | 1 << 7)
        asyncow("map", "a.qcow2")
        self.assertNotEqual(read("a.qcow2", 88), 0)
        self.written("a.qcow2")
        self.assertEqual(read("a.qcow2", 88), 0)

    def test_bitmaps_are_dropped(self):
        for backing in (None, ("base.qcow2", "qcow2")):
            if backing:
                images.create("base.qcow2")
            images.create("b.qcow2", backing=backing)
            for name in ("one", "two"):
                qemu("bitmap", "--add", "-g", "512", "b.qcow2", name)
            images.qemu_io("b.qcow2", "write -P 1 0 3M")
            self.written("b.qcow2")
            self.assert_clean("b.qcow2")
            self.assertEqual(read("b.qcow2", 88), 0)
            info = json.loads(qemu("info", "--output=json", "b.qcow2").stdout)
            self.assertNotIn("bitmaps", info["format-specific"]["data"])
            self.assertEqual(info.get("backing-filename"), backing[0] if backing else None)
            self.assertEqual(info.get("backing-filename-format"), backing[1] if backing else None)


if __name__ == "__main__":
    images.main()
