"""Cancelling from another process, with a master or without, gently or now; and jobs whose time is over."""

from __future__ import annotations

import time

import pytest

from mapreduce_rq.broker.journal import MAX_EVENTS
from mapreduce_rq.errors import NoSuchJob
from tests.support.scene import Scene
from tests.support.servers import wait_gone
from tests.support.stage import allowed, until
from tests.support.terms import total

TERMS = 60
LONG_SECONDS = 1.0
"""Longer than the batches that a worker computes before it hears whether their job goes on, also on a busy machine."""


def held_at_a_gate(scene: Scene) -> tuple[str, int]:
    """A job of which one worker computes term 30: the job, and the worker's pid."""
    scene.stage.write("gated", "30")
    scene.fleet(1)
    leader = scene.leader("gated", TERMS, chunk=1)
    worker = scene.stage.begun(30)
    return leader.job, worker


def nothing_is_left(scene: Scene, job: str) -> None:
    """Of a job that is over there is its record and its listing, and the worker that is still there."""
    until(lambda: kept(scene, job) == ["J", f"j:{job}", "w"], 10, "nothing else left")


def kept(scene: Scene, job: str) -> list[str]:
    """The keys, but for the events and the entry that wakes those who wait for the end, which have their bounds."""
    with scene.server.client() as client:
        assert client.xlen(scene.keys.events) <= MAX_EVENTS
        assert client.ttl(scene.keys.values(job)) != -1, "what tells of the end stays for ever"
    return [name for name in scene.names() if name not in {"e", f"v:{job}"}]


def test_with_its_master_alive(scene: Scene) -> None:
    scene.stage.write("gated", "30")
    scene.fleet(1)
    leader = scene.leader("gated", TERMS, chunk=1)
    scene.stage.begun(30)
    assert scene.cancel(leader.job) == "cancelled"
    cancelled = time.monotonic()
    record = leader.record(5)
    assert time.monotonic() - cancelled < allowed(2)
    assert (record["state"], record["kind"]) == ("cancelled", "Cancelled")
    scene.stage.open()
    nothing_is_left(scene, leader.job)


def test_with_no_master_alive_workers_stop_within_a_task(scene: Scene) -> None:
    scene.stage.write("gated", "30")
    scene.fleet(1)
    leader = scene.leader("gated", TERMS, chunk=1)
    worker = scene.stage.begun(30)
    begun = time.monotonic()
    leader.kill9()
    assert scene.cancel(leader.job) == "cancelled"
    state = scene.state(leader.job)
    assert state is not None
    assert state.state == "cancelled"
    until(lambda: time.monotonic() - begun > LONG_SECONDS, 5, "a task to be long")  # else a few more are computed
    scene.stage.open()
    nothing_is_left(scene, leader.job)
    assert max(scene.stage.count()) == 30  # nothing of what it had in hand was begun
    assert not wait_gone(worker, 0)
    scene.stage.forget()
    scene.check(scene.leader("noted", TERMS), TERMS)


def test_now_kills_what_is_in_hand_within_two_seconds(scene: Scene) -> None:
    job, worker = held_at_a_gate(scene)
    assert scene.cancel(job, now=True) == "cancelled"
    assert wait_gone(worker, 2)
    nothing_is_left(scene, job)
    scene.stage.open()
    scene.stage.forget()
    scene.check(scene.leader("noted", TERMS), TERMS)  # a new worker is there


def test_now_spares_other_jobs(scene: Scene) -> None:
    scene.stage.write("gated", "0")
    scene.stage.write("seconds", "2")
    scene.fleet(2)
    first = scene.leader("gated", 1, chunk=1)
    victim = scene.stage.begun(0)
    second = scene.leader("slow", 1, chunk=1)
    scene.stage.begun(0, but=victim)
    scene.cancel(first.job, now=True)
    assert wait_gone(victim, 2)
    assert int(second.record()["value"]) == total(1)
    assert scene.stage.count() == {0: 2}


def test_twice_and_too_late_and_never(scene: Scene) -> None:
    scene.fleet(1)
    leader = scene.leader("noted", TERMS)
    scene.check(leader, TERMS)
    assert scene.cancel(leader.job) == "done"
    job, _ = held_at_a_gate(scene)
    assert scene.cancel(job) == "cancelled"
    assert scene.cancel(job, now=True) == "cancelled"
    with pytest.raises(NoSuchJob, match="there is no job nothing on queue"):
        scene.cancel("nothing")


def test_a_job_that_nobody_works_on(scene: Scene) -> None:
    leader = scene.leader("noted", TERMS)
    leader.hear("notice 0 workers")
    assert scene.cancel(leader.job) == "cancelled"
    assert leader.record()["state"] == "cancelled"
    assert kept(scene, leader.job) == ["J", f"j:{leader.job}"]


def test_at_its_deadline_a_job_ends_with_what_is_counted(scene: Scene) -> None:
    scene.stage.write("seconds", "0.05")
    scene.fleet(2)
    seconds, began = allowed(1.0), time.monotonic()
    record = scene.leader("slow", 1000, deadline=seconds).record()
    assert seconds <= time.monotonic() - began < seconds + allowed(3)
    assert (record["state"], record["ended"]) == ("done", "deadline")
    assert 0 < record["terms_used"] < 1000
    value = int(record["value"])
    assert value >> 400 == record["terms_used"]


def test_at_its_deadline_with_nothing_counted_a_job_fails(scene: Scene) -> None:
    record = scene.leader("noted", 10, deadline=0.5).record()
    assert (record["state"], record["kind"]) == ("failed", "Deadline")
