"""What the gauges and counters say of snapshots."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from mapreduce_rq.broker.inspect import ServerInfo
from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.cli.metrics.exporter import STUCK_SECONDS, master_in, workers_of
from mapreduce_rq.cli.metrics.readings import (
    MOST_DEAD,
    SAME_DEATH_SECONDS,
    Totals,
    backlog,
    checkpoint_age,
    uncut_tasks,
    workers_wanted,
)
from mapreduce_rq.cli.screen.views import LEADERLESS_SECONDS, SILENT_SECONDS, Seen
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.messages import Beat, Event
from mapreduce_rq.runtime.worker.wid import hostname

SERVER = ServerInfo("Valkey", "9.1.2", "master")


def job(name: str = "a", state: State = State.RUNNING, **report: Any) -> JobView:
    return JobView(name, "exp", {}, state, 1.0, "1:n:1", "u@h:1:n", Report(**report), None)


def snapshot(*jobs: JobView, waiting: int = 0, in_flight: int = 0, workers: tuple[WorkerView, ...] = ()) -> Snapshot:
    return Snapshot("q", SERVER, jobs, workers, waiting, in_flight, len(jobs))


def test_the_backlog_is_what_waits_is_in_hand_and_is_not_cut() -> None:
    cut = job(total=1000, cut=300, chunk=100)
    assert uncut_tasks(cut) == 7
    assert uncut_tasks(job(total=1001, cut=300, chunk=100)) == 8
    assert uncut_tasks(job(total=50)) == 0, "its first tasks are in the queue"
    assert uncut_tasks(job(total=None, cut=5, chunk=3)) == 0, "a stream: nobody knows"
    assert uncut_tasks(replace(cut, state=State.DONE)) == 0
    assert backlog(snapshot(cut, cut, waiting=3, in_flight=2)) == 19


def test_workers_are_wanted_for_thirty_seconds_of_work() -> None:
    assert workers_wanted(snapshot()) == 0
    assert workers_wanted(snapshot(job(state=State.DONE, total=10, counted=10))) == 0
    assert workers_wanted(snapshot(job(total=10), waiting=5)) == 1, "it scales from zero"
    # 2 workers do 10 terms a second; 3000 terms are left: 600 seconds of one worker.
    slow = job(total=3000, cut=100, chunk=10, rate=10.0, workers=2)
    assert workers_wanted(snapshot(slow)) == 20
    assert workers_wanted(snapshot(slow, slow)) == 40
    few = job(total=3000, cut=3000, chunk=1000, rate=10.0, workers=2)
    assert workers_wanted(snapshot(few, in_flight=3)) == 3, "not more than there are tasks"


def test_counters_only_grow_and_begin_with_the_first_look() -> None:
    totals = Totals()
    assert totals.look(snapshot(job("old", State.DONE, tasks=50), job("a", tasks=10, ignored=1))) == []
    assert (totals.tasks, totals.duplicates) == (0, 0)
    assert totals.look(snapshot(job("a", tasks=25, ignored=3), job("b", tasks=4, counted=9))) == []
    assert (totals.tasks, totals.duplicates, totals.terms) == (19, 2, 9)
    # Another master has taken a over, and counts anew from a checkpoint.
    totals.look(snapshot(job("a", tasks=20)))
    assert (totals.tasks, totals.duplicates) == (19, 2)
    assert totals.look(snapshot(job("a", State.DONE, tasks=30))) == ["a"]
    assert totals.tasks == 24
    assert totals.look(snapshot(job("a", State.DONE, tasks=30))) == [], "each end is told once"
    totals.happened([Event(job="a", what="worker lost"), Event(job="a", what="done")])
    assert totals.events["worker lost"] == 1


def test_a_worker_is_lost_once_however_many_masters_tell_of_it() -> None:
    def lost(job: str, name: str, why: str, at: float) -> Event:
        return Event(job=job, what="worker lost", text=f"{name}: {why}", at=at)

    totals = Totals()
    totals.happened([lost("a", "h:1", "killed by SIGKILL", 100.0), lost("b", "h:1", "killed by SIGKILL", 99.0)])
    totals.happened([lost("c", "h:1", "its host was lost; 3 tasks given back", 103.0), lost("a", "h:2", "gone", 103.0)])
    assert (totals.lost, totals.events["worker lost"]) == (2, 4)
    totals.happened([lost("a", "h:1", "killed by SIGKILL", 103.0 + SAME_DEATH_SECONDS + 1)])
    assert totals.lost == 3, "another process with the same number"
    totals.happened(lost("a", f"h:{k}", "gone", 500.0) for k in range(3 * MOST_DEAD))
    assert totals.lost == 3 + 3 * MOST_DEAD
    assert len(totals._dead) == MOST_DEAD


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def mine(**changes: Any) -> WorkerView:
    """A worker whose supervisor is this process' parent."""
    beat: dict[str, Any] = {
        "count": 1, "host": hostname(), "pid": os.getpid(), "name": "w", "state": "idle", "job": "", "lo": 0, "hi": 0,
        "seconds": 0.0, "done": 7, "rate": 0.0, "rss": 0, "version": "1", "probe": "", "kid": 0, "at": 50.0,
    }  # fmt: skip
    return WorkerView(f"{hostname()}:{os.getpid()}:ab", Beat(**beat | changes), "", 0)


def test_workers_that_beat_and_take_none_of_the_tasks_that_wait_do_not_consume() -> None:
    clock, seen = Clock(), Seen(50.0)
    check = workers_of(os.getppid(), clock)
    idle = snapshot(waiting=5, workers=(mine(),))
    assert check(idle, seen) == ""
    clock.now += STUCK_SECONDS
    assert check(idle, seen) == "", "not yet"
    clock.now += 1
    assert check(idle, seen) == "tasks wait, and its workers have taken none for 61 s"
    assert check(snapshot(waiting=5, workers=(mine(done=8),)), seen) == "", "one is done"
    clock.now += STUCK_SECONDS + 1
    assert check(snapshot(waiting=5, workers=(mine(done=8, state="busy"),)), seen) == "", "it computes"
    clock.now += STUCK_SECONDS + 1
    assert check(snapshot(waiting=0, workers=(mine(done=8),)), seen) == "", "nothing waits"
    clock.now += STUCK_SECONDS + 1
    assert check(snapshot(waiting=1, workers=(mine(done=8),)), seen), "that is as long as nothing was done"


def test_workers_that_do_not_beat_or_are_others_do_not_count() -> None:
    check, dead = workers_of(os.getppid(), Clock()), "none of its workers has given a sign of life"
    assert check(snapshot(workers=(mine(),)), Seen(50.0)) == ""
    assert check(snapshot(workers=(mine(),)), Seen(50.0 + SILENT_SECONDS + 1)) == dead
    assert check(snapshot(workers=(mine(host="elsewhere"),)), Seen(50.0)) == dead
    assert check(snapshot(workers=(mine(pid=1),)), Seen(50.0)) == dead
    assert check(snapshot(), Seen(50.0)) == dead


def test_a_master_is_well_as_long_as_its_jobs_change() -> None:
    check = master_in("u@h:1")
    led = job(at=90.0)  # led by u@h:1
    assert check(snapshot(led), Seen(100.0, {})) == ""
    assert check(snapshot(led), Seen(100.0, {"a": 1.0})) == "", "two looks that close decide nothing"
    assert check(snapshot(led), Seen(100.0, {"a": LEADERLESS_SECONDS})) == "no sign of its master of a for 10 s"
    assert master_in("u@h:2")(snapshot(led), Seen(100.0, {"a": 99.0})) == "", "it is another's"


def test_the_oldest_checkpoint_of_a_running_job_counts() -> None:
    seen = Seen(100.0)
    assert checkpoint_age(snapshot(job(saved=0.0)), seen) is None
    assert checkpoint_age(snapshot(job(saved=90.0), job("b", saved=97.0)), seen) == 10.0
    assert checkpoint_age(snapshot(job("c", State.DONE, saved=9.0)), seen) is None
