"""A map-reduce on rq workers that run already, and an RQ job that depends on it.

    pip install mapreduce-rq                                   # where the rq workers run
    (cd examples/rq_fleet && rq worker -u redis://host) &      # as always; two of them share the work
    python3 examples/rq_fleet/enqueue.py redis://host

The RQ job can be watched in ``rq info`` and rq-dashboard, stopped, retried and repeated as any other.
"""

from __future__ import annotations

import sys
import time

from redis import Redis
from rq import Callback, Queue, Retry


def main() -> None:
    queue = Queue(connection=Redis.from_url(sys.argv[1] if len(sys.argv) > 1 else "redis://localhost"))
    job = queue.enqueue(
        "mapreduce_rq.rq.map_reduce",
        args=("shop:revenue", range(1_000_000)),
        kwargs={"reduce": "sum"},
        job_timeout=-1,  # RQ's default is three minutes
        retry=Retry(max=3),  # goes on from what is counted
        on_stopped=Callback("mapreduce_rq.rq.on_stopped"),
    )
    after = queue.enqueue("shop.announce", job.id, depends_on=job)
    while not after.is_finished:
        meta = job.get_meta()
        progress, workers = meta.get("progress") or 0, meta.get("workers") or 0  # None before the first report
        print(f"{job.get_status().value}: {progress:.0%}, {workers} workers")
        time.sleep(0.5)
    print(after.return_value())
    print(f"exact, digest {job.get_meta()['digest']}")


if __name__ == "__main__":
    main()
