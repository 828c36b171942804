"""dramatiq's side of the benchmark."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import work

_url = os.environ["MRQ_BENCH_URL"]
broker = RedisBroker(url=_url)
broker.add_middleware(Results(backend=RedisBackend(url=_url)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def run(name: str, k: int) -> Any:
    """The function of that name in ``work``."""
    return getattr(work, name)(k)
