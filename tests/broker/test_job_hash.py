"""A job's hash with anything in it, before all who read one: one line that names it, or the job as it truly is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapreduce_rq.broker.job_hash import read_job, token_bytes
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.journal import BEGINNING, Journal
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.pruning import prune
from mapreduce_rq.broker.snapshot import read_snapshot
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.computations.exp import Exp
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.messages import Checkpoint, Limits, Spec, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.errors import BadMessage, BrokerError, MrqError, NoSuchJob, Superseded
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Silent
from mapreduce_rq.runtime.master.standby import OrphanWatch, Standby
from tests.support.examples import examples
from tests.support.records import cancelled, done, failed

JOB, OTHER = "exp-a", "exp-b"
KEYS = Keys("queue")
SIGNED = Codecs("queue", Keyring([b"k" * 32]))
PLAIN = Codecs("queue")
FIELDS = ("tok", "state", "spec", "ck", "master", "progress", "record")


def spec_of(job: str) -> Spec:
    return Spec(
        job=job, computation="exp", params={"x": "2", "terms": 20}, total=20, limits=Limits(), created=1.0, version="1"
    )


def sealed(codecs: Codecs, job: str) -> dict[str, list[bytes]]:
    """What a master may have written for a job, by the field that it wrote it to."""
    records = [done(job), failed(job), cancelled(job), cancelled(job, now=True)]
    return {
        "tok": [b"1:a:1", b"7:b:9"],
        "state": [state.encode() for state in State],
        "spec": [codecs.spec.at(job).seal(spec_of(job))],
        "ck": [codecs.checkpoint.at(job).seal(Checkpoint(job, [], [], 0, 20, 20, 0, [], 0.0))],
        "master": [b"master:a", b""],
        "progress": [codecs.report.at(job).seal(Report(counted=3, total=20))],
        "record": [codecs.record.at(job).seal(record) for record in records],
    }


def hashes(codecs: Codecs) -> st.SearchStrategy[dict[str, bytes]]:
    """Hashes of a job: true, missing, another field's, another job's, and arbitrary bytes."""
    true = sealed(codecs, JOB)
    anything = [one for job in (JOB, OTHER) for row in sealed(codecs, job).values() for one in row]
    odd = [b"", b"abc", b"9" * 6000, b"\xff\xfe", b"1:2", b"-1:a:b", b"::", b"\0\0", b"\0\0\x90", b"running ", b"DONE"]

    def field(name: str) -> st.SearchStrategy[bytes]:
        return st.one_of(st.sampled_from(true[name]), st.sampled_from(anything), st.sampled_from(odd), st.binary())

    rows = {name: field(name) for name in FIELDS} | {"something": st.binary()}
    return st.fixed_dictionaries({}, optional=rows)


def check_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert JOB in str(error)


@given(hashes(SIGNED))
@settings(max_examples=examples(1000))
def test_a_key_alone_says_what_a_job_is_and_that_it_is_over(found: Mapping[str, bytes]) -> None:
    true = sealed(SIGNED, JOB)
    try:
        state = read_job(KEYS, SIGNED, JOB, found)
    except BadMessage as error:
        check_line(error)
        assert found.get("spec") not in true["spec"]
        return
    assert found["spec"] in true["spec"]
    assert state.spec == spec_of(JOB)
    ended = found.get("record") in true["record"]
    assert (state.record is not None) is ended is (not state.running)
    assert (state.checkpoint is not None) is (found.get("ck") in true["ck"])
    assert (state.report is not None) is (found.get("progress") in true["progress"])
    assert token_bytes(state.token) == found.get("tok", b"")
    for fault in state.faults:
        check_line(BadMessage(fault))


@given(hashes(PLAIN))
@settings(max_examples=examples(500))
def test_without_a_key_it_is_typed_and_no_other_jobs(found: Mapping[str, bytes]) -> None:
    try:
        state = read_job(KEYS, PLAIN, JOB, found)
    except BadMessage as error:
        check_line(error)
        return
    assert state.spec.job == JOB
    assert state.record is None or state.record.job == JOB
    assert state.checkpoint is None or state.checkpoint.job == JOB


def test_a_hash_that_is_over_and_says_so_has_no_fault() -> None:
    true = sealed(SIGNED, JOB)
    for record, state in zip(true["record"], ("done", "failed", "cancelled", "cancelled-now"), strict=True):
        found = {name: row[0] for name, row in true.items()} | {"record": record, "state": state.encode()}
        job = read_job(KEYS, SIGNED, JOB, found)
        assert (job.state, job.faults) == (state, ())


class Hurried(Clock):
    """A clock that does not wait, and counts how often it should have, and for how long."""

    def __init__(self) -> None:
        self.slept = 0
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.seconds += seconds


@pytest.mark.parametrize("kind", ["signed", "plain"])
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_reader_has_one_line_for_any_hash(raw: Any, jobs: Jobs, kind: str, data: st.DataObject) -> None:
    keyring = jobs.codecs.keyring if kind == "signed" else Keyring()
    codecs = jobs.codecs if kind == "signed" else Codecs(jobs.keys.name)
    verbs = Jobs(jobs.wire, jobs.keys, codecs)
    workers = Tasks(jobs.wire, jobs.keys, codecs)
    found = data.draw(hashes(Codecs(jobs.keys.name, keyring)))
    key = jobs.keys.job(JOB)
    raw.delete(key)
    if found:
        raw.hset(key, mapping={**found})
    raw.zadd(jobs.keys.jobs, {JOB: 1})
    clock = Hurried()

    def steps() -> None:
        watch = OrphanWatch(verbs)
        for _ in range(7):
            watch.orphans()

    def resumed() -> None:
        state = Standby(verbs, clock, JOB, Silent()).wait()
        if state is None or state.record is not None:
            return
        master = Master(verbs, clock, state.spec, Exp.create(state.spec.params), Silent())
        with contextlib.suppress(Superseded):
            master.take_over(state)

    for read in (
        lambda: verbs.load(JOB),
        lambda: verbs.token(JOB),
        verbs.leases,
        lambda: read_snapshot(verbs.wire, verbs.keys, codecs),
        lambda: workers.spec(JOB),
        lambda: workers.cancelled_now([JOB]),
        steps,
        resumed,
        lambda: cancel(verbs, clock, JOB),
        lambda: cancel(verbs, clock, JOB, now=True),
        lambda: prune(verbs, 0),
    ):
        refused: MrqError | None = None
        try:
            read()
        except MrqError as error:
            refused = error
        assert "\n" not in str(refused)
        assert not isinstance(refused, BrokerError), refused
    assert clock.slept < 50


@pytest.mark.parametrize("token", [b"abc", b"9" * 6000, b"\xff\xfe", b"", b"1:\xc3:1"])
def test_a_job_with_any_token_is_taken_over_and_cancelled(jobs: Jobs, raw: Any, token: bytes) -> None:
    true = {name: row[0] for name, row in sealed(jobs.codecs, JOB).items()} | {"state": b"running", "tok": token}
    del true["record"]
    for name in ("taken over", "cancelled"):
        raw.delete(jobs.keys.job(JOB))
        raw.hset(jobs.keys.job(JOB), mapping=true)
        if name == "cancelled":
            assert cancel(jobs, Hurried(), JOB) == "cancelled"
            assert raw.hget(jobs.keys.job(JOB), "state") == b"cancelled"
            continue
        state = Standby(jobs, Hurried(), JOB, Silent()).wait()
        assert state is not None
        master = Master(jobs, Clock(), state.spec, Exp.create(state.spec.params), Silent())
        master.take_over(state)
        assert raw.hget(jobs.keys.job(JOB), "master") == master._lease.holder.encode()


def test_a_cancel_that_comes_too_late_each_time_ends(jobs: Jobs, raw: Any) -> None:
    true = {name: row[0] for name, row in sealed(jobs.codecs, JOB).items()} | {"state": b"running"}
    del true["record"]
    raw.hset(jobs.keys.job(JOB), mapping=true)
    count = 0

    class Racing(Jobs):
        def load(self, job: str) -> Any:
            nonlocal count
            found = super().load(job)
            count += 1
            raw.hset(jobs.keys.job(JOB), "tok", f"1:racer:{count}")
            return found

    clock = Hurried()
    with pytest.raises(BrokerError, match=r"could not be cancelled.*try again"):
        cancel(Racing(jobs.wire, jobs.keys, jobs.codecs), clock, JOB)
    assert count == clock.slept == 200
    assert 5 < clock.seconds <= 10


def test_a_cancel_leaves_no_task_and_no_sign_of_a_master_and_tells_of_itself(jobs: Jobs, raw: Any) -> None:
    true = {name: row[0] for name, row in sealed(jobs.codecs, JOB).items()} | {"state": b"running"}
    del true["record"]
    raw.hset(jobs.keys.job(JOB), mapping=true)
    raw.hset(jobs.keys.masters, mapping={JOB: b"alive", OTHER: b"alive"})
    mine, theirs = (jobs.codecs.task.seal(Task(job, 0, 1)) for job in (JOB, OTHER))
    raw.rpush(jobs.keys.queue, mine, theirs, mine)
    journal = Journal(jobs.wire, jobs.keys, jobs.codecs, by="somebody")
    assert cancel(jobs, Hurried(), JOB, why="too dear", journal=journal) == State.CANCELLED
    assert raw.hkeys(jobs.keys.masters) == [OTHER.encode()]
    assert raw.lrange(jobs.keys.queue, 0, -1) == [theirs]
    _, (event,), bad = journal.read(BEGINNING)
    assert (event.job, event.what, bad) == (JOB, "cancelled", 0)
    assert "too dear" in event.text
    assert journal.await_end(JOB, BEGINNING, 0.01) != BEGINNING


@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_key_of_another_type_is_named(jobs: Jobs, raw: Any, kind: str) -> None:
    key = jobs.keys.job(JOB)
    if kind == "string":
        raw.set(key, "x")
    else:
        raw.rpush(key, "x")
    raw.zadd(jobs.keys.jobs, {JOB: 1})
    for read in (jobs.load, jobs.token, lambda job: cancel(jobs, Hurried(), job)):
        with pytest.raises(BrokerError, match=r"holds no job") as refused:
            read(JOB)
        assert key in str(refused.value)
    assert jobs.leases() == {}
    raw.delete(key)
    with pytest.raises(NoSuchJob):
        cancel(jobs, Hurried(), JOB)
