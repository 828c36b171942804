"""Masters and pools of workers as processes of their own, for tests to kill.

``python -m tests.support.actors ROLE SETTINGS`` starts one:

pool      workers; says ``ready``
lead      submits a function over a range and leads the job; says ``job ID``
follow    stands by for a job and leads it when its master is gone

A master says what its observer hears (``notice TEXT``, ``counted N``) and at last ``ended RECORD`` or ``error TEXT``.
SIGTERM has it let go of its job. Settings are JSON.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.client.client import Client
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.sealing import Keyring
from mapreduce_rq.errors import MrqError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.standby import Standby
from mapreduce_rq.runtime.pool.by_redis import ByRedis
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.supervisor import Pool


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201  the test reads it


class Herald:
    """An observer that says what it hears."""

    def __init__(self) -> None:
        self._counted = -1

    def progressed(self, report: Callable[[], Report]) -> None:
        counted = report().counted
        if counted != self._counted:
            self._counted = counted
            say("counted", counted)

    def noticed(self, text: str) -> None:
        say("notice", text)


class Letting:
    """On SIGTERM, tells the master or standby of this process to let go."""

    def __init__(self) -> None:
        self.whom: Standby | Master | None = None
        signal.signal(signal.SIGTERM, self._told)

    def _told(self, *_: object) -> None:
        if isinstance(self.whom, Master):
            self.whom.interrupt()
        elif self.whom is not None:
            self.whom.stop = True

    def watch(self, whom: Standby | Master) -> None:
        self.whom = whom


def run_pool(settings: dict[str, Any]) -> int:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="log %(message)s")
    keys = [bytes.fromhex(key) for key in settings["keys"]]
    trust = Trust(signed=bool(keys), allow=("tests.support.terms",))
    pool = Pool(
        PoolSettings(
            parse_url(settings["url"]),
            settings["queue"],
            Keyring(keys),
            settings["size"],
            burst=settings.get("burst", False),
            max_tasks=settings.get("max_tasks"),
            max_idle=settings.get("max_idle"),
            max_memory=settings.get("max_memory"),
            trust=trust,
        ),
        ByRedis,
    )
    return pool.run(lambda: say("ready"))


def run_master(settings: dict[str, Any], role: str) -> int:
    letting = Letting()
    keys = [bytes.fromhex(key) for key in settings["keys"]]
    with Client(settings["url"], queue=settings["queue"], keys=keys) as client:
        try:
            ended: Ended | None
            if role == "follow":
                say("following", settings["job"])
                ended = client.leader.follow(settings["job"], Herald(), letting.watch)
            else:
                spec, computation, _ = client.planner.function(
                    settings["function"],
                    range(settings["terms"]),
                    reduce=settings["reduce"],
                    limits=Limits(**settings.get("limits", {})),
                )
                master = client.leader.master(spec, computation, Herald())
                letting.watch(master)
                say("job", spec.job)
                ended = client.leader.lead(master)
        except MrqError as error:
            say("error", type(error).__name__, error)
            return error.exit_code
    say("ended", json.dumps(None if ended is None else {**ended.record.data, "state": ended.state}))
    return 0


def main() -> int:
    role, settings = sys.argv[1], json.loads(sys.argv[2])
    return run_pool(settings) if role == "pool" else run_master(settings, role)


if __name__ == "__main__":
    sys.exit(main())
