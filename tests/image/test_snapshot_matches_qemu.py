"""img snapshot makes, lists, applies and deletes internal snapshots as qemu-img does: the
same list, the same bytes, nothing for check to find; and it says why when it can't."""

import json
import re
import shutil

import images
from images import MIB, asyncow, qemu

SIZE = 4 * MIB
EXTRA_KNOWN = 24


def as_raw(path, out, snapshot=None):
    argv = ["-l", f"snapshot.name={snapshot}"] if snapshot else []
    qemu("convert", "-O", "raw", *argv, path, out)
    with open(out, "rb") as f:
        return f.read()


def table_entry(path):
    """Where the first entry of the snapshot table is."""
    return images.read(path, 64)


class Snapshot(images.ImageTest):
    def assert_list(self, path):
        """Both programs list the same."""
        ours = asyncow("snapshot", "-l", path).stdout
        self.assertEqual(ours, qemu("snapshot", "-l", path).stdout)
        self.assertEqual(asyncow("info", path).stdout, qemu("info", path).stdout)
        self.assertEqual(json.loads(asyncow("info", "--output=json", path).stdout),
                         json.loads(qemu("info", "--output=json", path).stdout))

    def names(self, path):
        info = json.loads(qemu("info", "--output=json", path).stdout)
        return [s["name"] for s in info.get("snapshots", [])]

    def scribble(self, path, count=8):
        images.scribble(self.rng, path, SIZE, count=count)

    def test_lives_with_qemu(self):
        """Snapshots of both programs in one image, whatever the geometry."""
        kinds = ["compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=4k",
                 "cluster_size=2M", "refcount_bits=4", "refcount_bits=64",
                 "compression_type=zstd", "preallocation=metadata"]
        for n, options in enumerate(kinds):
            with self.subTest(options=options):
                path = f"{n}.qcow2"
                images.create(path, options, str(SIZE))
                self.scribble(path)
                held = {"ours": as_raw(path, "r")}
                asyncow("snapshot", "-c", "ours", path)
                self.assert_clean(path)
                self.scribble(path)
                held["theirs"] = as_raw(path, "r")
                qemu("snapshot", "-c", "theirs", path)
                self.scribble(path)
                now = as_raw(path, "r")
                self.assert_list(path)
                self.assertEqual(self.names(path), ["ours", "theirs"])
                for name, what in held.items():
                    self.assertEqual(as_raw(path, "r", name), what)

                asyncow("snapshot", "-a", "theirs", path)
                self.assert_clean(path)
                self.assertEqual(as_raw(path, "r"), held["theirs"])
                self.assertNotEqual(now, held["theirs"])
                self.assertEqual(as_raw(path, "r", "ours"), held["ours"])
                self.scribble(path)
                after = as_raw(path, "r")
                asyncow("snapshot", "-d", "theirs", path)
                self.assert_clean(path)
                self.assertEqual(as_raw(path, "r"), after)
                self.assertEqual(as_raw(path, "r", "ours"), held["ours"])
                qemu("snapshot", "-a", "ours", path)
                self.assertEqual(as_raw(path, "r"), held["ours"])
                qemu("snapshot", "-d", "ours", path)
                self.assert_clean(path)
                self.assertEqual(self.names(path), [])

    def test_compressed_and_backed(self):
        images.compressed(self.rng, "base.qcow2", "cluster_size=64k", SIZE)
        images.create("top.qcow2", size=str(SIZE), backing=("base.qcow2", "qcow2"))
        for path in ("base.qcow2", "top.qcow2"):
            before = as_raw(path, "r")
            asyncow("snapshot", "-c", "s", path)
            self.scribble(path)
            self.assertEqual(as_raw(path, "r", "s"), before)
            asyncow("snapshot", "-a", "s", path)
            self.assertEqual(as_raw(path, "r"), before)
            asyncow("snapshot", "-d", "s", path)
            self.assert_clean(path)
            self.assertEqual(as_raw(path, "r"), before)

    def test_keeps_what_it_does_not_know(self):
        """VM state size and extra data that came from elsewhere outlive our changes."""
        path = images.create("x.qcow2", size=str(SIZE))
        self.scribble(path)
        name = "n" * 30
        qemu("snapshot", "-c", name, path)
        at = table_entry(path)
        # A name of 30 becomes 8 bytes of extra data nobody knows and a name of 22.
        with open(path, "r+b") as f:
            f.seek(at)
            e = bytearray(f.read(40 + EXTRA_KNOWN + 1 + 30))
            e[14:16] = (22).to_bytes(2, "big")
            e[32:36] = (12345).to_bytes(4, "big")
            e[36:40] = (EXTRA_KNOWN + 8).to_bytes(4, "big")
            e[40:48] = (12345).to_bytes(8, "big")
            e[24:32] = (7654321987654).to_bytes(8, "big")
            e[64:] = b"UNKNOWN!" + b"1" + b"n" * 22
            f.seek(at)
            f.write(e)
        self.assert_list(path)
        was = bytes(e)
        for step in (["-c", "two"], ["-c", "three"], ["-d", "two"], ["-a", "three"]):
            asyncow("snapshot", *step, path)
            with open(path, "rb") as f:
                f.seek(table_entry(path) + 8)
                self.assertEqual(f.read(len(was) - 8), was[8:], step)
            self.assert_clean(path)
            self.assert_list(path)
        self.assertRegex(asyncow("snapshot", "-l", path).stdout, r"12\.1 KiB .* 02:07:34\.321")

    def test_names(self):
        """By id and by name, twice the same name, a number for a name."""
        path = images.create("n.qcow2", size=str(SIZE))
        for name in ("one", "one", "1", "7"):
            asyncow("snapshot", "-q", "-c", name, path)
        self.assert_list(path)
        asyncow("snapshot", "-d", "1", path)  # the name, not the id
        self.assertEqual(self.names(path), ["one", "one", "7"])
        r = asyncow("snapshot", "-d", "2", path, ok=(1,))
        self.assertIn("no such snapshot", r.stderr)
        self.assertEqual(qemu("snapshot", "-d", "2", path, ok=None).returncode, 1)
        asyncow("snapshot", "-a", "2", path)  # the id
        asyncow("snapshot", "-d", "one", path)
        self.assertEqual(self.names(path), ["one", "7"])
        asyncow("snapshot", "-c", "x" * 255, path)
        self.assert_list(path)
        self.assert_clean(path)

    def refuse(self, path, argv, why, exit_theirs=1):
        with open(path, "rb") as f:
            before = f.read()
        r = asyncow("snapshot", *argv, path, ok=(1,))
        self.assertRegex(r.stderr, re.escape("asyncow img snapshot: ") + ".*" + why)
        self.assertEqual(r.stdout, "")
        with open(path, "rb") as f:
            self.assertEqual(f.read(), before, "a refusal changed the image")
        if exit_theirs is not None:  # on a copy: some of its refusals leak clusters
            copy = shutil.copy(path, "theirs-" + path)
            self.assertEqual(qemu("snapshot", *argv, copy, ok=None).returncode, exit_theirs)

    def test_refusals(self):
        path = images.create("r.qcow2", size=str(SIZE))
        self.scribble(path)
        self.refuse(path, ["-a", "nope"], "could not apply snapshot 'nope': no such snapshot")
        self.refuse(path, ["-d", "nope"], "could not delete snapshot 'nope': no such")
        self.refuse(path, ["-c", "a", "-l"], "cannot mix")
        self.refuse(path, ["-c", "x" * 256], "256 bytes: at most 255", None)
        self.refuse(path, ["-c", ""], "name is empty", None)
        self.refuse(path, ["-U", "-c", "a"], "-U is for reading")
        self.refuse(path, ["--image-opts", "-l"], "'--image-opts' is not supported", None)
        self.refuse(path, ["--object", "-l"], "'--object' is not supported", None)
        self.refuse(path, ["-l", "other"], "unexpected argument")

    def test_narrow_refcounts(self):
        images.create("narrow.qcow2", "refcount_bits=1", str(SIZE))
        images.qemu_io("narrow.qcow2", "write 0 64k")
        self.refuse("narrow.qcow2", ["-c", "a"], "refcount_bits is 1")
        self.assert_clean("narrow.qcow2")
        images.create("two.qcow2", "refcount_bits=2", str(SIZE))
        images.qemu_io("two.qcow2", "write 0 64k")
        for name in ("a", "b"):
            asyncow("snapshot", "-c", name, "two.qcow2")
        self.refuse("two.qcow2", ["-c", "c"], "refcount_bits is 2")
        self.assert_clean("two.qcow2")

    def test_not_to_be_written(self):
        """Corrupt, in use by another program, or not qcow2."""
        path = images.create("c.qcow2", size=str(SIZE))
        qemu("snapshot", "-c", "a", path)
        images.write(path, 72, images.read(path, 72) | 2)
        self.refuse(path, ["-c", "b"], "corrupt")
        self.assertEqual(asyncow("snapshot", "-l", path).stdout,
                         qemu("snapshot", "-l", path).stdout)
        images.create("r.raw", size="1M", fmt="raw")
        self.refuse("r.raw", ["-c", "b"], "a raw image has no snapshots")
        self.refuse("r.raw", ["-a", "b"], "a raw image has no snapshots")
        self.assertEqual(asyncow("snapshot", "-l", "r.raw").stdout, "")
        self.assertEqual(asyncow("snapshot", "-l", "nofile", ok=None).returncode, 1)


if __name__ == "__main__":
    images.main()
