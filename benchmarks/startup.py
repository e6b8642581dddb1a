#!/usr/bin/env python3
"""Time to the first token of a whole process, beside the time to read the model's bytes.

Each repetition does both, warm (the file in the page cache) and cold (dropped from it before each), in
alternating order:

    run:   `venturi run -m FILE -p Hello -n 1 -q -t THREADS`, from its start to its first byte of output
    read:  THREADS threads read the file into fresh anonymous memory on huge pages, 1 MB at a time in file
           order, as loading does, with nothing done to the bytes

each just after one of the same kind that is not counted: memory that a guest has not used lately has to be
given to it by its host first, which takes longer than anything here. What is printed are the medians of the times and of the ratio within a repetition, with its range. Where
the machine is a guest, its host may still hold a file that is cold here; reading is flattered as much.

    benchmarks/startup.py --venturi build/release/venturi --model FILE.gguf [--json OUT]
"""
import argparse
import json
import mmap
import os
import statistics
import subprocess
import threading
import time

PIECE = 1 << 20


def drop(path):
    """Out of the page cache; all of it where we may."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        with open("/proc/sys/vm/drop_caches", "w") as control:
            control.write("1")
    except OSError:
        pass


def warm(path):
    with open(path, "rb", buffering=0) as file:
        piece = bytearray(PIECE)
        while file.readinto(piece):
            pass


def read_seconds(path, threads):
    begin = time.monotonic()
    size = os.stat(path).st_size
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(memory)
    fd = os.open(path, os.O_RDONLY)
    pieces = iter(range(0, size, PIECE))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                at = next(pieces, None)
            if at is None:
                return
            end = min(at + PIECE, size)
            while at < end:
                got = os.preadv(fd, [view[at:end]], at)
                if got <= 0:
                    raise SystemExit(f"{path}: ends at {at}")
                at += got

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - begin
    os.close(fd)
    view.release()
    memory.close()
    return seconds


def run_seconds(args):
    command = [args.venturi, "run", "-m", args.model, "-p", "Hello", "-n", "1", "-q", "--temp", "0",
               "-t", str(args.threads)]
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        first = process.stdout.read(1)
        seconds = time.monotonic() - begin
        process.stdout.read()
    if process.returncode != 0 or not first:
        raise SystemExit(f"{' '.join(command)}: no token, exit code {process.returncode}")
    return seconds


def measure(args, state):
    rows = []
    for repetition in range(args.repetitions):
        row = {}
        for what in ("run", "read") if repetition % 2 else ("read", "run"):
            for counted in (False, True):
                if state == "cold" and counted:
                    drop(args.model)
                else:
                    warm(args.model)
                row[what] = run_seconds(args) if what == "run" else read_seconds(args.model, args.threads)
        row["ratio"] = row["run"] / row["read"]
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venturi", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--states", nargs="+", default=["warm", "cold"], choices=["warm", "cold"])
    parser.add_argument("--json")
    args = parser.parse_args()
    result = {state: measure(args, state) for state in args.states}
    print("| | read | to the first token | ratio | low to high |\n|---|---|---|---|---|")
    for state, rows in result.items():
        median = {key: statistics.median(row[key] for row in rows) for key in ("read", "run", "ratio")}
        ratios = [row["ratio"] for row in rows]
        print(f"| {state} | {median['read']:.2f} s | {median['run']:.2f} s | {median['ratio']:.2f} | "
              f"{min(ratios):.2f} to {max(ratios):.2f} |")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
