"""huey's side of the benchmark."""

from __future__ import annotations

import os
from typing import Any

from huey import RedisHuey

from benchmarks import work

huey = RedisHuey("bench", url=os.environ["MRQ_BENCH_URL"], blocking=True)


@huey.task()
def run(name: str, k: int) -> Any:
    """The function of that name in ``work``."""
    return getattr(work, name)(k)
