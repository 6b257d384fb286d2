#!/usr/bin/env python3
"""make_corpus.py ASYNCOW DIRECTORY: small images of every kind, for the fuzzer to begin
with. Clusters are small, so that the bytes that matter are near each other."""

import os
import subprocess
import sys

CREATE = ["cluster_size=512", "cluster_size=512,compat=0.10", "cluster_size=1024",
          "cluster_size=512,refcount_bits=1", "cluster_size=512,refcount_bits=2",
          "cluster_size=512,refcount_bits=64", "cluster_size=512,preallocation=metadata",
          "cluster_size=4k,lazy_refcounts=on"]
WRITES = ["write -P 1 0 3k", "write -z 8k 4k", "discard 1k 1k", "write -P 2 20k 512"]


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def io(path, *commands):
    run("qemu-io", "-f", "qcow2", *[x for c in commands for x in ("-c", c)], path)


def main(asyncow, where):
    os.makedirs(where, exist_ok=True)
    os.chdir(where)
    for n, options in enumerate(CREATE):
        run(asyncow, "img", "create", "-q", "-f", "qcow2", "-o", options, f"empty-{n}", "64k")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, f"data-{n}", "64k")
        io(f"data-{n}", *WRITES)
        if "refcount_bits=1" in options:
            continue
        run("cp", f"data-{n}", f"snapshot-{n}")
        run("qemu-img", "snapshot", "-c", "s", f"snapshot-{n}")
        io(f"snapshot-{n}", "write -P 3 1k 2k")
    for kind in ("zlib", "zstd"):
        run("qemu-img", "convert", "-c", "-O", "qcow2", "-o",
            f"cluster_size=4k,compression_type={kind}", "data-0", f"compressed-{kind}")
    run("cp", "data-0", "bitmap")
    run("qemu-img", "bitmap", "--add", "-g", "512", "bitmap", "b")
    run("cp", "data-0", "dirty")
    with open("dirty", "r+b") as f:
        f.seek(79)
        f.write(b"\1")
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", "cluster_size=512", "-b", "data-0",
        "-F", "qcow2", "backed", "64k")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]), sys.argv[2])
