#!/usr/bin/env python3
"""Intent: on the sim engine a run is a function of its seed: for every strategy, threads
included, the same seed gives the same image, byte by byte, and the same report but for
what the machine itself took; another seed gives another; and every image is sound.
ASYNCOW_SEED sets the first seed. Usage: test_sim_run_repeats.py ASYNCOW
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ASYNCOW = ""
SEED = int(os.environ.get("ASYNCOW_SEED", "1"))
STRATEGIES = ["callbacks", "coroutines:hold=metadata", "coroutines:hold=none",
              "threadpool:hold=metadata", "threadpool:hold=none", "freeze-thaw",
              "threadpool:lock=rwlock,hold=metadata", "threadpool:mutex=fair,wait=park,workers=3"]
# What the machine took, not the simulated world.
MACHINE = ("manifest", "process")


def simulated(report):
    """The part of a report that the seed decides."""
    if isinstance(report, dict):
        return {k: simulated(v) for k, v in report.items() if not k.startswith(MACHINE)}
    if isinstance(report, list):
        return [simulated(v) for v in report]
    return report


class SimRun(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.base = os.path.join(self.dir.name, "base.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o",
                        "cluster_size=4096", self.base, "8M"], check=True)

    def tearDown(self):
        self.dir.cleanup()

    def run_once(self, strategy, seed, through):
        image = os.path.join(self.dir.name, "run.qcow2")
        shutil.copyfile(self.base, image)
        out = subprocess.run(
            [ASYNCOW, "run", "--image", image, "--strategy", strategy, "--engine", "sim",
             "--sim-model", "lognormal", "--rw", "randrw", "--bs", "3k", "--iodepth", "16",
             "--size", "1M", "--norandommap", "--number_ios", "500", "--fsync", "20",
             "--metadata-writes", "through" if through else "back", "--allow-write",
             "--seed", str(seed), "--output-format", "json"],
            capture_output=True, text=True, timeout=60)
        self.assertEqual(out.returncode, 0, out.stderr)
        check = subprocess.run(["qemu-img", "check", image], capture_output=True, text=True)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        with open(image, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        return digest, simulated(json.loads(out.stdout))

    def test_same_seed_same_run(self):
        for strategy in STRATEGIES:
            for through in (False, True):
                with self.subTest(strategy=strategy, through=through, seed=SEED):
                    first = self.run_once(strategy, SEED, through)
                    self.assertEqual(self.run_once(strategy, SEED, through), first)

    def test_other_seed_other_run(self):
        for strategy in STRATEGIES:
            with self.subTest(strategy=strategy, seed=SEED):
                first = self.run_once(strategy, SEED, True)
                other = self.run_once(strategy, SEED + 1, True)
                self.assertNotEqual(first[0], other[0])
                self.assertNotEqual(first[1], other[1])

    def guest(self, strategy):
        """What the guest did, and the disk it left. No block is written twice, so that the
        order in which requests overlap, which is the strategy's, makes no difference."""
        image = os.path.join(self.dir.name, "run.qcow2")
        shutil.copyfile(self.base, image)
        out = subprocess.run(
            [ASYNCOW, "run", "--image", image, "--strategy", strategy, "--engine", "sim",
             "--sim-model", "lognormal", "--rw", "randrw", "--bs", "3k", "--iodepth", "16",
             "--size", "6M", "--fsync", "20", "--seed", str(SEED),
             "--output-format", "json"], capture_output=True, text=True, timeout=60)
        self.assertEqual(out.returncode, 0, out.stderr)
        job = json.loads(out.stdout)["jobs"][0]
        done = [(job[op]["total_ios"], job[op]["io_bytes"]) for op in ("read", "write")]
        disk = os.path.join(self.dir.name, "disk.raw")
        subprocess.run(["qemu-img", "convert", "-O", "raw", image, disk], check=True)
        with open(disk, "rb") as f:
            return done, hashlib.sha256(f.read()).hexdigest()

    def test_same_seed_same_guest(self):
        first = self.guest(STRATEGIES[0])
        self.assertGreater(min(count for count, _ in first[0]), 500)
        for strategy in STRATEGIES[1:]:
            with self.subTest(strategy=strategy, seed=SEED):
                self.assertEqual(self.guest(strategy), first)


if __name__ == "__main__":
    ASYNCOW = sys.argv.pop(1)
    print("ASYNCOW_SEED=%d" % SEED)
    unittest.main()
