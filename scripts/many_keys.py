#!/usr/bin/env python3
"""Sums many records by many keys into a folder of files, and tells the time and the peak memory of each process. Linux.

    scripts/many_keys.py                     10^8 records with 10^7 keys: some minutes on two cores
    scripts/many_keys.py --short             10^6 records with 10^5 keys: a few seconds
    scripts/many_keys.py --shared            over a server that the workers share with others: all goes through it

The sums are checked against a closed form, so the run says, too, whether each record was counted once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))  # the package of this checkout, installed or not

from benchmarks.machine import status_number
from benchmarks.ours import attached, fleet, wait_until
from benchmarks.records import KEYS, VARIABLE, record

from mapreduce_rq import Client
from mapreduce_rq.runtime.server.embedded import EmbeddedServer


def main() -> int:
    """Run the command line."""
    options = _options()
    if options.keys != KEYS:
        os.environ[VARIABLE] = str(options.keys)  # workers import this file anew
        os.execv(sys.executable, [sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="mrq-many-", dir=options.folder) as folder, ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer.start())
        client = stack.enter_context(_opened(server, options.workers, shared=options.shared))
        before = status_number(os.getpid(), "VmRSS")
        laid = stack.enter_context(_largest(Path(server.shelf)))
        started = time.perf_counter()
        written = client.reduce_by_key(record, range(options.records), out=Path(folder, "sums"))
        seconds = time.perf_counter() - started
        workers = [view.beat.pid for view in client.snapshot().workers if view.beat is not None]
        with redis.Redis.from_url(server.url) as connection:
            memory: Any = connection.info("memory")
        rows = {
            "seconds": round(seconds, 1),
            "records a second": round(options.records / seconds),
            "keys": written.keys,
            "files, MB": round(written.bytes / 1e6),
            "master before, MB": round(before / 1024),
            "master at its peak, MB": round(status_number(os.getpid(), "VmHWM") / 1024),
            "each worker at its peak, MB": [round(status_number(pid, "VmHWM") / 1024) for pid in workers],
            "server at its peak, MB": round(memory["used_memory_peak"] / 1e6),
            "server after it, MB": round(memory["used_memory"] / 1e6, 1),
            "files aside at their peak, MB": round(laid[0] / 1e6),
            "each key as it must be": _right(Path(folder, "sums"), options.records),
        }
    print("\n".join(f"{name:32}{value}" for name, value in rows.items()))
    return 0 if rows["each key as it must be"] else 1


@contextmanager
def _opened(server: EmbeddedServer, workers: int, *, shared: bool) -> Iterator[Client]:
    with ExitStack() as stack:
        if not shared:
            yield stack.enter_context(Client(local=workers, server=server))
            return
        pool = fleet(server.url, workers)
        stack.callback(pool.stop)
        client = stack.enter_context(attached(server))
        wait_until(lambda: len(client.snapshot().workers) >= workers, f"{workers} workers")
        yield client


@contextmanager
def _largest(folder: Path) -> Iterator[list[int]]:
    """The most bytes that this folder has held while entered."""
    found, stop = [0], threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            size = 0
            for path in folder.rglob("*"):
                try:
                    size += path.stat().st_size if path.is_file() else 0
                except OSError:
                    continue  # it went meanwhile
            found[0] = max(found[0], size)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _right(folder: Path, records: int) -> bool:
    """Whether each key is there once, with its sum."""
    seen = bytearray(KEYS)
    for path in folder.glob("part-*.jsonl"):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                key = row["key"]
                if seen[key] or row["value"] != key % 10 * (records // KEYS):
                    return False
                seen[key] = 1
    return all(seen)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="10^6 records with 10^5 keys")
    parser.add_argument("--records", type=int, metavar="N", help="a multiple of the keys")
    parser.add_argument("--keys", type=int, metavar="N", help="a power of ten")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--shared", action="store_true", help="over a server that workers share with others")
    parser.add_argument("--folder", metavar="DIR", help="where the files go, which are removed again")
    options = parser.parse_args()
    options.records = options.records or (10**6 if options.short else 10**8)
    options.keys = options.keys or (10**5 if options.short else 10**7)
    if options.records % options.keys:
        parser.error("the records must be a multiple of the keys")
    return options


if __name__ == "__main__":
    sys.exit(main())
