"""img resize: what was there stays, what is new reads zeros whatever the image or its backing
file held before, nothing for check to find; what can't be done is refused and changes nothing."""

import json
import pathlib

import images
from images import KIB, MIB, asyncow, qemu

SIZE = 4 * MIB
LARGER = 9 * MIB + 512


def as_raw(path):
    qemu("convert", "-O", "raw", path, "r")
    return pathlib.Path("r").read_bytes()


class Resize(images.ImageTest):
    def size(self, path):
        return json.loads(qemu("info", "--output=json", path).stdout)["virtual-size"]

    def refused(self, path, *argv, why):
        before = pathlib.Path(path).read_bytes()
        r = asyncow("resize", *argv, ok=(1,))
        self.assertIn(why, r.stderr)
        self.assertEqual(pathlib.Path(path).read_bytes(), before)

    def test_grows_and_shrinks(self):
        for kind in filter(images.possible, images.KINDS):
            with self.subTest(**kind):
                path = images.make(self.rng, kind, size=SIZE)
                was = as_raw(path)
                if kind["compat"] == "0.10" and kind["snapshot"]:
                    self.refused(path, path, "+1M", why="delete them first")
                    self.refused(path, "--shrink", path, "-1M", why="delete them first")
                    continue
                asyncow("resize", path, str(LARGER))
                self.assertEqual(self.size(path), LARGER)
                self.assert_clean(path)
                self.assertEqual(as_raw(path), was + bytes(LARGER - SIZE))
                images.qemu_io(path, f"write -P 7 {LARGER - 70 * KIB} 70k")
                smaller = self.rng.randrange(1, SIZE // 512) * 512
                asyncow("resize", "--shrink", path, f"-{LARGER - smaller}")
                self.assertEqual(self.size(path), smaller)
                self.assert_clean(path)
                self.assertEqual(as_raw(path), was[:smaller])
                asyncow("resize", "-q", path, f"+{SIZE - smaller}")
                self.assert_clean(path)
                self.assertEqual(as_raw(path), was[:smaller] + bytes(SIZE - smaller))
                if kind["snapshot"]:
                    qemu("snapshot", "-a", "s1", path)
                    self.assert_clean(path)

    def test_backing_file_stays_below(self):
        """An overlay smaller than its backing file does not show more of it."""
        images.create("base.raw", size=str(SIZE), fmt="raw")
        images.qemu_io("base.raw", f"write -P 5 0 {SIZE}", fmt="raw")
        for compat in ("1.1", "0.10"):
            images.create("top.qcow2", f"compat={compat}", str(MIB), backing=("base.raw", "raw"))
            asyncow("resize", "top.qcow2", "6M")
            self.assertEqual(as_raw("top.qcow2"), bytes([5]) * MIB + bytes(5 * MIB))
            self.assert_clean("top.qcow2")

    def test_shrinking_frees(self):
        """Over a backing file too, which version 2 cannot hide by metadata."""
        images.create("base.raw", size=str(SIZE), fmt="raw")
        images.qemu_io("base.raw", f"write -P 5 0 {SIZE}", fmt="raw")
        for compat in ("1.1", "0.10"):
            images.create("top.qcow2", f"compat={compat}", str(SIZE), backing=("base.raw", "raw"))
            images.qemu_io("top.qcow2", f"write -P 6 0 {SIZE}")
            asyncow("resize", "--shrink", "top.qcow2", "1M")
            self.assert_clean("top.qcow2")
            self.assertEqual(as_raw("top.qcow2"), bytes([6]) * MIB)
            found = json.loads(qemu("check", "--output=json", "top.qcow2").stdout)
            self.assertEqual(found["allocated-clusters"], 16)
            self.assertLess(found["image-end-offset"], 2 * MIB)
            asyncow("resize", "top.qcow2", str(SIZE))
            self.assertEqual(as_raw("top.qcow2"), bytes([6]) * MIB + bytes(3 * MIB))

    def test_l1_table_moves(self):
        """512-byte clusters: 32 KiB an L1 entry, 64 entries a cluster."""
        images.create("a.qcow2", "cluster_size=512", "1M")
        images.scribble(self.rng, "a.qcow2", MIB, count=6)
        was = as_raw("a.qcow2")
        asyncow("resize", "a.qcow2", "256M")
        self.assert_clean("a.qcow2")
        images.qemu_io("a.qcow2", "write -P 9 255M 1M")
        self.assert_clean("a.qcow2")
        self.assertEqual(as_raw("a.qcow2"), was + bytes(254 * MIB) + bytes([9]) * MIB)

    def test_raw(self):
        images.create("a.raw", size="1M", fmt="raw")
        asyncow("resize", "-f", "raw", "a.raw", "+1M")
        self.assertEqual(len(pathlib.Path("a.raw").read_bytes()), 2 * MIB)

    def test_refusals(self):
        images.create("a.qcow2", size="1M")
        for argv, why in ((["a.qcow2", "512k"], "--shrink"),
                          (["a.qcow2", "-2M"], "the disk has 1048576 bytes"),
                          (["a.qcow2", "+0"], "changes nothing"),
                          (["a.qcow2", "ten"], "invalid size 'ten'"),
                          (["a.qcow2"], "expecting"),
                          (["--preallocation=full", "a.qcow2", "2M"], "not supported")):
            self.refused("a.qcow2", *argv, why=why)
        self.assertIn("L1 table", asyncow("resize", "a.qcow2", "4096P", ok=(1,)).stderr)
        asyncow("resize", "a.qcow2", "1M")
        self.assertEqual(self.size("a.qcow2"), MIB)
        self.assert_clean("a.qcow2")


if __name__ == "__main__":
    images.main()
