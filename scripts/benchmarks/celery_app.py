"""celery's side of the benchmark."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from benchmarks import work

_url = os.environ["MRQ_BENCH_URL"].replace("unix://", "redis+socket://", 1)
app = Celery("bench", broker=_url, backend=_url)
app.conf.broker_connection_retry_on_startup = True


@app.task
def run(name: str, k: int) -> Any:
    """The function of that name in ``work``."""
    return getattr(work, name)(k)
