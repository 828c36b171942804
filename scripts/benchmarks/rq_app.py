"""rq's side of the benchmark: `python -m benchmarks.rq_app WORKER-CLASS NUMBER`."""

from __future__ import annotations

import multiprocessing
import os
import sys


def serve(kind: str) -> None:
    """One worker, until it is killed."""
    import redis
    import rq

    connection = redis.Redis.from_url(os.environ["MRQ_BENCH_URL"])
    queue = rq.Queue("bench", connection=connection)
    getattr(rq, kind)([queue], connection=connection).work(logging_level="CRITICAL")


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=serve, args=(sys.argv[1],)) for _ in range(int(sys.argv[2]))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
