"""What a seed decides before its world begins: the jobs, the hosts, the weather, the faults and their times.

The kinds of faults that a world has are drawn, too: some bugs show only if another kind, which would hide them, is
missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

from mapreduce_rq.core.messages import Limits, Spec
from tests.sim.computation import SimComputation, TestParams
from tests.sim.faults import COMMON, OF_MASTERS, STORMS
from tests.sim.model import Flavour
from tests.sim.network import EPOCH, Weather


@dataclass
class JobPlan:
    """One job of a world."""

    terms: int
    seconds: float  # of work in a term, on average
    ordered: bool = False
    kept: bool = False
    laid: bool = False
    joins: bool = False
    lazy: bool = False
    more: bool = False  # asks for half of its terms first
    asks: int = 0  # rounds of requests at its end
    raising: tuple[int, ...] = ()
    flaky: tuple[int, ...] = ()  # terms that raise at the first calls in each process
    retries: int = 0
    backoff: float = 1.0
    deadly: tuple[int, ...] = ()  # terms that kill each worker that computes them
    slow: dict[int, float] = field(default_factory=dict)  # additional seconds of a term when it is first computed
    on_error: str = "fail"
    chunk: int | None = None
    attempts: int = 1000  # enough that random deaths alone cannot fail a job
    task_timeout: float | None = None
    finishing: float = 0.0  # seconds that a master takes to make the outcome of the total
    keep: int = 3600  # seconds that the record stays
    starts: float = 0.0
    standbys: int = 0
    detached: bool = False  # its client only queues it
    even: bool = False  # every term costs the same
    logs: bool = False  # its client wants what is printed
    queue: int = 0  # its number
    urgent: bool = False

    @property
    def request_seconds(self) -> float:
        """Of work in a request."""
        return min(4 * self.seconds, 4.0)

    def costs(self, seed: int, name: str) -> list[float]:
        """Seconds of work in all terms before each, and in all of them."""
        chance = Random(f"costs {seed} {name}")
        shares = (1.0 if self.even else 0.2 + 0.8 * chance.expovariate(1) for _ in range(self.terms))
        return [0.0, *accumulate(self.seconds * share for share in shares)]

    def spec(self, name: str) -> Spec:
        """The job as it is submitted."""
        params: dict[str, Any] = {
            "terms": self.terms,
            "ordered": self.ordered,
            "kept": self.kept,
            "laid": self.laid,
            "joins": self.joins,
            "first": (self.terms + 1) // 2 if self.more else None,
            "lazy": self.lazy,
            "asks": self.asks,
            "raising": list(self.raising),
            "flaky": list(self.flaky),
            "retries": self.retries,
            "backoff": self.backoff,
        }
        return Spec(
            job=name,
            computation="sim",
            params=params,
            total=SimComputation(TestParams(**params)).total,
            limits=Limits(
                chunk=self.chunk,
                attempts=self.attempts,
                task_timeout=self.task_timeout,
                on_error="skip" if self.on_error == "skip" else "fail",
                keep=self.keep,
                logs=self.logs,
                urgent=self.urgent,
            ),
            created=EPOCH,
            version="sim",
            lazy=self.lazy,
            joins=self.joins,
        )


@dataclass
class Plan:
    """A whole world."""

    seed: int
    jobs: list[JobPlan]
    hosts: list[int]  # workers on each
    horizon: float  # end of the safety phase
    patience: float  # of the healing phase
    faults: list[tuple[float, str]] = field(default_factory=list)
    weather: Weather = field(default_factory=Weather)
    stays: bool = False  # on until the horizon, though the jobs are over
    flavour: Flavour = "valkey"
    masters: list[tuple[float, float, str]] = field(default_factory=list)
    """Processes that lead all jobs they find: when each comes, when it goes, and whether by KILL or TERM."""
    unattended: bool = False  # no user resumes a job that has lost its master
    queues: int = 1  # each worker works on all of them, in this order; `mrq master` leads the jobs of the first


def plan_of(seed: int) -> Plan:
    """The plan that a seed stands for."""
    rng = Random(f"plan {seed}")
    workers = rng.choice([1, 1, 2, 2, 3, 4, 6])
    jobs = [_job(rng, workers) for _ in range(rng.choice([1, 1, 1, 2]))]
    asking = Random(f"asks {seed}")
    for job in jobs:
        job.asks = asking.choice([0, 0, 1, 2])
    laying = Random(f"laid {seed}")
    for job in jobs:
        job.laid = not (job.ordered or job.lazy or job.more) and laying.random() < 0.5
    joining = Random(f"joins {seed}")
    for job in jobs:
        job.joins = not job.ordered and joining.random() < 0.5
    hurrying = Random(f"urgent {seed}")
    for job in jobs:
        job.urgent = hurrying.random() < 0.3
    printing = Random(f"logs {seed}")
    for job in jobs:
        job.logs = printing.random() < 0.3
    patches = Random(f"patches {seed}")
    for job in jobs:
        if job.chunk is None and patches.random() < 0.8:  # terms that nothing before them has foretold
            start = patches.randrange(job.terms)
            slow = range(start, min(start + patches.randint(1, 40), job.terms))
            job.slow = {k: patches.uniform(0.05, 0.8) for k in slow}
    many = Random(f"masters {seed}")
    masters: list[tuple[float, float, str]] = []
    for _ in range(many.choice([0, 0, 1, 2])):
        come = many.choice([0.0, many.uniform(0, 10)])
        masters.append((come, come + many.choice([many.uniform(1, 40), 1e9]), many.choice(["KILL", "TERM"])))
    for job in jobs:
        job.detached = bool(masters) and not job.lazy and not job.logs and many.random() < 0.5
    lines = Random(f"queues {seed}")
    queues = lines.choice([1, 1, 2, 3])
    for job in jobs:
        job.queue = 0 if job.detached else lines.randrange(queues)
    hosts: list[int] = []
    while sum(hosts) < workers:
        hosts.append(rng.randint(1, workers - sum(hosts)))
    work = sum(job.terms * job.seconds + job.finishing + sum(job.slow.values()) for job in jobs)
    busy = work / workers
    horizon = 1.5 * busy + rng.uniform(3, 40)
    kinds = [kind for kind in COMMON if rng.random() < rng.choice([0.1, 0.3, 0.6])]
    if any(job.lazy for job in jobs):  # what a lazy job's master knows is nowhere else
        kinds = [kind for kind in kinds if kind not in OF_MASTERS]
    if rng.random() < 0.08:
        kinds.append("cancel")
    faults = []
    for _ in range(rng.choice([0, 1, 2, 4, 8, 16, 30]) if kinds else 0):
        at = rng.uniform(0, 1.3 * busy + 0.5) if rng.random() < 0.7 else rng.uniform(0, horizon)
        faults.append((at, rng.choice(kinds)))
    rate = rng.choice([0.0, 0.0, 0.002, 0.01, 0.05])
    return Plan(
        seed=seed,
        jobs=jobs,
        hosts=hosts,
        horizon=horizon,
        patience=60 + 3 * work + sum(12 * job.asks * job.request_seconds for job in jobs),
        faults=sorted(faults),
        weather=Weather(
            latency=rng.choice([0.0002, 0.0005, 0.005, 0.05]),
            spread=rng.choice([0.0, 0.02, 0.2]),
            lost=rate * rng.random(),
            answer_lost=rate * rng.random(),
            late=rate * rng.random(),
            ghost=rng.choice([0.0, 0.2, 1.0]),
        ),
        stays=rng.random() < 0.3,
        flavour=rng.choice(["valkey", "redis"]),
        masters=masters,
        queues=queues,
    )


def storm_of(seed: int) -> Plan:
    """A plan of one of three storms, with two jobs and others ready to lead them: bugs show within a few."""
    rng = Random(f"storm {seed}")
    workers = rng.randint(2, 5)
    seconds = rng.uniform(20, 30)
    jobs = []
    for number in range(2):
        terms = rng.randint(60, 200)
        jobs.append(
            JobPlan(
                terms=terms,
                seconds=seconds * workers / terms / 2,
                ordered=number == 1,
                joins=number == 0 and seed % 2 == 0,
                raising=tuple(sorted(rng.sample(range(terms), 2))) if number == 0 else (),
                on_error="skip",
                chunk=rng.choice([1, 1, 3]),
                standbys=2,
            )
        )
    horizon = 2 * seconds
    kinds = STORMS[seed % len(STORMS)]
    lossy = 0.02 if seed % len(STORMS) else 0.0
    return Plan(
        seed=seed,
        jobs=jobs,
        hosts=[1] * workers,
        horizon=horizon,
        patience=60 + 4 * workers * seconds,
        faults=sorted((rng.uniform(0, horizon), rng.choice(kinds)) for _ in range(60)),
        weather=Weather(latency=0.002, spread=0.05, lost=lossy / 2, answer_lost=lossy, late=lossy, ghost=0.5),
        flavour=rng.choice(["valkey", "redis"]),
    )


def _job(rng: Random, workers: int) -> JobPlan:
    fast = rng.random() < 0.3
    terms = rng.randint(50, 600) if fast else rng.randint(1, 120)
    duration = rng.uniform(0.2, 3) if fast else min(rng.uniform(2, 40), 4.0 * terms)
    lazy = rng.random() < 0.1
    raising: tuple[int, ...] = ()
    on_error = "fail"
    if rng.random() < 0.2:
        raising = tuple(sorted(rng.sample(range(terms), min(terms, rng.randint(1, 3)))))
        on_error = rng.choice(["fail", "skip", "skip"])
    ordered = rng.random() < 0.5
    return JobPlan(
        terms=terms,
        seconds=duration * workers / terms,
        ordered=ordered,
        lazy=lazy,
        more=not lazy and not raising and terms > 1 and rng.random() < 0.1,
        raising=raising,
        on_error=on_error,
        chunk=rng.choice([None, None, 1, 1, rng.randint(2, 20)]),
        starts=rng.choice([0.0, 0.0, rng.uniform(0, 5)]),
        standbys=0 if lazy else rng.choice([0, 1, 1, 2]),
        finishing=rng.choice([0.0] * 9 + [15.0]),
        kept=ordered and rng.random() < 0.4,
    )
