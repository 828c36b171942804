"""Each mechanism that keeps a job moving, in a small world made for it; and what happens without it.

A scenario says what must happen and by when. It holds for the protocol as it is, and fails when its mechanism is
switched off: so the mechanism works, and it is this mechanism that does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from mapreduce_rq.broker.job_hash import timeline_of
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.pieces import LaidApart
from mapreduce_rq.core.fleet import liveness
from mapreduce_rq.core.fleet.give_back import given_back
from mapreduce_rq.core.job.chunking import QUICK_WINDOW, Pace
from mapreduce_rq.core.job.events import Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.span import Runs
from mapreduce_rq.core.stragglers import Patience
from mapreduce_rq.errors import BadMessage, BrokerDown, NoSuchJob
from mapreduce_rq.functions.retries import Retrying
from mapreduce_rq.runtime.master import commits, exchange, standby, sweep
from mapreduce_rq.runtime.master.bodies import Bodies
from mapreduce_rq.runtime.master.ending import Ending
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.sweep import Sweeper
from mapreduce_rq.runtime.pool import reporter
from mapreduce_rq.runtime.pool.reporter import Reporter
from mapreduce_rq.runtime.pool.supervisor import Pool
from mapreduce_rq.runtime.worker import hand, joint_answers, known_jobs
from mapreduce_rq.runtime.worker.hand import Hand
from mapreduce_rq.runtime.worker.joint_answers import JointAnswer
from mapreduce_rq.runtime.worker.known_jobs import KnownJobs
from mapreduce_rq.runtime.worker.part_answers import Relief
from mapreduce_rq.runtime.worker.stops import Stop
from mapreduce_rq.runtime.worker.worker import Worker
from tests.sim import scripts
from tests.sim.actors import FIRST_PID, ClientProcess, Host
from tests.sim.computation import LaidTerms, Partial, RowOfTerms
from tests.sim.faults import start_cancel
from tests.sim.mutants import EDITS, Edit
from tests.sim.network import Weather
from tests.sim.plan import JobPlan, Plan
from tests.sim.scheduler import Actor
from tests.sim.store import Snapshot, Stream, is_hash
from tests.sim.world import Execution, Verdict, World, checked

NEVER = 10.0**9


class Stage:
    """A world without chance faults, and what a scenario asks of it."""

    def __init__(
        self, *jobs: JobPlan, hosts: list[int], weather: Weather | None = None, seed: int = 1, until: float = 300
    ) -> None:
        for job in jobs:
            job.even = True
        self.plan = Plan(
            seed, list(jobs), hosts, horizon=until, patience=1, weather=weather or Weather(resets=1.0), unattended=True
        )
        self.world = World(self.plan)
        self.world.server.model.on_script = None  # it is the scenario that must see what a script does not do
        self.verdict: Verdict | None = None

    def at(self, time: float, act: Callable[[], object]) -> None:
        """Have something happen."""
        self.world.scheduler.at(time, act)

    def fault(self, time: float, kind: str) -> None:
        """Have one of the common faults happen."""
        self.at(time, lambda: self.world.inject(kind))

    def run(self) -> None:
        """To the end of it. Fails if the world fails."""
        with checked():
            self.verdict = self.world.run()
        assert not self.verdict.failure, self.verdict.failure

    @property
    def ended(self) -> float:
        """When every client knew the end."""
        assert self.verdict is not None
        return self.verdict.seconds

    def computed(self, k: int, job: str = "sim-0") -> list[Execution]:
        """Who computed a term, in order of time."""
        return [one for one in self.world.executions if one.job == job and one.lo <= k < one.hi]

    def kill_the_computer_of(self, k: int, job: str = "sim-0") -> None:
        """Kill who has begun to compute a term last."""
        by = self.computed(k, job)[-1].by
        for host in self.world.hosts:
            for pid in [pid for pid, worker in host.workers.items() if worker.actor.name == by]:
                host.kill_worker(pid)

    def histories(self, key: str) -> Iterator[Any]:
        """All values that a key ever had."""
        for snapshot in self.world.server.model.history:
            if key.encode() in snapshot.keys:
                yield snapshot.keys[key.encode()]

    def attempts(self) -> int:
        """The most attempts that any task ever had."""
        most = 0
        hands = self.world.keys.in_flight("").encode()
        seen: set[bytes] = set()
        for snapshot in self.world.server.model.history:
            for key, value in snapshot.keys.items():
                if isinstance(value, tuple) and (key.startswith(hands) or key == self.world.keys.queue.encode()):
                    seen.update(item for item in value if isinstance(item, bytes))
        for item in seen:
            with contextlib.suppress(BadMessage):
                task: Task = self.world.codecs.task.open(item)
                most = max(most, task.attempt)
        return most

    @property
    def master(self) -> ClientProcess:
        """Who has submitted the first job."""
        return self.world.clients[0]

    def interrupt_master(self) -> None:
        """TERM."""
        self.master.interrupt()

    def pause_master(self) -> None:
        """SIGSTOP."""
        self.master.actor.pause()

    def resume_master(self) -> None:
        """SIGCONT."""
        self.master.actor.resume()

    def masters(self) -> list[str]:
        """Everybody who ever led the first job."""
        found = [state[b"tok"].decode().split(":")[1] for state in self.histories(self.world.keys.job("sim-0"))]
        return list(dict.fromkeys(found))


# -- workers -------------------------------------------------------------------------------------------------------


def a_killed_workers_task_runs_elsewhere_within_a_second() -> None:
    stage = Stage(JobPlan(1, 4.0, chunk=1), hosts=[2])
    stage.at(2, lambda: stage.kill_the_computer_of(0))
    stage.run()
    first, second = stage.computed(0)
    assert second.at - 2 <= 1
    assert second.by != first.by


def _told_lost(stage: Stage) -> list[str]:
    """The workers of whose death the timeline of the first job tells, one for each time."""
    (state,) = list(stage.histories(stage.world.keys.job("sim-0")))[-1:]
    timeline = timeline_of(stage.world.codecs, "sim-0", state.get(b"timeline"), state.get(b"since"))
    assert timeline is not None
    marks = [mark.text.split(": ") for mark in timeline.marks]
    return [mark[1] for mark in marks if mark[0] == "worker lost" and mark[2].startswith("killed by SIGKILL")]


def _address(by: str) -> str:
    """A worker's address, by the name of its actor."""
    host, _, number = by.partition(".")
    return f"{host}:{FIRST_PID + int(number)}"


def who_dies_before_the_first_look_is_told_of_once() -> None:
    # Another job's worker has died before, which is told of by that job's master. The short job ends without a look.
    for terms, seconds in ((12, 0.5), (4, 0.01)):
        for moment in range(8):
            older = JobPlan(1, 20.0, chunk=1)
            stage = Stage(JobPlan(terms, seconds, chunk=1, starts=30), older, hosts=[2])
            killed: list[str] = []

            def kill(stage: Stage = stage, killed: list[str] = killed) -> None:
                stage.kill_the_computer_of(0)
                killed.append(_address(stage.computed(0)[-1].by))

            def begun(stage: Stage = stage, moment: int = moment, kill: Callable[[], None] = kill) -> None:
                if stage.computed(0):
                    stage.at(0.001 * moment, kill)
                else:
                    stage.at(0.001, begun)

            stage.at(5, lambda stage=stage: stage.kill_the_computer_of(0, "sim-1"))  # type: ignore[misc]
            stage.at(30, begun)
            stage.run()
            assert _told_lost(stage) == killed, f"{seconds} s a term, moment {moment}"


def a_lost_hosts_task_runs_elsewhere_within_eighteen_seconds() -> None:
    # As long as tasks wait there are no backups: it is the reaper that finds it.
    stage = Stage(JobPlan(60, 0.5, chunk=1), hosts=[1, 1])
    stage.at(3, stage.world.hosts[0].lose)
    stage.run()
    (lost,) = [k for k in range(60) if len(stage.computed(k)) > 1]
    assert 12 < stage.computed(lost)[1].at - 3 <= 18 + 0.5


def what_a_stopped_worker_holds_and_others_have_answered_is_not_done_again() -> None:
    stage = Stage(JobPlan(13, 3.0, chunk=1, slow={12: 100.0}), hosts=[1, 3])
    sleeper = stage.world.hosts[0]
    held: list[int] = []

    def stop() -> None:
        (pid,) = sleeper.workers
        sleeper.stop_worker(pid, resume=False)
        by = sleeper.workers[pid].actor.name
        held.append(next(one.lo for one in reversed(stage.world.executions) if one.by == by))

    stage.at(1.7, stop)
    stage.run()
    assert len(stage.computed(held[0])) == 2
    first, copy = stage.computed(held[0])
    assert stage.attempts() == 0, "others in that hand are not to blame"
    assert first.by != copy.by
    assert copy.at + 3 < 1.7 + 15 < stage.ended - 3  # its tasks were given back in between


def a_worker_that_was_stopped_begins_nothing_that_others_took_over() -> None:
    for moment in range(9):  # its hand still grows, so it waits for the next tasks; later it hardly ever does
        first = JobPlan(800, 0.002, chunk=1, joins=moment % 2 > 0)
        stage = Stage(
            first, JobPlan(8, 1.0, chunk=1, starts=45), hosts=[1, 1], weather=Weather(resets=1.0, latency=0.004)
        )
        host = stage.world.hosts[0]

        def stop(stage: Stage = stage, host: Host = host) -> None:
            (pid,) = host.workers
            host.stop_worker(pid, resume=False)
            stage.at(40, lambda: host.stop_worker(pid, resume=True))

        stage.at(0.025 + 0.002 * moment, stop)
        stage.run()
        late = [one for k in range(800) for one in stage.computed(k) if one.at > 40]
        assert not late, f"moment {moment}: {late}"


def a_task_that_is_nowhere_goes_out_again() -> None:
    stage = Stage(JobPlan(6, 1.0, chunk=1), hosts=[1])
    stage.fault(2.5, "lose_queue")
    stage.run()
    assert stage.ended <= 2.5 + 3 * 3 + 6


def _answers(stage: Stage) -> list[list[tuple[int, int]]]:
    """The spans of each answer that ever came, in their order."""
    found: dict[Any, list[list[tuple[int, int]]]] = {}
    for stream in stage.histories(stage.world.keys.replies("sim-0")):
        for name, fields in stream.entries:
            if name not in found and fields[0] == b"a":
                found[name] = [answer.spans for answer in stage.world.codecs.reply.open(fields[1]).answers]
    return [spans for row in found.values() for spans in row]


def tasks_whose_partials_join_are_answered_together() -> None:
    stage = Stage(JobPlan(300, 0.01, chunk=1, joins=True), hosts=[2])
    stage.run()
    assert [len(stage.computed(k)) for k in range(300)] == [1] * 300
    assert len(_answers(stage)) <= 300 * 0.01 / 0.5 + 2 * 4  # one for each half second, and when the line is empty


def a_joint_answer_waits_for_half_a_second_of_work_at_most() -> None:
    stage = Stage(JobPlan(200, 0.05, chunk=1, joins=True), hosts=[1])
    stage.run()
    most = max(map(len, _answers(stage)))
    assert 5 < most <= 0.5 / 0.05 + 1


def who_is_told_to_leave_answers_all_that_it_has_computed() -> None:
    stage = Stage(JobPlan(120, 0.05, chunk=1, joins=True), hosts=[1, 1])

    def tell() -> None:
        (pid,) = stage.world.hosts[0].workers
        stage.world.hosts[0].tell(pid)

    stage.at(1.83, tell)
    stage.run()
    assert [len(stage.computed(k)) for k in range(120)] == [1] * 120


def a_long_term_counts_though_terms_before_it_were_given_back() -> None:
    stage = Stage(JobPlan(80, 0.02, chunk=10, joins=True, slow={55: 60.0}), hosts=[1])
    stage.run()
    assert [len(stage.computed(k)) for k in (55, 59)] == [1, 1]


def a_long_task_behind_others_does_not_keep_their_terms() -> None:
    stage = Stage(JobPlan(80, 0.02, chunk=1, joins=True, slow={25: 60.0}), hosts=[1, 1])
    stage.run()
    assert stage.ended < 25 * 0.02 + 60 + 2
    late = [one for k in range(80) for one in stage.computed(k) if k != 25 and one.at > 4]
    assert not late, f"{late} were computed as copies of what was late"


def nothing_that_a_worker_has_begun_is_given_back() -> None:
    # The first long task ends while the tasks behind it are on their way back, at any moment of that; the second one is
    # among them. The round trips of the thread that gives them back take as long as ten tasks each.
    for milliseconds in range(400, 1400, 50):
        plan = JobPlan(300, 0.02, chunk=1, slow={80: milliseconds / 1000, 82: 1.5})
        stage = Stage(plan, hosts=[1, 1], weather=Weather(resets=1.0, latency=0.1))
        stage.run()
        assert [len(stage.computed(k)) for k in range(300)] == [1] * 300, f"a task of {milliseconds} ms"


def slow_terms_in_one_task_are_done_by_all() -> None:
    # The tasks have some 200 terms by then, and one or two of them all the slow ones: 12 s of work in all, for two.
    stage = Stage(JobPlan(4000, 0.001, slow=dict.fromkeys(range(1500, 1580), 0.1)), hosts=[1, 1])
    stage.run()
    assert [len(stage.computed(k)) for k in range(4000)] == [1] * 4000
    assert stage.ended <= 6 + 1


def a_straggler_has_a_backup() -> None:
    stage = Stage(JobPlan(8, 0.5, chunk=1, slow={5: 250.0}), hosts=[1, 1])
    stage.run()
    assert len(stage.computed(5)) == 2
    assert stage.ended <= 20


def long_tasks_of_which_none_has_finished_run_once() -> None:
    stage = Stage(JobPlan(6, 30.0, chunk=1), hosts=[4, 4])
    stage.run()
    assert [len(stage.computed(k)) for k in range(6)] == [1] * 6


def a_straggler_has_a_backup_from_a_new_master_too() -> None:
    stage = Stage(JobPlan(8, 0.5, chunk=1, slow={7: NEVER}, standbys=1), hosts=[1, 1])
    stage.at(5.0, lambda: stage.master.kill(power=True))
    stage.run()
    assert len(stage.computed(7)) == 2
    assert stage.ended <= 5 + 12 + 3 * 5


def a_merge_that_hangs_is_done_by_the_master() -> None:
    stage = Stage(JobPlan(32, 0.1, chunk=8, ordered=True), hosts=[2])
    merge = RowOfTerms.merge
    hung: list[Actor] = []

    def hang_once(self: RowOfTerms, left: Partial, right: Partial) -> Partial:
        actor = stage.world.scheduler.actor()
        if actor.runs and "." in actor.name and not hung:  # a worker's, not one that checks it
            hung.append(actor)
            actor.sleep(NEVER)
        return merge(self, left, right)

    with patch.object(RowOfTerms, "merge", hang_once):
        stage.run()
    assert hung
    assert stage.ended <= 80


def a_full_redis_is_no_proof_of_death() -> None:
    stage = Stage(JobPlan(1, 60.0, chunk=1), hosts=[1])
    stage.world.wait_workers = 5.0
    stage.at(4, lambda: setattr(stage.world.server.model, "full", True))
    stage.at(40, stage.world.server.have_room)
    stage.run()
    assert len(stage.computed(0)) == 1
    assert stage.attempts() == 0


def a_deadly_term_is_named_after_three_deaths() -> None:
    stage = Stage(JobPlan(8, 0.5, chunk=1, deadly=(3,), attempts=3), hosts=[2])
    stage.run()
    assert len(stage.computed(3)) == 3
    assert stage.verdict is not None
    assert stage.verdict.ends == ["failed"]


def a_deadly_term_in_a_span_is_found_by_halving() -> None:
    stage = Stage(JobPlan(8, 0.1, chunk=8, deadly=(5,), on_error="skip", attempts=3), hosts=[2])
    stage.run()  # exact but for term 5 alone, or the world fails
    assert stage.attempts() <= 3


def only_the_task_in_hand_is_blamed() -> None:
    stage = Stage(JobPlan(400, 0.001, chunk=1, deadly=(200,), on_error="skip", attempts=2), hosts=[1])
    stage.run()  # exact but for term 200 alone, or the world fails
    assert len(stage.computed(200)) == 2


def a_hung_term_is_killed_at_its_time_limit() -> None:
    stage = Stage(JobPlan(4, 0.5, chunk=1, slow={2: NEVER}, task_timeout=2.0), hosts=[1])
    stage.run()
    first, second = stage.computed(2)
    assert second.at - first.at <= 3.5
    assert stage.attempts() == 1


def what_an_error_hid_in_the_hand_is_found_at_once() -> None:
    # The pop that is asked for after five seconds (and a look at the hand) finds a task at six; its answer is lost.
    stage = Stage(JobPlan(1, 1.0, chunk=1, starts=6.0), hosts=[1])
    stage.at(5.003, lambda: setattr(stage.world.server.weather, "answer_lost", 1.0))
    stage.at(5.1, lambda: setattr(stage.world.server.weather, "answer_lost", 0.0))
    stage.run()
    assert stage.ended <= 8


def answers_that_may_not_have_arrived_are_sent_again() -> None:
    stage = Stage(JobPlan(5, 2.0, chunk=1), hosts=[1])
    stage.at(4.0, lambda: setattr(stage.world.server.weather, "lost", 1.0))
    stage.at(5.0, lambda: setattr(stage.world.server.weather, "lost", 0.0))
    stage.run()
    assert [len(stage.computed(k)) for k in range(5)] == [1] * 5


def what_was_computed_before_the_hand_was_found_changed_counts() -> None:
    # The answers of a batch travel while the next one is computed; meanwhile another client adds a task to the hand.
    stage = Stage(JobPlan(200, 0.01, chunk=1), hosts=[1], weather=Weather(latency=0.05, resets=1.0))

    def junk_in_the_hand() -> None:
        (hand,) = [key.decode() for key in stage.world.server.model.now.keys if b":f:" in key]
        stage.world.server.fault("junk in a hand", ("LPUSH", hand, b"junk"))

    stage.at(2.0, junk_in_the_hand)
    stage.run()
    assert [len(stage.computed(k)) for k in range(200)] == [1] * 200


def a_worker_that_met_a_flushed_job_works_on_it_when_it_is_back() -> None:
    # The task is taken, the flush comes before the worker has asked what it belongs to, and it is the only worker.
    stage = Stage(JobPlan(200, 0.3, chunk=1), hosts=[1])
    world = stage.world
    flushed: list[float] = []

    def flush_when_the_other_has_taken() -> None:
        hands = [key for key in world.server.model.now.keys if b":f:" in key and world.hosts[-1].name.encode() in key]
        if len(world.hosts) == 2 and hands and not flushed:
            flushed.append(world.scheduler.now)
            world.scheduler.at(0, lambda: world.inject("flush"))
            world.scheduler.at(0, world.hosts[0].drain)

    world.on_step.append(flush_when_the_other_has_taken)
    stage.at(12.0, lambda: world.start_host(1))
    stage.run()
    assert flushed
    assert stage.ended <= 70


def what_turns_out_long_is_given_back_to_whom_it_is_next() -> None:
    # Quick tasks first, of which a worker takes many; the slow ones among those in its hand are for both.
    stage = Stage(JobPlan(420, 0.002, chunk=1, slow=dict.fromkeys(range(400, 420), 0.5)), hosts=[1, 1])
    stage.run()
    assert [len(stage.computed(k)) for k in range(420)] == [1] * 420
    assert stage.ended <= 0.4 + 5 + 1


def the_rest_of_a_hand_is_dropped_when_its_job_is_over() -> None:
    # An answer takes a second to come back, so a hand is two seconds' work. Half of it may be done until that is heard.
    stage = Stage(JobPlan(800, 0.05, chunk=1), hosts=[1], weather=Weather(latency=0.5, resets=1.0))
    stage.at(6.0, lambda: start_cancel(stage.world, stage.world.jobs[0], now=False))
    stage.run()
    assert max(one.at for one in stage.world.executions) - 6.0 <= 3.5


def tasks_are_done_in_the_order_of_their_terms() -> None:
    stage = Stage(JobPlan(100, 0.02, chunk=1), hosts=[1])
    stage.run()
    assert [one.lo for one in stage.world.executions] == list(range(100))


def a_full_redis_takes_no_answer_and_the_hand_stays() -> None:
    stage = Stage(JobPlan(20, 0.5, chunk=1), hosts=[1])
    answers: list[int] = []
    stage.at(2.2, lambda: setattr(stage.world.server.model, "full", True))
    for time in (2.3, 8.0):
        stage.at(time, lambda: answers.append(_answers_given(stage)))
    stage.at(8.1, stage.world.server.have_room)
    stage.run()
    assert answers[0] == answers[1]


def a_master_keeps_its_job_while_redis_is_full() -> None:
    stage = Stage(JobPlan(20, 0.5, chunk=1, standbys=1), hosts=[1])
    tokens: list[bytes] = []
    stage.at(2.2, lambda: setattr(stage.world.server.model, "full", True))
    for time in (5.0, 10.0, 15.0):
        stage.at(
            time, lambda: tokens.append(next(reversed(list(stage.histories(stage.world.keys.job("sim-0")))))[b"tok"])
        )
    stage.at(20.0, stage.world.server.have_room)
    stage.run()
    assert len(set(tokens)) == 3
    assert len(stage.masters()) == 1


def _answers_given(stage: Stage) -> int:
    return len(stage.world.sealed["reply"])


def a_worker_told_to_leave_finishes_its_task_and_gives_the_rest_back() -> None:
    stage = Stage(JobPlan(12, 0.8, chunk=1), hosts=[1, 1], weather=Weather(latency=0.03, resets=1.0))
    stage.at(4.0, stage.world.hosts[0].drain)
    stage.run()
    assert [len(stage.computed(k)) for k in range(12)] == [1] * 12
    assert stage.attempts() == 0
    assert stage.world.hosts[0].actor.dead


def who_waits_for_a_task_stays_and_leaves_at_once_when_told_to() -> None:
    stage = Stage(JobPlan(1, 40.0, chunk=1), hosts=[1, 2])
    idle = stage.world.hosts[1]
    there: list[set[int]] = []
    stage.at(2.0, lambda: there.append(set(idle.workers)))
    stage.at(31.0, lambda: there.append(set(idle.workers)))
    stage.at(31.0, idle.drain)
    stage.at(32.0, lambda: there.append(set(idle.workers)))
    stage.run()
    first, later, left = there
    assert first == later
    assert left == set()


def nobody_hoards_what_others_could_do() -> None:
    stage = Stage(JobPlan(32, 0.05, chunk=1), hosts=[1, 1, 1, 1], weather=Weather(latency=0.05, resets=1.0))
    stage.run()
    shares = [sum(one.by.startswith(host.name) for one in stage.world.executions) for host in stage.world.hosts]
    assert min(shares) >= 5


def a_worker_far_away_computes_while_its_answers_travel() -> None:
    stage = Stage(JobPlan(400, 0.01, chunk=1), hosts=[1], weather=Weather(latency=0.05, resets=1.0))
    stage.run()
    by_time = sorted(one.at for one in stage.world.executions)
    assert by_time[-1] - by_time[len(by_time) // 4] <= 1.1 * 0.01 * 300


def a_late_pop_of_a_dead_worker_is_found() -> None:
    # Two wait, the first gets the first job's only task; the second dies, and its pop takes the second job's.
    stage = Stage(
        JobPlan(1, 10.0, chunk=1, starts=1.0),
        JobPlan(1, 1.0, chunk=1, starts=4.5),
        hosts=[2],
        weather=Weather(ghost=1.0, resets=1.0),
    )
    stage.at(2.0, lambda: _kill_an_idle_worker(stage))
    stage.run()
    assert stage.computed(0, "sim-1")[0].at - 4.5 <= 1
    assert not [key for key in stage.world.server.model.now.keys if b":f:" in key]


def _kill_an_idle_worker(stage: Stage) -> None:
    host = stage.world.hosts[0]
    host.kill_worker(next(pid for pid, worker in host.workers.items() if not worker.slate.read().busy))


def a_live_worker_with_a_wrong_clock_is_left_alone() -> None:
    # Its beats look old, so the master looks around more often: such looks must not count. And it is late once.
    stage = Stage(JobPlan(1, 20.0, chunk=1), hosts=[1])
    stage.world.hosts[0].clock.skew = 3600
    stage.at(0.2, stage.world.hosts[0].actor.pause)
    stage.at(9.0, stage.world.hosts[0].actor.resume)
    stage.run()
    assert stage.attempts() == 0


def cancel_now_ends_a_long_term_within_two_seconds() -> None:
    stage = Stage(JobPlan(1, 200.0, chunk=1), hosts=[1])
    stage.at(3.0, lambda: start_cancel(stage.world, stage.world.jobs[0], now=True))
    busy: list[bool] = []
    stage.at(5.0, lambda: busy.extend(worker.slate.read().busy for worker in stage.world.hosts[0].workers.values()))
    stage.run()
    assert busy == [False]
    assert len(stage.computed(0)) == 1


def a_short_job_beside_a_long_one_ends_within_twice_its_lone_time() -> None:
    # A second alone, on two workers. Its first tasks wait for the long one's, and a checkpoint must not send it back.
    for terms, seconds in ((200, 0.01), (20, 0.1), (2000, 0.001)):
        stage = Stage(JobPlan(3000, 0.01), JobPlan(terms, seconds, starts=5.0), hosts=[2])
        ends: list[float] = []

        def look(stage: Stage = stage, ends: list[float] = ends) -> None:
            if not ends and stage.world.state("sim-1") == "done":
                ends.append(stage.world.scheduler.now)

        stage.world.on_step.append(look)
        stage.run()
        assert ends[0] - 5.0 <= 2 * 1.02
        assert stage.ended <= 15 + 1 + 1  # the long one loses no more than the short one's work


def a_term_that_raises_is_tried_again_and_counted_once() -> None:
    # The first terms of a task of eight have a value by then: they are not computed again.
    stage = Stage(JobPlan(16, 0.1, chunk=8, flaky=(5, 6), retries=2, backoff=2.0), hosts=[1])
    stage.run()
    assert [len(stage.computed(k)) for k in range(16)] == [1] * 16
    assert [(one["term"], one["tries"]) for one in _record_of(stage)["retried"]] == [(5, 3), (6, 3)]
    assert 2 * (2 + 4) <= stage.ended <= 2 * (2 + 4) + 4


def what_was_tried_again_is_known_to_the_next_master() -> None:
    # Its answer was trimmed away with the checkpoint that holds its value.
    stage = Stage(JobPlan(20, 1.5, chunk=1, flaky=(1,), retries=2, backoff=0.1, standbys=1), hosts=[1])
    stage.at(12.0, lambda: stage.master.kill(power=True))
    stage.run()
    assert len(stage.masters()) == 2
    assert [(one["term"], one["tries"]) for one in _record_of(stage)["retried"]] == [(1, 3)]


def what_is_printed_comes_once_whatever_is_sent_twice() -> None:
    # Answers of Redis are lost, so workers send batches again, and the master reads the stream again.
    weather = Weather(answer_lost=0.05, resets=1.0)
    stage = Stage(JobPlan(60, 0.2, chunk=1, logs=True), hosts=[2], weather=weather, seed=3)
    stage.run()
    (client,) = stage.world.clients
    computed = [f"execution {number} of sim-0" for number in range(len(stage.world.executions))]
    assert set(client.heard) <= set(computed)
    assert len(client.heard) == len(set(client.heard)) >= 60


def _record_of(stage: Stage) -> dict[str, Any]:
    found = stage.world.server.model.now.keys[stage.world.keys.job("sim-0").encode()]
    assert is_hash(found)
    data: dict[str, Any] = stage.world.codecs.record.at("sim-0").open(found[b"record"]).data
    return data


def who_waits_to_try_a_term_again_gives_it_back_when_told_to_leave() -> None:
    stage = Stage(JobPlan(2, 0.5, chunk=1, flaky=(0,), retries=2, backoff=30.0), hosts=[1, 1])
    left: list[bool] = []

    def host() -> Host:
        return next(host for host in stage.world.hosts if stage.computed(0)[0].by.startswith(f"{host.name}."))

    stage.at(3.0, lambda: host().drain())
    stage.at(5.0, lambda: left.append(not host().workers))
    stage.run()
    assert left == [True]
    assert stage.attempts() == 0


def who_waits_to_try_a_term_again_learns_that_its_job_is_over() -> None:
    stage = Stage(
        JobPlan(1, 0.5, chunk=1, flaky=(0,), retries=2, backoff=100.0), JobPlan(4, 0.5, chunk=1, starts=8.0), hosts=[1]
    )
    stage.at(5.0, lambda: start_cancel(stage.world, stage.world.jobs[0], now=False))
    stage.run()
    assert stage.computed(0, "sim-1")[0].at <= 9.0


def a_wait_before_a_term_is_tried_again_is_not_the_tasks_time() -> None:
    stage = Stage(JobPlan(2, 0.5, chunk=1, flaky=(0,), retries=2, backoff=10.0, task_timeout=3.0), hosts=[1])
    stage.run()
    assert stage.attempts() == 0
    assert _record_of(stage)["retried"][0]["tries"] == 3


# -- masters -------------------------------------------------------------------------------------------------------


def a_standby_takes_over_within_twelve_seconds() -> None:
    stage = Stage(JobPlan(20, 1.5, chunk=1, standbys=1), hosts=[1])
    stage.at(8.0, lambda: stage.master.kill(power=True))
    taken: list[float] = []
    stage.world.on_step.append(
        lambda: taken.append(stage.world.scheduler.now) if len(stage.masters()) > 1 and not taken else None
    )
    stage.run()
    assert 8 < taken[0] <= 8 + 12
    assert [len(stage.computed(k)) for k in range(20)] == [1] * 20


def a_master_that_lets_go_is_followed_at_once() -> None:
    stage = Stage(JobPlan(20, 1.0, chunk=1, standbys=1), hosts=[1])
    stage.at(8.0, stage.interrupt_master)
    taken: list[float] = []
    stage.world.on_step.append(
        lambda: taken.append(stage.world.scheduler.now) if len(stage.masters()) > 1 and not taken else None
    )
    stage.run()
    assert 8 < taken[0] <= 8 + 3


def a_master_with_nothing_to_say_keeps_its_job() -> None:
    stage = Stage(JobPlan(1, 60.0, chunk=1, standbys=2), hosts=[1])
    stage.run()
    assert len(stage.masters()) == 1


def a_master_that_computes_for_long_keeps_its_job() -> None:
    stage = Stage(JobPlan(4, 1.0, chunk=1, finishing=40.0, standbys=1), hosts=[1])
    stage.run()
    assert len(stage.masters()) == 1


def a_master_that_dies_while_it_computes_is_followed() -> None:
    stage = Stage(JobPlan(4, 1.0, chunk=1, finishing=40.0, standbys=2), hosts=[1])
    stage.at(20.0, lambda: stage.master.kill(power=True))
    taken: list[float] = []
    stage.world.on_step.append(
        lambda: taken.append(stage.world.scheduler.now) if len(stage.masters()) > 1 and not taken else None
    )
    stage.run()
    assert 20 < taken[0] <= 20 + 12
    assert len(stage.masters()) == 2  # the second has nothing left to do but the end, which takes it long too


def a_paused_master_comes_back_as_a_standby() -> None:
    stage = Stage(JobPlan(40, 1.0, chunk=1, standbys=1), hosts=[1])
    stage.at(5.0, stage.pause_master)
    stage.at(25.0, stage.resume_master)
    stage.run()
    assert len(stage.masters()) == 2
    assert [client.ended for client in stage.world.clients] == ["done", "done"]


def a_job_that_ended_and_expired_meanwhile_does_not_rise_again() -> None:
    stage = Stage(JobPlan(20, 1.0, chunk=1, keep=10, standbys=1), hosts=[1])
    stage.at(5.0, stage.pause_master)
    stage.at(60.0, stage.resume_master)
    stage.run()
    assert [client.ended for client in stage.world.clients] == ["let go", "done"]
    assert stage.world.state("sim-0") == ""
    assert len(stage.masters()) == 2


def a_flushed_job_is_submitted_again() -> None:
    stage = Stage(JobPlan(10, 1.0, chunk=1), hosts=[1])
    stage.fault(5.5, "flush")
    stage.run()
    assert stage.ended <= 5.5 + 3 + 10
    assert stage.master.ended == "done"
    assert all(len(stage.computed(k)) == 1 for k in range(3))


def what_is_submitted_again_after_a_flush_is_done_at_once() -> None:
    for tenth in range(10):  # of the second between two signs of life, at which the master hears of it
        stage = Stage(JobPlan(200, 0.05, chunk=1), hosts=[2])
        stage.fault(2.0 + tenth / 10, "flush")
        stage.run()
        assert stage.ended <= 5.0 + 2.0


def a_lost_stream_comes_back() -> None:
    stage = Stage(JobPlan(10, 1.0, chunk=1), hosts=[1])
    stage.fault(5.5, "lose_replies")
    stage.run()
    assert stage.ended <= 30


def a_lost_stream_comes_back_with_ids_that_were_read_before() -> None:
    # Its server's clock is set back and the stream is deleted, and no connection breaks.
    stage = Stage(JobPlan(10, 1.0, chunk=1), hosts=[1])
    stage.at(5.4, lambda: setattr(stage.world.server, "skew_ms", -60_000))
    stage.fault(5.5, "lose_replies")
    stage.run()
    assert stage.ended <= 30


def a_lost_stream_that_a_push_opens_is_read_from_its_start() -> None:
    # As above, where tasks are quick: there replies are always waiting, and nearly every commit is a push.
    stage = Stage(JobPlan(6000, 0.002, chunk=1), hosts=[4])
    stage.at(1.0, lambda: setattr(stage.world.server, "skew_ms", -60_000))
    lost: list[float] = []
    push = Lease.push

    def lose_the_stream_and_push(self: Lease, tasks: Any, what: str) -> None:
        if not lost and stage.world.scheduler.now > 1.1:
            lost.append(stage.world.scheduler.now)
            stage.world.inject("lose_replies")
        push(self, tasks, what)

    with patch.object(Lease, "push", lose_the_stream_and_push):
        stage.run()
    assert lost
    assert stage.ended <= 15


def an_end_holds_all_that_is_counted_whatever_was_lost() -> None:
    # All is counted and stored, the workers answer the requests of the end; then the server falls back behind that.
    stage = Stage(JobPlan(8, 0.5, chunk=1, asks=1), hosts=[1])
    world = stage.world
    fallen: list[int] = []

    def fall_back_behind_the_last_checkpoint() -> None:
        found = world.server.model.now.keys.get(world.keys.job("sim-0").encode())
        if not is_hash(found) or fallen or found[b"state"] != b"running":
            return
        checkpoint = world.codecs.checkpoint.at("sim-0").open(found[b"ck"])
        if checkpoint.runs == [(0, 8)]:
            history = world.server.model.history
            older = [i for i, one in enumerate(history) if _checkpoint_at(world, one) not in {b"", found[b"ck"]}]
            fallen.append(older[-1])
            world.scheduler.at(0.1, lambda: world.server.restart(0.2, index=older[-1]))

    world.on_step.append(fall_back_behind_the_last_checkpoint)
    stage.run()  # a record beside a checkpoint without all terms fails the world
    assert fallen


def _checkpoint_at(world: World, snapshot: Snapshot) -> bytes:
    found = snapshot.keys.get(world.keys.job("sim-0").encode())
    return found[b"ck"] if is_hash(found) else b""


def a_lost_listing_comes_back() -> None:
    stage = Stage(JobPlan(1, 20.0, chunk=1), hosts=[1])
    listed: list[bool] = []
    stage.fault(5.5, "lose_jobs")
    stage.at(7.5, lambda: listed.append(stage.world.keys.jobs.encode() in stage.world.server.model.now.keys))
    stage.run()
    assert listed == [True]


def an_end_whose_record_goes_at_once_is_known_to_who_made_it() -> None:
    # The answer to the last commit is lost, and the record goes between two looks of the master that asks about it.
    stage = Stage(JobPlan(4, 0.5, chunk=1), hosts=[1])
    commit, token = Jobs.commit, Jobs.token

    def commit_and_lose_the_answer(self: Jobs, *words: Any, **more: Any) -> Any:
        answer = commit(self, *words, **more)
        if more["what"] == "over":
            self.wire.close()
            raise BrokerDown("cut")
        return answer

    def look_and_lose_the_record(self: Jobs, job: str) -> Any:
        found = token(self, job)
        stage.world.inject("flush")
        return found

    with patch.multiple(Jobs, commit=commit_and_lose_the_answer, token=look_and_lose_the_record):
        stage.run()
    assert stage.master.ended == "done"
    assert stage.world.state("sim-0") == ""


# -- bounds --------------------------------------------------------------------------------------------------------


def the_stream_is_trimmed_behind_the_checkpoint() -> None:
    stage = Stage(JobPlan(600, 0.02, chunk=1), hosts=[2])
    stage.run()
    streams = [value for value in stage.histories(stage.world.keys.replies("sim-0")) if isinstance(value, Stream)]
    assert 0 < max(len(value.entries) for value in streams) <= 128


def the_queue_holds_a_window_at_most() -> None:
    stage = Stage(JobPlan(QUICK_WINDOW + 500, 0.01, chunk=1), hosts=[2])
    stage.run()
    assert max(len(value) for value in stage.histories(stage.world.keys.queue)) <= QUICK_WINDOW


def late_answers_to_a_job_that_is_over_are_dropped() -> None:
    stage = Stage(JobPlan(8, 0.5, chunk=1, slow={5: 30.0}), hosts=[1, 1])
    stage.run()  # in the calm after the end the straggler answers; a stream left behind fails the world
    assert stage.ended <= 20


def items_of(stage: Stage) -> list[int]:
    """How many bodies of tasks stood apart at each moment at which there were any."""
    key = stage.world.keys.bodies("sim-0")
    return [len(value) for value in stage.histories(key) if is_hash(value)]


def a_large_body_is_gone_when_its_terms_are_counted() -> None:
    stage = Stage(JobPlan(201, 0.4, lazy=True), hosts=[2])
    stage.run()
    assert 2 <= max(items_of(stage)) <= 50


def a_large_body_that_somebody_deleted_is_laid_again() -> None:
    stage = Stage(JobPlan(41, 0.5, chunk=1, lazy=True), hosts=[2], until=200)
    for time in (3, 5):
        stage.fault(time, "lose_bodies")
    stage.run()
    assert stage.ended <= 60


def what_a_killed_master_had_laid_goes_away() -> None:
    stage = Stage(JobPlan(401, 1.0, chunk=1, lazy=True), hosts=[1], until=1000)
    stage.plan.stays = True
    stage.fault(5, "kill_master")
    left: list[int] = []

    def look() -> None:
        found, now = stage.world.server.model.now, stage.world.server.now_ms
        keys = (stage.world.keys.bodies("sim-0").encode(), stage.world.keys.replies("sim-0").encode())
        left.append(sum(key in found.keys and found.expires.get(key, NEVER * NEVER) > now for key in keys))

    stage.at(6, look)
    stage.at(900, look)
    stage.world.run()
    assert left == [2, 0]


def pieces_of_a_shuffle_go_with_its_job() -> None:
    stage = Stage(JobPlan(40, 0.2, chunk=2, laid=True), hosts=[2])
    stage.run()
    laid = [len(value) for value in stage.histories(stage.world.keys.pieces("sim-0")) if is_hash(value)]
    assert max(laid) == 2 * 20
    assert stage.world.keys.pieces("sim-0").encode() not in stage.world.server.model.now.keys


def a_late_worker_lays_no_piece_of_a_job_that_is_over() -> None:
    stage = Stage(JobPlan(8, 0.5, chunk=1, slow={5: 30.0}, laid=True), hosts=[1, 1])
    stage.run()  # the straggler comes in the calm after the end; a piece left behind fails the world


def a_piece_whose_worker_died_before_it_answered_does_not_count() -> None:
    stage = Stage(JobPlan(30, 0.2, chunk=3, laid=True), hosts=[2])
    key = stage.world.keys.pieces("sim-0").encode()
    killed: list[int] = []

    def look() -> None:  # after each step of the server: this one has laid the second fold, and its answer is not there
        found = stage.world.server.model.now.keys.get(key)
        if is_hash(found) and len(found) >= 4 and not killed:
            killed.append(1)
            stage.at(0, lambda: stage.world.inject("kill_worker"))

    stage.world.on_step.append(look)
    stage.run()
    assert killed


def what_a_failover_loses_of_a_shuffle_is_computed_again() -> None:
    for seed in range(6):
        stage = Stage(JobPlan(120, 0.2, chunk=2, laid=True), hosts=[2], seed=seed)
        for time in (2, 4, 6, 8):
            stage.fault(time, "rewind")
        stage.run()
        assert stage.world.state("sim-0") == "done"


def an_answer_whose_pieces_were_wiped_does_not_count() -> None:
    stage = Stage(JobPlan(40, 0.2, chunk=2, laid=True), hosts=[1])
    key = stage.world.keys.pieces("sim-0").encode()
    wiped: list[int] = []

    def look() -> None:
        """The second fold is laid: all goes while its worker is stopped, which dies when it has answered."""
        found, host = stage.world.server.model.now.keys, stage.world.hosts[0]
        stream = found.get(stage.world.keys.replies("sim-0").encode())
        if is_hash(found.get(key)) and len(found[key]) == 4 and not wiped:
            wiped.extend(host.workers)
            stage.at(0, lambda: host.stop_worker(wiped[0], resume=False))
            stage.at(0, lambda: stage.world.inject("flush"))
            stage.at(8, lambda: host.stop_worker(wiped[0], resume=True))
        elif wiped and wiped[0] in host.workers and key not in found and isinstance(stream, Stream) and stream.entries:
            stage.at(0, lambda: host.kill_worker(wiped[0]))

    stage.world.on_step.append(look)
    stage.run()
    assert wiped
    assert stage.world.state("sim-0") == "done"


def a_shuffle_that_was_flushed_begins_anew() -> None:
    stage = Stage(JobPlan(60, 0.2, chunk=2, laid=True), hosts=[2])
    stage.fault(4, "flush")
    stage.run()
    assert stage.world.state("sim-0") == "done"
    assert len(stage.computed(0)) == 2


# -- mechanisms switched off ---------------------------------------------------------------------------------------

Mutant = Callable[[], AbstractContextManager[Any]]


def _lay_once() -> AbstractContextManager[Any]:
    load = Bodies.load
    laid: set[bytes] = set()

    def once(self: Bodies, tasks: Any) -> Any:
        found = load(self, tasks)
        new = [(name, body) for name, body in found.bodies if not body or name not in laid]
        laid.update(name for name, _ in new)
        return found._replace(bodies=new)

    return patch.object(Bodies, "load", once)


def _never_go_back() -> AbstractContextManager[Any]:
    """A master goes on from memory, as that of a job whose partials refer to nothing."""
    return patch.object(LaidTerms, "refers", False)


def _torn_when_given_back() -> AbstractContextManager[Any]:
    """A task whose first terms went with those that were given back is computed again."""
    grow = JointAnswer.grow

    def grown(self: JointAnswer, fold: Any) -> bool:
        if not grow(self, fold):
            raise self.torn()
        return True

    return patch.object(JointAnswer, "grow", grown)


def _fold_into_what_was_given_back() -> AbstractContextManager[Any]:
    """The values of a task are folded into the partial of tasks that were given back, and answered with it."""

    def give_back(self: JointAnswer) -> frozenset[bytes]:
        found = frozenset(self.tasks)
        self.given_back |= found
        self.tasks, self._spans, self._covered = [], [], Runs()
        return found

    return patch.object(JointAnswer, "give_back", give_back)


def _count_what_is_laid() -> AbstractContextManager[Any]:
    """Pieces count by being there, whether or not an answer names them."""

    def row(self: LaidApart, references: Any, number: int) -> Any:  # noqa: ARG001
        tasks, job = self._tasks, self._job
        there = tasks.wire.call("HGETALL", tasks.keys.pieces(job))[::2]
        names = {name.decode().partition(":")[0] for name in there}
        return iter(tasks.pieces(job, sorted(names), number))

    return patch.object(LaidApart, "row", row)


def _forget_when_told() -> AbstractContextManager[Any]:
    """Who is told to stop forgets what it has not answered."""
    told = Worker.told_to_stop

    def told_to_stop(self: Worker, *, at_once: bool = False) -> None:
        self._joint.drop()
        told(self, at_once=at_once)

    return patch.object(Worker, "told_to_stop", told_to_stop)


def _blame(whom: str) -> AbstractContextManager[Any]:
    def blaming(codecs: Any, held: Any, in_hand: Any, why: str, *, guess: bool) -> list[tuple[bytes, bytes]]:
        moves = []
        for raw, fair in given_back(codecs, held, in_hand, why, guess=guess):
            try:
                task = codecs.task.open(raw)
            except BadMessage:
                moves.append((raw, fair))
                continue
            attempt = task.attempt + 1 if whom == "everybody" else task.attempt
            moves.append((raw, codecs.task.seal(msgspec.structs.replace(task, attempt=attempt, spec=b""))))
        return moves

    return _all(patch.object(reporter, "given_back", blaming), patch.object(sweep, "given_back", blaming))


@contextlib.contextmanager
def _all(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


def _nothing_is_lost() -> AbstractContextManager[Any]:
    surveyed = Ledger._surveyed

    def all_is_there(self: Ledger, event: Surveyed, now: float) -> None:
        surveyed(self, event._replace(waiting=[*event.waiting, *self.out.values()]), now)

    return patch.object(Ledger, "_surveyed", all_is_there)


def _look_without_writing() -> AbstractContextManager[Any]:
    survey = Jobs.survey

    def looking(self: Jobs, job: str, sign: int) -> Any:
        transaction = self.wire.transaction

        def without_canary(look: Any) -> Any:
            return [0, *transaction(look[1:])]

        with patch.object(self.wire, "transaction", without_canary):
            return survey(self, job, sign)

    return patch.object(Jobs, "survey", looking)


def _start_without_experience() -> AbstractContextManager[Any]:
    learn = Patience.learn

    def learn_by_itself(self: Patience, seconds: float, size: float) -> None:
        if sys._getframe(1).f_code.co_name == "observe":
            learn(self, seconds, size)

    return patch.object(Patience, "learn", learn_by_itself)


def _memory_is_right() -> AbstractContextManager[Any]:
    enter = Hand._enter_queue

    def forgetting(self: Hand) -> None:
        tasks = self.tasks
        enter(self)
        self.tasks = tasks

    return patch.object(Hand, "_enter_queue", forgetting)


def _send_once() -> AbstractContextManager[Any]:
    recover = Hand.recover

    def forgetting(self: Hand) -> None:
        self._unsettled.clear()
        recover(self)

    return patch.object(Hand, "recover", forgetting)


def _wait_for_every_answer() -> AbstractContextManager[Any]:
    settle = Worker._settle

    def waiting(self: Worker, *batch: Any) -> None:
        settle(self, *batch)
        self._hand.hear()

    return patch.object(Worker, "_settle", waiting)


def _hand_all_output_on() -> AbstractContextManager[Any]:
    hand_on = Master._hand_on

    def again(self: Master, *what: Any) -> None:
        self._printed.clear()
        hand_on(self, *what)

    return patch.object(Master, "_hand_on", again)


def _leave_at_once() -> AbstractContextManager[Any]:
    def stop(self: Worker, **_: bool) -> None:
        self.stopping = True
        raise Stop

    return patch.object(Worker, "told_to_stop", stop)


def _give_up_flushed_jobs() -> AbstractContextManager[Any]:
    resolve = Master._resolve

    def giving_up(self: Master, found: Any) -> Any:
        if not found.token:
            raise NoSuchJob("gone")
        return resolve(self, found)

    return patch.object(Master, "_resolve", giving_up)


def _take_a_lost_stream_for_the_end() -> AbstractContextManager[Any]:
    void = KnownJobs.void

    def over(self: KnownJobs, job: str) -> None:
        void(self, job)
        self._void_since[job] = self._clock.now()

    return patch.object(KnownJobs, "void", over)


def _forget_what_was_made() -> AbstractContextManager[Any]:
    return patch.object(Ending, "made", property(lambda _: None, lambda *_: None), create=True)


def _strike_off_at_once() -> AbstractContextManager[Any]:
    return patch.object(liveness.Watch, "forgotten", liveness.Watch.dead)


def _hold_on_for_ever() -> AbstractContextManager[Any]:
    def leave(self: Master) -> None:
        self.stop = True

    return patch.object(Master, "_release", leave)


def _keep_the_cursor(verb: str) -> Mutant:
    """Have a commit, or a push, open a stream anew without a word."""
    right = getattr(Lease, verb)

    def silent(self: Lease, **how: Any) -> Any:
        return msgspec.structs.replace(right(self, **how), reopened=False)

    return lambda: patch.object(Lease, verb, silent)


def _trust_the_last_checkpoint() -> AbstractContextManager[Any]:
    resolve = Master._resolve

    def trusting(self: Master, found: Any) -> Any:
        stored, receive = self._checkpoints.stored, self.ledger.receive

        def stored_again(event: Any, now: float) -> Any:
            self._checkpoints.stored = stored
            return receive(event, now)

        with patch.object(self.ledger, "receive", stored_again):
            return resolve(self, found)

    return patch.object(Master, "_resolve", trusting)


def _raise_at_once(_: Retrying, __: tuple[Any, ...], raised: Exception) -> Any:
    raise raised


def _forget_what_was_tried() -> AbstractContextManager[Any]:
    checkpoint = Ledger.checkpoint
    return patch.object(
        Ledger, "checkpoint", lambda self, now: msgspec.structs.replace(checkpoint(self, now), tried=[])
    )


def _wait_without_looking() -> AbstractContextManager[Any]:
    return patch.object(Worker, "wait_to_try", lambda self, seconds: self.clock.sleep(seconds))


class _Blind(liveness.Watch):
    def dead(self, after: int = liveness.DEAD_AFTER) -> list[str]:
        return []


_never = property(lambda _: False, lambda *_: None)
_nothing: Any = property(lambda _: frozenset(), lambda *_: None)

MECHANISMS: list[tuple[Callable[[], None], Mutant | Edit]] = [
    (a_killed_workers_task_runs_elsewhere_within_a_second, lambda: patch.object(Reporter, "_give_back")),
    (who_dies_before_the_first_look_is_told_of_once, lambda: patch.object(reporter, "jobs_of", return_value=set())),
    (a_lost_hosts_task_runs_elsewhere_within_eighteen_seconds, lambda: patch.object(Sweeper, "_reap")),
    (
        what_a_stopped_worker_holds_and_others_have_answered_is_not_done_again,
        lambda: patch.object(Sweeper, "_answered", return_value=[]),
    ),
    (
        a_worker_that_was_stopped_begins_nothing_that_others_took_over,
        lambda: patch.object(hand, "SURE_SECONDS", NEVER),
    ),
    (a_task_that_is_nowhere_goes_out_again, _nothing_is_lost),
    (
        tasks_whose_partials_join_are_answered_together,
        lambda: patch.object(JointAnswer, "takes", return_value=False),
    ),
    (
        a_joint_answer_waits_for_half_a_second_of_work_at_most,
        lambda: patch.object(joint_answers, "MOST_SECONDS", NEVER),
    ),
    (who_is_told_to_leave_answers_all_that_it_has_computed, _forget_when_told),
    (a_long_task_behind_others_does_not_keep_their_terms, lambda: patch.object(Relief, "relieve")),
    (a_long_term_counts_though_terms_before_it_were_given_back, _torn_when_given_back),
    (a_long_term_counts_though_terms_before_it_were_given_back, _fold_into_what_was_given_back),
    (nothing_that_a_worker_has_begun_is_given_back, lambda: patch.object(Relief, "_still", return_value=True)),
    (nothing_that_a_worker_has_begun_is_given_back, lambda: patch.object(Hand, "leaving", _nothing, create=True)),
    (nothing_that_a_worker_has_begun_is_given_back, lambda: patch.object(Hand, "changed", _never, create=True)),
    (slow_terms_in_one_task_are_done_by_all, lambda: patch.object(Pool, "_enforce")),
    (a_straggler_has_a_backup, lambda: patch.object(Patience, "is_over", return_value=False)),
    (a_merge_that_hangs_is_done_by_the_master, lambda: patch.object(Patience, "is_over", return_value=False)),
    (
        long_tasks_of_which_none_has_finished_run_once,
        lambda: patch.object(Patience, "is_over", lambda _, seconds, __: seconds > 5),
    ),
    (a_straggler_has_a_backup_from_a_new_master_too, _start_without_experience),
    (a_full_redis_is_no_proof_of_death, _look_without_writing),
    (a_deadly_term_is_named_after_three_deaths, lambda: _blame("nobody")),
    (a_deadly_term_in_a_span_is_found_by_halving, lambda: patch.object(Ledger, "_bad")),
    (only_the_task_in_hand_is_blamed, lambda: _blame("everybody")),
    (a_hung_term_is_killed_at_its_time_limit, lambda: patch.object(Pool, "_enforce")),
    (what_an_error_hid_in_the_hand_is_found_at_once, _memory_is_right),
    (answers_that_may_not_have_arrived_are_sent_again, _send_once),
    (what_was_computed_before_the_hand_was_found_changed_counts, lambda: patch.object(Hand, "_settle_anew")),
    (
        a_worker_that_met_a_flushed_job_works_on_it_when_it_is_back,
        lambda: patch.object(known_jobs, "VOID_SECONDS", NEVER),
    ),
    (
        what_turns_out_long_is_given_back_to_whom_it_is_next,
        Edit("settle", "redis.call('RPUSH', KEYS[2], unpack(back))", "redis.call('LLEN', KEYS[2])"),
    ),
    (
        the_rest_of_a_hand_is_dropped_when_its_job_is_over,
        Edit("settle", "over[#over + 1]", "over[#over + 2]"),
    ),
    (tasks_are_done_in_the_order_of_their_terms, Edit("commit", "LPUSH", "RPUSH")),
    (a_master_keeps_its_job_while_redis_is_full, Edit("commit", " flags=allow-oom", "")),
    (a_full_redis_takes_no_answer_and_the_hand_stays, Edit("settle", "#!lua", "#!lua flags=allow-oom")),
    (a_worker_told_to_leave_finishes_its_task_and_gives_the_rest_back, _leave_at_once),
    (
        who_waits_for_a_task_stays_and_leaves_at_once_when_told_to,
        lambda: patch.object(Worker, "interruptible", _never, create=True),
    ),
    (nobody_hoards_what_others_could_do, Edit("settle", "waiting, math.max(share", "waiting, math.max(want")),
    (a_worker_far_away_computes_while_its_answers_travel, _wait_for_every_answer),
    (a_late_pop_of_a_dead_worker_is_found, _strike_off_at_once),
    (
        a_live_worker_with_a_wrong_clock_is_left_alone,
        lambda: patch.object(Sweeper, "_last_look", property(lambda _: -NEVER, lambda *_: None), create=True),
    ),
    (
        a_short_job_beside_a_long_one_ends_within_twice_its_lone_time,
        lambda: patch.object(commits, "YOUNG_SECONDS", 0.0),
    ),
    (a_term_that_raises_is_tried_again_and_counted_once, lambda: patch.object(Retrying, "_again", _raise_at_once)),
    (what_is_printed_comes_once_whatever_is_sent_twice, _hand_all_output_on),
    (what_was_tried_again_is_known_to_the_next_master, _forget_what_was_tried),
    (who_waits_to_try_a_term_again_gives_it_back_when_told_to_leave, _wait_without_looking),
    (
        who_waits_to_try_a_term_again_learns_that_its_job_is_over,
        lambda: patch.object(Worker, "_is_over", return_value=False),
    ),
    (a_wait_before_a_term_is_tried_again_is_not_the_tasks_time, _wait_without_looking),
    (cancel_now_ends_a_long_term_within_two_seconds, lambda: patch.object(Reporter, "_drop_cancelled")),
    (a_standby_takes_over_within_twelve_seconds, lambda: patch.object(standby, "Watch", _Blind)),
    (a_master_that_lets_go_is_followed_at_once, _hold_on_for_ever),
    (a_master_with_nothing_to_say_keeps_its_job, lambda: patch.object(commits, "LEASE_SECONDS", NEVER)),
    (a_master_that_computes_for_long_keeps_its_job, lambda: patch.object(Lease, "keep")),
    (a_master_that_dies_while_it_computes_is_followed, lambda: patch.object(Master, "_restored", _never, create=True)),
    (a_paused_master_comes_back_as_a_standby, lambda: patch.object(Lease, "owns", return_value=True)),
    (
        a_job_that_ended_and_expired_meanwhile_does_not_rise_again,
        lambda: patch.object(Jobs, "listed", return_value=[]),
    ),
    (a_flushed_job_is_submitted_again, _give_up_flushed_jobs),
    (what_is_submitted_again_after_a_flush_is_done_at_once, _take_a_lost_stream_for_the_end),
    (a_lost_stream_comes_back, Edit("commit", "and not there then", "and what == 'create' then")),
    (a_lost_stream_comes_back_with_ids_that_were_read_before, _keep_the_cursor("commit")),
    (a_lost_stream_that_a_push_opens_is_read_from_its_start, _keep_the_cursor("pushed")),
    (an_end_holds_all_that_is_counted_whatever_was_lost, _trust_the_last_checkpoint),
    (a_lost_listing_comes_back, Edit("commit", " or (not over and ARGV[4] ~= '0')", "")),
    (an_end_whose_record_goes_at_once_is_known_to_who_made_it, _forget_what_was_made),
    (the_stream_is_trimmed_behind_the_checkpoint, lambda: patch.object(exchange, "behind", return_value="")),
    (the_queue_holds_a_window_at_most, lambda: patch.object(Pace, "window", return_value=10**6)),
    (a_large_body_is_gone_when_its_terms_are_counted, lambda: patch.object(Bodies, "_unused", return_value=())),
    (a_large_body_that_somebody_deleted_is_laid_again, _lay_once),
    (what_a_killed_master_had_laid_goes_away, Edit("commit", "redis.call('EXPIRE', KEYS[6], 600)", "")),
    (
        pieces_of_a_shuffle_go_with_its_job,
        Edit("commit", "redis.call('DEL', KEYS[6], KEYS[7])", "redis.call('DEL', KEYS[6])"),
    ),
    (a_late_worker_lays_no_piece_of_a_job_that_is_over, Edit("lay", "return 0", "")),
    (a_piece_whose_worker_died_before_it_answered_does_not_count, _count_what_is_laid),
    (what_a_failover_loses_of_a_shuffle_is_computed_again, _never_go_back),
    (an_answer_whose_pieces_were_wiped_does_not_count, lambda: patch.object(LaidApart, "missing", return_value=set())),
    (a_shuffle_that_was_flushed_begins_anew, _never_go_back),
    (late_answers_to_a_job_that_is_over_are_dropped, Edit("settle", "'NOMKSTREAM', ", "")),
]


@pytest.mark.parametrize("scenario", [scenario for scenario, _ in MECHANISMS], ids=lambda one: one.__name__)
def test_what_must_happen(scenario: Callable[[], None]) -> None:
    scenario()


@pytest.mark.parametrize(("scenario", "mutant"), MECHANISMS, ids=[scenario.__name__ for scenario, _ in MECHANISMS])
def test_it_does_not_happen_without_its_mechanism(scenario: Callable[[], None], mutant: Mutant | Edit) -> None:
    with mutant(), pytest.raises(AssertionError):
        scenario()


def test_every_line_of_a_script_has_an_edit_that_is_noticed() -> None:
    edits = [*EDITS, *(mutant for _, mutant in MECHANISMS if isinstance(mutant, Edit))]
    for name, program in scripts.SCRIPTS.items():
        texts = [edit.text for edit in edits if edit.script == name]
        lines = [line.strip() for line in program.source.splitlines()]
        code = [line for line in lines[1:] if line and line != "end" and not line.startswith("--")]
        bare = [line for line in code if not any(part in line for text in texts for part in text.split("\n"))]
        assert not bare, f"{name}.lua"
